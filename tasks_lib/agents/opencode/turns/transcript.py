"""Hides how a session's doings become a text that a person can read, while they happen."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import assert_never

from tasks_lib.session import events as ev
from tasks_lib.session.events import Event

GIVEN = 500
RESULT = 2000
TEXT = 20_000
"""Characters that are kept of a tool's input, of the end of its output, and of one text."""


class Transcript:
    """Appends to `path`, which is private, as it may hold secrets. What is told twice is written once."""

    def __init__(self, path: Path, root: str = "") -> None:
        self._path: Path = path
        self.root: str = root
        self._written: set[str] = set()

    def write(self, event: Event) -> None:
        """Add what `event` tells, if it is for a person to read."""
        match event:
            case ev.TextEnded():
                self._once(event.part, event, "", _cut(event.text, TEXT))
            case ev.ToolEnded():
                title = f"{event.tool.name}{' failed' if event.is_failed else ''}"
                self._once(event.call, event, title, f"{_cut(event.given, GIVEN)}\n→ {_tail(event.result)}")
            case ev.Retrying():
                self._once(f"retry {event.retry.until}", event, "the provider is asked again", event.retry.message)
            case ev.ErrorSeen():
                self._once(f"error {event.problem.sentence}", event, "error", event.problem.sentence)
            case ev.Compacted():
                why = "the provider refused it as too long" if event.is_overflow else "it nearly fills the context"
                self._once(event.part, event, "the conversation is made shorter", why)
            case ev.Asked():
                self._once(event.request.id, event, f"asks ({event.request.kind})", event.request.text)
            case ev.ServerDied():
                self.say("the server is gone", "", event.at)
            case (
                ev.Busy() | ev.Idle() | ev.StepStarted() | ev.StepEnded() | ev.TextGrew()
                | ev.ToolStarted() | ev.Answered() | ev.TodosChanged() | ev.ChildOpened() | ev.Gap()
                | ev.Sent() | ev.Polled() | ev.SnapshotTaken() | ev.Looked()
            ):  # fmt: skip
                return
            case _:
                assert_never(event)

    def begin_turn(self) -> None:
        """From now on an error that was told of before is another one."""
        self._written.clear()

    def _once(self, key: str, event: Event, title: str, text: str) -> None:
        if key not in self._written and (title or text.strip()):
            self._written.add(key)
            whose = "" if event.session == self.root else "subagent "
            self.say(f"{whose}{title or 'says'}", text, event.at)

    def say(self, title: str, text: str, at: float) -> None:
        """Add a paragraph of our own: `title`, the time, and `text` below them."""
        when = datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S")
        written = f"--- {when} {title}\n{text.rstrip()}\n" if text.strip() else f"--- {when} {title}\n"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600), "ab") as sink:
            sink.write(written.encode("utf-8", "replace"))


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"


def _tail(text: str) -> str:
    return text if len(text) <= RESULT else f"({len(text)} characters) …{text[-RESULT:]}"
