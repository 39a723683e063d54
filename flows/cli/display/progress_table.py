"""Shows a running run: a live table in a terminal, plain lines elsewhere."""

import os
import re
import sys
import time
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.table import Table
from rich.text import Text

from flows.cli.display.output import drop_empty
from tasks_lib.model import OutcomeName, Stage
from tasks_lib.runtime.status_board import Board, Listener, NodeView, RunView, find_last_activity
from tasks_lib.text import cut_apart, fold, tell_rest

STYLES: Mapping[OutcomeName, str] = {
    OutcomeName.MERGED: "green",
    OutcomeName.CHECKED: "green",
    OutcomeName.LANDED: "green",
    OutcomeName.BLOCKED: "red",
    OutcomeName.FAILED: "red",
    OutcomeName.ABORTED: "yellow",
    OutcomeName.SKIPPED: "yellow",
    OutcomeName.WAITING: "cyan",
}
PROBLEMS = (OutcomeName.BLOCKED, OutcomeName.FAILED, OutcomeName.ABORTED, OutcomeName.WAITING)
"""How nodes end that somebody has to look at."""
HEADINGS = ("node", "stage", "for", "quiet", "turn", "tokens", "cost", "todo", "changes", "conflicts", "what")
"""`for` is how long the node has been in its stage, `quiet` how long its session has been silent.

`conflicts` are the nodes with which a conflict is coming."""
RIGHT = ("for", "quiet", "turn", "tokens", "cost")
WIDE = 140
"""From this width on, cells are written out in full."""
NARROW = 100
"""Below this width, the columns in `GIVING_WAY` are dropped; `coordinator status --json` has them all."""
GIVING_WAY = ("cost", "todo", "changes", "conflicts")
DUMB = ("", "dumb", "unknown")
"""Values of TERM for terminals that cannot move the cursor."""
MINIMUM_WIDTH = 20
SET_BACK = (Stage.GIVEN_BACK, Stage.RETRYING)
"""Stages that a live table shows for a moment only; the line about each stays above it."""
TALKING = (Stage.SESSION, Stage.REVIEW, Stage.RESOLVER)


@contextmanager
def show(board: Board, console: Console) -> Generator[None]:
    """Show the board while the block runs."""
    if can_redraw(console):
        with (
            Live(_Screen(board), console=console, refresh_per_second=4, transient=True),
            _listening(board, partial(_print_set_back, board, console)),
        ):
            yield
        return

    def write(node: str, line: str) -> None:
        said = f"{node}: {line}" if node else f"! {line}"
        console.file.write(f"{datetime.now().astimezone():%H:%M:%S} {said}\n")
        console.file.flush()

    with _listening(board, write):
        yield


@contextmanager
def _listening(board: Board, listener: Listener) -> Generator[None]:
    board.listen(listener)
    try:
        yield
    finally:
        board.ignore(listener)


def _print_set_back(board: Board, console: Console, node_id: str, line: str) -> None:
    """Print a line above a live table when an attempt has failed, or work is given back."""
    node = board.node(node_id)
    if node and node.stage in SET_BACK and line.startswith(node.stage):
        said = Text(f"{datetime.now().astimezone():%H:%M:%S} {node_id}: {fold(line)}", style="yellow")
        console.print(said, soft_wrap=True)


def can_redraw(console: Console) -> bool:
    """Whether `console` is a terminal that can redraw lines, with this process in the foreground.

    A dumb terminal would show nothing, and during `coordinator run &` the terminal belongs to the shell.
    """
    if not console.is_terminal or os.environ.get("TERM", "").lower() in DUMB or console.width < MINIMUM_WIDTH:
        return False
    try:
        return os.tcgetpgrp(console.file.fileno()) == os.getpgrp()
    except (OSError, ValueError):
        return True


