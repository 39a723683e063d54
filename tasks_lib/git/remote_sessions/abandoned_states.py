"""Keeps what a session on another machine pushed after its run had given it up, or was killed."""

from collections.abc import Iterable
from dataclasses import dataclass

from tasks_lib.errors import GitError
from tasks_lib.git.kept.snapshots import keep_commit
from tasks_lib.git.objects.object_database import Objects
from tasks_lib.git.remote_sessions.session_remote import STATE, SessionRemote
from tasks_lib.git.remote_sessions.state_commits import read_state_commit
from tasks_lib.git.runner import Git

NODE, MACHINE = "node", "machine"
"""Keys of `SessionState.about`; a session whose changes are discarded has no node."""


@dataclass(frozen=True, slots=True)
class AbandonedWork:
    """Work of `node` that a session on `machine` pushed, and where it is kept now."""

    node: str
    machine: str
    ref: str


def keep_abandoned(git: Git, remote: SessionRemote, refs: Iterable[str]) -> list[AbandonedWork]:
    """Keep at refs what would be lost if `refs` of sessions were deleted on the remote. Raises RemoteError."""
    states = [ref for ref in refs if ref.endswith(f"/{STATE}")]
    return [kept for ref in states if (kept := _keep(git, remote, ref))]


def _keep(git: Git, remote: SessionRemote, ref: str) -> AbandonedWork | None:
    found = remote.take(ref)
    try:
        with Objects(git) as objects:
            state = read_state_commit(objects, found)
    except GitError:
        return None  # Somebody else pushed something there.
    node, work = str(state.about.get(NODE, "")), state.uncommitted or state.branch
    if not node or git.text("for-each-ref", "--count=1", "--format=%(refname)", "--contains", work):
        return None
    return AbandonedWork(node, str(state.about.get(MACHINE, "")), keep_commit(git, node, work))
