"""Writes the journal of a run: a file with a JSON line for everything that happened to its nodes, and when."""

import json
import os
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tasks_lib.model import Stage
from tasks_lib.project.run_journals import JOURNALS, MAX_BYTES, SUFFIX, name_journal
from tasks_lib.reporting.journal_events import Cause, JournalEvent
from tasks_lib.runtime.status_board import CONFLICT_EXPECTED, Board, NodeView, now_text

KEPT_JOURNALS = 100
MAX_CHARS = 2_000
SHORTEST_WAIT = 0.05
"""Seconds; anything below is how long it takes to wait for nothing."""
_APPENDING = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
Fact = str | int | float | bool | tuple[str, ...]
Listener = Callable[[str, str, Mapping[str, Fact]], None]
"""Called for each note with its event, the id of its node ("" for the run) and its facts, `at` among them."""


class RunJournal:
    """The journal of one run. Until `open` is called, notes only reach listeners. Call it on the event loop.

    `judged_at` is when the run was judged, ISO 8601, "" before that.
    """

    def __init__(self) -> None:
        self.judged_at: str = ""
        self._path: Path | None = None
        self._size = 0
        self._board: Board | None = None
        self._listeners: list[Listener] = []

    @property
    def name(self) -> str:
        """The name of the journal, by which `list_journals` lists it; "" if it is not written."""
        return self._path.name.removesuffix(SUFFIX) if self._path else ""

    def open(self, state_dir: Path, board: Board, sessions: int, head: str) -> None:
        """Append to the journal of the board's run from now on, also what the board hears; old journals are deleted.

        A run that is retried or resumed under the same id continues its journal. `head` is the target's commit now.
        """
        view, folder = board.view, state_dir / JOURNALS
        self._board = board
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._path = path = folder / name_journal(view.run)
            _delete_old(folder, path)
            self._size = path.stat().st_size if path.exists() else 0
        except OSError as error:
            self._break_off(error)
        # The last line of a killed run may have been cut off; an empty line ends it.
        self._write(b"\n" if self._size else b"")
        begun: dict[str, Fact] = {"at": view.started, "run": view.run, "target": view.target}
        self._append(JournalEvent.BEGUN, "", {**begun, "sessions": sessions, "head": head})
        board.listen(self._hear)

    def note(self, event: str, node_id: str = "", **facts: Fact) -> None:
        """Write down an event of a node, or of the run for the id ""; listeners are called with it too."""
        known: dict[str, Fact] = {"at": now_text(), **facts}
        self._append(event, node_id, known)
        for listener in self._listeners:
            listener(event, node_id, known)

    @contextmanager
    def waiting(self, node_id: str, cause: Cause, clock: Callable[[], float]) -> Generator[None]:
        """Write down for how long the block waited, by `clock` in seconds, unless that is negligible."""
        began = clock()
        try:
            yield
        finally:
            if (seconds := clock() - began) >= SHORTEST_WAIT:
                self.note(JournalEvent.WAITED, node_id, cause=cause, seconds=round(seconds, 3))

    def judge(self, exit_code: int) -> None:
        """Write down that the run has ended with `exit_code`."""
        self.judged_at = now_text()
        self._append(JournalEvent.JUDGED, "", {"at": self.judged_at, "exit_code": exit_code})

    def sum_up(self, figures: Mapping[str, Fact]) -> None:
        """Write down the figures in which later reports compare this run, as the last line."""
        self._append(JournalEvent.SUMMED, "", {"at": now_text(), **figures})

    def listen(self, listener: Listener) -> None:
        """Call `listener` for each note."""
        self._listeners.append(listener)

    def _hear(self, node_id: str, line: str) -> None:
        if not node_id:
            self._append(JournalEvent.SAID, "", {"at": now_text(), "text": line})
        elif self._board and (node := self._board.node(node_id)):
            if line.startswith(CONFLICT_EXPECTED):
                other, _, paths = line.removeprefix(CONFLICT_EXPECTED).partition(": ")
                facts = {"at": now_text(), "other": other, "paths": paths}
                self._append(JournalEvent.CONFLICT_EXPECTED, node_id, facts)
            else:
                self._append(_name_event(node), node_id, _describe(node))

    def _append(self, event: str, node_id: str, facts: Mapping[str, Fact]) -> None:
        known = {key: value[:MAX_CHARS] if isinstance(value, str) else value for key, value in facts.items()}
        entry = {"event": event, "node": node_id, **known}
        line = json.dumps({key: value for key, value in entry.items() if value or key == "exit_code"})
        self._write(f"{line}\n".encode())

    def _write(self, data: bytes) -> None:
        """Append `data` in one write, so that a kill leaves whole lines; the file is open only meanwhile."""
        if self._path is None or self._size > MAX_BYTES:
            return
        try:
            descriptor = os.open(
                self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644
            )
            try:
                self._size += os.write(descriptor, data)
            finally:
                os.close(descriptor)
        except OSError as error:
            self._break_off(error)

    def _break_off(self, error: OSError) -> None:
        self._path = None
        if self._board:
            self._board.say(f"The journal of this run is incomplete, and so will be its report: {error}.")


def _name_event(node: NodeView) -> str:
    if node.outcome:
        return JournalEvent.ENDED
    return JournalEvent.STAGE if node.stage else JournalEvent.REOPENED


def _describe(node: NodeView) -> Mapping[str, Fact]:
    known: dict[str, Fact] = {
        "at": node.since,
        "stage": node.stage,
        "detail": node.detail,
        "attempt": node.attempt,
        "turn": node.turn,
        "machine": node.machine,
    }
    if node.stage == Stage.ENDED:
        known |= {
            "outcome": str(node.outcome),
            "reason": node.reason,
            "commit": node.commit,
            "kind": node.blocker_kind,
        }
    return known


def _delete_old(folder: Path, own: Path) -> None:
    """Delete all journals but the newest ones, and never `own`."""
    found: list[tuple[float, Path]] = []
    for path in folder.glob(f"*{SUFFIX}"):
        with suppress(OSError):
            found.append((path.stat().st_mtime, path))
    for _, path in sorted(found, reverse=True)[KEPT_JOURNALS - 1 :]:
        if path != own:
            path.unlink(missing_ok=True)
