"""What `attach` prints, also where there is nothing to attach to."""

import os
import re

from cli_fixtures import Call, UserRepository

from tasks_lib.git.repository_lock import RunLock
from tasks_lib.model import Failed, Merged, Stage
from tasks_lib.runtime.status_board import Board, RunView, now_text

API = "http://127.0.0.1:9/api"
LINE = "OPENCODE_SERVER_PASSWORD=x opencode attach http://127.0.0.1:1 --session s --dir '/a b'"


def make_board(repo: UserRepository) -> Board:
    state = repo.repository
    state.prepare()
    board = Board(RunView("r1", "main", now_text(), os.getpid(), "here", api=API), state.state_dir / "run.json")
    for node in ("left", "right", "top"):
        board.add_node(node, f"Do {node}")
    return board


def test_attach_prints_the_line_and_nothing_else(repo: UserRepository, call: Call) -> None:
    board = make_board(repo)
    board.enter("left", Stage.SESSION, attach=LINE)
    board.write()
    with RunLock(repo.repository.state_dir, "r1"):
        done = call("attach", "left", cwd=repo.top)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{LINE}\n", "")


def test_attach_reaches_this_machine_from_a_shell_with_a_proxy(repo: UserRepository, call: Call) -> None:
    board = make_board(repo)
    board.enter("left", Stage.SESSION, attach=LINE)
    board.enter("right", Stage.SESSION, attach="opencode attach http://far.example:1")
    board.write()
    proxies = {"all_proxy": "http://p", "NO_PROXY": "example.org"}
    with RunLock(repo.repository.state_dir, "r1"):
        near, far = (call("attach", node, cwd=repo.top, environment=proxies).stdout for node in ("left", "right"))
    exceptions = "example.org,127.0.0.1,localhost,::1"
    assert near == f"NO_PROXY={exceptions} no_proxy={exceptions} {LINE}\n"
    assert far == "opencode attach http://far.example:1\n"


def test_attach_says_why_there_is_no_session(repo: UserRepository, call: Call) -> None:
    board = make_board(repo)
    board.enter("left", Stage.SESSION)
    board.end("right", Merged("0" * 40))
    board.write()
    with RunLock(repo.repository.state_dir, "r1"):
        said = {node: call("attach", node, cwd=repo.top) for node in ("left", "right", "top", "lef")}
    assert {done.returncode for done in said.values()} == {2}
    assert {done.stdout for done in said.values()} == {""}
    assert "coordinator status" in said["left"].stderr
    assert "ended as Merged" in said["right"].stderr
    assert "top has not started yet: it waits for left, right" in said["top"].stderr
    assert 'Did you mean "left"?' in said["lef"].stderr


def test_attach_without_a_run_is_refused(repo: UserRepository, call: Call) -> None:
    board = make_board(repo)
    board.enter("left", Stage.SESSION, attach=LINE)
    board.write()
    done = call("attach", "left", cwd=repo.top)
    assert (done.returncode, done.stdout, "no run is in progress" in done.stderr) == (2, "", True)


def test_attach_names_only_commands_that_work_now(repo: UserRepository, call: Call) -> None:
    """Each command that a message names shows something when it is typed."""
    board = make_board(repo)
    board.enter("left", Stage.WORKTREE)
    board.end("right", Failed("no disk"))
    board.enter("top", Stage.SESSION)
    board.write()
    logs = repo.repository.state_dir / "logs"
    for name in ("top/session-1.log", "base/setup.log"):
        (logs / name).parent.mkdir(parents=True)
        (logs / name).write_text("Hello\n")
    board.end("base", Failed("no setup"))
    board.write()
    with RunLock(repo.repository.state_dir, "r1"):
        said = {node: call("attach", node, cwd=repo.top).stderr for node in ("base", "left", "right", "top")}
        for line in said.values():
            for words in re.findall(r"`coordinator ([^`]+)`", line):
                plain = [word for word in words.split() if word != "--follow"]
                assert call(*plain, cwd=repo.top).returncode == 0, (line, words)
    assert "logs top --follow" in said["top"]
    assert "has no session yet" in said["left"]
    assert "logs base --list" in said["base"]
    assert "has no log" in said["right"]
