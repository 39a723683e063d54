"""Checks that sessions could publish their work on a remote: pushes a ref of its own, and deletes it again."""

from contextlib import suppress
from uuid import uuid4

from tasks_lib.errors import RemoteError
from tasks_lib.git.remote_sessions.session_remote import STATE, SessionRemote, session_ref

PROBE = "doctor"
"""Stands in the place of a run's repository in the names of these refs, so that they cannot be a session's."""


def find_push_fault(remote: SessionRemote, commit: str) -> str:
    """Say why sessions could not push to `remote`, or not clean up there; "" if they can.

    `commit` is already there, so that nothing is transferred. Blocks; what it pushes is deleted in any case.
    """
    ref = session_ref(PROBE, uuid4().hex[:12], STATE)
    try:
        remote.publish(ref, commit)
    except RemoteError as error:
        with suppress(RemoteError):
            remote.forget([ref])
        return str(error)
    try:
        remote.forget([ref])
        if ref not in remote.list_sessions(PROBE):
            return ""
    except RemoteError as error:
        return f"{error}; {ref} may have been left there"
    return f"it does not let {ref} be deleted, so every session would leave its refs there; permit deleting refs"
