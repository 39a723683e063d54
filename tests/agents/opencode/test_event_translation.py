"""What opencode's events mean, based on streams recorded from a real server."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tasks_lib.agents.json_values import Json
from tasks_lib.agents.opencode.api.client import Client
from tasks_lib.agents.opencode.api.error_classification import is_rate_limit
from tasks_lib.agents.opencode.api.event_stream import SharedConnection, SharedConnections, Subscription
from tasks_lib.agents.opencode.api.event_translation import read_spent, translate
from tasks_lib.agents.opencode.api.server_http import Unreachable, read_line
from tasks_lib.agents.opencode.servers.server_interface import Address
from tasks_lib.agents.opencode.turns.transcript import Transcript
from tasks_lib.session import events as ev
from tasks_lib.session.events import Event
from tasks_lib.session.next_action import describe
from tasks_lib.session.spending import Spent
from tasks_lib.session.state import Watch, begin, observe

TRACES = Path(__file__).parent / "traces"
ADDRESS = Address("http://127.0.0.1:1", "secret")


def read_trace(name: str) -> list[tuple[float, Json]]:
    lines = (json.loads(line) for line in (TRACES / f"{name}.jsonl").read_text().splitlines())
    return [(line["t"], line["payload"]) for line in lines]


def follow(name: str) -> tuple[Watch, list[Event], list[str]]:
    """Return the watch at the end of a trace, its events, and the descriptions on the way."""
    trace = read_trace(name)
    events = [event for at, payload in trace for event in translate(payload, at, "p/m")]
    root = next(payload["properties"]["info"]["id"] for _, payload in trace if payload["type"] == "session.created")
    watch, said = begin(root, trace[0][0]), list[str]()
    for event in events:
        watch = observe(watch, event)
        said += [describe(watch)] if not said or said[-1] != describe(watch) else []
    return watch, events, said


def test_tools_are_told_by_what_they_do() -> None:
    watch, events, said = follow("work")
    assert "write: /worktree/a.txt" in said
    assert not watch.is_busy
    assert watch.usage.total == Spent(
        tokens=120 * len(watch.usage.steps), cost=watch.usage.total.cost, calls=len(watch.usage.steps)
    )
    ended = [event for event in events if isinstance(event, ev.ToolEnded)]
    assert ended[0].tool.name == "bash"
    assert ended[1].given.startswith("filePath: /worktree/a.txt")


def test_a_question_is_waited_for() -> None:
    watch, _, said = follow("question")
    assert said[-1] == "waiting for a question"
    (request,) = watch.requests.values()
    assert (request.kind, request.text, request.parts) == ("question", "which?", 1)


def test_a_subagent_is_a_member_of_the_tree_and_asks_for_itself() -> None:
    watch, events, said = follow("subagent")
    assert len(watch.members) == 2
    assert "subagent: bash: cat /etc/hostname" in said
    (asked,) = (event for event in events if isinstance(event, ev.Asked))
    assert asked.request.session != watch.root
    assert asked.request.text == "external_directory /etc/*"
    assert watch.requests == {}
    assert watch.usage.total.tokens == 480
    assert not watch.is_busy


def test_a_retry_says_until_when_and_why() -> None:
    watch, events, said = follow("rate_limit")
    assert said[1] == "retrying until 15:57:26 (rate limited)"
    assert sum(isinstance(event, ev.Retrying) for event in events) == 5
    assert watch.problem is not None
    assert watch.problem.is_rate_limit


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("unknown_model", "Model not found: scripted/nope: run `opencode models`"),
        ("unknown_role", 'Agent not found: "nope". Available agents: build, '),
        ("refused_key", "the provider of p/m refuses the key (401: scripted)"),
    ],
)
def test_what_is_refused_for_good_is_told_in_a_sentence(name: str, said: str) -> None:
    watch, _, _ = follow(name)
    assert watch.problem is not None
    assert watch.problem.is_refusal
    assert watch.problem.sentence.startswith(said)


def test_an_abort_leaves_nothing_at_work() -> None:
    watch, _, said = follow("aborted")
    assert "bash: sleep 77" in said
    assert not watch.is_busy
    assert watch.problem is not None
    assert not watch.problem.is_refusal


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"type": "session.status"},
        {"type": "message.part.updated", "properties": {"part": None}},
        {"type": "message.part.updated", "properties": {"part": {"type": "tool", "state": 7}}},
        {"type": "todo.updated", "properties": {"todos": "none"}},
        {"type": "session.created", "properties": {"info": []}},
        {"type": "permission.asked", "properties": {}},
        {"type": "session.error", "properties": {"error": {"name": "X"}}},
    ],
)
def test_a_payload_of_another_shape_breaks_nothing(payload: Json) -> None:
    assert isinstance(translate(payload, 0), tuple)


def test_numbers_that_nothing_can_be_counted_with_are_not_counted() -> None:
    part = json.loads('{"cost": 1e999, "tokens": {"input": NaN, "output": 7, "reasoning": "many"}}')
    assert read_spent(part) == Spent(tokens=7, calls=1)


@pytest.mark.parametrize("line", ["", ": comment", "data: {", "data: 7", 'data: {"payload": 7}', "event: x"])
def test_a_line_that_is_no_event_is_passed_over(line: str) -> None:
    assert read_line(line) is None


@pytest.mark.parametrize(
    ("message", "attempt", "wait", "expected"),
    [
        ("Too Many Requests", 1, 2, True),
        ("Rate limit reached for model", 1, 2, True),
        ("Provider is overloaded", 3, 8, True),
        ("scripted", 1, 2.1, False),
        ("scripted", 2, 3.2, False),
        ("scripted", 3, 8, False),
        ("scripted", 1, 9, True),
        ("scripted", 4, 3, True),
        ("Cannot connect to API: Unable to connect", 3, 9, False),
    ],
)
def test_a_rate_limit_is_known_by_its_words_or_by_the_wait(
    message: str, attempt: int, wait: float, expected: bool
) -> None:
    assert is_rate_limit(message, attempt, wait) is expected


def test_the_transcript_says_a_thing_once_and_keeps_it_short(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "session.log"
    _, events, _ = follow("subagent")
    transcript = Transcript(log, root=next(event.session for event in events if isinstance(event, ev.ChildOpened)))
    for event in [*events, *events]:
        transcript.write(event)
    text = log.read_text()
    assert text.count("subagent bash failed") == 1
    assert text.count("parent done") == 1
    assert text.count("subagent asks (permission)\nexternal_directory /etc/*") == 1
    long = ev.ToolEnded(0, "x", "9", ev.Tool("bash"), "command: y", "z" * 100_000)
    transcript.write(long)
    assert len(log.read_text()) < len(text) + 3000
    assert log.stat().st_mode & 0o077 == 0


class Line(Client):
    """A client whose event stream is provided by the test."""

    def __init__(self) -> None:
        super().__init__(ADDRESS)
        self.feed: asyncio.Queue[Json | None] = asyncio.Queue()

    async def stream(self) -> AsyncGenerator[Json, None]:
        yield {"type": "server.connected"}
        while payload := await self.feed.get():
            yield payload
        raise Unreachable("cut")


def make_connection(line: Line) -> SharedConnection:
    connection = SharedConnection(ADDRESS)
    connection.client = line
    return connection


async def hear(subscription: Subscription) -> list[Event]:
    await subscription.wait(20)
    return subscription.take()


def idle(session: str) -> Json:
    return {"type": "session.idle", "properties": {"sessionID": session}}


async def test_each_session_hears_of_itself_and_its_children() -> None:
    line = Line()
    connection = make_connection(line)
    one, other = connection.subscribe("a", ""), connection.subscribe("b", "")
    assert isinstance((await hear(one))[0], ev.Gap)
    assert isinstance((await hear(other))[0], ev.Gap)
    line.feed.put_nowait(
        {"type": "session.created", "properties": {"sessionID": "c", "info": {"id": "c", "parentID": "a"}}}
    )
    line.feed.put_nowait(idle("c"))
    line.feed.put_nowait(idle("x"))
    line.feed.put_nowait(idle("b"))
    assert [event.session for event in await hear(other)] == ["b"]
    assert [type(event) for event in one.take()] == [ev.ChildOpened, ev.Idle]
    connection.leave(one)
    line.feed.put_nowait(idle("c"))
    line.feed.put_nowait(idle("b"))
    assert await hear(other)
    assert one.take() == []
    await connection.close()


async def test_a_stream_that_breaks_is_taken_up_and_everybody_looks() -> None:
    line = Line()
    connection = make_connection(line)
    one = connection.subscribe("a", "")
    await hear(one)
    line.feed.put_nowait(None)
    line.feed.put_nowait(idle("a"))
    heard: list[Event] = []
    while not any(isinstance(event, ev.Idle) for event in heard):
        heard += await hear(one)
    assert isinstance(heard[0], ev.Gap)
    await connection.close()


async def test_a_connection_is_closed_when_nobody_holds_it() -> None:
    connections = SharedConnections()
    one, other = connections.hold(ADDRESS), connections.hold(ADDRESS)
    assert one is other
    await connections.release(one)
    assert connections.hold(ADDRESS) is one
    await connections.release(one)
    await connections.release(one)
    assert connections.hold(ADDRESS) is not one


async def test_of_a_text_that_grows_one_event_is_kept() -> None:
    subscription = Subscription("a", "")
    for _ in range(100):
        subscription.push(ev.TextGrew(time.time(), "a"))
    subscription.push(ev.TextGrew(time.time(), "b"))
    assert len(subscription.take()) == 2
    assert subscription.take() == []
