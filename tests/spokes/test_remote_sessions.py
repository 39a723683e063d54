"""Sessions on other machines end as local ones do: what they did is judged, merged and cleaned up by the run."""

import asyncio
import os
from dataclasses import replace

from run_harness import until
from spoke_harness import RELEASE, SpokeHarness

from tasks_lib.cleanup.spoke_plan import clean_up_spoke
from tasks_lib.engine.run_lifecycle import OpenRun, SpokeAccess
from tasks_lib.git.commits.isolated_git import IsolatedGit
from tasks_lib.git.remote_sessions.session_remote import SESSION_REFS
from tasks_lib.git.remote_sessions.session_repository import SessionRepository
from tasks_lib.git.remote_sessions.state_commits import SessionState, write_state_commit
from tasks_lib.git.session_record import write_record
from tasks_lib.git.worktrees.lifecycle import Worktrees
from tasks_lib.model import Stage
from tasks_lib.project.child_environment import REPOSITORY_MARKER
from tasks_lib.reporting.run_report import ExitCode
from tasks_lib.session.attempt_record import Record
from tasks_lib.session.remote_messages import SessionOrder
from tasks_lib.session.spending import Allowance, Budget, Spent
from tasks_lib.spokes.workspace import Workspace, read_session_settings


async def test_a_session_on_another_machine_lands_like_a_local_one(spokes: SpokeHarness) -> None:
    spokes.make({"a": {}, "b": {"depends_on": ["a"]}}, verify=["test -f a.txt"])
    result = await spokes.work()
    assert result.code is ExitCode.COMPLETED, result.lines
    assert result.names == {"a": "Merged", "b": "Merged"}
    assert spokes.show("b.txt") == "b\n"
    assert "north" in spokes.journal.read("a-1-1", "cwd")
    assert spokes.leftovers() == ["refs/remotes/origin/main"]
    assert spokes.list_left("north") == []
    assert spokes.list_published() == []


async def test_the_result_of_a_turn_is_judged_like_that_of_a_local_one(spokes: SpokeHarness) -> None:
    spokes.make({"a": {}}, 'if [ "$turn" = 1 ]; then echo draft > a.txt; else work; fi')
    result = await spokes.work()
    assert result.code is ExitCode.COMPLETED, result.lines
    assert "a.txt" in spokes.journal.read("a-1-2"), "the reminder names the file that was not committed"
    assert spokes.show("a.txt") == "a\n"


async def test_what_an_agent_prints_elsewhere_is_in_the_log_here_during_its_turn(spokes: SpokeHarness) -> None:
    spokes.make({"a": {}}, "printf 'caf\\303\\251 \\377\\n'\nawait go\nwork", signals=["go"])
    log = spokes.top / ".git/coordinator/logs/a/session-1.log"

    async def read(opened: OpenRun) -> None:
        await until(lambda: log.exists() and log.stat().st_size > 0)
        assert log.read_bytes() == "café ?\n".encode()
        spokes.signals["go"].send()

    result = await spokes.work(during=read)
    assert result.code is ExitCode.COMPLETED, result.lines
    assert any(line.startswith("a: session: turn 1 as") and line.endswith(", on north") for line in result.lines)
    assert result.view.nodes["a"].machine == "north"
    assert log.read_bytes() == "café ".encode() + b"\xff\nWrote a.txt.\n", "after the turn it is the log itself"


async def test_a_blocker_that_an_agent_reports_elsewhere_blocks_its_node(spokes: SpokeHarness) -> None:
    agent = 'echo "half" > half.txt\ncoordinator notify --level blocking "which port should it use?"'
    spokes.make({"a": {}}, agent)
    result = await spokes.work()
    assert result.names == {"a": "Blocked"}, result.lines
    assert "which port should it use?" in spokes.show("tasks/resolve-a-1.md")
    assert (spokes.top / ".worktrees/feat/a/half.txt").read_text() == "half\n", "uncommitted work is here as well"
    assert spokes.list_left("north") == []


async def test_work_is_given_back_to_the_same_conversation(spokes: SpokeHarness) -> None:
    agent = 'if [ "$turn" = 1 ]; then echo wrong > a.txt; commit wrong; else cat a.txt > seen.txt; work; fi'
    spokes.make({"a": {}}, agent, verify=["! grep -q wrong a.txt"])
    result = await spokes.work()
    assert result.code is ExitCode.COMPLETED, result.lines
    assert (
        spokes.journal.variables("a-1-1")["COORDINATOR_SESSION"]
        == spokes.journal.variables("a-1-2")["COORDINATOR_SESSION"]
    )
    assert spokes.journal.read("a-1-1", "cwd") == spokes.journal.read("a-1-2", "cwd")
    assert spokes.show("seen.txt") == "wrong\n"
    assert len(spokes.link.runs) == 1


