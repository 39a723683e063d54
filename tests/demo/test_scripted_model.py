"""The scripted model says what its script says, goes wrong as it says, and leaves nothing behind."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from opencode_scripts import scripted

from flows.demo.model_script import Step, find_position, read_step
from flows.demo.model_server import TITLE, ModelServer

Steps = Sequence[dict[str, Any]]
MANY = 50
SECONDS = 60
"""A generous bound; nothing waits for it when all goes well."""


@pytest.fixture
def model() -> Iterator[ModelServer]:
    with ModelServer() as running:
        yield running


def make_body(steps: Steps, answers: int = 0, *, is_streamed: bool = False) -> dict[str, Any]:
    prompt = {"role": "user", "content": f"Do this:\n{scripted(steps)}\nand say so."}
    since = [{"role": "assistant", "content": "yes"}] * answers
    return {"model": "m1", "stream": is_streamed, "tools": [{}], "messages": [prompt, *since]}


def ask(model: ModelServer, steps: Steps, answers: int = 0) -> dict[str, Any]:
    """The message of an answer that is not streamed."""
    answer = post(model, make_body(steps, answers)).json()
    return answer["choices"][0]["message"]


def post(model: ModelServer, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"{model.url}/chat/completions", json=body, timeout=SECONDS)


def read_events(response: httpx.Response) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def test_script_goes_on_with_the_number_of_answers_and_then_says_done(model: ModelServer) -> None:
    steps = [{"say": "one"}, {"tool": "bash", "args": {"command": "ls"}}]
    assert ask(model, steps)["content"] == "one"
    (call,) = ask(model, steps, answers=1)["tool_calls"]
    assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == ("bash", {"command": "ls"})
    assert ask(model, steps, answers=2)["content"] == "done"


def test_last_prompt_with_a_script_counts_and_one_without_changes_nothing() -> None:
    first, second = ({"role": "user", "content": scripted([{"say": word}])} for word in ("first", "second"))
    answer = {"role": "assistant", "content": ""}
    position = find_position([first, answer, second, answer, {"role": "user", "content": "hurry up"}, answer])
    assert (position.steps, position.answers) == ((Step(say="second"),), 2)


def test_script_inside_of_a_script_is_left_to_the_subagent_that_gets_it() -> None:
    inner = scripted([{"say": "inner"}])
    outer = scripted([{"tool": "task", "args": {"prompt": inner}}])
    (step,) = find_position([{"role": "user", "content": outer}]).steps
    assert find_position([{"role": "user", "content": step.calls[0].args["prompt"]}]).steps == (Step(say="inner"),)


def test_streamed_pieces_make_up_the_answer_and_the_last_tells_the_usage(model: ModelServer) -> None:
    step = {"think": "hm, well", "say": "so be it", "tool": "bash", "args": {"command": "ls"}, "tokens_in": 7}
    events = read_events(post(model, make_body([step], is_streamed=True)))
    deltas = [event["choices"][0]["delta"] for event in events]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "hm, well"
    assert "".join(delta.get("content", "") for delta in deltas) == "so be it"
    calls = [call["function"] for delta in deltas for call in delta.get("tool_calls", [])]
    assert json.loads("".join(call["arguments"] for call in calls)) == {"command": "ls"}
    assert events[-1]["choices"][0]["finish_reason"] == "tool_calls"
    assert (events[-1]["usage"]["prompt_tokens"], events[-1]["usage"]["total_tokens"]) == (7, 27)


def test_several_tools_are_asked_for_at_once_each_under_a_name_of_its_own(model: ModelServer) -> None:
    calls = ask(model, [{"tools": [{"tool": "read", "args": {"filePath": name}} for name in "abc"]}])["tool_calls"]
    assert len({call["id"] for call in calls}) == 3
    assert [json.loads(call["function"]["arguments"])["filePath"] for call in calls] == ["a", "b", "c"]


def test_error_is_repeated_as_often_as_the_script_says_and_then_left_out(model: ModelServer) -> None:
    steps = [{"error": 429, "headers": {"retry-after": "1"}, "times": 2}, {"say": "at last"}]
    refused = [post(model, make_body(steps)) for _ in range(2)]
    assert [(one.status_code, one.headers["retry-after"]) for one in refused] == [(429, "1")] * 2
    assert ask(model, steps)["content"] == "at last"
    assert ask(model, steps, answers=1)["content"] == "done"


def test_cut_answer_breaks_off_in_the_middle(model: ModelServer) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        post(model, make_body([{"say": "one two three", "cut": True}], is_streamed=True))


def test_what_hangs_goes_on_when_it_is_released(model: ModelServer) -> None:
    with ThreadPoolExecutor(max_workers=MANY) as pool:
        try:
            answers = [pool.submit(ask, model, [{"say": "well", "hang": True}]) for _ in range(MANY)]
            model.wait_for(lambda requests: len(requests) == MANY)
            assert not any(answer.done() for answer in answers)
        finally:
            # Otherwise a failure would wait for the answers for ever.
            model.release()
        assert {answer.result(SECONDS)["content"] for answer in answers} == {"well"}


def test_server_ends_with_all_that_hangs_and_leaves_no_port() -> None:
    with ThreadPoolExecutor() as pool:
        with ModelServer() as model:
            hanging = pool.submit(post, model, make_body([{"hang": True}], is_streamed=True))
            model.wait_for(len)
        assert isinstance(hanging.exception(SECONDS), httpx.TransportError)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", model.port))


def test_request_for_a_title_takes_no_step_of_the_script(model: ModelServer) -> None:
    body = make_body([{"error": 500, "times": 1}, {"say": "one"}])
    system = {"role": "system", "content": "You are a title generator."}
    asked = body | {"tools": [], "messages": [system, *body["messages"]]}
    assert post(model, asked).json()["choices"][0]["message"]["content"] == TITLE
    assert post(model, body).status_code == 500


def test_function_can_decide_instead_of_a_script() -> None:
    with ModelServer(lambda messages: Step(say=f"{len(messages)} messages")) as model:
        assert ask(model, [], answers=3)["content"] == "4 messages"


def test_word_that_means_nothing_in_a_script_is_refused_with_its_name(model: ModelServer) -> None:
    with pytest.raises(ValueError, match="sya"):
        read_step({"sya": "hello"})
    refused = post(model, make_body([{"sya": "hello"}]))
    assert (refused.status_code, "sya" in refused.text) == (400, True)


def test_program_serves_and_ends_with_sigterm() -> None:
    command = [sys.executable, "-m", "flows.demo.model_server", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        url = process.stdout.readline().split()[-1]
        answer = httpx.post(f"{url}/chat/completions", json=make_body([{"say": "hello"}]), timeout=SECONDS)
        process.terminate()
        assert process.wait(SECONDS) == -signal.SIGTERM
    assert answer.json()["choices"][0]["message"]["content"] == "hello"
