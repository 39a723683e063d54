"""Writes commit objects in the name of whoever git says commits here."""

import os
import threading
import time
from collections.abc import Mapping, Sequence

from tasks_lib.git.objects.object_database import Objects
from tasks_lib.git.runner import Git

_ROLES = ("author", "committer")
_DATES = ("GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE")


class CommitWriter:
    """Writes commits of one repository; several threads may call. Git is asked once for each name it commits in."""

    def __init__(self, git: Git, objects: Objects) -> None:
        self._git: Git = git
        self._objects: Objects = objects
        self._lock: threading.Lock = threading.Lock()
        self._names: dict[tuple[tuple[str, str], ...], tuple[str, ...]] = {}

    def write(self, tree: str, parents: Sequence[str], message: str, environment: Mapping[str, str]) -> str:
        """Write a commit and return its id; `environment` is laid over this process's, and says who commits.

        Raises GitError where git knows nobody.
        """
        lines = [f"tree {tree}", *(f"parent {parent}" for parent in dict.fromkeys(parents))]
        lines += [f"{role} {stamp}" for role, stamp in zip(_ROLES, self._list_stamps(environment), strict=True)]
        return self._objects.write("commit", "\n".join([*lines, "", message]).encode("utf-8", "replace"))

    def _list_stamps(self, environment: Mapping[str, str]) -> Sequence[str]:
        """Name, address and time of author and committer."""
        if any(name in environment or name in os.environ for name in _DATES):
            return self._ask(environment)  # Whoever sets a date means that one.
        key = tuple(sorted(environment.items()))
        with self._lock:
            if key not in self._names:
                self._names[key] = tuple(stamp.rpartition("> ")[0] for stamp in self._ask(environment))
            names = self._names[key]
        return [f"{name}> {int(time.time())} {time.strftime('%z')}" for name in names]

    def _ask(self, environment: Mapping[str, str]) -> Sequence[str]:
        return [self._git.run("var", f"GIT_{role.upper()}_IDENT", environment=environment).text for role in _ROLES]
