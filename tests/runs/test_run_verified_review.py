"""The merge of a branch is verified before its review, once, without delaying what may land."""

import pytest
from run_harness import RunHarness, reach

from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.model import Failed

REVIEWER = "[ $role = code-reviewer ] && { echo 'Verdict: approved'; exit 0; }\n"
RISKY = {"risk": "high"}


def counting(harness: RunHarness, *lines: str) -> list[str]:
    """Lines of `verify` of which the first notes what files of nodes there are."""
    return [f'[ "$(echo *.txt)" = "*.txt" ] || echo *.txt >> {harness.place}/verified', "echo all is well", *lines]


def list_verified(harness: RunHarness) -> list[str]:
    return (harness.place / "verified").read_text().splitlines()


def list_turns(harness: RunHarness, node: str) -> list[str]:
    return [turn for turn in harness.journal.turns() if turn.startswith(f"{node}-")]


async def test_reviewer_is_told_what_passes_and_it_runs_once(harness: RunHarness) -> None:
    harness.make({"a": RISKY}, REVIEWER + "work", verify=counting(harness, "echo the end"))
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    assert list_verified(harness) == ["a.txt"]
    asked = harness.journal.read("a-1-1-review0")
    assert "- `echo all is well`\n- `echo the end`" in asked
    assert "you need not run them again" in asked
    assert "```\nthe end\n```" in asked
    [log] = [line for line in asked.splitlines() if line.startswith("The full log is ")]
    assert "all is well" in (harness.top / log.removeprefix("The full log is ").rstrip(".")).read_text()
    stages = [line for line in worked.lines if line.startswith(("a: verify", "a: review", "a: queued"))]
    assert stages[:2] == ["a: verify: before its review", "a: verify"]
    assert stages.index("a: review: round 1: its risk is high") < stages.index("a: queued")


async def test_red_goes_back_to_its_author_without_a_review(harness: RunHarness) -> None:
    agent = REVIEWER + "[ $turn = 1 ] && { echo x > bad.txt; commit bad; exit; }\ngit rm -q bad.txt; work"
    harness.make({"a": RISKY}, agent, verify=["test ! -e bad.txt"])
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    assert list_turns(harness, "a") == ["a-1-1", "a-1-1-review0", "a-1-2"]
    assert "does not pass the project's verification" in harness.journal.read("a-1-2")


async def test_red_that_stays_counts_as_returned_by_the_queue(harness: RunHarness) -> None:
    agent = REVIEWER + "echo $turn > bad.txt; commit bad"
    harness.make({"a": RISKY}, agent, verify=["test ! -e bad.txt"], land={"give_backs": 1})
    worked = await harness.work()
    assert "it was given back 1 times" in worked.view.nodes["a"].reason
    assert list_turns(harness, "a") == ["a-1-1", "a-1-2"]


async def test_head_that_moved_meanwhile_is_verified_again(harness: RunHarness) -> None:
    agent = """
[ $role = code-reviewer ] && { tell asked; await go; echo 'Verdict: approved'; exit 0; }
[ $id = b ] && await begin
work
"""
    signals = ["asked", "go", "begin"]
    harness.make({"a": RISKY, "b": {}}, agent, verify=counting(harness), signals=signals)

    async def land_other(opened: OpenRun) -> None:
        await harness.signals["asked"].wait()
        harness.signals["begin"].send()
        await reach(opened, "b: Merged")
        harness.signals["go"].send()

    worked = await harness.work(during=land_other)
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert list_verified(harness) == ["a.txt", "b.txt", "a.txt b.txt"]


async def test_broken_base_holds_the_work_and_blames_nobody(harness: RunHarness) -> None:
    harness.make({"a": RISKY}, REVIEWER + "work", verify=["test -e fixed"])
    worked = await harness.work()
    assert isinstance(worked.outcomes["a"], Failed)
    assert "main itself is red" in worked.view.nodes["a"].reason
    assert list_turns(harness, "a") == ["a-1-1"]
    record = harness.record("feat/a")
    assert (record.rounds.landing, record.acceptance.finished) == (0, harness.at("feat/a"))
    harness.commit("Fix it", {"fixed": ""})
    assert (await harness.work()).names == {"a": "Merged"}
    assert list_turns(harness, "a") == ["a-1-1", "a-1-1-review0"]


