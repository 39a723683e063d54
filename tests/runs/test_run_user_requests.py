"""User requests to a running graph: messages, and aborting one node while the others continue."""

from run_harness import RunHarness

from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.reporting.run_report import ExitCode
from tasks_lib.runtime.user_requests import RequestResult

WAITS = "work; tell begun; await go"


async def test_a_message_in_a_turn_is_the_next_prompt_before_the_work_lands(harness: RunHarness) -> None:
    harness.make({"a": {}}, f"if [ $turn = 1 ]; then {WAITS}; else echo said > said.txt; commit fix; fi",
                signals=["begun", "go"])  # fmt: skip
    said: list[RequestResult] = []

    async def speak(opened: OpenRun) -> None:
        await harness.signals["begun"].wait()
        said.append(await opened.run.requests.tell("a", "Use the metric system."))
        harness.signals["go"].send()

    assert (await harness.work(during=speak)).names == {"a": "Merged"}
    assert said == [RequestResult(True, "a will get it with its next prompt")]
    assert harness.journal.turns() == ["a-1-1", "a-1-2"]
    assert "Use the metric system." in harness.journal.read("a-1-2")
    assert harness.has("said.txt")


async def test_a_message_survives_a_stop_and_begins_the_next_run(harness: RunHarness) -> None:
    harness.make({"a": {}}, "tell begun; await go", signals=["begun", "go"])

    async def speak(opened: OpenRun) -> None:
        await harness.signals["begun"].wait()
        await opened.run.requests.tell("a", "Mind the gap.")
        opened.run.stopping.request()

    assert (await harness.work(during=speak)).names == {"a": "Aborted"}
    assert harness.record("feat/a").turn.messages == ("Mind the gap.",)
    harness.write_agent("work")
    assert (await harness.work()).names == {"a": "Merged"}
    assert "The user says:\n\n```\nMind the gap.\n```" in harness.journal.read("a-1-1")


async def test_what_is_said_to_nobody_is_answered_with_who_is_there(harness: RunHarness) -> None:
    harness.make({"alpha": {}}, WAITS, signals=["begun", "go"])
    said: list[RequestResult] = []

    async def speak(opened: OpenRun) -> None:
        await harness.signals["begun"].wait()
        said.append(await opened.run.requests.tell("alhpa", "Hello"))
        said.append(await opened.run.requests.tell("zzz", "Hello"))
        said.append(await opened.run.requests.tell("alpha", "  "))
        said.append(await opened.run.requests.abort("beta"))
        assert opened.run.requests.open_nodes() == ("alpha",)
        harness.signals["go"].send()

    assert (await harness.work(during=speak)).names == {"alpha": "Merged"}
    assert [receipt.is_done for receipt in said] == [False] * 4
    assert 'Did you mean "alpha"?' in said[0].sentence
    assert "running nodes: alpha" in said[1].sentence
    assert "empty" in said[2].sentence


async def test_one_node_is_aborted_and_the_others_land(harness: RunHarness) -> None:
    body = "if [ $id = a ]; then echo half > half.txt; commit wip; tell begun; await go; else work; fi"
    harness.make({"a": {}, "b": {}, "c": {"depends_on": ["a"]}}, body, signals=["begun", "go"])

    async def stop(opened: OpenRun) -> None:
        await harness.signals["begun"].wait()
        assert (await opened.run.requests.abort("a")).is_done

    worked = await harness.work(during=stop)
    assert worked.names == {"a": "Aborted", "b": "Merged"}
    assert "stopped on request" in str(worked.outcomes["a"])
    assert worked.code is ExitCode.BLOCKED
    assert harness.show("half.txt", "feat/a") == "half\n"
    harness.write_agent("work")
    assert (await harness.work()).names == {"a": "Merged", "c": "Merged"}
    assert harness.has("half.txt")
    assert harness.leftovers() == []


async def test_a_message_to_a_node_whose_work_is_verified_is_refused_with_the_reason(harness: RunHarness) -> None:
    signals = harness.place / "signals"
    verify = f"echo > {signals}/verifying; read -r _ < {signals}/go"
    harness.make({"a": {}}, verify=[verify], signals=["verifying", "go"])
    said: list[RequestResult] = []

    async def speak(opened: OpenRun) -> None:
        await harness.signals["verifying"].wait()
        said.append(await opened.run.requests.tell("a", "Wait!"))
        harness.signals["go"].send()

    assert (await harness.work(during=speak)).names == {"a": "Merged"}
    assert not said[0].is_done
    assert "abort" in said[0].sentence