async def test_a_conflict_can_be_resolved_elsewhere_because_the_head_is_there(spokes: SpokeHarness) -> None:
    agent = """
if [ "$turn" = 1 ]; then echo "$id" > same.txt; commit "$id"; else
  git merge -q "$COORDINATOR_TARGET" || { printf 'a\\nb\\n' > same.txt; git add -A; git commit -q -m "merge"; }
fi"""
    spokes.make({"a": {}, "b": {}}, agent)
    result = await spokes.work()
    assert result.code is ExitCode.COMPLETED, result.lines
    assert spokes.show("same.txt") == "a\nb\n"


async def test_what_setup_makes_elsewhere_is_not_taken_for_work_of_the_agent(spokes: SpokeHarness) -> None:
    spokes.make({"a": {}}, setup=["echo built > built.txt"], agent="echo a > a.txt; git add a.txt; git commit -q -m a")
    result = await spokes.work()
    assert result.code is ExitCode.COMPLETED, result.lines
    assert not spokes.has("built.txt")


async def test_a_failing_setup_elsewhere_is_told_with_its_output(spokes: SpokeHarness) -> None:
    spokes.make({"a": {}}, setup=["echo no compiler here >&2; false"])
    result = await spokes.work()
    assert result.code is not ExitCode.COMPLETED
    assert "no compiler here" in str(result.outcomes["a"]), result.outcomes


async def test_stopping_a_node_ends_its_session_and_brings_its_work_home(spokes: SpokeHarness) -> None:
    spokes.make({"a": {}}, "echo part > part.txt\ntell begun\nsleep 1000", signals=["begun"])

    async def stop(opened: OpenRun) -> None:
        await spokes.signals["begun"].wait()
        await opened.run.requests.abort("a")

    result = await spokes.work(during=stop)
    assert result.names == {"a": "Aborted"}, result.lines
    assert (spokes.top / ".worktrees/feat/a/part.txt").read_text() == "part\n"
    assert spokes.list_left("north") == []
    assert spokes.list_published() == []
    spokes.write_agent("cat part.txt > whole.txt; rm part.txt; work")
    again = await spokes.work()
    assert again.code is ExitCode.COMPLETED, again.lines
    assert spokes.show("whole.txt") == "part\n"


async def test_a_worker_that_is_stopped_says_so_and_the_next_attempt_goes_elsewhere(two_spokes: SpokeHarness) -> None:
    spokes = two_spokes
    agent = """
if [ "$attempt" = 1 ]; then echo first > first.txt; tell begun; sleep 1000; fi
test -f first.txt; work"""
    spokes.make({"a": {}}, agent, signals=["begun"])

    async def drain(opened: OpenRun) -> None:
        await spokes.signals["begun"].wait()
        [run] = spokes.link.runs.values()
        spokes.link.drain(run)

    result = await spokes.work(during=drain)
    assert result.code is ExitCode.COMPLETED, result.lines
    assert "the worker on north was stopped" in result.retries[0][1]
    assert [run.machine for run in spokes.link.runs.values()] == ["north", "south"]


async def test_a_machine_that_dies_costs_an_attempt_which_goes_on_elsewhere(two_spokes: SpokeHarness) -> None:
    spokes = two_spokes
    agent = """
if [ "$attempt" = 1 ]; then echo first > first.txt; commit first; tell begun; sleep 1000; fi
cat first.txt > second.txt || echo missing > second.txt
work"""
    spokes.make({"a": {}}, agent, signals=["begun"])

    async def kill(opened: OpenRun) -> None:
        await spokes.signals["begun"].wait()
        [run] = spokes.link.runs.values()
        spokes.link.kill(run)

    result = await spokes.work(during=kill)
    assert result.code is ExitCode.COMPLETED, result.lines
    [(_, reason)] = result.retries
    assert "the session on north ended" in reason
    assert [run.machine for run in spokes.link.runs.values()] == ["north", "south"]
    assert spokes.list_published() == []


async def test_another_release_is_refused_with_both_versions(spokes: SpokeHarness) -> None:
    spokes.make({"a": {}})
    spokes.spokes = SpokeAccess(spokes.link, "9.9.9")
    result = await spokes.work()
    assert result.names == {"a": "Failed"}
    assert "9.9.9" in str(result.outcomes["a"])
    assert "1.2.3" in str(result.outcomes["a"])


