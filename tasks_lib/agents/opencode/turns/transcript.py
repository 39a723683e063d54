"""Writes what a session does as readable text, while it happens."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import assert_never

from tasks_lib.session import events as ev
from tasks_lib.session.events import Event

GIVEN = 500
RESULT = 2000
TEXT = 20_000
"""Characters to keep of a tool's input, of the end of its output, and of one text."""


class Transcript:
    """Appends to `path`, which is private, as it may contain secrets. What is reported twice is written once."""

    def __init__(self, path: Path, root: str = "") -> None:
        self._path: Path = path
        self.root: str = root
        self._written: set[str] = set()

    def write(self, event: Event) -> None:
        """Add `event`, if it is meant for the reader."""
        match event:
            case ev.TextEnded():
                self._once(event.part, event, "", _cut(event.text, TEXT))
            case ev.ToolEnded():
                title = f"{event.tool.name}{' failed' if event.is_failed else ''}"
                self._once(event.call, event, title, f"{_cut(event.given, GIVEN)}\n→ {_tail(event.result)}")
            case ev.Retrying():
                self._once(f"retry {event.retry.until}", event, "the provider will be asked again", event.retry.message)
            case ev.ErrorSeen():
                self._once(f"error {event.problem.sentence}", event, "error", event.problem.sentence)
            case ev.Compacted():
                why = "the provider rejected it as too long" if event.is_overflow else "it nearly fills the context"
                self._once(event.part, event, "the conversation is being compacted", why)
            case ev.Asked():
                self._once(event.request.id, event, f"asks ({event.request.kind})", event.request.text)
            case ev.ServerDied():
                self.say("the server has died", "", event.at)
            case (
                ev.Busy() | ev.Idle() | ev.StepStarted() | ev.StepEnded() | ev.TextGrew()
                | ev.ToolStarted() | ev.Answered() | ev.TodosChanged() | ev.ChildOpened() | ev.Gap()
                | ev.Sent() | ev.Polled() | ev.SnapshotTaken() | ev.WorktreeChecked()
                | ev.ShellsSampled()
            ):  # fmt: skip
                return
            case _:
                assert_never(event)

    def begin_turn(self) -> None:
        """From now on, an error that was written before is a new one."""
        self._written.clear()

    def _once(self, key: str, event: Event, title: str, text: str) -> None:
        if key not in self._written and (title or text.strip()):
            self._written.add(key)
            whose = "" if event.session == self.root else "subagent "
            self.say(f"{whose}{title or 'says'}", text, event.at)

    def say(self, title: str, text: str, at: float) -> None:
        """Add a paragraph: `title`, the time, and `text` below them."""
        when = datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S")
        written = f"--- {when} {title}\n{text.rstrip()}\n" if text.strip() else f"--- {when} {title}\n"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600), "ab") as sink:
            sink.write(written.encode("utf-8", "replace"))


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"


def _tail(text: str) -> str:
    return text if len(text) <= RESULT else f"({len(text)} characters) …{text[-RESULT:]}"
