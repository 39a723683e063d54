"""Turns in which the provider, the server or the stream of events fails, with a real opencode."""

import asyncio
import time
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio
from disconnecting_proxy import ProxySource, open_proxy
from opencode_scripts import MODEL
from run_harness import until
from session_fixtures import SessionFixture, bash, open_lab

from tasks_lib.agents.opencode.turns.session_adapter import Shared

pytestmark = [pytest.mark.xdist_group("opencode"), pytest.mark.asyncio(loop_scope="module")]
SOON = {"retry-after-ms": "50"}
"""opencode obeys this, so a provider that keeps failing fails for good within a second instead of 67."""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[SessionFixture]:
    async with open_lab(tmp_path_factory.mktemp("lab")) as opened:
        yield opened


async def test_a_provider_that_is_asked_too_often_slows_all_sessions_down(lab: SessionFixture) -> None:
    shared = Shared()
    one, other = lab.open(shared=shared), lab.open(shared=shared)
    step = {"error": 429, "headers": {"retry-after": "5"}, "times": 1, "message": "Rate limit reached"}
    turn = asyncio.create_task(one.do([step, {"say": "ok"}]))
    view = await one.watcher.wait_for(lambda view: view.activity.startswith("retrying until "))
    assert view.activity.endswith(" (rate limited)")
    until = shared.throttles.find(MODEL).until
    assert until > time.time()
    second = await other.do([{"say": "waited"}])
    assert time.time() > until
    assert "rate limited" in other.watcher.views[0].activity
    assert (second.status, second.answer) == (0, "waited")
    end = await turn
    assert (end.status, end.answer) == (0, "ok")


async def test_a_provider_that_fails_for_good_is_an_error_and_no_refusal(lab: SessionFixture) -> None:
    end = await lab.open().do([{"error": 500, "headers": SOON, "message": "Out of order"}])
    assert (end.status, end.refusal) == (1, "")
    assert end.error == "the provider of scripted/m1 answered 500: Out of order"


async def test_a_rate_limit_for_good_holds_the_others_back(lab: SessionFixture) -> None:
    shared = Shared()
    end = await lab.open(shared=shared).do([{"error": 429, "headers": SOON}])
    assert (end.status, end.refusal) == (1, "")
    assert "gets too many requests (429" in end.error
    assert shared.throttles.find(MODEL).until > time.time() + 30


async def test_a_wait_beyond_the_turns_end_is_not_waited_for(lab: SessionFixture) -> None:
    end = await lab.open(shared=Shared()).do([{"error": 503, "headers": {"retry-after": "86400"}}])
    assert (end.status, end.timed_out) == (1, False)
    assert end.error.startswith("the provider accepts no request before ")


@pytest.mark.parametrize(
    ("status", "message", "said"),
    [
        (401, "Incorrect API key", "the provider of scripted/m1 refuses the key (401: Incorrect API key)"),
        (400, "API key not valid", "the provider of scripted/m1 refuses the key (400: API key not valid)"),
        (403, "No access", "the provider of scripted/m1 refuses the model to this key (403: No access)"),
        (404, "No such model", "the provider of scripted/m1 does not have the model (404: No such model)"),
        (402, "Credit is used up", "the provider of scripted/m1 requires payment (402: Credit is used up)"),
    ],
)
async def test_what_no_session_could_mend_is_a_refusal(
    lab: SessionFixture, status: int, message: str, said: str
) -> None:
    end = await lab.open().do([{"error": status, "message": message}])
    assert end.status == 1
    assert end.refusal == end.error
    assert end.refusal.startswith(said)


async def test_a_request_that_the_provider_does_not_like_is_an_error_of_that_turn(lab: SessionFixture) -> None:
    end = await lab.open().do([{"error": 400, "message": "messages.1: content is empty"}])
    assert (end.status, end.refusal) == (1, "")
    assert "answered 400: messages.1: content is empty" in end.error


