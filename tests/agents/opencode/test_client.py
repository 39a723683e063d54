"""What opencode's server answers, and how the client handles it."""

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tasks_lib.agents.opencode.api.client import Client
from tasks_lib.agents.opencode.api.server_http import Missing, Unreachable
from tasks_lib.agents.opencode.servers.server_interface import Address
from tasks_lib.errors import AgentError

DIRECTORY = Path("/some where/worktree")
ADDRESS = Address("http://127.0.0.1:4096", "secret")


def answering(answer: Callable[[httpx.Request], httpx.Response]) -> Client:
    return Client(ADDRESS, httpx.MockTransport(answer))


async def test_every_call_names_the_worktree_and_the_password() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"id": "ses_1"})

    assert await answering(answer).create(DIRECTORY, {"title": "Alpha"}) == "ses_1"
    (request,) = seen
    assert request.url.params["directory"] == "/some where/worktree"
    assert request.headers["authorization"] == httpx.BasicAuth("opencode", "secret")._auth_header  # pyright: ignore[reportPrivateUsage]
    assert json.loads(request.content) == {"title": "Alpha"}


async def test_a_permission_is_rejected_with_a_message_and_a_question_answered() -> None:
    seen: list[tuple[str, object]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append((request.url.path, json.loads(request.content)))
        return httpx.Response(200, json=True)

    client = answering(answer)
    await client.requests.reject_permission("per_1", DIRECTORY, "no")
    await client.requests.answer_question("que_1", DIRECTORY, [["a"], ["a"]])
    assert seen == [
        ("/permission/per_1/reply", {"reply": "reject", "message": "no"}),
        ("/question/que_1/reply", {"answers": [["a"], ["a"]]}),
    ]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (httpx.Response(401), "refuses the password: set OPENCODE_SERVER_PASSWORD"),
        (httpx.Response(500, text="out\nof order"), "answered /session/status with 500: out of order"),
        (httpx.Response(200, text="<html>"), "with JSON: is it opencode's server?"),
        (httpx.Response(200, json=[]), "with unexpected data"),
    ],
)
async def test_an_answer_that_cannot_be_used_is_a_sentence(answer: httpx.Response, said: str) -> None:
    with pytest.raises(AgentError) as caught:
        await answering(lambda _: answer).read_statuses(DIRECTORY)
    assert said in str(caught.value)
    assert "http://127.0.0.1:4096" in str(caught.value)
    assert not isinstance(caught.value, Unreachable | Missing)


async def test_what_is_not_there_is_missing() -> None:
    with pytest.raises(Missing):
        await answering(lambda _: httpx.Response(404, json={})).read_session("ses_1", DIRECTORY)


@pytest.mark.parametrize("error", [httpx.ConnectError("refused"), httpx.ReadTimeout(""), httpx.RemoteProtocolError("")])
async def test_a_server_that_does_not_answer_is_unreachable(error: httpx.HTTPError) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        raise error

    with pytest.raises(Unreachable, match=r"opencode's server at http://127\.0\.0\.1:4096"):
        await answering(answer).read_messages("ses_1", DIRECTORY)


async def test_a_port_on_which_nothing_listens_is_unreachable() -> None:
    client = Client(Address("http://127.0.0.1:1", ""))
    with pytest.raises(Unreachable):
        await client.read_statuses(DIRECTORY)
    await client.close()


async def test_a_stream_ends_with_an_error_and_passes_over_noise() -> None:
    lines = [
        'data: {"payload":{"type":"server.connected","properties":{}}}',
        "",
        'data: {"directory":"/w","payload":{"type":"sync","syncEvent":{}}}',
        "data: {broken",
        'data: {"directory":"/w","payload":{"type":"session.idle","properties":{"sessionID":"s"}}}',
    ]
    client = answering(lambda _: httpx.Response(200, text="\n".join(lines)))
    seen: list[object] = []

    async def listen() -> None:
        async for payload in client.stream():
            seen.append(payload["type"])

    with pytest.raises(Unreachable, match="closed its event stream"):
        await listen()
    assert seen == ["server.connected", "session.idle"]
