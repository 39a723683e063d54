"""The board: how it shows a node whose outcome is undone, and the bounds on what others read from it."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tasks_lib.model import Blocked, Merged, OutcomeName, Stage
from tasks_lib.runtime.status_board import MESSAGE_CHARS, MOST_MESSAGES, Board, NodeView, RunView, read_view


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


def test_others_read_what_the_board_shows_each_time_it_is_written(tmp_path: Path) -> None:
    board = make_board(tmp_path)
    for step in (
        lambda: board.add_node("b/ü", 'Do "b"'),
        lambda: board.enter("a", Stage.SESSION, "turn 1", attempt=1, turn=1, log="/x"),
        lambda: board.show("a", tokens=5, cost=0.25, activity="reads"),
        lambda: board.say("a\nb"),
        lambda: board.end("a", Merged("c1")),
        lambda: board.take_back("a", "c1"),
        lambda: board.show("", tokens=5, cost=0.25),
        lambda: board.close(0),
    ):
        step()
        assert board.write() == (tmp_path / "run.json").stat().st_size
        assert read_view(tmp_path / "run.json") == board.view


def test_outcome_of_another_version_reads_as_none_and_the_rest_is_shown(tmp_path: Path) -> None:
    board = make_board(tmp_path)
    board.end("a", Blocked("no key"))
    board.write()
    path = tmp_path / "run.json"
    path.write_text(path.read_text().replace('"Blocked"', '"Postponed"'))
    view = read_view(path)
    assert view
    assert (view.nodes["a"].outcome, view.nodes["a"].reason) == (OutcomeName.NONE, "no key")


def test_board_can_be_written_while_nodes_are_added(tmp_path: Path) -> None:
    nodes = {f"old-{number}": NodeView(f"old-{number}", "Do it") for number in range(3_000)}
    board = Board(RunView("r", "main", "", nodes=nodes), tmp_path / "run.json")
    number = 0
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(board.write)
        while not writing.done():
            number += 1
            board.add_node(f"new-{number}", "Do it")
        writing.result()
    board.write()
    assert read_view(tmp_path / "run.json") == board.view


def test_node_that_nobody_works_takes_little_room(tmp_path: Path) -> None:
    nodes = {f"node-{number}": NodeView(f"node-{number}", "Do it") for number in range(1_000)}
    assert Board(RunView("r", "main", "", nodes=nodes), tmp_path / "run.json").write() < 100 * len(nodes)


def test_messages_that_are_kept_are_bounded_and_all_are_heard(tmp_path: Path) -> None:
    board = make_board(tmp_path)
    heard: list[str] = []
    board.listen(lambda _, line: heard.append(line))
    said = [*(f"{number} " + "x" * 10_000 for number in range(MOST_MESSAGES + 10)), "last", "last"]
    for message in said:
        board.say(message)
    assert heard == said
    assert len(board.view.messages) == MOST_MESSAGES
    assert board.view.dropped_messages == 11
    assert board.view.messages[-1] == "last"
    assert all(len(message) <= MESSAGE_CHARS for message in board.view.messages)
