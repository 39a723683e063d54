"""Which log `logs` prints, and its message if there is none."""

import json
import os
from pathlib import Path

import pytest
from cli_fixtures import Call, Main, UserRepository

from tasks_lib.runtime.status_board import Board, RunView, now_text

NAMES = ("setup", "session-1", "review-1-1", "setup-review-1-1", "verify-0123456789ab", "session-2", "session-10")


@pytest.fixture
def logged(repo: UserRepository) -> UserRepository:
    """A repository whose node `a/left` has every kind of log, each containing its own name; `right` has none yet."""
    state = repo.repository
    state.prepare()
    board = Board(RunView("r1", "main", now_text(), os.getpid(), "here"), state.state_dir / "run.json")
    board.add_node("a/left", "Left")
    board.add_node("right", "Right")
    board.close(0)
    folder = state.state_dir / "logs" / "a-left"
    folder.mkdir(parents=True)
    for number, name in enumerate(NAMES):
        write(folder / f"{name}.log", f"{name}\n\xff", number)
    return repo


def write(file: Path, text: str, time: int) -> None:
    file.write_bytes(text.encode("latin-1"))
    os.utime(file, (time, time))


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ((), "session-10"),
        (("--attempt", "1"), "session-1"),
        (("--setup",), "setup"),
        (("--verify",), "verify-0123456789ab"),
        (("--review", "--attempt", "1"), "review-1-1"),
        (("--follow",), "session-10"),
    ],
)
def test_newest_log_of_the_kind_is_printed(
    logged: UserRepository, main_here: Main, options: tuple[str, ...], name: str
) -> None:
    code, output = main_here("logs", "a/left", "--repo", str(logged.top), *options)
    assert (code, output.splitlines()[0]) == (0, name)


def test_list_names_every_log(logged: UserRepository, main_here: Main) -> None:
    listed = json.loads(main_here("logs", "a/left", "--list", "--json", "--repo", str(logged.top))[1])
    assert [one["name"] for one in listed] == list(NAMES)
    assert listed[0]["bytes"] == len("setup\n") + 1
    output = main_here("logs", "a/left", "--list", "--repo", str(logged.top))[1]
    assert all(name in output for name in NAMES)


def test_log_of_a_time_after_the_year_9999_is_listed(logged: UserRepository, main_here: Main) -> None:
    """Some file systems have such times; others store their own last one."""
    os.utime(logged.repository.state_dir / "logs/a-left/setup.log", (0, 253_402_300_800))
    code, output = main_here("logs", "a/left", "--repo", str(logged.top), "--list", "--json")
    assert code == 0
    assert {row["name"] for row in json.loads(output)} == {*NAMES}


def test_what_is_not_there_is_said(logged: UserRepository, call: Call) -> None:
    said = {
        words: call("logs", *words.split(), cwd=logged.top)
        for words in ("a/lef", "..", "right", "right --follow", "a/left --attempt 7", "a/left --setup --verify",
                      "a/left --setup --attempt 1", "a/left --json")
    }  # fmt: skip
    assert {words: done.returncode for words, done in said.items()} == dict.fromkeys(said, 2)
    assert {done.stdout for done in said.values()} == {""}
    assert 'Did you mean "a/left"?' in said["a/lef"].stderr
    assert '".." is not a node of this repository' in said[".."].stderr
    assert "there is no session log: right has not started yet: the next run starts it" in said["right"].stderr
    assert "its logs are setup, session-1" in said["a/left --attempt 7"].stderr
    assert "give only one of --setup, --verify" in said["a/left --setup --verify"].stderr


@pytest.mark.parametrize(
    ("node", "why"),
    [
        ("top", "there is no session log: top has not started yet: it waits for left, right"),
        ("base", "there is no session log: base is completed already"),
        ("was", "there is no session log: was was renamed to right"),
    ],
)
def test_node_without_a_log_is_explained_and_no_other_one_is_suggested(
    logged: UserRepository, call: Call, node: str, why: str
) -> None:
    board = Board(RunView("r1", "main", now_text(), os.getpid(), "here"), logged.repository.state_dir / "run.json")
    board.add_node("was", "Was")
    board.show("was", renamed="right")
    board.close(0)
    done = call("logs", node, cwd=logged.top)
    assert (done.returncode, why in done.stderr, "Did you mean" in done.stderr) == (2, True, False), done.stderr
