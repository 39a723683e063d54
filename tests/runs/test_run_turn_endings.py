"""How turns and attempts end, and what happens next."""

from run_harness import RunHarness
from silence import read_silence

from tasks_lib.model import Blocked, Failed
from tasks_lib.reporting.run_report import ExitCode


async def test_uncommitted_files_are_nudged_by_name_and_then_land(harness: RunHarness) -> None:
    harness.make({"a": {}}, "if [ $turn = 1 ]; then echo a > 'a b.txt'; else commit 'feat(a): add'; fi")
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    assert harness.journal.turns() == ["a-1-1", "a-1-2"]
    assert "not committed:\na b.txt" in harness.journal.read("a-1-2")
    variables = [harness.journal.variables(name) for name in harness.journal.turns()]
    assert variables[0]["COORDINATOR_SESSION"] == variables[1]["COORDINATOR_SESSION"]


async def test_nothing_committed_is_nudged_twice_then_tried_again_then_blocked(harness: RunHarness) -> None:
    harness.make({"a": {}}, "true")
    worked = await harness.work()
    assert harness.journal.turns() == [f"a-{attempt}-{turn}" for attempt in (1, 2) for turn in (1, 2, 3)]
    reason = "the turn ended without a commit, after 2 nudges"
    assert "coordinator notify" not in harness.journal.read("a-1-2")
    for said in (
        "Your last 2 turns ended unfinished",
        "Nothing in your worktree",
        "coordinator notify --level blocking",
    ):
        assert said in harness.journal.read("a-1-3")
    ladder = [line for line in worked.lines if "the turn ended without a commit" in line]
    assert "nudged: " in ladder[0]
    assert "guided: " in ladder[1]
    assert worked.retries == [("a", reason)]
    assert worked.outcomes == {"a": Blocked(f"{reason} (attempt 2; 2 allowed)", "resolve-a-1")}
    assert f"Attempt 1 failed: {reason}" in harness.journal.read("a-2-1")
    sessions = {harness.journal.variables(name)["COORDINATOR_SESSION"] for name in harness.journal.turns()}
    assert len(sessions) == 2


async def test_exit_status_fails_the_attempt_although_there_are_commits(harness: RunHarness) -> None:
    harness.make({"a": {}}, "[ $attempt = 2 ] || { work; exit 3; }\necho again >> a.txt; commit 'feat(a): again'")
    worked = await harness.work()
    assert worked.retries == [("a", "`sh` exited with 3 (Wrote a.txt.)")]
    assert worked.names == {"a": "Merged"}
    assert harness.trailer("Attempt") == "2"
    assert harness.show("a.txt") == "a\nagain\n"
    assert "continue from there" in " ".join(harness.journal.read("a-2-1").split())


async def test_agent_that_a_signal_ends_fails_its_attempt(harness: RunHarness) -> None:
    harness.make({"a": {}}, "[ $attempt = 2 ] || kill -SEGV $$\nwork")
    worked = await harness.work()
    assert worked.retries == [("a", "`sh` was ended by SIGSEGV")]
    assert worked.names == {"a": "Merged"}


async def test_turn_that_takes_too_long_is_ended_with_all_it_started(harness: RunHarness) -> None:
    agent = "[ $attempt = 2 ] || { sleep 1000 & sleep 1000; }\nwork"
    harness.make({"a": {}}, agent, watch={"turn_seconds": 0.3})
    worked = await harness.work()
    assert worked.retries == [("a", "the turn took longer than watch.turn_seconds and was stopped")]


async def test_turn_in_which_nothing_happens_is_told_so_and_goes_on_in_its_session(harness: RunHarness) -> None:
    agent = "[ $turn = 2 ] || { echo half > half.txt; sleep 1000; }\ngit add half.txt; work"
    harness.make({"a": {}}, agent, watch={"stall_seconds": 3})
    worked = await harness.work()
    assert (worked.names, worked.retries) == ({"a": "Merged"}, [])
    assert harness.journal.turns() == ["a-1-1", "a-1-2"]
    prompt = harness.journal.read("a-1-2")
    assert "Your last turn was stopped: nothing happened for " in prompt
    assert read_silence(prompt) >= 3
    assert "running `sleep 1000`" in harness.journal.read("a-1-2")
    assert harness.show("half.txt") == "half\n"
    assert any("nudged: the turn was stopped" in line for line in worked.lines)


