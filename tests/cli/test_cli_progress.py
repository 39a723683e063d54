"""How the live table shows a board, in narrow and wide terminals."""

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from flows.cli.commands.status import print_nodes
from flows.cli.display.output import print_rows
from flows.cli.display.progress_table import (
    make_table,
    shorten_diffstat,
    show,
    sort_for_screen,
    sum_up,
    write_cost,
    write_number,
)
from flows.cli.display.run_summary import MOST_ROWS, print_summary
from tasks_lib.model import OutcomeName, Stage
from tasks_lib.runtime.status_board import Board, NodeView, RunView

SINCE = "2026-01-01T10:00:00+00:00"
BUSY = NodeView(
    "checkout/cart", "Fill a cart", str(Stage.SESSION), "turn 2", SINCE, 1, 2, active_at=SINCE,
    activity="bash: npm test", tokens=12_345, cost=0.42, todo="2/5 write tests", diffstat="3 files +1400 -2",
)  # fmt: skip
WAITING = NodeView("pay", "Take payments")
LANDED = NodeView("mail", "Send mail", str(Stage.ENDED), since=SINCE, attempt=1, turn=1, outcome=OutcomeName.MERGED)


def draw(width: int, *nodes: NodeView) -> list[str]:
    console = Console(width=width, file=io.StringIO())
    console.print(make_table(sort_for_screen(nodes), 20, width))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_hundred_columns_have_room_for_everything_in_short() -> None:
    heading, row, *_ = draw(100, WAITING, LANDED, BUSY)
    assert heading.split() == ["node", "stage", "for", "quiet", "turn", "tokens", "cost", "todo", "changes", "what"]
    assert "checkout/cart session" in row
    for cell in (" 1.2 ", " 12.3k ", " $0.42 ", " 2/5 ", " +1.4k -2 ", " bash: npm test"):
        assert cell in row
    assert "write tests" not in row


def test_wide_terminal_has_the_words_too() -> None:
    row = draw(160, BUSY)[1]
    assert "2/5 write tests" in row
    assert "3 files +1400 -2" in row


def test_narrow_terminal_keeps_what_a_node_does() -> None:
    heading, row = draw(80, BUSY)
    assert heading.split() == ["node", "stage", "for", "quiet", "turn", "tokens", "what"]
    assert "bash: npm test" in row


def test_column_that_nobody_uses_is_left_away() -> None:
    heading, first, second = draw(100, WAITING, LANDED)
    assert heading.split() == ["node", "stage", "turn", "what"]
    assert (first.split()[0], second.split()[0]) == ("mail", "pay")


def test_activity_of_a_session_is_not_shown_when_the_node_waits_in_the_queue() -> None:
    row = draw(100, replace(BUSY, stage=str(Stage.QUEUED), detail="behind two others"))[1]
    assert "behind two others" in row
    assert "npm test" not in row


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, ""), (950, "950"), (12_345, "12.3k"), (99_960, "100k"), (123_456, "123k"), (1_234_567, "1.2M")],
)
def test_number_is_short(number: int, text: str) -> None:
    assert write_number(number) == text


def test_prices_and_diffstats_are_short() -> None:
    assert [write_cost(cost) for cost in (0, 0.0042, 0.42, 12.5)] == ["", "$0.0042", "$0.42", "$12.50"]
    assert shorten_diffstat("12 files +1400 -0") == "+1.4k -0"
    assert shorten_diffstat("") == ""


def test_summary_has_the_totals_when_there_are_any() -> None:
    assert sum_up([BUSY, WAITING], None) == "1 working · 1 waiting"
    run = RunView("r1", "main", SINCE)
    assert sum_up([BUSY], run) == "1 working"
    assert sum_up([BUSY], RunView("r1", "main", SINCE, tokens=1_500, cost=0.5)) == "1 working · 1.5k tokens · $0.50"