async def test_a_configuration_that_is_not_on_the_remote_is_refused(spokes: SpokeHarness) -> None:
    spokes.make({"a": {}})
    text = spokes.show("coordinator.yaml").replace("agent.sh", "other.sh")
    spokes.commit("Another agent", {"coordinator.yaml": text})
    result = await spokes.work()
    assert result.names == {"a": "Failed"}
    assert "push main to that remote" in str(result.outcomes["a"])
    assert spokes.journal.turns() == []


async def test_what_sessions_of_killed_runs_published_is_removed_by_the_next_run(spokes: SpokeHarness) -> None:
    spokes.make({"a": {}})
    hub = spokes.begin_sessions("dead00")
    others = [f"{SESSION_REFS}/another/dead00/state", f"{SESSION_REFS}/{hub}/copied/state"]
    for ref in (f"{SESSION_REFS}/{hub}/dead00/state", *others):
        spokes.git.run("push", "--quiet", "origin", f"HEAD:{ref}")
    result = await spokes.work()
    assert result.code is ExitCode.COMPLETED, result.lines
    assert spokes.list_published() == sorted(others), "another hub's are not touched, whatever it is called"


async def test_what_a_session_pushed_after_it_was_given_up_is_kept_here(spokes: SpokeHarness) -> None:
    spokes.make({"a": {}})
    hub = spokes.begin_sessions("late00", "again0", "forged")
    tree = spokes.git.text("rev-parse", "HEAD^{tree}")
    late = spokes.git.text("commit-tree", tree, "-p", "HEAD", "-m", "late")
    state = write_state_commit(spokes.git, SessionState(late, about={"machine": "north", "node": "a"}))
    forged = spokes.at()
    for session, commit in (("late00", state), ("again0", state), ("forged", forged)):
        spokes.git.run("push", "--quiet", "origin", f"{commit}:{SESSION_REFS}/{hub}/{session}/state")
    result = await spokes.work()
    assert result.code is ExitCode.COMPLETED, result.lines
    assert spokes.at("refs/coordinator/kept/a/1") == late
    said = "a: a session on north left work, which is kept at refs/coordinator/kept/a/1."
    assert [line for line in result.view.messages if "left work" in line] == [said]
    assert spokes.list_published() == []


async def test_a_worker_keeps_what_one_that_was_killed_left(spokes: SpokeHarness) -> None:
    spokes.make({"a": {}})
    copy = SessionRepository(spokes.place_of("north"), "main")
    isolation = IsolatedGit(copy.repository.git, spokes.place / "isolation")
    worktrees = Worktrees(copy.repository, isolation=isolation)
    left = copy.open_worktree(worktrees, isolation, "feat/a", SessionState(spokes.at()), "a")
    write_record(left.git_dir, Record("a", "feat/a", Stage.SESSION))
    (left.path / "done.txt").write_text("done")
    left.git.run("add", "done.txt")
    left.git.run("commit", "--quiet", "--message", "done")
    (left.path / "part.txt").write_text("part")
    marked = {**os.environ, REPOSITORY_MARKER: str(copy.repository.common_dir)}
    agent = await asyncio.create_subprocess_exec("sleep", "1000", env=marked)
    lines = await clean_up_spoke(spokes.link.machines["north"].list_remotes(), spokes.place / "north")
    await agent.wait()
    [said] = [line for line in lines if "cut short" in line]
    assert "refs/coordinator/kept/a/1" in said
    assert copy.repository.git.text("cat-file", "blob", "refs/coordinator/kept/a/1:part.txt") == "part"
    kept = copy.repository.git.text("for-each-ref", "--format=%(refname)", "refs/coordinator/kept").splitlines()
    assert kept == ["refs/coordinator/kept/a/1"], "the tip of the branch is in it"
    assert worktrees.list() == []
    assert copy.repository.branch_head("feat/a") is None


async def test_sessions_with_different_configurations_have_different_slots(spokes: SpokeHarness) -> None:
    spokes.make({"a": {}})
    copy = SessionRepository(spokes.place_of("north"), "main")
    texts = {name: f"setup: [echo {name}]" for name in ("one", "two")}
    spaces: dict[str, Workspace] = {}
    for name, text in texts.items():
        private = spokes.place / name
        private.mkdir()
        spaces[name] = Workspace(copy, read_session_settings(text)[0], spokes.at(), private, spokes.place)

    opened = [
        copy.open_worktree(space.worktrees, space.isolation, f"feat/{name}", SessionState(spokes.at()), name)
        for name, space in spaces.items()
    ]

    assert [worktree.slot for worktree in opened] == [1, 2]


