"""How turns and attempts end, and what happens next."""

from run_harness import Ground

from tasks_lib.model import Blocked, Failed
from tasks_lib.reporting.run_report import ExitCode


async def test_uncommitted_files_are_nudged_by_name_and_then_land(ground: Ground) -> None:
    ground.make({"a": {}}, "if [ $turn = 1 ]; then echo a > 'a b.txt'; else commit 'feat(a): add'; fi")
    worked = await ground.work()
    assert worked.names == {"a": "Merged"}
    assert ground.turns() == ["a-1-1", "a-1-2"]
    assert "not committed:\na b.txt" in ground.turn("a-1-2")
    variables = [ground.variables(name) for name in ground.turns()]
    assert variables[0]["COORDINATOR_SESSION"] == variables[1]["COORDINATOR_SESSION"]


async def test_nothing_committed_is_nudged_twice_then_tried_again_then_blocked(ground: Ground) -> None:
    ground.make({"a": {}}, "true")
    worked = await ground.work()
    assert ground.turns() == [f"a-{attempt}-{turn}" for attempt in (1, 2) for turn in (1, 2, 3)]
    reason = "the turn ended without a commit, after 2 nudges"
    assert worked.retries == [("a", reason)]
    assert worked.outcomes == {"a": Blocked(f"{reason} (attempt 2; 2 allowed)", "resolve-a-1")}
    assert f"Attempt 1 failed: {reason}" in ground.turn("a-2-1")
    sessions = {ground.variables(name)["COORDINATOR_SESSION"] for name in ground.turns()}
    assert len(sessions) == 2


async def test_exit_status_fails_the_attempt_although_there_are_commits(ground: Ground) -> None:
    ground.make({"a": {}}, "[ $attempt = 2 ] || { work; exit 3; }\necho again >> a.txt; commit 'feat(a): again'")
    worked = await ground.work()
    assert worked.retries == [("a", "`sh` exited with 3")]
    assert worked.names == {"a": "Merged"}
    assert ground.trailer("Attempt") == "2"
    assert ground.show("a.txt") == "a\nagain\n"
    assert "continue from there" in " ".join(ground.turn("a-2-1").split())


async def test_agent_that_a_signal_ends_fails_its_attempt(ground: Ground) -> None:
    ground.make({"a": {}}, "[ $attempt = 2 ] || kill -SEGV $$\nwork")
    worked = await ground.work()
    assert worked.retries == [("a", "`sh` was ended by SIGSEGV")]
    assert worked.names == {"a": "Merged"}


async def test_turn_that_takes_too_long_is_ended_with_all_it_started(ground: Ground) -> None:
    agent = "[ $attempt = 2 ] || { sleep 1000 & sleep 1000; }\nwork"
    ground.make({"a": {}}, agent, watch={"turn_seconds": 0.3})
    worked = await ground.work()
    assert worked.retries == [("a", "the turn took longer than watch.turn_seconds and was stopped")]


async def test_unblocked_node_has_all_its_attempts_again(ground: Ground) -> None:
    ground.make({"a": {}}, "exit 1")
    await ground.work()
    ground.set_status("resolve-a-1", "completed")
    worked = await ground.work()
    assert ground.turns() == [f"a-{attempt}-1" for attempt in (1, 2, 3, 4)]
    assert worked.outcomes == {"a": Blocked("`sh` exited with 1 (attempt 4; 2 allowed)", "resolve-a-2")}


async def test_session_that_leaves_its_branch_fails_its_attempt_and_nothing_is_lost(ground: Ground) -> None:
    ground.make({"a": {}}, "[ $attempt = 2 ] || { git checkout -q --detach; echo x > lost.txt; exit 0; }\nwork")
    worked = await ground.work()
    assert worked.retries == [
        ("a", "the worktree is on no branch instead of feat/a; its state is kept under refs/coordinator/kept/feat-a")
    ]
    assert worked.names == {"a": "Merged"}
    kept = ground.git.text("for-each-ref", "--format=%(refname)", "refs/coordinator/kept").splitlines()
    assert len(kept) == 1
    assert ground.show("lost.txt", kept[0]) == "x\n"


async def test_agent_that_is_no_program_is_our_failure_and_costs_no_attempt(ground: Ground) -> None:
    ground.make({"a": {}})
    text = ground.show("coordinator.yaml").replace("- sh\n", "- no-such-agent\n")
    ground.commit("Break the agent", {"coordinator.yaml": text})
    worked = await ground.work()
    assert isinstance(worked.outcomes["a"], Failed)
    assert "no-such-agent" in worked.outcomes["a"].reason
    assert worked.code is ExitCode.BLOCKED
    assert "status: pending" in ground.show("tasks/a.md")


async def test_setup_that_fails_is_tried_again_and_then_our_failure(ground: Ground) -> None:
    ground.make({"a": {}}, setup=["echo no-database; false"])
    worked = await ground.work()
    assert [task_id for task_id, _ in worked.retries] == ["a"]
    assert isinstance(worked.outcomes["a"], Failed)
    assert "no-database" in worked.outcomes["a"].reason
    assert ground.turns() == []


async def test_branch_that_is_checked_out_elsewhere_is_said_and_others_go_on(ground: Ground) -> None:
    ground.make({"a": {}, "b": {}})
    ground.git.run("worktree", "add", "--quiet", "-b", "feat/a", str(ground.place / "mine"))
    worked = await ground.work()
    assert worked.names == {"a": "Failed", "b": "Merged"}
    assert str(ground.place / "mine") in worked.view.nodes["a"].reason
