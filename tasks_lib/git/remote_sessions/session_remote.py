"""Exchanges the states of sessions through a git remote that all machines reach, below `refs/coordinator/` only."""

import re
from collections.abc import Collection, Mapping
from pathlib import PurePosixPath

from tasks_lib.errors import RemoteError
from tasks_lib.git.commits.merge_tree import find_merge_base
from tasks_lib.git.publish.remote_branch import FETCH, PUSH, TRANSFER_SECONDS, Remote, Unreachable, read_words
from tasks_lib.git.ref_names import commit_only
from tasks_lib.git.repository import Repository
from tasks_lib.git.repository_lock import admin_lock

SESSION_REFS = "refs/coordinator/sessions"
START, STATE = "start", "state"
"""What the run's machine publishes of a session for the one that it runs on, and the reverse."""
_PART = re.compile(r"[0-9a-z][0-9a-z-]{0,63}")


def session_ref(hub: str, session: str, what: str) -> str:
    """Return the ref of a session's `START` or `STATE` on the remote; `hub` identifies the run's repository.

    Raises ValueError if a part could lead to another ref.
    """
    for part in (hub, session, what):
        if not _PART.fullmatch(part):
            raise ValueError(f'"{part}" cannot be part of the name of a session\'s ref')
    return f"{SESSION_REFS}/{hub}/{session}/{what}"


def find_session(ref: str) -> str:
    """Return the session of a ref that `session_ref` named, "" for any other."""
    parts = ref.removeprefix(f"{SESSION_REFS}/").split("/")
    return parts[1] if len(parts) == 3 else ""


class SessionRemote:
    """The remote through which branches and worktrees of sessions travel. The methods block, and raise RemoteError.

    `remote` is the same remote as others see it: its branch that work lands on.
    """

    def __init__(self, repository: Repository, name: str, target: str) -> None:
        self.remote: Remote = Remote(repository, name, target)
        self._repository = repository
        self._git = repository.git

    def read_url(self) -> str:
        """Return the URL of the remote, as git is configured."""
        return self._git.run("config", "--get", f"remote.{self.remote.name}.url", accept=(0, 1)).text

    def name_repository(self) -> str:
        """Return the last part of the URL, by which other machines know the repository unless told otherwise."""
        return PurePosixPath(self.read_url().replace(":", "/").rstrip("/")).name.removesuffix(".git")

    def find_common(self, tip: str, head: str) -> str:
        """Return the newest commit that both the target on the remote, at `tip`, and `head` contain.

        Raises RemoteError if they have no history in common.
        """
        common = find_merge_base(self._git, tip, head)
        if common is None:
            raise RemoteError(
                f"{self.remote.target} on {self.remote.name} has no history in common with {self.remote.target} here"
            )
        return common

    def publish(self, ref: str, commit: str) -> None:
        """Set `ref` on the remote to `commit`, wherever it was, and push everything that it contains."""
        settings, name = self.remote.find_pushed()
        result = self.remote.ask(
            *settings, *PUSH, "--", name, f"+{commit_only(commit)}:{ref}", seconds=TRANSFER_SECONDS
        )
        # The status alone is not enough: that of a git which something else ended and waited for is read as 0.
        if result.status or f":{ref}\t" not in result.text:
            raise RemoteError(f"{self.remote.name} does not accept {ref}: {read_words(result.stderr)}")

    def take(self, ref: str) -> str:
        """Fetch `ref` of the remote and return its commit, which no ref here keeps: use it at once."""
        with admin_lock(self._repository):
            self.remote.ask(*FETCH, "--", self.remote.name, f"+{ref}:{ref}", seconds=TRANSFER_SECONDS)
        found = self._git.resolve(ref)
        if found is None:
            raise RemoteError(f"{self.remote.name} has no {ref}")
        # Objects that nothing refers to stay for two weeks.
        self._git.run("update-ref", "-d", ref, found, accept=(0, 1, 128))
        return found

    def list_sessions(self, hub: str) -> Mapping[str, str]:
        """Return the refs of a hub's sessions on the remote, each with its commit."""
        result = self.remote.ask("ls-remote", "--", self.remote.name, f"{SESSION_REFS}/{hub}/*")
        rows = (line.split("\t") for line in result.text.splitlines())
        return {row[1]: row[0] for row in rows if len(row) == 2}

    def forget(self, refs: Collection[str]) -> None:
        """Delete `refs` of sessions, on the remote and here; those that do not exist are passed over."""
        for ref in refs:
            self._git.run("update-ref", "-d", ref, accept=(0, 1, 128))
        settings, name = self.remote.find_pushed()
        result = self.remote.attempt(
            *settings, *PUSH, "--", name, *(f":{ref}" for ref in refs), seconds=TRANSFER_SECONDS
        )
        if isinstance(result, Unreachable):
            raise RemoteError(f"{self.remote.name} does not answer: {result.words}")
