"""What `status` reports from the head, the lock and what a run last wrote."""

import json
import os
from pathlib import Path

import pytest
from cli_fixtures import Call, Main, UserRepository, task_text

from tasks_lib.git.repository_lock import RunLock, announcing_start
from tasks_lib.model import Blocked, Failed, Merged, Stage
from tasks_lib.runtime.status_board import Board, NodeView, RunView, now_text


def make_board(repo: UserRepository, run: str = "r1") -> Board:
    """Make the board of a run that has every node but `top`."""
    nodes = {i: NodeView(i, f"Do {i}") for i in ("base", "left", "right")}
    state = repo.repository
    state.prepare()
    link = "http://127.0.0.1:5555/runs/flow-run/r1"
    return Board(RunView(run, "main", now_text(), os.getpid(), "here", link, nodes=nodes), state.state_dir / "run.json")


def read(main_here: Main, repo: UserRepository) -> tuple[int, dict[str, dict[str, str]], dict[str, object]]:
    code, output = main_here("status", "--json", str(repo.top))
    found = json.loads(output)
    return code, {node["id"]: node for node in found["nodes"]}, found


def test_repository_without_a_run_shows_what_the_head_says(repo: UserRepository, main_here: Main) -> None:
    code, nodes, found = read(main_here, repo)
    assert (code, found["run"], found["is_alive"]) == (1, None, False)
    assert list(nodes) == ["base", "left", "right", "top"]
    assert (nodes["base"]["outcome"], nodes["top"]["detail"]) == ("Landed", "waits for left, right")
    assert found["counts"] == {"landed": 1, "waiting": 3}


def test_run_that_goes_on_is_shown_with_its_holder_and_ends_with_0(repo: UserRepository, main_here: Main) -> None:
    board = make_board(repo)
    board.enter("left", Stage.SESSION, attempt=2, turn=3, log=str(repo.top / "README.md"))
    board.say("Something to know")
    board.write()
    with RunLock(repo.repository.state_dir, "r1"):
        code, nodes, found = read(main_here, repo)
        output = main_here("status", str(repo.top))[1]
    assert (code, found["is_alive"], found["counts"]) == (0, True, {"landed": 1, "working": 1, "waiting": 2})
    assert (nodes["left"]["stage"], nodes["left"]["outcome"]) == ("session", "")
    assert nodes["left"]["last_activity"]
    shown = ("In progress: run r1", "http://127.0.0.1:5555/", "! Something to know", "2.3", "waits for left, right")
    for text in shown:
        assert text in output


def test_run_that_has_written_nothing_yet_is_not_taken_for_the_last_one(repo: UserRepository, main_here: Main) -> None:
    board = make_board(repo)
    board.end("left", Failed("disk full"))
    board.close(1)
    with RunLock(repo.repository.state_dir, "r2"):
        code, nodes, found = read(main_here, repo)
    assert (code, found["run"], nodes["left"]["outcome"]) == (0, None, "")


def test_killed_run_is_told_from_one_that_ended(repo: UserRepository, main_here: Main) -> None:
    board = make_board(repo)
    board.enter("left", Stage.SESSION)
    board.write()
    code, nodes, found = read(main_here, repo)
    assert (code, nodes["left"]["outcome"]) == (130, "interrupted")
    assert isinstance(found["run"], dict)
    assert found["run"]["was_killed"] is True
    output = main_here("status", str(repo.top))[1]
    assert "was killed" in output
    assert "coordinator run" in output


def test_head_wins_over_what_the_run_wrote(repo: UserRepository, main_here: Main) -> None:
    board = make_board(repo)
    board.end("left", Blocked("no schema", "resolve-left-1"))
    board.end("right", Merged("0" * 40))
    board.close(1)
    repo.commit(repo.tasks(task_text("left", status="completed")), "By hand")
    _, nodes, _ = read(main_here, repo)
    assert (nodes["left"]["outcome"], nodes["left"]["status"]) == ("Landed", "completed")
    assert (nodes["right"]["outcome"], nodes["right"]["detail"]) == ("", "is ready")


def test_exit_code_follows_the_graph_as_it_stands(repo: UserRepository, main_here: Main) -> None:
    done = [task_text(i, status="completed") for i in ("left", "right", "top")]
    repo.commit(repo.tasks(*done[:2], task_text("top", assignee="human")))
    assert main_here("status", str(repo.top))[0] == 3
    repo.commit(repo.tasks(task_text("top", status="blocked")))
    assert main_here("status", str(repo.top))[0] == 1
    repo.commit(repo.tasks(*done))
    assert main_here("status", str(repo.top))[0] == 0


def test_node_that_a_person_unblocked_is_ready_again(repo: UserRepository, main_here: Main) -> None:
    board = make_board(repo)
    board.end("left", Blocked("no schema"))
    board.close(1)
    repo.commit(repo.tasks(task_text("left")), "Unblock")
    _, nodes, _ = read(main_here, repo)
    assert (nodes["left"]["outcome"], nodes["left"]["detail"]) == ("", "is ready again; was blocked: no schema")


