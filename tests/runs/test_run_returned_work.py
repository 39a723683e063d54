"""Work that is returned to its session: conflicts, a red verify, and a base that is red itself."""

import pytest
from run_harness import During, RunHarness, Tasks, reach

from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.model import Blocked, Merged
from tasks_lib.reporting.run_report import ExitCode

CLASH = """
if [ $turn = 1 ]; then echo $id > same.txt; commit "feat($id): write"; [ $id = a ] || await landed; exit 0; fi
"""
GRAPH: Tasks = {"a": {}, "b": {}}


def after_a(harness: RunHarness) -> During:
    async def release(opened: OpenRun) -> None:
        await reach(opened, "a: Merged")
        harness.signals["landed"].send()

    return release


async def test_conflict_is_given_back_with_both_sides_and_lands_when_resolved(harness: RunHarness) -> None:
    resolve = "git merge -q $COORDINATOR_TARGET || :; printf 'a\\nb\\n' > same.txt; commit 'Resolve'; echo Both."
    harness.make(GRAPH, CLASH + resolve, signals=["landed"])
    worked = await harness.work(during=after_a(harness))
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert harness.show("same.txt") == "a\nb\n"
    assert harness.journal.turns() == ["a-1-1", "b-1-1", "b-1-2"]
    variables = harness.journal.variables("b-1-2")
    assert variables["COORDINATOR_TURN"] == "2"
    assert variables["COORDINATOR_TARGET"] == worked.view.nodes["a"].commit
    prompt = harness.journal.read("b-1-2")
    assert "- same.txt" in prompt
    landed, mine = prompt.split("Commits that landed:")[1].split("Your commits:")
    assert "feat(a): write" in landed
    assert "feat(b): write" in mine
    assert "### Task a: Do a\n" in prompt
    assert "Its goal:\n> Write it." in prompt
    assert "+a\n" in prompt.split("same.txt, what landed:")[1]
    assert "+b\n" in prompt.split("same.txt, your branch:")[1]
    assert f"git merge {worked.view.nodes['a'].commit}" in prompt
    assert variables["COORDINATOR_SESSION"] == harness.journal.variables("b-1-1")["COORDINATOR_SESSION"]
    assert harness.leftovers() == []


async def test_conflict_that_is_never_resolved_blocks_when_no_give_back_is_left(harness: RunHarness) -> None:
    again = "echo $turn >> other.txt; commit 'Something else'"
    harness.make(GRAPH, CLASH + again, signals=["landed"], land={"give_backs": 2})
    worked = await harness.work(during=after_a(harness))
    reason = "conflicts with the head in same.txt; it was given back 2 times"
    assert worked.outcomes["b"] == Blocked(reason, "resolve-b-1")
    assert harness.journal.turns() == ["a-1-1", "b-1-1", "b-1-2", "b-1-3"]
    assert harness.show("same.txt") == "a\n"


async def test_turn_given_back_that_does_not_move_the_branch_is_nudged(harness: RunHarness) -> None:
    then = "[ $turn = 2 ] || { git merge -q $COORDINATOR_TARGET || :; echo both > same.txt; commit 'Resolve'; }"
    harness.make(GRAPH, CLASH + then, signals=["landed"])
    worked = await harness.work(during=after_a(harness))
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert "your branch has no new commit" in harness.journal.read("b-1-3")


async def test_red_verify_is_given_back_with_its_log(harness: RunHarness) -> None:
    harness.make(
        {"a": {}},
        'echo $turn > n.txt; commit "feat($id): $turn"',
        verify=["true", "echo sums differ; test ! -f n.txt || grep 2 n.txt"],
    )
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    prompt = harness.journal.read("a-1-2")
    assert "`echo sums differ; test ! -f n.txt || grep 2 n.txt` exited with 1" in prompt
    assert "sums differ" in prompt
    log = prompt.split("The full log is ")[1].split(". To reproduce")[0]
    assert log.startswith(str(harness.top))
    assert harness.git.text("log", "--format=%s", "main").count("Merge") == 1