async def test_a_conversation_that_is_too_long_is_an_error_of_that_turn(lab: SessionFixture) -> None:
    message = "context_length_exceeded: This model's maximum context length is 10"
    end = await lab.open().do([{"error": 400, "message": message}])
    assert (end.status, end.refusal) == (1, "")
    assert "the conversation is too long" in end.error


async def test_a_model_that_opencode_does_not_know_is_a_refusal(lab: SessionFixture) -> None:
    end = await lab.open(model="scripted/nope").do([{"say": "never"}])
    assert end.status == 1
    assert end.refusal.startswith("Model not found: scripted/nope: ")


async def test_a_role_that_opencode_does_not_know_is_a_refusal_that_names_those_it_does(lab: SessionFixture) -> None:
    end = await lab.open(agent="nobody").do([{"say": "never"}])
    assert end.refusal.startswith('Agent not found: "nobody". Available agents: build, ')


async def test_an_answer_that_breaks_off_is_asked_for_again(lab: SessionFixture) -> None:
    end = await lab.open().do([{"say": "this breaks off", "cut": True, "times": 1}, {"say": "whole"}])
    assert (end.status, end.answer) == (0, "whole")


async def test_an_answer_that_is_none_is_an_error(lab: SessionFixture) -> None:
    end = await lab.open().do([{"garbage": True}])
    assert (end.status, end.refusal) == (1, "")
    assert "JSON parsing failed" in end.error


async def test_events_that_were_lost_hold_nothing_up(lab: SessionFixture) -> None:
    async with open_proxy() as proxy:
        one = lab.open(servers=ProxySource(lab.servers, proxy), shared=Shared())
        bell = one.make_bell()
        steps = [bash("echo up > bell; read line < bell; echo $line"), bash("echo two"), {"say": "all of it"}]
        turn = asyncio.create_task(one.do(steps))
        assert await one.hear(bell) == "up\n"
        seen = len(lab.model.requests)
        proxy.cut()
        await asyncio.to_thread(bell.write_text, "on\n")
        await asyncio.to_thread(lab.model.wait_for, lambda requests: len(requests) >= seen + 2)
        proxy.restore()
        end = await turn
        assert (end.status, end.answer, end.spent.calls) == (0, "all of it", 3)
        assert proxy.streams > 1
        assert "command: echo two" in one.log
        await one.session.close()


async def test_a_turn_without_any_stream_of_events_ends_as_well(lab: SessionFixture) -> None:
    async with open_proxy() as proxy:
        proxy.cut()
        one = lab.open(servers=ProxySource(lab.servers, proxy), shared=Shared())
        end = await one.do([bash("cat /etc/hostname", workdir="/etc"), {"say": "all of it"}])
        assert (end.status, end.answer) == (0, "all of it")
        await one.session.close()


async def test_a_server_killed_in_the_middle_of_a_tool_costs_nothing(lab: SessionFixture) -> None:
    one = lab.open(is_fresh=True)
    bell = one.make_bell()
    steps = [
        bash("echo up > bell; sleep 700", timeout=700_000),
        bash("echo kept > kept && git add kept && git commit -qm Kept"),
        {"say": "committed"},
    ]
    turn = asyncio.create_task(one.do(steps))
    assert await one.hear(bell) == "up\n"
    await until(lambda: bool(one.left))
    seen = len(lab.model.requests)
    await lab.kill_server()
    end = await turn
    assert "died and was restarted" in str(lab.model.requests[seen]["messages"][-1]["content"])
    assert (end.status, end.answer) == (0, "committed")
    assert len(one.conversations) == 1
    assert one.git("log", "-1", "--format=%s") == "Kept"
    assert one.left == []
    assert "the server has died" in one.log


async def test_a_server_that_died_between_turns_is_started_again(lab: SessionFixture) -> None:
    one = lab.open()
    await one.do([{"say": "one"}])
    await lab.kill_server()
    end = await one.do([{"say": "two"}])
    assert (end.status, end.answer) == (0, "two")
    assert len(one.conversations) == 1
    await one.session.close()
