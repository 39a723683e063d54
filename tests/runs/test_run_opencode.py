"""Whole runs with the real opencode and a scripted model, without Prefect: landed work, leftovers and messages."""

import asyncio

import pytest
from checker import Meant, check, snapshot_user_state
from e2e.opencode_harness import (
    OTHER_MODEL,
    RESOLVING,
    REVIEWING,
    OpencodeHarness,
    bash,
    commit,
    delegate,
    find_server,
    node,
    read_prompts,
    read_results,
    read_system,
)

from flows.demo.model_script import Step
from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.model import Aborted, Blocked
from tasks_lib.reporting.run_report import ExitCode
from tasks_lib.runtime.user_requests import RequestResult

pytestmark = pytest.mark.xdist_group("opencode")


def tell(oc: OpencodeHarness, name: str) -> str:
    return f"echo > {oc.signal_path(name)}"


def wait(oc: OpencodeHarness, name: str) -> str:
    return f"read -r _ < {oc.signal_path(name)}"


def conflicting_node(oc: OpencodeHarness, mine: str, other: str) -> dict[str, object]:
    """A node that writes the same file as `other` at the same time, and takes both sides when it gets the conflict."""
    fix = bash("git merge -q $COORDINATOR_TARGET; printf 'both\\n' > shared.txt; git commit -qam 'fix: take both'")
    lines = (tell(oc, mine), wait(oc, other), f"echo {mine} > shared.txt")
    return node(commit(mine, *lines), {"say": f"Wrote {mine}."}, fix, {"say": "Fixed."}, depends_on=["base"])


async def test_a_resolver_answers_a_safe_exit_from_the_repository(oc: OpencodeHarness) -> None:
    oc.mind.resolutions = [
        {"tool": "write", "args": {"filePath": "stray.txt", "content": "x"}},
        bash("cat rate.txt"),
        {"say": "Resolution: context\nContext: rate.txt says 19."},
    ]
    said = "Which rate?\nKind: context\nError: no rate"
    block = f"[ $COORDINATOR_ATTEMPT = 1 ] && coordinator notify --level blocking '{said}'"
    turn = bash(f"{block} || {{ cp rate.txt a.txt && git add a.txt && git commit -qm 'feat: a'; }}")
    tasks = {
        "rates": node(commit("rates", "echo 19 > rate.txt")),
        "a": node(turn, {"say": "Done."}, depends_on=["rates"]),
    }
    oc.make(tasks, safe_exit={"resolver": "auto"})
    worked = await oc.work()
    assert worked.names == {"rates": "Merged", "a": "Merged"}
    assert oc.trailer("Attempt") == "2"
    asked = [body for body in oc.requests("a") if RESOLVING in read_prompts(body)[0]]
    assert "You are a resolver" in read_system(asked[0])
    assert "Which rate?" in read_prompts(asked[0])[0]
    refused, read = read_results(asked[-1])
    assert "unavailable tool 'write'" in refused
    assert read == "19\n"
    assert "rate.txt says 19." in read_prompts(oc.requests("a")[-1])[0]
    assert not oc.has("stray.txt")
    assert oc.leftovers() == []


async def test_a_graph_lands_with_a_conflict_a_review_and_a_safe_exit(oc: OpencodeHarness) -> None:
    oc.mind.reviews = [
        {"tool": "write", "args": {"filePath": "stray.txt", "content": "x"}},
        bash("cat risky.txt"),
        {"say": "I read it.\n\nVerdict: approved"},
    ]
    tasks = {
        "base": node(commit("base", "echo base > shared.txt")),
        "left": conflicting_node(oc, "left", "right"),
        "right": conflicting_node(oc, "right", "left"),
        "risky": node(commit("risky"), risk="high"),
        "stuck": node(bash("coordinator notify --level blocking 'The key of the bank is missing.'")),
        "after": node(commit("after"), depends_on=["stuck"]),
    }
    oc.make(tasks, signals=["left", "right"], verify=["test ! -e stray.txt"])
    before = snapshot_user_state(oc.top)

    worked = await oc.work()

    landed = ["base", "left", "right", "risky"]
    assert worked.names == {**dict.fromkeys(landed, "Merged"), "stuck": "Blocked"}
    assert worked.outcomes["stuck"] == Blocked("The key of the bank is missing.", "resolve-stuck-1")
    statuses = {**dict.fromkeys(landed, "completed"), "stuck": "blocked", "after": "pending"}
    meant = Meant({**statuses, "resolve-stuck-1": "pending"}, ["test ! -e stray.txt"])
    assert check(oc.top, before=before, meant=meant) == []
    assert oc.show("shared.txt") == "both\n"
    spent = [line.split(": ")[1] for line in oc.log("%(trailers:key=Spent)") if line]
    assert len(spent) == 4
    assert all("tokens" in one for one in spent)
    assert worked.view.tokens == sum(node.tokens for node in worked.view.nodes.values()) > 0
    review = [body for body in oc.requests("risky") if REVIEWING in read_prompts(body)[0]]
    assert "You are a code reviewer" in read_system(review[0])
    refused, read = read_results(review[-1])
    assert "unavailable tool 'write'" in refused
    assert read == "risky\n"
    fixed = [name for name in ("left", "right") if len(read_prompts(oc.requests(name)[-1])) == 2]
    assert len(fixed) == 1
    assert worked.code is ExitCode.BLOCKED