async def test_work_given_back_goes_before_nodes_that_have_not_begun(harness: RunHarness) -> None:
    agent = 'echo $turn > $id.txt; commit "feat($id): $turn"'
    harness.make({"a": {}, "b": {}, "c": {}}, agent, verify=["test ! -f a.txt || grep 2 a.txt"])
    worked = await harness.work(max_sessions=1, only=["a", "b", "c"])
    order = [line.partition(" as ")[0] for line in worked.lines if ": session: turn" in line]
    assert set(worked.names.values()) == {"Merged"}
    assert order.index("a: session: turn 2") < order.index("c: session: turn 1")


async def test_red_base_holds_the_queue_blames_nobody_and_costs_no_second_session(harness: RunHarness) -> None:
    harness.make({"a": {}, "b": {}}, verify=["test ! -f broken"], files={"broken": "x\n"})
    worked = await harness.work()
    assert worked.names == {"a": "Failed", "b": "Failed"}
    assert "main itself is red" in worked.view.nodes["a"].reason
    assert any(message.startswith("The merge queue is on hold.") for message in worked.view.messages)
    assert harness.log("%s") == ["Begin"]
    assert harness.journal.turns() == ["a-1-1", "b-1-1"]
    harness.git.run("rm", "-q", "broken")
    harness.git.run("commit", "-qm", "Fix")
    fixed = await harness.work()
    assert set(fixed.names.values()) == {"Merged"}
    assert fixed.code is ExitCode.COMPLETED
    assert harness.journal.turns() == ["a-1-1", "b-1-1"]
    assert harness.leftovers() == []


async def test_base_that_is_mended_while_it_is_found_red_fails_nobody(harness: RunHarness) -> None:
    fix = f"git -C {harness.top} rm -q broken && git -C {harness.top} commit -qm Fix"
    harness.make({"a": {}}, verify=[f"test ! -f broken || {{ {fix}; false; }}"], files={"broken": "x\n"})
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    assert harness.log("%s") == ["Merge feat/a: Do a", "Fix", "Begin"]
    assert harness.journal.turns() == ["a-1-1"]


async def test_work_held_for_a_red_base_lands_on_work_that_mends_it(harness: RunHarness) -> None:
    harness.make(GRAPH, "[ $id = b ] || await go\nwork", verify=["test -f a.txt"], signals=["go"])
    (harness.top / ".git" / "index.lock").touch()  # The branch itself cannot move, so only the head does.

    async def release(opened: OpenRun) -> None:
        await reach(opened, ": The merge queue is on hold.")
        harness.signals["go"].send()

    worked = await harness.work(during=release)
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert harness.log("%s") == ["Begin"]
    assert harness.git.text("log", "--first-parent", "--format=%s", "refs/coordinator/queue/main").splitlines() == [
        "Merge feat/b: Do b",
        "Merge feat/a: Do a",
        "Begin",
    ]
    assert sorted(harness.journal.turns()) == ["a-1-1", "b-1-1"]


async def test_held_queue_goes_on_when_the_base_is_mended_while_the_run_lives(harness: RunHarness) -> None:
    agent = "[ $id = b ] && await go\nwork"
    harness.make(GRAPH, agent, verify=["test ! -f broken"], files={"broken": "x\n"}, signals=["go"])

    async def fix(opened: OpenRun) -> None:
        await reach(opened, ": The merge queue is on hold.")
        harness.git.run("rm", "-q", "broken")
        harness.git.run("commit", "-qm", "Fix")
        await reach(opened, "a: Merged")
        harness.signals["go"].send()

    worked = await harness.work(during=fix)
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert harness.journal.turns() == ["a-1-1", "b-1-1"]