@pytest.mark.parametrize("is_terminal", [True, False])
def test_setback_has_a_line_of_its_own_in_a_table_and_in_a_pipe(
    is_terminal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    console = Console(width=60, file=io.StringIO(), force_terminal=is_terminal)
    board = Board(RunView("r", "main", ""), tmp_path / "run.json")
    board.add_node("a", "Do a")
    with show(board, console):
        board.enter("a", Stage.RETRYING, f"attempt 1 failed: {'so ' * 20}long; the next one begins at once")
        board.enter("a", Stage.SESSION, "turn 1")
        board.enter("a", Stage.GIVEN_BACK, "`make test` exited with 1")
        board.enter("a", Stage.SESSION, "turn 2")
    assert isinstance(console.file, io.StringIO)
    lines = [line for line in console.file.getvalue().splitlines() if " a: " in line]
    assert sum("a: retrying: attempt 1 failed: so so " in one and "begins at once" in one for one in lines) == 1
    assert sum("a: given back: `make test` exited with 1" in one for one in lines) == 1


def test_problems_come_first_and_are_never_cut_off_by_nodes_that_are_done_or_wait() -> None:
    """In the live table and in that of `status`, which fits on the screen then."""
    done = [
        replace(LANDED, id=f"done-{number}", since=f"2026-01-01T11:{number % 60:02}:00+00:00") for number in range(120)
    ]
    waiting = [replace(WAITING, id=f"wait-{number}") for number in range(80)]
    ended = {OutcomeName.BLOCKED: "stuck", OutcomeName.FAILED: "broke", OutcomeName.WAITING: "asks"}
    bad = [replace(LANDED, id=name, outcome=outcome, reason="Why") for outcome, name in ended.items()]
    nodes = [*done, BUSY, *waiting, *bad]
    rows = draw(100, *nodes)
    assert {row.split()[0] for row in rows[1:4]} == {"stuck", "broke", "asks"}
    assert rows[4].split()[0] == BUSY.id
    assert rows[-1].split() == ["…", "and", "184", "more:", "104", "landed", "·", "80", "waiting"]
    console = Console(width=100, height=30, file=io.StringIO(), force_terminal=True, color_system=None)
    print_nodes(nodes, console)
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue().splitlines()
    assert len(printed) < 30
    assert {row.split()[0] for row in printed[1:4]} == {"stuck", "broke", "asks"}
    assert "coordinator status | cat" in printed[-1]


@pytest.mark.parametrize("width", [40, 80, 100, 160])
def test_two_ids_are_never_cut_to_the_same_text(width: int) -> None:
    kinds = ("checkout/payments/{}-rounding-of-prices", "resolve-checkout-payments-rounding-{}", "{}-" + "x" * 60)
    nodes = [replace(WAITING, id=kind.format(name)) for kind in kinds for name in ("euro", "euros", "pound", "yen")]
    shown = [row.split()[0] for row in draw(width, *nodes)[1:]]
    assert len(set(shown)) == len(nodes), shown
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    print_rows(console, ("node", "ended", "what"), [(node.id, "Merged", "Text " * 20) for node in nodes])
    assert isinstance(console.file, io.StringIO)
    printed = [row.split()[0] for row in console.file.getvalue().splitlines()[1:]]
    assert len(set(printed)) == len(nodes), printed


def summarize(nodes: list[NodeView], *, is_terminal: bool) -> list[str]:
    console = Console(width=100, file=io.StringIO(), force_terminal=is_terminal, no_color=True)
    print_summary(RunView("r", "main", SINCE, nodes={node.id: node for node in nodes}), console)
    assert isinstance(console.file, io.StringIO)
    return re.sub(r"\x1b\[[0-9;]*m", "", console.file.getvalue()).splitlines()


def test_the_end_of_a_large_run_lists_each_problem_and_counts_the_others() -> None:
    landed = [replace(LANDED, id=f"n{number:03}") for number in range(200)]
    skipped = [replace(WAITING, id=f"s{number}", outcome=OutcomeName.SKIPPED, reason="waits") for number in range(9)]
    problems = [replace(LANDED, id=f"p{number}", outcome=OutcomeName.FAILED, reason="broke") for number in range(3)]
    lines = summarize([*landed, *problems, *skipped], is_terminal=True)
    assert [line.split()[0] for line in lines[1 : MOST_ROWS + 1]] == [
        *(node.id for node in landed[: MOST_ROWS - 3]), "p0", "p1", "p2",
    ]  # fmt: skip
    assert lines[MOST_ROWS + 1] == "… and 172 more: 163 landed · 9 skipped; `coordinator status --json` lists them all"
    assert lines[MOST_ROWS + 2 :] == ["200 landed · 3 failed · 9 skipped", *(f"p{n}: Failed: broke" for n in range(3))]
    whole = summarize([*landed, *problems, *skipped], is_terminal=False)
    assert sum("s8" in line for line in whole) == 2
