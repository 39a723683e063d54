"""Finds what a repository's sessions published on the shared remote and no open node continues."""

from collections.abc import Collection

from tasks_lib.git.remote_sessions.session_remote import SessionRemote, find_session
from tasks_lib.git.repository import Repository
from tasks_lib.git.session_record import read_record
from tasks_lib.git.worktree_admin import list_entries
from tasks_lib.spokes.hub_identity import HubIdentity


def list_continued(repository: Repository) -> Collection[str]:
    """Return the sessions that open nodes of `repository` continue."""
    records = [read_record(entry.admin) for entry in list_entries(repository)]
    return {record.attempt.session for record in records if record}


def find_ended_sessions(remote: SessionRemote, hub: HubIdentity) -> list[str]:
    """Return the refs on `remote` of sessions that `hub` began and that have ended.

    A session lives as long as the record of an open node names it. Raises RemoteError.
    """
    continued = list_continued(remote.remote.repository)
    sessions = {ref: find_session(ref) for ref in remote.list_sessions(hub.name)}
    return sorted(ref for ref, one in sessions.items() if hub.owns(one) and one not in continued)
