"""Finds and deletes what ended sessions of a repository left on the remote that its machines share."""

from collections.abc import Iterator
from dataclasses import dataclass

from tasks_lib.cleanup.leftovers import Kind, Leftover
from tasks_lib.errors import RemoteError
from tasks_lib.git.remote_sessions.abandoned_states import keep_abandoned
from tasks_lib.git.remote_sessions.session_remote import SessionRemote
from tasks_lib.git.repository import Repository
from tasks_lib.spokes.hub_identity import HubIdentity
from tasks_lib.spokes.published_sessions import find_ended_sessions


@dataclass(frozen=True, slots=True)
class PublishedSessions:
    """The refs of ended sessions on `remote`; `notice` says why they are not known, "" if they are."""

    remote: str = ""
    refs: tuple[str, ...] = ()
    notice: str = ""

    def list(self) -> Iterator[Leftover]:
        """Yield a leftover for each ref."""
        for ref in self.refs:
            done = f"deleted from {self.remote}; its session has ended"
            yield Leftover(Kind.PUBLISHED, ref, done, f"is on {self.remote}, but its session has ended")


def find_published(repository: Repository, remote: str, target: str) -> PublishedSessions:
    """Find what ended sessions of the repository left on `remote`."""
    if not remote:
        return PublishedSessions()
    try:
        refs = find_ended_sessions(SessionRemote(repository, remote, target), HubIdentity(repository))
    except RemoteError as error:
        return PublishedSessions(remote, notice=f"What sessions elsewhere left on {remote} was not looked at: {error}")
    return PublishedSessions(remote, tuple(refs))


def delete_published(repository: Repository, found: PublishedSessions, target: str) -> list[str]:
    """Delete what `find_published` found, and return a line for each ref that is gone."""
    remote = SessionRemote(repository, found.remote, target)
    try:
        keep_abandoned(repository.git, remote, found.refs)
        remote.forget(found.refs)
        left = find_ended_sessions(remote, HubIdentity(repository))
    except RemoteError as error:
        return [f"What sessions elsewhere left on {found.remote} could not be deleted: {error}"]
    return [one.describe_done() for one in found.list() if one.where not in left]