class _Screen:
    """Renders the board on each refresh of the display."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        view = self._board.view
        for message in view.messages[-3:]:
            yield Text(f"! {message}", style="yellow")
        yield Text(sum_up(view.nodes.values(), view), style="bold")
        yield make_table(sort_for_screen(view.nodes.values()), max(5, options.max_height - 6), options.max_width)


def count_nodes(nodes: Iterable[NodeView]) -> str:
    """Count the nodes by state, in one line."""
    counts = Counter(name_group(node) for node in nodes)
    return " · ".join(f"{count} {name}" for name, count in counts.items())


def sum_up(nodes: Iterable[NodeView], run: RunView | None) -> str:
    """Count the nodes by state, and add the tokens and cost used so far, in one line."""
    used = [f"{write_number(run.tokens)} tokens" if run.tokens else "", write_cost(run.cost)] if run else []
    return " · ".join(part for part in (count_nodes(nodes), *used) if part)


def name_group(node: NodeView) -> str:
    """The name under which `node` is counted."""
    if node.outcome:
        return "landed" if node.outcome.is_landed else node.outcome.casefold()
    return "working" if node.stage else "waiting"


def is_problem(node: NodeView) -> bool:
    """Whether `node` ended so that somebody has to look at it."""
    return node.outcome in PROBLEMS


def sort_for_screen(nodes: Iterable[NodeView]) -> list[NodeView]:
    """Sort problems first, then running nodes, those that ended in this run (latest first), and those that wait."""

    def rank(node: NodeView) -> tuple[int, float]:
        since = datetime.fromisoformat(node.since).timestamp() if node.since else 0.0
        if is_problem(node):
            return 0, -since
        if node.is_running:
            return 1, 0.0
        return (2, -since) if node.outcome and node.stage else (3 if not node.outcome else 4, 0.0)

    return sorted(nodes, key=rank)


def make_table(nodes: Sequence[NodeView], rows: int, width: int) -> Table:
    """Make a table of the first `rows` of `nodes` that fits into `width` columns; empty columns are dropped.

    Ids are never cut to the same text. Its caption counts the nodes that are not shown, by state.
    """
    shown = nodes[:rows]
    headings, cells = drop_empty(HEADINGS, [_fit(node, width) for node in shown])
    ids = cut_apart([node.id for node in shown], width // 5)
    table = Table(expand=True, box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in headings:
        table.add_column(
            heading,
            no_wrap=True,
            overflow="ellipsis",
            justify="right" if heading in RIGHT else "left",
            min_width=max(map(cell_len, ids)) if heading == "node" else None,
            max_width=width // 5 if heading in ("todo", "conflicts") else None,
            ratio=1 if heading == "what" else None,
        )
    for node, name, row in zip(shown, ids, cells, strict=True):
        table.add_row(Text(name), *(Text(fold(cell)) for cell in row[1:]), style=find_style(node))
    if rest := tell_rest(len(nodes), len(shown), "… and "):
        table.caption = Text(f"{rest}: {count_nodes(nodes[len(shown) :])}", style="dim")
        table.caption_justify = "left"
    return table


def _fit(node: NodeView, width: int) -> list[str]:
    cells = zip(HEADINGS, describe(node, is_wide=width >= WIDE), strict=True)
    return ["" if width < NARROW and heading in GIVING_WAY else cell for heading, cell in cells]


def find_style(node: NodeView) -> str:
    """The style of a node's row: by its outcome, and dim while it waits."""
    return STYLES.get(node.outcome, "" if node.stage else "dim")


def describe(node: NodeView, *, is_wide: bool) -> tuple[str, ...]:
    """The cells of a node's row, one for each of `HEADINGS`; shortened to figures unless `is_wide`."""
    is_talking = node.is_running and node.stage in TALKING
    return (
        node.id,
        node.outcome or node.stage or "waiting",
        elapsed(node.since) if node.is_running else "",
        find_quiet(node) if node.is_running else "",
        f"{node.attempt}.{node.turn}" if node.attempt else "",
        write_number(node.tokens),
        write_cost(node.cost),
        (node.todo if is_wide else node.todo.split(" ")[0]) if is_talking else "",
        node.diffstat if is_wide else shorten_diffstat(node.diffstat),
        node.conflicts if is_wide else _list_others(node.conflicts),
        (is_talking and _describe_activity(node)) or node.reason or node.detail or node.name,
    )


def _describe_activity(node: NodeView) -> str:
    return f"{node.machine}: {node.activity}" if node.machine and node.activity else node.activity


def _list_others(conflicts: str) -> str:
    """Keep only the nodes of `api: src/app.py; web: x, y`: `api web`."""
    return " ".join(part.partition(": ")[0] for part in conflicts.split("; "))


def shorten_diffstat(diffstat: str) -> str:
    """Keep only the line counts of `3 files +1400 -2`: `+1.4k -2`."""
    found: list[tuple[str, str]] = re.findall(r"([+-])(\d+)", diffstat)
    return " ".join(f"{sign}{write_number(int(number)) or 0}" for sign, number in found)


def write_number(number: int) -> str:
    """Write `number` in at most five characters, "" for 0: 950, 12.3k, 123k, 1.2M."""
    for size, sign in ((1_000_000, "M"), (1_000, "k")):
        if number >= size:
            scaled = number / size
            return f"{scaled:.0f}{sign}" if scaled >= 99.95 else f"{scaled:.1f}{sign}"
    return str(number) if number else ""


def write_cost(dollars: float) -> str:
    """Write `dollars` as a price, "" for 0; small amounts with more digits."""
    if not dollars:
        return ""
    return f"${dollars:.2f}" if dollars >= 0.01 else f"${dollars:.4f}"


def elapsed(since: str) -> str:
    """The time since `since` (ISO 8601, UTC), as 1:05 or 2:10:00."""
    if not since:
        return ""
    return clock((datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds())


def clock(seconds: float) -> str:
    """Write `seconds` as m:ss, or h:mm:ss."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def find_quiet(node: NodeView) -> str:
    """How long the session has been silent."""
    seen = find_last_activity(node)
    return "" if seen is None else clock(time.time() - seen)


def make_console() -> Console:
    """Make the console that commands print to."""
    return Console(file=sys.stdout, soft_wrap=False)
