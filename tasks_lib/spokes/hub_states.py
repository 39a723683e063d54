"""Publishes the states of a run's worktrees for sessions on other machines, and takes theirs."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks_lib.git.commits.isolated_git import IsolatedGit
from tasks_lib.git.kept.snapshots import commit_uncommitted
from tasks_lib.git.objects.object_database import Objects
from tasks_lib.git.remote_sessions.session_remote import START, STATE, SessionRemote, session_ref
from tasks_lib.git.remote_sessions.state_application import apply_state
from tasks_lib.git.remote_sessions.state_commits import SessionState, read_state_commit, write_state_commit
from tasks_lib.git.session_record import write_notices
from tasks_lib.git.worktrees.lifecycle import Worktree
from tasks_lib.process.files import write_atomically
from tasks_lib.spokes.hub_identity import HubIdentity


@dataclass(frozen=True, slots=True)
class TakenState:
    """A state that was taken: its `commit`, and the one at the tip of its `branch`."""

    commit: str
    branch: str


class HubStates:
    """The states of one run's remote sessions.

    `hub` names the repository, and remembers its sessions; `call` runs git in a thread; `copied` are paths that never
    travel.
    """

    def __init__(
        self,
        hub: HubIdentity,
        remote: SessionRemote,
        isolation: IsolatedGit,
        call: Callable[..., Awaitable[Any]],
        copied: Sequence[str],
    ) -> None:
        self._hub = hub
        self._remote = remote
        self._isolation = isolation
        self._call = call
        self._copied = copied

    async def publish_start(self, session: str, worktree: Worktree, target: str) -> str:
        """Publish the worktree's state and the run's head `target`; return the commit. Raises RemoteError."""
        return await self._call(self._publish_start, session, worktree, target)

    def _publish_start(self, session: str, worktree: Worktree, target: str) -> str:
        self._hub.add(session)
        branch = worktree.git.resolve("HEAD") or target
        uncommitted = commit_uncommitted(worktree, session, exclude=self._copied)
        commit = write_state_commit(worktree.git, SessionState(branch, uncommitted, target))
        self._remote.publish(session_ref(self._hub.name, session, START), commit)
        return commit

    async def take(
        self, session: str, worktree: Worktree, log: Path, *, taken: str | None = None, is_read_only: bool = False
    ) -> TakenState | None:
        """Make `worktree` and the session's log what the session published last; return what that was.

        Of a session that `is_read_only`, only the log and the notices are taken. If the session has not reported that
        it published something, `taken` is the commit that was taken before, "" for none: returns None if there is
        nothing newer. Raises RemoteError, GitError.
        """
        return await self._call(self._take, session, worktree, log, taken, is_read_only)

    def _take(
        self, session: str, worktree: Worktree, log: Path, taken: str | None, is_read_only: bool
    ) -> TakenState | None:
        ref = session_ref(self._hub.name, session, STATE)
        if taken is not None and self._remote.list_sessions(self._hub.name).get(ref, taken) == taken:
            return None
        found = self._remote.take(ref)
        with Objects(worktree.git) as objects:
            state = read_state_commit(objects, found)
        if not is_read_only:
            apply_state(worktree, self._isolation, state, self._copied)
        if state.notices is not None:
            write_notices(worktree.git_dir, state.notices)
        if state.log is not None:
            write_atomically(log, state.log)
        return TakenState(found, state.branch)

    async def write_notices(self, worktree: Worktree, notices: bytes) -> None:
        """Write the notices of the session's agent where those of a local one are."""
        with suppress(OSError):
            await self._call(write_notices, worktree.git_dir, notices)

    async def forget(self, session: str) -> None:
        """Remove what was published of a session. Raises RemoteError."""
        await self._call(self._remote.forget, [session_ref(self._hub.name, session, what) for what in (START, STATE)])
