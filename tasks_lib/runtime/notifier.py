"""Tells people what a run needs of them, in the background, and remembers what was told."""

import asyncio
import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from tasks_lib.process.files import read_regular, write_atomically
from tasks_lib.process.notification_channels import (
    Channel,
    CommandChannel,
    NotSentError,
    Payload,
    WebhookChannel,
)
from tasks_lib.process.user_environment import user_environment
from tasks_lib.project.child_environment import ChildEnvironments
from tasks_lib.project.loading import Project
from tasks_lib.reporting.notifications import Notification, add_told, write_payload
from tasks_lib.runtime.status_board import Board
from tasks_lib.settings.notify_schema import NotifySettings, check_webhook

PAUSES = (1.0, 4.0, 16.0)
"""Seconds between the tries to send one notification."""
FLUSH_SECONDS = 10.0
"""How long the end of a run waits for notifications that are not sent yet."""
QUICK_FLUSH_SECONDS = 2.0
"""The same if a person stopped the run."""
TOLD_NAME = "notified.json"
MAX_TOLD_BYTES = 8 << 20
LOG_NAME = "notify"


@dataclass(slots=True)
class _Receiver:
    """A channel with what waits to be sent there; `is_failing` since a notification was given up."""

    channel: Channel
    told: tuple[str, ...]
    waiting: deque[tuple[str, Payload]] = field(default_factory=deque[tuple[str, Payload]])
    job: asyncio.Task[None] | None = None
    is_failing: bool = False

    def expects(self, notification_id: str) -> bool:
        return notification_id in self.told or any(one == notification_id for one, _ in self.waiting)


class Notifier:
    """Sends each notification once to each channel, over all runs of a repository. Call it on the event loop.

    What was sent is recorded in `place` at once, so that a run that continues after a kill does not repeat it; at worst
    the one that was being sent at that moment is sent again, with the same `id`. `repository` is the name in messages.
    """

    def __init__(
        self,
        settings: NotifySettings,
        channels: Sequence[Channel],
        place: Path,
        board: Board,
        repository: str,
        *,
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        told = read_told(place)
        self._settings = settings
        self._receivers = [_Receiver(channel, told.get(channel.name, ())) for channel in channels]
        self._place = place
        self._board = board
        self._repository = repository
        self._pauses = pauses
        self._is_said = False

    @property
    def is_used(self) -> bool:
        """Whether there is somebody to tell."""
        return bool(self._receivers)

    def tell(self, notifications: Iterable[Notification]) -> None:
        """Send in the background what is to be told and was not yet."""
        for one in notifications:
            if one.event in self._settings.on:
                for receiver in self._receivers:
                    if not receiver.expects(one.id):
                        receiver.waiting.append((one.id, self._write_payload(one)))
                        self._start(receiver)

    async def flush(self, seconds: float = FLUSH_SECONDS) -> None:
        """Wait until everything is sent, for a limited time; what is not is told by the next run if it still holds."""
        jobs = [receiver.job for receiver in self._receivers if receiver.job]
        if not jobs:
            return
        _, late = await asyncio.wait(jobs, timeout=seconds)
        for job in late:
            job.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        for receiver in self._receivers:
            receiver.waiting.clear()
        if late:
            self._complain("they were not sent before the run ended")

    def _write_payload(self, notification: Notification) -> Payload:
        view = self._board.view
        return write_payload(notification, self._repository, view.run, view.link)

    def _start(self, receiver: _Receiver) -> None:
        if receiver.job is None or receiver.job.done():
            receiver.job = asyncio.create_task(self._send_all(receiver), name=f"notify {receiver.channel.name}")

    async def _send_all(self, receiver: _Receiver) -> None:
        while receiver.waiting:
            notification_id, payload = receiver.waiting[0]
            if await self._send(receiver, payload):
                receiver.told = add_told(receiver.told, notification_id)
                await asyncio.to_thread(self._write)
            receiver.waiting.popleft()

    async def _send(self, receiver: _Receiver, payload: Payload) -> bool:
        """Send one notification; after one that was given up, each is tried only once."""
        reason = ""
        for pause in (*(() if receiver.is_failing else self._pauses), None):
            try:
                await receiver.channel.send(payload)
            except NotSentError as error:
                reason = str(error)
                if pause is None or not error.may_pass:
                    break
                await asyncio.sleep(pause)
            else:
                receiver.is_failing = False
                return True
        receiver.is_failing = True
        self._complain(f"notify.{receiver.channel.name}: {reason}")
        return False

    def _complain(self, reason: str) -> None:
        if not self._is_said:
            self._is_said = True
            self._board.say(f"Notifications were not sent: {reason}. The next run tells what still holds then.")

    def _write(self) -> None:
        told = {receiver.channel.name: receiver.told for receiver in self._receivers}
        write_atomically(self._place, json.dumps({**read_told(self._place), **told}, indent=1).encode() + b"\n")


def read_told(place: Path) -> dict[str, tuple[str, ...]]:
    """The ids of the notifications that were sent, by channel; empty if there is no such file, or one with faults."""
    try:
        found: object = json.loads(read_regular(place, MAX_TOLD_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    named = cast("dict[str, object]", found).items()
    return {name: tuple(map(str, cast("list[object]", ids))) for name, ids in named if isinstance(ids, list)}


def make_notifier(project: Project, environments: ChildEnvironments, board: Board) -> Notifier:
    """Make the notifier that `notify` configures; what is wrong with the variable that it names is said once."""
    settings, repository = project.settings.notify, project.repository
    channels: list[Channel] = []
    if settings.is_used and settings.command:
        log = repository.state_dir / "logs" / f"{LOG_NAME}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        cwd = repository.common_dir if repository.is_bare else repository.top
        channels.append(CommandChannel(settings.command, cwd, environments.for_notifications(), log))
    if settings.is_used and (url := _find_webhook(settings, user_environment(), board.say)):
        channels.append(WebhookChannel(url))
    return Notifier(settings, channels, repository.state_dir / TOLD_NAME, board, repository.top.name)


def _find_webhook(settings: NotifySettings, environment: Mapping[str, str], say: Callable[[str], None]) -> str:
    name = settings.webhook_env
    if not name:
        return settings.webhook
    url = environment.get(name, "").strip()
    try:
        if url:
            return check_webhook(url)
        fault = "is not set"
    except ValueError as error:
        fault = str(error)
    say(f"Nobody is notified by webhook: the variable {name}, which notify.webhook_env names, {fault}.")
    return ""
