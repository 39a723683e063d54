"""Keeps what a session on another machine pushed after its run had given it up, or was killed."""

from dataclasses import dataclass

from tasks_lib.errors import GitError
from tasks_lib.git.kept.snapshots import keep_commit
from tasks_lib.git.objects.object_database import Objects
from tasks_lib.git.remote_sessions.session_remote import SessionRemote
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


def keep_abandoned(git: Git, remote: SessionRemote, ref: str) -> AbandonedWork | None:
    """Keep at a ref what the remote has at `ref`, the state of a session; None if no work would be lost.

    Raises RemoteError.
    """
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