async def test_conflict_goes_back_before_a_review(harness: RunHarness) -> None:
    agent = (
        REVIEWER
        + """
[ $id$turn = a1 ] && await go
echo $id > shared.txt
[ $turn = 2 ] && { git merge -q $COORDINATOR_TARGET || :; printf 'b\\na\\n' > shared.txt; }
commit "feat($id): write"
"""
    )
    harness.make({"a": RISKY, "b": {}}, agent, verify=["true"], signals=["go"])

    async def go(opened: OpenRun) -> None:
        await reach(opened, "b: Merged")
        harness.signals["go"].send()

    worked = await harness.work(during=go)
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert list_turns(harness, "a") == ["a-1-1", "a-1-1-review0", "a-1-2"]
    assert "conflicts" in harness.journal.read("a-1-2")


def holding(harness: RunHarness, file: str) -> list[str]:
    """A `verify` that waits for the signal `go` while there is `file` and nothing else has been verified."""
    place = f"{harness.place}/verified"
    return [f"[ ! -e {file} -o -e {place} ] || read -r _ < {harness.place}/signals/go", *counting(harness)]


async def test_slot_is_free_while_the_merge_is_verified(harness: RunHarness) -> None:
    tasks = {"a": {**RISKY, "scope": "system"}, "b": {}}
    harness.make(tasks, REVIEWER + "work", verify=holding(harness, "a.txt"), signals=["go"])

    async def go(opened: OpenRun) -> None:
        await reach(opened, "b: queued")
        harness.signals["go"].send()

    worked = await harness.work(during=go, max_sessions=1)
    assert worked.names == {"a": "Merged", "b": "Merged"}


async def test_it_is_shown_that_verified_work_waits_for_a_place_for_its_reviewer(harness: RunHarness) -> None:
    tasks = {"a": {**RISKY, "scope": "system"}, "b": {}}
    agent = REVIEWER + "[ $id = b ] && await begin\nwork"
    harness.make(tasks, agent, verify=holding(harness, "a.txt"), signals=["go", "begin"])

    async def go(opened: OpenRun) -> None:
        await reach(opened, "b: session")
        harness.signals["go"].send()
        await reach(opened, "a: review: waits for a place for its reviewer")
        harness.signals["begin"].send()

    worked = await harness.work(during=go, max_sessions=1)
    assert worked.names == {"a": "Merged", "b": "Merged"}


async def test_work_that_may_land_comes_before_work_that_waits_for_its_review(harness: RunHarness) -> None:
    tasks = {"first": {}, "a": {**RISKY, "scope": "system"}, "b": {}}
    agent = REVIEWER + "[ $id = b ] && await begin\n[ $id = a ] && await early\nwork"
    signals = ["go", "begin", "early"]
    harness.make(tasks, agent, verify=holding(harness, "first.txt"), signals=signals)

    async def go(opened: OpenRun) -> None:
        await reach(opened, "first: verify")
        harness.signals["early"].send()
        await reach(opened, "a: verify: before its review")
        harness.signals["begin"].send()
        await reach(opened, "b: queued")
        harness.signals["go"].send()

    worked = await harness.work(during=go)
    assert worked.names == dict.fromkeys(tasks, "Merged")
    assert list_verified(harness) == ["first.txt", "b.txt first.txt", "a.txt b.txt first.txt"]


@pytest.mark.parametrize("stage", ["a: verify", "a: review"])
async def test_run_that_stops_before_the_verdict_continues(harness: RunHarness, stage: str) -> None:
    agent = "[ $role = code-reviewer ] && [ ! -e {0} ] && {{ : > {0}; await never; }}\n".format(
        harness.place / "stopped"
    )
    harness.make({"a": RISKY}, agent + REVIEWER + "work", verify=counting(harness), signals=["never"])

    async def stop(opened: OpenRun) -> None:
        await reach(opened, stage)
        opened.run.stopping.request()

    assert (await harness.work(during=stop)).names == {"a": "Aborted"}
    (harness.place / "stopped").touch()
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    assert [turn for turn in list_turns(harness, "a") if "review" not in turn] == ["a-1-1"]
    assert harness.leftovers() == []
