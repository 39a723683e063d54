"""Writes commit objects with the author and committer that git is configured to use."""

import os
import threading
import time
from collections.abc import Mapping, Sequence

from tasks_lib.git.objects.object_database import Objects
from tasks_lib.git.runner import Git

_ROLES = ("author", "committer")
_DATES = ("GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE")


class CommitWriter:
    """Writes commits to one repository; thread-safe. Queries git once per identity."""

    def __init__(self, git: Git, objects: Objects) -> None:
        self._git: Git = git
        self._objects: Objects = objects
        self._lock: threading.Lock = threading.Lock()
        self._names: dict[tuple[tuple[str, str], ...], tuple[str, ...]] = {}

    def write(self, tree: str, parents: Sequence[str], message: str, environment: Mapping[str, str]) -> str:
        """Write a commit and return its id; `environment` overrides this process's, and may set the identity.

        Raises GitError if git has no identity to commit with.
        """
        lines = [f"tree {tree}", *(f"parent {parent}" for parent in dict.fromkeys(parents))]
        lines += [f"{role} {stamp}" for role, stamp in zip(_ROLES, self._list_stamps(environment), strict=True)]
        return self._objects.write("commit", "\n".join([*lines, "", message]).encode("utf-8", "replace"))

    def _list_stamps(self, environment: Mapping[str, str]) -> Sequence[str]:
        """Return the name, address and time of the author and of the committer."""
        if any(name in environment or name in os.environ for name in _DATES):
            return self._ask(environment)  # A date that is set explicitly must be used.
        key = tuple(sorted(environment.items()))
        with self._lock:
            if key not in self._names:
                self._names[key] = tuple(stamp.rpartition("> ")[0] for stamp in self._ask(environment))
            names = self._names[key]
        return [f"{name}> {int(time.time())} {time.strftime('%z')}" for name in names]

    def _ask(self, environment: Mapping[str, str]) -> Sequence[str]:
        return [self._git.run("var", f"GIT_{role.upper()}_IDENT", environment=environment).text for role in _ROLES]
