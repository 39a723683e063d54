"""What `message` and `abort` print without a run and next to one; `tests/e2e/test_messages.py` tests them with runs."""

import os

import pytest
from cli_fixtures import Call, UserRepository

from flows.request_messages import (
    Answer,
    RequestKind,
    UserRequest,
    read_answers,
    read_request,
    write_answers,
    write_request,
)
from tasks_lib.git.repository_lock import RunLock
from tasks_lib.runtime.status_board import Board, RunView, now_text


@pytest.mark.parametrize(
    "words",
    [
        ("message", "left", "hello"),
        ("abort", "left"),
        ("abort", "--all"),
        ("abort", "--all", "--policy", "continue-running"),
        ("abort", "left", "--policy", "continue-running"),
    ],
)
def test_without_a_run_there_is_nobody_to_speak_to(repo: UserRepository, call: Call, words: tuple[str, ...]) -> None:
    done = call(*words, cwd=repo.top)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no run is in progress here" in done.stderr
    assert "coordinator run" in done.stderr


def test_message_without_text_and_abort_without_nodes_are_refused(repo: UserRepository, call: Call) -> None:
    assert "the message is empty" in call("message", "left", " ", cwd=repo.top).stderr
    assert "--all" in call("abort", cwd=repo.top).stderr
    both = call("abort", "left", "--all", cwd=repo.top)
    assert (both.returncode, "not both" in both.stderr) == (2, True)


def test_server_that_is_gone_is_said_in_a_sentence(repo: UserRepository, call: Call) -> None:
    state = repo.repository
    state.prepare()
    view = RunView("r1", "main", now_text(), os.getpid(), "here", api="http://127.0.0.1:9/api")
    Board(view, state.state_dir / "run.json").write()
    with RunLock(state.state_dir, "r1"):
        done = call("message", "left", "hello", cwd=repo.top)
    assert done.returncode == 1
    assert "http://127.0.0.1:9/api does not answer" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "sent",
    [
        UserRequest(RequestKind.MESSAGE, ("a/b",), "- say\n\u2603"),
        UserRequest(RequestKind.ABORT, ("a", "b")),
        UserRequest(RequestKind.STOP, until=1.5),
        UserRequest(RequestKind.DRAIN),
    ],
)
def test_request_is_read_as_it_was_written(sent: UserRequest) -> None:
    assert read_request(write_request(sent)) == sent


@pytest.mark.parametrize(
    "value",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"wish": "run"}',
        '{"wish": ["stop"]}',
        '{"wish": "message", "nodes": ["a", "b"], "text": "x"}',
        '{"wish": "message", "nodes": "a", "text": "x"}',
        '{"wish": "message", "nodes": ["a"], "text": ["x"]}',
        '{"wish": "abort", "nodes": []}',
        '{"wish": "stop", "until": "soon"}',
        '{"wish": "abort", "nodes": [1]}',
        f'{{"wish": "message", "nodes": ["a"], "text": "{"x" * 70_000}"}}',
    ],
)
def test_what_is_not_a_request_is_a_value_error(value: str) -> None:
    with pytest.raises(ValueError):
        read_request(value)


def test_answers_are_read_as_they_were_written_and_nothing_else_is_taken_for_one() -> None:
    answers = (Answer("a", True, "a has it"), Answer("b", False, "b is not at work"))
    assert read_answers(write_answers(answers)) == answers
    for value in ("", "{}", '{"answers": [1]}', '{"answers": [{"node": "a"}]}'):
        with pytest.raises(ValueError):
            read_answers(value)
