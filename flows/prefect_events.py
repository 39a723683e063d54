"""Emits events for Prefect automations: `coordinator.<node|session|merge|run>.<verb>`."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from contextvars import copy_context
from typing import Any

from prefect.events import emit_event

from flows.event_format import Payload, describe_event
from tasks_lib.model import Stage
from tasks_lib.reporting.journal_events import JournalEvent
from tasks_lib.runtime.run_journal import Fact, RunJournal
from tasks_lib.runtime.status_board import CONFLICT_EXPECTED, HEARD, SILENT, Board, NodeView

MOST_OF_A_NODE = 200
"""Maximum number of events per node. Attempts, turns and rounds are limited, so only a bug reaches this."""
MOST_CONFLICTS = 50
"""Maximum number of further events per node, about conflicts that are coming."""
RUN_REQUESTED = "run.requested"
_VERBS: Mapping[str, str] = {
    Stage.WORKTREE: "node.started",
    Stage.SESSION: "session.prompted",
    Stage.REVIEW: "session.reviewing",
    Stage.RESOLVER: "session.resolving",
    Stage.QUEUED: "merge.queued",
    Stage.VERIFY: "merge.verifying",
    Stage.GIVEN_BACK: "merge.given-back",
}


class EventEmitter:
    """Turns changes on a board into events; a session's current activity is not an event."""

    def __init__(self, board: Board, run: str, repository: str) -> None:
        self._board = board
        self._run = run
        self._repository = repository
        self._last: dict[str, tuple[str, ...]] = {}
        self._counts: dict[str, int] = {}
        self._conflicts: dict[str, int] = {}
        self._notes: dict[str, int] = {}
        # Emitted inside a task run, each event would trigger a lookup of that task run.
        self._context = copy_context()

    def hear(self, node_id: str, line: str) -> None:
        """Listen to the board."""
        if not node_id:
            self.announce("run.said", {"message": line})
        elif line.startswith(CONFLICT_EXPECTED):
            self._announce_conflict(node_id, line)
        elif (node := self._board.node(node_id)) and self._is_news(node):
            self.announce(_name_verb(node), _describe(node), node_id)

    def _is_news(self, node: NodeView) -> bool:
        now = (_name_verb(node), str(node.attempt), str(node.turn), node.detail, node.reason)
        count = self._counts[node.id] = self._counts.get(node.id, 0) + 1
        is_news = bool(now[0]) and now != self._last.get(node.id) and count <= MOST_OF_A_NODE
        self._last[node.id] = now
        return is_news

    def _announce_conflict(self, node_id: str, line: str) -> None:
        count = self._conflicts[node_id] = self._conflicts.get(node_id, 0) + 1
        if count <= MOST_CONFLICTS:
            other, _, paths = line.removeprefix(CONFLICT_EXPECTED).partition(": ")
            self.announce("node.conflict_expected", {"id": node_id, "other": other, "paths": paths}, node_id)

    def note(self, event: str, node_id: str, facts: Mapping[str, Fact]) -> None:
        """Listen to the journal."""
        count = self._notes[node_id] = self._notes.get(node_id, 0) + 1
        if count <= MOST_OF_A_NODE:
            payload = {name: ", ".join(fact) if isinstance(fact, tuple) else fact for name, fact in facts.items()}
            verb = RUN_REQUESTED if event == JournalEvent.REQUESTED and not node_id else event
            self.announce(verb, {"id": node_id or self._run, **payload}, node_id)

    def announce(self, verb: str, payload: Payload, node_id: str = "", labels: Mapping[str, str] | None = None) -> None:
        """Hand an event to Prefect, which sends it from its own thread."""
        event: dict[str, Any] = describe_event(
            verb, payload, repository=self._repository, run=self._run, node_id=node_id, labels=labels
        )
        with suppress(Exception):  # A failure to emit an event must not stop the run.
            self._context.run(emit_event, **event)


def _name_verb(node: NodeView) -> str:
    if node.outcome:
        return f"node.{node.outcome.casefold()}"
    if node.stage == Stage.SESSION and node.detail.startswith(("nudged", "guided")):
        return "session.nudged"
    for start, verb in ((SILENT, "session.silent"), (HEARD, "session.heard")):
        if node.stage in (Stage.SESSION, Stage.REVIEW) and node.detail.startswith(start):
            return verb
    return _VERBS.get(node.stage, "" if node.stage else "node.taken-back")


def _describe(node: NodeView) -> Payload:
    return {
        "id": node.id,
        "name": node.name,
        "attempt": node.attempt,
        "turn": node.turn,
        "stage": node.stage,
        "detail": node.detail,
        "reason": node.reason,
        "commit": node.commit,
        "blocker_kind": node.blocker_kind,
        "tokens": node.tokens,
        "cost": node.cost,
        "since": node.since,
    }


@contextmanager
def announcing(board: Board, journal: RunJournal, run: str, repository: str, sessions: int) -> Generator[EventEmitter]:
    """Emit events for `board` and the notes of `journal`, including the start, while the block runs."""
    announcer = EventEmitter(board, run, repository)
    board.listen(announcer.hear)
    journal.listen(announcer.note)
    started = {"id": run, "nodes": len(board.view.nodes), "sessions": sessions, "at": board.view.started}
    announcer.announce("run.started", started)
    try:
        yield announcer
    finally:
        board.ignore(announcer.hear)