async def test_a_reviewer_can_report_a_blocker_and_write_no_file(oc: OpencodeHarness) -> None:
    write = {"tool": "write", "args": {"filePath": "stray.txt", "content": "x"}}
    blocker = bash("coordinator notify --level blocking 'There is nothing to review.'")
    oc.make({"a": node(write, blocker, {"say": "I cannot review."}, level="review")})

    worked = await oc.work()

    assert worked.outcomes == {"a": Blocked("There is nothing to review.", "resolve-a-1")}
    refused, noted = read_results(oc.requests("a")[-1])
    assert "unavailable tool 'write'" in refused
    assert "Noted for a (blocking)" in noted


async def test_a_server_that_is_killed_costs_no_node_and_no_attempt(oc: OpencodeHarness) -> None:
    pid = oc.place / "pid"
    begin = f"sleep 1000 & echo $! > {pid}; {tell(oc, 'begun')}; wait"
    look = f"read -r child < {pid}; if kill -0 $child; then echo alive; else echo gone; fi > child.txt"
    oc.make(
        {
            "shell": node(bash(begin), commit("shell", look)),
            "asks": node({"hang": True, "times": 1}, commit("asks")),
            "last": node(commit("last"), depends_on=["shell", "asks"]),
        },
        signals=["begun"],
    )
    before = snapshot_user_state(oc.top)

    async def kill(opened: OpenRun) -> None:
        await oc.signals["begun"].wait()
        await asyncio.to_thread(oc.model.wait_for, lambda _: oc.requests("asks"))
        (await find_server(opened)).kill()

    worked = await oc.work(during=kill)

    assert worked.code is ExitCode.COMPLETED
    assert worked.retries == []
    assert check(oc.top, before=before, meant=Meant(dict.fromkeys(("shell", "asks", "last"), "completed"))) == []
    assert oc.log("%(trailers:key=Attempt,valueonly,separator=)", "--merges") == ["1", "1", "1"]
    assert oc.show("child.txt") == "gone\n"
    for name in ("shell", "asks"):
        first, again = read_prompts(oc.requests(name)[-1])
        assert f"id: {name}" in first
        assert "died and was restarted" in again
    assert len(oc.list_ports()) == 2


async def test_permissions_and_questions_are_answered_and_stall_nothing(oc: OpencodeHarness) -> None:
    question = {"question": "Which?", "header": "q", "options": [{"label": "a", "description": "A"}]}
    oc.agent = {"permission": {"external_directory": "ask", "question": "allow"}}
    oc.make(
        {
            "outside": node(
                bash("cat hostname", workdir="/etc"),
                delegate([bash("cat hostname", workdir="/etc"), {"say": "I may not."}]),
                commit("outside"),
            ),
            "asks": node(
                {"tool": "question", "args": {"questions": [question]}},
                bash("coordinator notify --level blocking 'Which one is for a person to say.'"),
            ),
        }
    )

    worked = await oc.work()

    assert worked.names == {"outside": "Merged", "asks": "Blocked"}
    refused, delegated, _ = read_results(oc.requests("outside")[-1])
    assert "Not allowed here: external_directory" in refused
    assert "I may not." in delegated
    child = next(body for body in oc.model.requests if read_results(body) and "id: " not in read_prompts(body)[0])
    assert "Not allowed here: external_directory" in read_results(child)[0]
    assert "Nobody is here to answer" in read_results(oc.requests("asks")[-1])[0]


