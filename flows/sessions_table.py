"""Shows the sessions of a run in Prefect's UI as one table artifact, without ever holding up the run."""

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
DESCRIPTION = "Running nodes, and what their sessions are doing"
UPDATE_SECONDS = 10.0
"""An update costs the server 10 to 80 ms, and users have to reload the page to see it."""
CLOSE_SECONDS = 10.0
MOST_ROWS = 200

Row = dict[str, str | int | float]


def list_rows(view: RunView, *, is_over: bool) -> Sequence[Row]:
    """List a row for each running node; once the run is over, for each node that ran, with its outcome."""
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
    """The artifact of one run, created on first use and updated in place, so that artifacts do not pile up."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._artifact: UUID | None = None
        self._shown: Sequence[Row] = ()
        self._logger = get_run_logger()

    async def work(self) -> None:
        """Keep the table up to date, with one update per `UPDATE_SECONDS` at most."""
        while True:
            await self.update(is_over=False)
            await asyncio.sleep(UPDATE_SECONDS)

    async def update(self, *, is_over: bool) -> None:
        """Show the board's current state if it has changed; the run continues even if that fails."""
        rows = list_rows(self._board.view, is_over=is_over)
        if rows == self._shown:
            return
        try:
            await self._write(rows)
        except Exception as error:  # The table is only informative: its errors must not end a run.
            self._logger.debug("the table of sessions could not be updated: %s", error)
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
    """Show the sessions while the block runs, and once more when it is over."""
    table = SessionsTable(board)
    job = asyncio.create_task(table.work(), name="sessions table")
    try:
        yield
    finally:
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)
        await asyncio.wait([asyncio.create_task(table.update(is_over=True))], timeout=CLOSE_SECONDS)
