"""Shows a run while it goes on: a live table in a terminal, plain lines elsewhere."""

import sys
import time
from collections import Counter
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tasks_lib.life.board import Board, NodeView
from tasks_lib.model import Stage

STYLES = {
    "Merged": "green",
    "Checked": "green",
    "Landed": "green",
    "Blocked": "red",
    "Failed": "red",
    "Aborted": "yellow",
    "Skipped": "yellow",
}
ACTIVE_ORDER = (Stage.SESSION, Stage.REVIEW, Stage.VERIFY, Stage.QUEUED, Stage.GIVEN_BACK, Stage.SETUP, Stage.WORKTREE)


@contextmanager
def show(board: Board, console: Console) -> Generator[None]:
    """Show what the board holds for as long as the block runs."""
    if console.is_terminal:
        with Live(_Screen(board), console=console, refresh_per_second=4, transient=True):
            yield
        return

    def write(node: str, line: str) -> None:
        said = f"{node}: {line}" if node else f"! {line}"
        console.file.write(f"{datetime.now().astimezone():%H:%M:%S} {said}\n")
        console.file.flush()

    board.listen(write)
    try:
        yield
    finally:
        board.ignore(write)


class _Screen:
    """Renders the board anew each time the display refreshes."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        view = self._board.view
        for message in view.messages[-3:]:
            yield Text(f"! {message}", style="yellow")
        yield Text(count_nodes(view.nodes.values()), style="bold")
        yield make_table(list(view.nodes.values()), max(5, options.max_height - 6))


def count_nodes(nodes: Iterable[NodeView]) -> str:
    """How many nodes are where, in one line."""
    counts = Counter(_group(node) for node in nodes)
    return " · ".join(f"{count} {name}" for name, count in counts.items())


def _group(node: NodeView) -> str:
    if node.outcome:
        return {"Merged": "landed", "Checked": "landed", "Landed": "landed"}.get(node.outcome, node.outcome.lower())
    return "working" if node.stage else "waiting"


def make_table(nodes: list[NodeView], rows: int) -> Table:
    """The nodes that are worked first, then what ended last; `rows` at most."""
    active = [node for node in nodes if node.stage and not node.outcome]
    ended = sorted((n for n in nodes if n.outcome and n.stage), key=lambda n: n.since, reverse=True)
    waiting = [node for node in nodes if not node.stage and not node.outcome]
    shown = (active + ended + waiting)[:rows]
    table = Table(expand=True, box=None, pad_edge=False)
    for heading in ("node", "stage", "for", "last activity", "turn", "what"):
        table.add_column(heading, no_wrap=True, overflow="ellipsis", ratio=3 if heading in ("node", "what") else None)
    for node in shown:
        table.add_row(
            *(Text(" ".join(cell.split())) for cell in describe(node)),
            style=STYLES.get(node.outcome, "" if node.stage else "dim"),
        )
    if len(nodes) > len(shown):
        table.add_row(f"… and {len(nodes) - len(shown)} more", style="dim")
    return table


def describe(node: NodeView) -> tuple[str, str, str, str, str, str]:
    """The cells of a node's row."""
    is_active = bool(node.stage and not node.outcome)
    return (
        node.id,
        node.outcome or node.stage or "waits",
        elapsed(node.since) if is_active else "",
        last_activity(node) if is_active else "",
        f"{node.attempt}.{node.turn}" if node.attempt else "",
        node.reason or node.detail or node.name,
    )


def elapsed(since: str) -> str:
    """How long ago `since` (ISO 8601, UTC) was, as 1:05 or 2:10:00."""
    if not since:
        return ""
    return clock((datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds())


def clock(seconds: float) -> str:
    """`seconds` as m:ss, or h:mm:ss."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def last_activity(node: NodeView) -> str:
    """How long ago the node's session last wrote anything."""
    try:
        return clock(time.time() - Path(node.log).stat().st_mtime) if node.log else ""
    except OSError:
        return ""


def make_console() -> Console:
    """The console that commands print to."""
    return Console(file=sys.stdout, soft_wrap=False)
