"""The connection between a run and its sessions on other machines, from both ends; Prefect implements it in `flows`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tasks_lib.session.remote_messages import HubMessage, Progress, SessionOrder, TurnReport


@dataclass(frozen=True, slots=True)
class Machine:
    """A spoke. `is_online`: its worker has been heard of lately, and takes new sessions."""

    name: str
    is_online: bool


@dataclass(frozen=True, slots=True)
class News:
    """What is known of a session. `number` grows with each change.

    `ended` says how the session's flow run ended, "" while it has not. `silent_seconds` is how long nothing was heard
    of it while the server answered. `pulse` changes with each sign of life, "" before the first one.
    """

    number: int = 0
    progress: Progress | None = None
    report: TurnReport | None = None
    ended: str = ""
    silent_seconds: float = 0.0
    pulse: str = ""

    def find_report(self, attempt: int, turn: int) -> TurnReport | None:
        """The report of that turn, if it has arrived."""
        report = self.report
        return report if report and (report.attempt, report.turn) == (attempt, turn) else None

    def find_result(self, attempt: int, turn: int, taken: str) -> TurnReport | None:
        """The same if it can still become the turn's result: its state is on the remote, and not the one `taken`.

        A turn that ended because its worker was stopped has no result.
        """
        report = self.find_report(attempt, turn)
        return report if report and report.state not in ("", taken) and not report.is_last else None


class SpokeLink(Protocol):
    """The run's end. A method that cannot reach the server raises RemoteError after a while, except `next_news`."""

    async def start(self, order: SessionOrder, machine: str) -> str:
        """Start a session on `machine`, or find it if it was started before; return the id of its flow run."""
        ...

    async def send(self, run: str, key: str, message: HubMessage) -> None:
        """Send a message to the session's flow run, once for each `key`."""
        ...

    async def next_news(self, run: str, seen: int) -> News:
        """Return what is known of the flow run `run` once its number is above `seen`, or after about a minute."""
        ...

    async def stop(self, run: str) -> None:
        """End a flow run that does not answer any more, so that it takes no place."""
        ...

    async def list_sessions(self, hub: str) -> Sequence[tuple[str, str]]:
        """List the sessions of the runs of `hub` that have not ended: the session's id, and that of its flow run."""
        ...

    async def list_machines(self) -> Sequence[Machine]:
        """List the spokes that have registered with the server."""
        ...


class HubLink(Protocol):
    """The session's end; messages that were sent before the session began are received as well."""

    async def receive(self) -> HubMessage:
        """Return the next message, each once."""
        ...

    async def publish(self, *, progress: Progress | None = None, report: TurnReport | None = None) -> None:
        """Publish what is given, in place of what was published before; tries until the server has it."""
        ...