async def test_a_key_that_is_refused_stops_the_run_once_and_costs_no_attempt(oc: OpencodeHarness) -> None:
    ids = [f"n{number}" for number in range(5)]
    oc.make({task_id: node(commit(task_id)) for task_id in ids})
    before = snapshot_user_state(oc.top)
    oc.mind.refusal = Step(error=401, message="Incorrect API key provided")

    worked = await oc.work(max_sessions=3)

    assert worked.code is ExitCode.BLOCKED
    assert (oc.log("%s"), worked.retries) == (["Begin"], [])
    [said] = [line for line in worked.view.messages if "Incorrect API key" in line]
    assert said.startswith("The run is stopping: the provider of scripted/m1 refuses the key (401")
    assert [name for name in worked.names.values() if name != "Aborted"] == []
    assert len(worked.started) <= 3
    assert {oc.record(f"feat/{task_id}").attempt.number for task_id in worked.started} == {1}
    assert oc.find_remains() == []
    oc.mind.refusal = None
    worked = await oc.work(max_sessions=3)
    assert worked.code is ExitCode.COMPLETED
    assert check(oc.top, before=before, meant=Meant(dict.fromkeys(ids, "completed"))) == []
    assert oc.log("%(trailers:key=Attempt,valueonly,separator=)", "--merges") == ["1"] * 5


async def test_a_node_that_uses_too_many_tokens_is_ended_in_mid_turn(oc: OpencodeHarness) -> None:
    greedy = node({**bash("echo half > half.txt"), "tokens_in": 9000}, {"hang": True}, commit("greedy"))
    oc.make({"greedy": greedy, "modest": node(commit("modest"))}, budget={"node": {"tokens": 5000}})

    worked = await oc.work()

    assert worked.names == {"greedy": "Blocked", "modest": "Merged"}
    assert "budget.node.tokens is 5000" in str(worked.outcomes["greedy"])
    assert worked.view.nodes["greedy"].tokens >= 9000
    assert len(oc.requests("greedy")) <= 2


async def test_a_message_is_heard_in_the_turn_and_an_abort_ends_a_call_that_hangs(oc: OpencodeHarness) -> None:
    oc.make(
        {"a": node(bash(f"{tell(oc, 'begun')}; {wait(oc, 'go')}"), commit("a")), "b": node({"hang": True})},
        signals=["begun", "go"],
    )
    said: list[RequestResult] = []

    async def speak(opened: OpenRun) -> None:
        await oc.signals["begun"].wait()
        said.append(await opened.run.requests.tell("a", "Use the metric system."))
        oc.signals["go"].send()
        await asyncio.to_thread(oc.model.wait_for, lambda _: oc.requests("b"))
        said.append(await opened.run.requests.abort("b"))

    worked = await oc.work(during=speak)

    assert worked.names == {"a": "Merged", "b": "Aborted"}
    assert said[0] == RequestResult(True, "a received it in its current turn")
    assert "Use the metric system." in read_prompts(oc.requests("a")[1])[-1]
    assert ", 1 turn" in oc.trailer("Spent")
    assert isinstance(worked.outcomes["b"], Aborted)
    assert oc.record("feat/b").turn.conversation.startswith("0:ses_")


ROLE = """---
description: works here
mode: primary
permission:
  external_directory: allow
---
Whistle while you work.
"""


async def test_roles_and_instructions_come_from_the_target_and_stay_for_the_run(oc: OpencodeHarness) -> None:
    role = ".opencode/agents/implementation-specialist.md"
    change = f"for word in Hum; do echo $word instead. > {role}; echo $word always. > AGENTS.md; done"
    oc.make(
        {
            "a": node(commit("a", change)),
            "b": node(bash("cat hostname", workdir="/etc"), commit("b"), depends_on=["a"], model=OTHER_MODEL),
        },
        files={role: ROLE, "AGENTS.md": "Lines end with a full stop.\n"},
    )

    worked = await oc.work()

    assert worked.code is ExitCode.COMPLETED
    assert (oc.show(role), oc.show("AGENTS.md")) == ("Hum instead.\n", "Hum always.\n")
    for name, model in (("a", "m1"), ("b", "m2")):
        for body in oc.requests(name):
            assert body["model"] == model
            assert "Whistle while you work." in read_system(body)
            assert "Lines end with a full stop." in read_prompts(body)[0]
            assert "Hum instead" not in read_system(body)
            assert "Hum always" not in "".join(read_prompts(body))
    assert "rule which prevents" in read_results(oc.requests("b")[-1])[0]
