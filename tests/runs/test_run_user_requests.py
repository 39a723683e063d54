"""User requests to a running graph: messages, and aborting one node while the others continue."""

from run_harness import RunHarness, until

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


async def test_what_is_said_to_a_node_that_nobody_works_on_is_answered_with_the_reason(harness: RunHarness) -> None:
    """Neither another node's id nor a list of those at work: why this one is not."""
    tasks = {"alpha": {"depends_on": ["gone"]}, "beta": {"depends_on": ["alpha"]}, "mine": {"assignee": "human"}}
    more = {"gone": {"status": "completed"}, "bad": {"status": "blocked"}, "apart": {}, "last": {"depends_on": ["bad"]}}
    body = f"if [ $id = apart ]; then exit 3; fi; {WAITS}"
    harness.make({**tasks, **more}, body, signals=["begun", "go"], retry={"attempts": 1})
    said: dict[str, str] = {}

    async def speak(opened: OpenRun) -> None:
        await harness.signals["begun"].wait()
        await until(lambda: bool((seen := opened.run.board.node("apart")) and seen.outcome))
        for node in (*tasks, *more):
            if node != "alpha":
                told = await opened.run.requests.tell(node, "Hello")
                assert (told.is_done, told) == (False, await opened.run.requests.abort(node))
                said[node] = told.sentence
        harness.signals["go"].send(2)

    await harness.work(during=speak)
    assert said["beta"] == "beta has not started yet: it waits for alpha"
    assert said["mine"] == "mine has not started yet: it waits for a person (assignee: human)"
    assert said["gone"] == "gone is completed already"
    assert said["last"] == "last has not started yet: it waits for bad"
    assert said["bad"].startswith("bad has not started yet: it is blocked")
    assert said["apart"].startswith("apart has ended as Blocked: `sh` exited with 3")


async def test_node_with_another_id_by_now_is_named_by_it(harness: RunHarness) -> None:
    tasks = {"alpha": {}, "beta": {"depends_on": ["alpha"]}, "gamma": {"depends_on": ["alpha"]}}
    harness.make(tasks, f"[ $id = alpha ] || {{ work; exit; }}; {WAITS}", signals=["begun", "go"])
    said: list[str] = []

    async def rename(opened: OpenRun) -> None:
        board, requests = opened.run.board, opened.run.requests
        await harness.signals["begun"].wait()
        for before, after in (("beta", "delta"), ("delta", "omega")):
            text = harness.show("tasks/beta.md").replace(f"id: {before}", f"id: {after}")
            harness.commit(f"Rename to {after}", {"tasks/beta.md": text})
            await until(lambda name=before: bool((seen := board.node(name)) and seen.renamed))
        said.extend([(await requests.tell("beta", "Hello")).sentence, (await requests.abort("delta")).sentence])
        harness.signals["go"].send()

    assert (await harness.work(during=rename)).names == dict.fromkeys(("alpha", "gamma", "omega"), "Merged")
    assert said == [
        f"{name} was renamed to omega: the id in its task file was changed during the run; use that one"
        for name in ("beta", "delta")
    ]


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
    verify = f"test ! -f a.txt || {{ echo > {signals}/verifying; read -r _ < {signals}/go; }}"
    harness.make({"a": {}}, verify=[verify], signals=["verifying", "go"])
    said: list[RequestResult] = []

    async def speak(opened: OpenRun) -> None:
        await harness.signals["verifying"].wait()
        said.append(await opened.run.requests.tell("a", "Wait!"))
        harness.signals["go"].send()

    assert (await harness.work(during=speak)).names == {"a": "Merged"}
    assert not said[0].is_done
    assert "abort" in said[0].sentence
