"""How a conflict that is coming is shown: on the board, in the table, in `status`, and as an event."""

from collections.abc import Mapping
from pathlib import Path

from flows.cli.display.progress_table import HEADINGS, describe
from flows.event_format import Payload
from flows.prefect_events import EventEmitter
from flows.sessions_table import list_rows
from tasks_lib.model import Stage
from tasks_lib.runtime.status_board import MOST_PATHS, Board, RunView, now_text, read_view


class Emitted(EventEmitter):
    """Keeps the events instead of sending them."""

    def __init__(self, board: Board) -> None:
        super().__init__(board, "run", "shop")
        self.events: list[tuple[str, Payload, str]] = []

    def announce(self, verb: str, payload: Payload, node_id: str = "", labels: Mapping[str, str] | None = None) -> None:
        self.events.append((verb, payload, node_id))


def make_board(place: Path) -> Board:
    board = Board(RunView("r1", "main", now_text()), place / "run.json")
    board.enter("api", Stage.SESSION, attempt=1)
    return board


def test_conflict_is_told_once_and_shown_until_it_has_gone(tmp_path: Path) -> None:
    board = make_board(tmp_path)
    lines: list[str] = []
    board.listen(lambda node, line: lines.append(f"{node}: {line}"))
    board.expect_conflicts("api", {"web": ["app.py"]})
    board.expect_conflicts("api", {"web": ["app.py"], "cli": ["x.py", "y.py"]})
    node = board.view.nodes["api"]
    assert lines == ["api: will conflict with web: app.py", "api: will conflict with cli: x.py, y.py"]
    assert node.conflicts == "cli: x.py, y.py; web: app.py"
    board.write()
    read = read_view(tmp_path / "run.json")
    assert read
    assert read.nodes["api"].conflicts == node.conflicts
    board.expect_conflicts("api", {})
    assert board.view.nodes["api"].conflicts == ""
    board.expect_conflicts("nobody", {"web": ["app.py"]})
    assert len(lines) == 2


def test_many_paths_are_counted(tmp_path: Path) -> None:
    board = make_board(tmp_path)
    board.expect_conflicts("api", {"web": [f"{number}.py" for number in range(MOST_PATHS + 2)]})
    assert board.view.nodes["api"].conflicts.endswith(f"{MOST_PATHS - 1}.py and 2 more")


def test_event_names_both_nodes_and_the_paths(tmp_path: Path) -> None:
    board = make_board(tmp_path)
    emitted = Emitted(board)
    board.listen(emitted.hear)
    board.expect_conflicts("api", {"web": ["app.py", "b.py"]})
    assert emitted.events == [
        ("node.conflict_expected", {"id": "api", "other": "web", "paths": "app.py, b.py"}, "api"),
    ]


def test_row_and_table_have_a_column_for_it(tmp_path: Path) -> None:
    board = make_board(tmp_path)
    board.expect_conflicts("api", {"web": ["app.py"], "cli": ["x.py"]})
    (row,) = list_rows(board.view, is_over=False)
    assert row["conflicts"] == "cli: x.py; web: app.py"
    node = board.view.nodes["api"]
    column = HEADINGS.index("conflicts")
    assert describe(node, is_wide=True)[column] == "cli: x.py; web: app.py"
    assert describe(node, is_wide=False)[column] == "cli web"