async def test_a_later_turn_elsewhere_ends_by_its_own_budget(spokes: SpokeHarness) -> None:
    agent = 'if [ "$turn" = 1 ]; then echo draft > a.txt; else sleep 1000; fi'
    spokes.make({"a": {}}, agent, retry={"attempts": 1})
    spokes.link.limits[2] = (Allowance(Budget("budget.attempt", seconds=10.0), Spent(seconds=9.5)),)

    result = await spokes.work()

    [run] = spokes.link.runs.values()
    assert run.news.report
    assert (run.news.report.turn, run.news.report.timed_out) == (2, True)
    assert "budget.attempt.seconds is 10" in run.news.report.excess
    assert "budget.attempt.seconds" in str(result.outcomes["a"]), result.outcomes


async def test_an_agent_that_leaves_its_branch_elsewhere_fails_the_attempt(spokes: SpokeHarness) -> None:
    spokes.make({"a": {}}, '[ "$attempt" = 2 ] || git switch -q -c mine; work')
    result = await spokes.work()
    assert result.code is ExitCode.COMPLETED, result.lines
    [(_, reason)] = result.retries
    assert "the worktree is on mine instead of feat/a" in reason


REVIEWED = """
if [ "$role" = code-reviewer ]; then
  cat built.txt a.txt > /dev/null && echo seen > review.txt && git add review.txt && git commit -q -m mine
  echo "It reads well."; echo "Verdict: approved"
else work; fi"""


async def test_a_branch_is_reviewed_where_its_session_is_and_the_reviewer_changes_nothing(
    spokes: SpokeHarness,
) -> None:
    spokes.make({"a": {}}, REVIEWED, setup=["echo built > built.txt"], review={"when": "always"})
    result = await spokes.work()
    assert result.code is ExitCode.COMPLETED, result.lines
    assert "north" in spokes.journal.read("a-1-1-review0", "cwd")
    assert spokes.journal.read("a-1-1-review0", "cwd") != spokes.journal.read("a-1-1", "cwd")
    assert spokes.trailer("Reviewed") == "approved"
    assert not spokes.has("review.txt")
    log = spokes.top / ".git/coordinator/logs/a/review-1-1.log"
    assert "It reads well." in log.read_text()
    assert (spokes.leftovers(), spokes.list_left("north")) == (["refs/remotes/origin/main"], [])
    assert spokes.list_published() == []


async def test_a_role_that_may_not_leave_reviews_here(spokes: SpokeHarness) -> None:
    author = "implementation-specialist"
    spokes.make({"a": {}}, REVIEWED.replace("built.txt ", ""), review={"when": "always"}, spokes={"roles": [author]})
    result = await spokes.work()
    assert result.code is ExitCode.COMPLETED, result.lines
    assert "north" in spokes.journal.read("a-1-1", "cwd")
    assert "north" not in spokes.journal.read("a-1-1-review0", "cwd")


async def test_what_keeps_a_reviewer_elsewhere_from_starting_is_no_fault_of_the_work(spokes: SpokeHarness) -> None:
    count = spokes.place / "count"
    setup = [f"echo >> {count}; test $(wc -l < {count}) = 1 || {{ echo no space there; false; }}"]
    spokes.make({"a": {}}, REVIEWED, setup=setup, review={"when": "always"})
    result = await spokes.work()
    assert result.names == {"a": "Failed"}
    assert "the review could not start: setup failed" in str(result.outcomes["a"])
    assert "no space there" in str(result.outcomes["a"])
    assert "the work is kept" in str(result.outcomes["a"])


async def test_a_session_of_a_killed_run_that_no_node_continues_is_ended(spokes: SpokeHarness) -> None:
    spokes.make({"a": {}})
    hub = spokes.begin_sessions("left00")
    order = SessionOrder(RELEASE, "remote", "main", "", "", hub, "left00", 1, "a", "a", "tasks/a.md", "feat/a", "x", "")
    left = await spokes.link.start(order, "north")
    other = await spokes.link.start(replace(order, hub="another"), "north")
    result = await spokes.work()
    assert result.code is ExitCode.COMPLETED, result.lines
    assert left in spokes.link.stopped
    assert other not in spokes.link.stopped