async def test_turn_that_was_over_is_not_counted_again_after_a_stop_in_the_queue(harness: RunHarness) -> None:
    """The first turn had ended; the work returned in the next run starts the second."""
    harness.make(
        {"a": {}},
        'echo $turn > n.txt; commit "feat(a): $turn"',
        verify=["test ! -f n.txt || { tell verifying; await never; }"],
        signals=["verifying", "never"],
    )
    text = harness.show("coordinator.yaml")
    signals = harness.place / "signals"
    waits = text.replace("tell verifying", f"echo > {signals}/verifying").replace(
        "await never", f"read x < {signals}/never"
    )
    harness.commit("Wait", {"coordinator.yaml": waits})

    async def stop(opened: OpenRun) -> None:
        await harness.signals["verifying"].wait()
        opened.run.stopping.request()

    assert (await harness.work(during=stop)).names == {"a": "Aborted"}
    harness.commit("Test", {"coordinator.yaml": text.replace("{ tell verifying; await never; }", "grep 2 n.txt")})
    worked = await harness.work()
    assert worked.outcomes == {"a": Merged(harness.at())}
    assert harness.journal.turns() == ["a-1-1", "a-1-2"]


async def test_summary_keeps_the_first_report_and_adds_what_later_turns_said(harness: RunHarness) -> None:
    agent = "echo $turn > n.txt; commit \"feat($id): $turn\"; [ $turn = 1 ] && echo 'Wrote it.' || echo 'Mended it.'"
    harness.make({"a": {}}, agent, verify=["test ! -f n.txt || grep 2 n.txt"])
    assert (await harness.work()).names == {"a": "Merged"}
    assert "Wrote it.\n\nMended it." in harness.show("tasks/a.md").split("## Summary")[1]


async def test_report_of_many_turns_is_bounded_and_has_the_end_of_each(harness: RunHarness) -> None:
    agent = "echo $turn > n.txt; commit $turn; echo \"Turn $turn.\"; yes word | head -n 700 | tr '\\n' ' '; echo $turn"
    harness.make({"a": {}}, agent, verify=["test ! -f n.txt || grep 3 n.txt"])
    assert (await harness.work()).names == {"a": "Merged"}
    summary = harness.show("tasks/a.md").split("## Summary")[1].strip()
    assert all(f"word word {turn}" in summary for turn in (1, 2, 3))
    assert len(summary) <= 4000


FINDING = "- [blocking] n.txt:1: the rounding is wrong"
NO_GRAPH = r"printf -- '---\nid: new\nname: N\nstatus: pending\ndepends_on: [nowhere]\n---\n' > tasks/new.md"
RETURNED: dict[str, tuple[str, dict[str, str], tuple[str, ...], str]] = {
    "a review": (
        f"[ $role = code-reviewer ] && {{ [ $attempt = 1 ] && echo '{FINDING}'; echo 'Verdict: approved'; exit 0; }}",
        {"risk": "high"},
        (),
        FINDING,
    ),
    "a red verify": ("", {}, ("! grep -qs 1 n.txt || { echo 'the total is wrong'; exit 1; }",), "the total is wrong"),
    "task files with faults": (
        f"[ $attempt = 2 ] && rm tasks/new.md || {NO_GRAPH}",
        {"level": "planning"},
        (),
        'names "nowhere"',
    ),
}


@pytest.mark.parametrize(("agent", "front", "verify", "told"), RETURNED.values(), ids=RETURNED)
async def test_attempt_after_one_that_did_not_finish_what_was_returned_is_told_why_it_was(
    harness: RunHarness, agent: str, front: dict[str, str], verify: tuple[str, ...], told: str
) -> None:
    work = "[ $attempt$turn = 12 ] && exit 3; echo $attempt > n.txt; commit x"
    harness.make({"a": front}, f"{agent}\n{work}", verify=verify, retry={"attempts": 2, "delay_seconds": 0})
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}, worked.lines
    first, turn, again = (harness.journal.read(f"a-{one}") for one in ("1-1", "1-2", "2-1"))
    assert told not in first
    assert told in turn
    before = again.split("What happened before")[1]
    assert before.index("Given back: ") < before.index(told) < before.index("Attempt 1 failed: `sh` exited with 3")
