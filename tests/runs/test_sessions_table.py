"""What the table of sessions shows, and in which order."""

import pytest

from flows.sessions_table import MOST_CHARS, MOST_ROWS, describe_progress, list_rows
from tasks_lib.model import OutcomeName
from tasks_lib.runtime.status_board import NodeView, RunView


def view_of(*nodes: NodeView) -> RunView:
    return RunView("run", "main", "2026-11-26T18:00:00.000+00:00", host="hub", nodes={node.id: node for node in nodes})


def at(minute: int) -> str:
    return f"2026-11-26T18:{minute:02}:00.000+00:00"


RUNNING = NodeView("running", "Run", "session", since=at(5), attempt=1, turn=2, role="code-reviewer", active_at=at(6))
LONGEST = NodeView("longest", "Run longest", "verify", since=at(1), attempt=1, turn=1)
BLOCKED = NodeView("blocked", "Block", "ended", since=at(3), attempt=1, outcome=OutcomeName.BLOCKED, reason="Which?")
MERGED = NodeView("merged", "Merge", "ended", since=at(2), attempt=1, outcome=OutcomeName.MERGED)
BEFORE = NodeView("before", "Complete", outcome=OutcomeName.LANDED)
WAITING = NodeView("waiting", "Wait")
EVERY = view_of(BEFORE, MERGED, RUNNING, BLOCKED, LONGEST, WAITING)


@pytest.mark.parametrize(
    ("is_over", "shown"),
    [(False, ["longest", "running", "blocked"]), (True, ["longest", "running", "blocked", "merged"])],
)
def test_running_nodes_come_first_then_those_that_someone_has_to_look_at(is_over: bool, shown: list[str]) -> None:
    assert [row["node"] for row in list_rows(EVERY, is_over=is_over)] == shown


def test_row_says_what_the_session_does_where_and_since_when() -> None:
    row = list_rows(view_of(RUNNING), is_over=False)[0]
    assert (row["stage"], row["role"], row["turn"], row["machine"]) == ("session", "code-reviewer", "1.2", "hub")
    assert (row["active"], row["since"]) == ("2026-11-26T18:06:00+00:00", RUNNING.since)


def test_long_cells_and_long_tables_are_cut() -> None:
    nodes = [NodeView(f"{number}", "Run", "session", activity="so\n" * 200, since=at(1)) for number in range(300)]
    rows = list_rows(view_of(*nodes), is_over=False)
    assert len(rows) == MOST_ROWS
    assert all(len(str(row["activity"])) <= MOST_CHARS and "\n" not in str(row["activity"]) for row in rows)


def test_progress_counts_every_node_once() -> None:
    assert describe_progress(EVERY.nodes.values()) == "2 of 6 nodes completed, 2 running, 1 blocked, 1 waiting"
    assert describe_progress([BEFORE]) == "1 of 1 node completed"
