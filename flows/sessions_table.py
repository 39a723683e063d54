"""Shows the progress of a run and its sessions in Prefect's UI as one table artifact, without holding up the run."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID

from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate

from flows.run_artifact import write_artifact
from tasks_lib.model import OutcomeName
from tasks_lib.runtime.status_board import Board, NodeView, RunView, find_last_activity
from tasks_lib.text import cut, fold

KEY = "coordinator-sessions"
UPDATE_SECONDS = 10.0
"""An update costs the server 10 to 80 ms, and users have to reload the page to see it."""
CLOSE_SECONDS = 10.0
MOST_ROWS = 200
MOST_CHARS = 160
"""Maximum length of a cell; the log of the node's task run has the whole text."""
TO_LOOK_AT = (OutcomeName.BLOCKED, OutcomeName.FAILED, OutcomeName.ABORTED, OutcomeName.WAITING)

Row = dict[str, str | int | float]


def list_rows(view: RunView, *, is_over: bool) -> Sequence[Row]:
    """List a row for each running node, the longest at its stage first, then for each node that someone has to look at.

    Once the run is over, also for each other node that ran, with its outcome, the last to end first. Reads the times of
    log files.
    """
    nodes = [
        node for node in view.nodes.values() if node.is_running or (is_over and node.attempt) or _is_to_look_at(node)
    ]
    nodes.sort(key=lambda node: node.since, reverse=True)
    nodes.sort(key=lambda node: 0 if node.is_running else 1 if _is_to_look_at(node) else 2)
    running = sum(node.is_running for node in nodes)
    return [_write_row(node, view.host) for node in (*reversed(nodes[:running]), *nodes[running:])][:MOST_ROWS]


def _is_to_look_at(node: NodeView) -> bool:
    return node.outcome in TO_LOOK_AT


def _write_row(node: NodeView, host: str) -> Row:
    return {
        "node": cut(node.id, MOST_CHARS),
        "stage": node.outcome or node.stage,
        "machine": node.machine or host,
        "role": node.role,
        "turn": f"{node.attempt}.{node.turn}" if node.attempt else "",
        "activity": cut(fold(node.activity or node.reason or node.detail), MOST_CHARS),
        "active": _write_time(find_last_activity(node)),
        "changes": node.diffstat,
        "conflicts": cut(fold(node.conflicts), MOST_CHARS),
        "tokens": node.tokens,
        "cost": round(node.cost, 4),
        "todo": cut(fold(node.todo), MOST_CHARS),
        "since": node.since,
    }


def _write_time(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def describe_progress(nodes: Iterable[NodeView]) -> str:
    """Count the nodes in one line: "12 of 28 nodes completed, 3 running, 1 blocked, 12 waiting"."""
    nodes = list(nodes)
    counts = Counter(_name_group(node) for node in nodes if not node.outcome.is_landed)
    completed = len(nodes) - counts.total()
    words = dict.fromkeys(("running", *(outcome.casefold() for outcome in TO_LOOK_AT), "skipped", "waiting"))
    rest = [f"{counts[word]} {word}" for word in words if counts[word]]
    return ", ".join([f"{completed} of {len(nodes)} node{'s' if len(nodes) != 1 else ''} completed", *rest])


def _name_group(node: NodeView) -> str:
    return node.outcome.casefold() or ("running" if node.stage else "waiting")


class SessionsTable:
    """The artifact of one run, created on first use and updated in place, so that artifacts do not pile up."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._artifact: UUID | None = None
        self._shown: tuple[str, Sequence[Row]] = ("", ())
        self._logger = get_run_logger()

    async def work(self) -> None:
        """Keep the table up to date, with one update per `UPDATE_SECONDS` at most."""
        while True:
            await self.update(is_over=False)
            await asyncio.sleep(UPDATE_SECONDS)

    async def update(self, *, is_over: bool) -> None:
        """Show the board's current state if it has changed; the run continues even if that fails."""
        view = self._board.view
        progress, rows = (
            describe_progress(view.nodes.values()),
            await asyncio.to_thread(list_rows, view, is_over=is_over),
        )
        if (progress, rows) == self._shown:
            return
        try:
            await self._write(progress, rows)
        except Exception as error:  # The table is only informative: its errors must not end a run.
            self._logger.debug("the table of sessions could not be updated: %s", error)
        else:
            self._shown = (progress, rows)

    async def _write(self, progress: str, rows: Sequence[Row]) -> None:
        table = json.dumps(list(rows))
        if self._artifact is None:
            self._artifact = await write_artifact("table", KEY, table, progress)
            return
        async with get_client() as client:
            await client.update_artifact(self._artifact, ArtifactUpdate(data=table, description=progress))


@asynccontextmanager
async def showing_sessions(board: Board) -> AsyncGenerator[None]:
    """Show the sessions while the block runs, and once more when it is over."""
    table = SessionsTable(board)
    job = asyncio.create_task(table.work(), name="sessions table")
    try:
        yield
    finally:
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)
        await asyncio.wait([asyncio.create_task(table.update(is_over=True))], timeout=CLOSE_SECONDS)