async def test_agent_that_stalls_in_each_turn_fails_its_attempts(harness: RunHarness) -> None:
    harness.make({"a": {}}, "sleep 1000", watch={"stall_seconds": 1, "nudges": 1})
    worked = await harness.work()
    assert harness.journal.turns() == [f"a-{attempt}-{turn}" for attempt in (1, 2) for turn in (1, 2)]
    (blocked,) = worked.outcomes.values()
    assert isinstance(blocked, Blocked)
    assert read_silence(blocked.reason) >= 1
    assert "after 1 nudges" in blocked.reason


async def test_agent_that_repeats_itself_is_told_so_and_goes_on_in_its_session(harness: RunHarness) -> None:
    agent = '[ $turn = 2 ] || while true; do printf "read a\\nno such file\\n"; sleep 0.1; done\nwork'
    harness.make({"a": {}}, agent, watch={"tool_seconds": 3, "stall_seconds": 60})
    worked = await harness.work()
    assert (worked.names, worked.retries) == ({"a": "Merged"}, [])
    assert "the output repeated earlier lines" in harness.journal.read("a-1-2")


async def test_unblocked_node_has_all_its_attempts_again(harness: RunHarness) -> None:
    harness.make({"a": {}}, "exit 1")
    await harness.work()
    harness.set_status("resolve-a-1", "completed")
    worked = await harness.work()
    assert harness.journal.turns() == [f"a-{attempt}-1" for attempt in (1, 2, 3, 4)]
    assert worked.outcomes == {"a": Blocked("`sh` exited with 1 (attempt 4; 2 allowed)", "resolve-a-2")}


async def test_session_that_leaves_its_branch_fails_its_attempt_and_nothing_is_lost(harness: RunHarness) -> None:
    harness.make({"a": {}}, "[ $attempt = 2 ] || { git checkout -q --detach; echo x > lost.txt; exit 0; }\nwork")
    worked = await harness.work()
    assert worked.retries == [
        ("a", "the worktree is on no branch instead of feat/a; its state is kept under refs/coordinator/kept/feat-a")
    ]
    assert worked.names == {"a": "Merged"}
    kept = harness.git.text("for-each-ref", "--format=%(refname)", "refs/coordinator/kept").splitlines()
    assert len(kept) == 1
    assert harness.show("lost.txt", kept[0]) == "x\n"


async def test_agent_that_is_no_program_is_our_failure_and_costs_no_attempt(harness: RunHarness) -> None:
    harness.make({"a": {}})
    text = harness.show("coordinator.yaml").replace("- sh\n", "- no-such-agent\n")
    harness.commit("Break the agent", {"coordinator.yaml": text})
    worked = await harness.work()
    assert isinstance(worked.outcomes["a"], Failed)
    assert "no-such-agent" in worked.outcomes["a"].reason
    assert worked.code is ExitCode.BLOCKED
    assert "status: pending" in harness.show("tasks/a.md")


async def test_what_a_failed_setup_leaves_is_not_taken_for_work_of_the_agent(harness: RunHarness) -> None:
    setup = ["echo built > built.txt", f"[ -e {harness.place}/seen ] || {{ touch {harness.place}/seen; false; }}"]
    harness.make({"a": {}}, "echo a > a.txt; git add a.txt; git commit -qm a", setup=setup)
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    assert harness.journal.turns() == ["a-2-1"]
    assert not harness.has("built.txt")


async def test_setup_that_fails_is_tried_again_and_then_our_failure(harness: RunHarness) -> None:
    harness.make({"a": {}}, setup=["echo no-database; false"])
    worked = await harness.work()
    assert [task_id for task_id, _ in worked.retries] == ["a"]
    assert isinstance(worked.outcomes["a"], Failed)
    assert "no-database" in worked.outcomes["a"].reason
    assert harness.journal.turns() == []


async def test_branch_that_is_checked_out_elsewhere_is_said_and_others_go_on(harness: RunHarness) -> None:
    harness.make({"a": {}, "b": {}})
    harness.git.run("worktree", "add", "--quiet", "-b", "feat/a", str(harness.place / "mine"))
    worked = await harness.work()
    assert worked.names == {"a": "Failed", "b": "Merged"}
    assert str(harness.place / "mine") in worked.view.nodes["a"].reason
