"""The board: what is shown of a node whose end is taken back."""

from pathlib import Path

from tasks_lib.life.board import Board, RunView
from tasks_lib.model import Blocked, Merged, Stage


def make_board(tmp_path: Path) -> Board:
    board = Board(RunView("r", "main", ""), tmp_path / "run.json")
    board.add_node("a", "Do a")
    return board


def test_merge_that_is_taken_back_is_shown_no_longer(tmp_path: Path) -> None:
    board = make_board(tmp_path)
    board.end("a", Merged("c1"))
    board.take_back("a", "c1")
    assert (board.view.nodes["a"].outcome, board.view.nodes["a"].commit) == ("", "")
    board.end("a", Merged("c2"))
    assert board.view.nodes["a"].commit == "c2"


def test_merge_that_was_taken_back_before_its_end_was_told_is_never_shown(tmp_path: Path) -> None:
    board = make_board(tmp_path)
    board.take_back("a", "c1")
    board.end("a", Merged("c1"))
    assert board.view.nodes["a"].outcome == ""


def test_node_that_is_worked_again_has_not_ended(tmp_path: Path) -> None:
    board = make_board(tmp_path)
    board.end("a", Blocked("no key"))
    board.enter("a", Stage.SESSION)
    assert (board.view.nodes["a"].outcome, board.view.nodes["a"].reason) == ("", "")
