"""Pushes what a session has done to the git remote, as one commit that contains the whole state of its worktree."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from tasks_lib.errors import GitError, RemoteError
from tasks_lib.git.commits.branch_state import digest_work
from tasks_lib.git.kept.snapshots import commit_uncommitted
from tasks_lib.git.remote_sessions.abandoned_states import MACHINE, NODE
from tasks_lib.git.remote_sessions.session_remote import STATE, SessionRemote, session_ref
from tasks_lib.git.remote_sessions.state_commits import SessionState, write_state_commit
from tasks_lib.git.session_record import read_notices_file
from tasks_lib.git.worktrees.lifecycle import Worktree
from tasks_lib.process.files import read_regular
from tasks_lib.process.thread_calls import call_to_end
from tasks_lib.session.remote_messages import SessionOrder

STALLED_SECONDS = 120.0
"""How long a push waits for an earlier one: longer than git takes to notice that a connection is dead."""
LOG_BYTES = 4 << 20


class StatePushes:
    """The pushes of one session, of which one runs at a time: the remote would refuse the second of two at once.

    `copied` are the paths that `copy` in the configuration brought into the worktree.
    """

    def __init__(
        self,
        remote: SessionRemote,
        worktree: Worktree,
        order: SessionOrder,
        branch: str,
        machine: str,
        log: Path,
        copied: Sequence[str],
        say: Callable[[str], None],
    ) -> None:
        self._remote = remote
        self._worktree = worktree
        self._order = order
        self._branch_name = branch
        self._machine = machine
        self._log = log
        self._copied = copied
        self._say = say
        self._digest = ""
        self._latest: asyncio.Task[bool] | None = None
        self.branch: str = ""
        """The branch's commit in the last push."""
        self.state: str = ""
        """The commit that is on the remote."""

    def read_digest(self) -> str:
        """Return a digest of the branch and of everything in the worktree, "" if git cannot read it; blocks."""
        try:
            return digest_work(self._worktree.git)
        except GitError:
            return ""

    async def push_changes(self) -> bool:
        """Push the state of the worktree if it changed; returns whether what is on the remote is up to date.

        If cancelled, the push continues, and the next one waits for it.
        """
        self._latest = asyncio.create_task(self._push_after(self._latest))
        return await asyncio.shield(self._latest)

    async def wait(self) -> None:
        """Wait for a push that was left to itself."""
        if self._latest:
            await asyncio.wait([self._latest], timeout=STALLED_SECONDS)

    async def _push_after(self, earlier: asyncio.Task[bool] | None) -> bool:
        if earlier:
            await asyncio.wait([earlier], timeout=STALLED_SECONDS)
        digest = await call_to_end(self.read_digest)
        if digest and digest == self._digest:
            return True
        try:
            self.state = await call_to_end(self._push)
        except (RemoteError, GitError, OSError) as error:
            self._say(f"The work could not be pushed: {error}")
            return False
        self._digest = digest
        return True

    def _push(self) -> str:
        """Push the state, and return its commit."""
        worktree, given = self._worktree, self._order
        branch = worktree.git.resolve(f"refs/heads/{self._branch_name}") or worktree.git.resolve("HEAD") or ""
        uncommitted = commit_uncommitted(worktree, given.session, exclude=self._copied)
        about = {MACHINE: self._machine, NODE: "" if given.is_read_only else given.node}
        notices = read_notices_file(worktree.git_dir)
        state = SessionState(branch, uncommitted, notices=notices, log=read_tail(self._log), about=about)
        commit = write_state_commit(worktree.git, state)
        self._remote.publish(session_ref(given.hub, given.session, STATE), commit)
        self.branch = branch
        return commit


def read_tail(log: Path) -> bytes | None:
    """Return the end of a log, at most `LOG_BYTES`; None if there is none."""
    try:
        size = log.stat().st_size
        return read_regular(log, LOG_BYTES, max(0, size - LOG_BYTES))
    except OSError:
        return None
