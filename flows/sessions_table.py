"""Shows the sessions of a run in Prefect's UI: one table artifact, kept up to date and never in the run's way."""

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import acreate_table_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate

from tasks_lib.runtime.status_board import Board, NodeView, RunView

KEY = "coordinator-sessions"
DESCRIPTION = "Nodes at work, and what their sessions do"
UPDATE_SECONDS = 10.0
"""Each change of an artifact costs the server 10 to 80 ms, and its page is loaded anew by hand."""
CLOSE_SECONDS = 10.0
MOST_ROWS = 200

Row = dict[str, str | int | float]


def list_rows(view: RunView, *, is_over: bool) -> Sequence[Row]:
    """A row for each node at work; once the run is over, for each node that was worked, with how it ended."""
    nodes = view.nodes.values()
    shown = [node for node in nodes if (node.attempt if is_over else node.is_running)]
    return [_write_row(node) for node in sorted(shown, key=lambda node: node.since)[-MOST_ROWS:]]


def _write_row(node: NodeView) -> Row:
    return {
        "node": node.id,
        "stage": node.outcome or node.stage,
        "turn": f"{node.attempt}.{node.turn}" if node.attempt else "",
        "activity": node.activity or node.reason or node.detail,
        "todo": node.todo,
        "changes": node.diffstat,
        "tokens": node.tokens,
        "cost": round(node.cost, 4),
        "since": node.since,
    }


class SessionsTable:
    """The artifact of one run, made at the first need and changed in place: a new one each time would pile up."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._artifact: UUID | None = None
        self._shown: Sequence[Row] = ()
        self._logger = get_run_logger()

    async def work(self) -> None:
        """Keep the table up to date, at most once in `UPDATE_SECONDS`."""
        while True:
            await self.update(is_over=False)
            await asyncio.sleep(UPDATE_SECONDS)

    async def update(self, *, is_over: bool) -> None:
        """Show what the board says now, if it is new; whatever the server says to that, the run goes on."""
        rows = list_rows(self._board.view, is_over=is_over)
        if rows == self._shown:
            return
        try:
            await self._write(rows)
        except Exception as error:  # The table is for looking at: no fault of it may end a run.
            self._logger.debug("the table of sessions could not be shown: %s", error)
        else:
            self._shown = rows

    async def _write(self, rows: Sequence[Row]) -> None:
        table = list(rows)
        if self._artifact is None:
            self._artifact = await acreate_table_artifact(table, key=KEY, description=DESCRIPTION)
            return
        async with get_client() as client:
            await client.update_artifact(self._artifact, ArtifactUpdate(data=json.dumps(table)))


@asynccontextmanager
async def showing_sessions(board: Board) -> AsyncGenerator[None]:
    """Show the sessions for as long as the block runs, and once more when it is over."""
    table = SessionsTable(board)
    job = asyncio.create_task(table.work(), name="sessions table")
    try:
        yield
    finally:
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)
        await asyncio.wait([asyncio.create_task(table.update(is_over=True))], timeout=CLOSE_SECONDS)