def test_node_without_a_task_file_any_more_is_still_shown(repo: UserRepository, main_here: Main) -> None:
    board = make_board(repo)
    board.add_node("gone", "Was here")
    board.add_node("was", "Was right")
    board.show("was", renamed="right")
    board.close(0)
    _, nodes, _ = read(main_here, repo)
    assert (nodes["was"]["detail"], nodes["was"]["renamed"]) == ("was renamed to right", "right")
    assert (nodes["gone"]["status"], nodes["gone"]["detail"]) == (None, "no task file at the head")


def test_broken_head_is_said_beside_what_the_run_wrote(repo: UserRepository, call: Call) -> None:
    board = make_board(repo)
    board.end("left", Failed("disk full"))
    board.close(1)
    repo.commit({"tasks/odd.md": "---\nid: odd\nstatus: done\n---\n"})
    done = call("status", cwd=repo.top)
    assert (done.returncode, "disk full" in done.stdout, "tasks/odd.md:" in done.stdout) == (2, True, True)


def test_watch_does_not_wait_where_no_run_goes_on(repo: UserRepository, call: Call) -> None:
    assert call("status", "--watch", cwd=repo.top).returncode == 1
    assert call("status", "--watch", "--json", cwd=repo.top).returncode == 2


def test_drawing_has_the_outcomes_of_the_last_run(repo: UserRepository, main_here: Main) -> None:
    board = make_board(repo)
    board.end("left", Failed("disk full"))
    board.end("right", Blocked("no schema"))
    board.close(1)
    found = json.loads(main_here("graph", "--json", str(repo.top))[1])
    assert {node["id"]: node["outcome"] for node in found["nodes"] if node["outcome"]} == {
        "left": "Failed",
        "right": "Blocked",
    }
    for form in ("dot", "mermaid", "svg"):
        assert "failed" in main_here("graph", "--format", form, str(repo.top))[1]


def test_run_that_starts_is_neither_taken_for_none_nor_for_the_killed_one(
    repo: UserRepository, main_here: Main
) -> None:
    board = make_board(repo)
    board.enter("left", Stage.SESSION)
    board.write()
    with announcing_start(repo.repository.state_dir):
        code, nodes, found = read(main_here, repo)
        output = main_here("status", str(repo.top))[1]
    assert (code, found["is_alive"], found["is_starting"], nodes["left"]["outcome"]) == (0, False, True, "interrupted")
    assert "A run is starting" in output
    assert "coordinator run" not in output


def test_end_says_what_to_do_next(
    repo: UserRepository, main_here: Main, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The lines can be copied, from wherever they are read."""
    board = make_board(repo)
    board.end("left", Failed("disk full"))
    board.close(1)
    monkeypatch.chdir(tmp_path)
    output = main_here("status", str(repo.top))[1]
    lines = output[output.index("What to do next:") :].splitlines()
    assert lines[1] == f"  cd {repo.top}"
    assert [line.rpartition("coordinator ")[2] for line in lines[2:]] == [
        "logs left    (shows why the node failed)",
        "run    (continues)",
    ]
    monkeypatch.chdir(repo.top)
    assert "  cd " not in main_here("status")[1]
    with RunLock(repo.repository.state_dir, "r2"):
        assert "What to do next:" not in main_here("status")[1]


def test_exit_code_in_json_says_how_the_run_would_end_as_things_stand(repo: UserRepository, main_here: Main) -> None:
    """`status` itself ends with 0 while a run is in progress, whatever has happened in it so far."""
    board = make_board(repo)
    board.enter("left", Stage.SESSION)
    board.write()
    with RunLock(repo.repository.state_dir, "r1"):
        code, _, found = read(main_here, repo)
        assert (code, found["exit_code"]) == (0, 0)
        for outcome in (Failed("disk full"), Blocked("no schema")):
            repo.commit(repo.tasks(task_text("left", status="blocked" if isinstance(outcome, Blocked) else "pending")))
            board.end("left", outcome)
            board.write()
            code, _, found = read(main_here, repo)
            assert (code, found["exit_code"]) == (0, 1)
        repo.commit(repo.tasks(task_text("left"), task_text("top", assignee="human")))
        board.enter("left", Stage.SESSION)
        board.write()
        code, _, found = read(main_here, repo)
        assert (code, found["exit_code"]) == (0, 3)


def test_exit_code_in_json_is_that_of_the_nodes_which_the_run_was_limited_to(
    repo: UserRepository, main_here: Main
) -> None:
    repo.commit(repo.tasks(task_text("right", status="blocked")))
    board = make_board(repo)
    board.enter("left", Stage.SESSION)
    for only, expected in (((), 1), (("left",), 0), (("top", "left"), 1), (("gone",), 1)):
        board.show("", only=only)
        board.write()
        with RunLock(repo.repository.state_dir, "r1"):
            assert read(main_here, repo)[2]["exit_code"] == expected


def test_exit_code_in_json_of_a_run_that_starts_is_not_that_of_the_last_one(
    repo: UserRepository, main_here: Main
) -> None:
    board = make_board(repo)
    board.end("left", Failed("disk full"))
    board.close(1)
    with announcing_start(repo.repository.state_dir):
        code, _, found = read(main_here, repo)
    assert (code, found["exit_code"]) == (0, 0)
