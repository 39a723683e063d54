"""The audit finds nothing wrong after a correct run, and names each promise that a test breaks."""

import asyncio
import os
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from checker_traces import text
from generated_graphs import make_repository, run_git
from history_writer import PATHS, START, TRAILERS, HistoryWriter, assert_says, write_rest, write_task
from minimal_coordinator import MinimalCoordinator

from tasks_lib.cleanup.dead_run import find_unattributed
from tasks_lib.cleanup.repository_audit import Audit, audit, verify_again
from tasks_lib.git.commits.task_reader import TaskReader
from tasks_lib.git.inspection.audited_commits import Examiner, read_chain
from tasks_lib.git.kept.snapshots import keep_state
from tasks_lib.git.objects.object_database import Objects
from tasks_lib.git.repository import Repository
from tasks_lib.git.runner import Git
from tasks_lib.git.session_record import write_record
from tasks_lib.git.worktree_admin import MAKING, write_slot
from tasks_lib.git.worktrees.lifecycle import Worktrees
from tasks_lib.model import OutcomeName
from tasks_lib.process.private_directories import BRIEF, make_private, name_owner
from tasks_lib.project.child_environment import REPOSITORY_MARKER
from tasks_lib.project.loading import load_project
from tasks_lib.reporting.audit_rules import Rule, is_meant, judge_commit
from tasks_lib.runtime.status_board import Board, NodeView, RunView, now_text
from tasks_lib.session.attempt_record import Record

DEAD_PID = 4_194_305
"""Not the pid of any process: Linux counts to 4,194,304."""


@pytest.fixture
def writer(tmp_path: Path) -> HistoryWriter:
    return HistoryWriter(tmp_path)


def audit_history(writer: HistoryWriter, limit: int = 1000) -> Audit:
    if text(writer.repo, "rev-parse", "main") != writer.head:
        writer.publish()
    return audit(load_project(writer.repo, {}), limit)


def find(writer: HistoryWriter) -> list[str]:
    return [str(violation) for violation in audit_history(writer).violations]


def test_a_run_that_kept_its_promises_has_nothing_wrong(writer: HistoryWriter) -> None:
    write_rest(writer)
    found = audit_history(writer)
    assert (found.violations, found.commits) == ((), 4)
    assert found.notes == (
        "3 commits were verified with other `setup`, `verify` and `wrapper` lines than the current ones.",
    )
    assert "--limit" in audit_history(writer, 2).notes[1]
    assert audit_history(writer, 2).violations == ()


def test_a_graph_of_every_kind_of_node_and_style_of_file_has_nothing_wrong(tmp_path: Path) -> None:
    made = make_repository(tmp_path, nodes=20, seed=1)
    MinimalCoordinator(made.repository, tmp_path / "path").work()
    found = audit(load_project(made.repository, {}), 1000)
    assert (found.violations, found.commits) == ((), len(made.landing) + 1)


def without(name: str) -> dict[str, str]:
    return {"Task": "a"} | {key: value for key, value in TRAILERS.items() if key != name}


def other(writer: HistoryWriter, name: str) -> str:
    return writer.commit([writer.head], f"Work on {name}", {f"src/{name}.txt": f"{name}\n"})


def make_octopus(writer: HistoryWriter) -> None:
    start, merge = writer.head, writer.merge("a")
    parents = [word for parent in (f"{merge}^1", f"{merge}^2", start) for word in ("-p", parent)]
    message = text(writer.repo, "log", "-n1", "--format=%B", merge)
    third = other(writer, "x")
    parents[-1] = third
    writer.head = run_git(writer.repo, "commit-tree", f"{merge}^{{tree}}", *parents, "-m", message)


def foreign(writer: HistoryWriter) -> str:
    return writer.advance([writer.head], "By hand", {"src/hand.txt": "hand\n"}, {"Note": "by hand"})


COMMITS: dict[str, tuple[Rule, str, Callable[[HistoryWriter], Any]]] = {
    "no attempt": (Rule.FORM, "has no trailer Attempt", lambda writer: writer.merge("a", trailers=without("Attempt"))),
    "no run": (Rule.FORM, "has no trailer Run", lambda writer: writer.merge("a", trailers=without("Run"))),
    "no session": (Rule.FORM, "has no trailer Session", lambda writer: writer.merge("a", trailers=without("Session"))),
    "no digest": (Rule.FORM, "has no trailer Verified", lambda writer: writer.merge("a", trailers=without("Verified"))),
    "attempt no number": (
        Rule.FORM, "its Attempt is '0'", lambda writer: writer.merge("a", trailers={"Task": "a", **TRAILERS, "Attempt": "0"})
    ),
    "attempt of digits that are no number": (
        Rule.FORM, "its Attempt is '²'", lambda writer: writer.merge("a", trailers={"Task": "a", **TRAILERS, "Attempt": "²"})
    ),
    "attempt of too many digits": (
        Rule.FORM, "its Attempt is '999", lambda writer: writer.merge("a", trailers={"Task": "a", **TRAILERS, "Attempt": "9" * 5_000})
    ),
    "digest no digest": (
        Rule.FORM, "its Verified is 'yes'", lambda writer: writer.merge("a", trailers={"Task": "a", **TRAILERS, "Verified": "yes"})
    ),
    "another's task": (
        Rule.FORM, 'its Task is "x", which no', lambda writer: writer.merge("a", trailers={"Task": "x", **TRAILERS})
    ),
    "another's subject": (Rule.FORM, 'does not contain "a"', lambda writer: writer.merge("a", subject="Merge feat/b/c: Do b/c")),
    "a subject that is not the coordinator's": (Rule.FORM, "not one of the coordinator's", lambda writer: writer.merge("a", subject="Squash a")),
    "a check of another": (
        Rule.FORM, 'does not contain "r"', lambda writer: writer.advance([writer.head], "Check a: Do a", writer.complete("r"), {"Task": "r", **TRAILERS})
    ),
    "a blocker of another": (Rule.FORM, 'does not contain "d"', lambda writer: writer.block("d", subject="blocked(a): no rule")),
    "three parents": (Rule.FORM, "has 3 parents", make_octopus),
    "a check with a branch": (Rule.FORM, "has 2 parents instead of one", lambda writer: writer.advance(
        [writer.head, other(writer, "x")], "Check r: Do r", writer.complete("r"), {"Task": "r", **TRAILERS})),
    "nothing new": (Rule.FORM, "merges what was already on the head", lambda writer: writer.merge(
        "a", parents=[foreign(writer), text(writer.repo, "rev-parse", "main")])),
    "not completed": (Rule.COMPLETED, 'does not mark "a" as completed', lambda writer: writer.merge("a", completes=False)),
    "another completed": (Rule.COMPLETED, 'completes "e"', lambda writer: writer.merge("a", files=writer.complete("e"))),
    "completed no more": (Rule.COMPLETED, '"a" was completed and no longer is', lambda writer: (
        writer.merge("a"), writer.merge("b/c", files={PATHS["a"]: START[PATHS["a"]]}))),
    "landed twice": (Rule.COMPLETED, '"a" had already landed', lambda writer: (
        writer.merge("a"), writer.merge("a", completes=False, files={"src/a.txt": "again\n"}))),
    "blocked without saying so": (Rule.COMPLETED, 'does not mark "d" as blocked', lambda writer: writer.block(
        "d", files={PATHS["d"]: writer.texts[PATHS["d"]]})),
    "before what it needs": (Rule.ORDER, 'landed before "a", which it depends on', lambda writer: writer.merge("b/c")),
    "evil merge": (Rule.MERGE, "src/base.txt is not what the merge gives", lambda writer: writer.merge("a", files={"src/base.txt": "evil\n"})),
    "evil file": (Rule.MERGE, "src/deep/evil.txt is not what the merge gives", lambda writer: writer.merge("a", files={"src/deep/evil.txt": "e\n"})),
    "lost file": (Rule.MERGE, "src/a.txt is not what the merge gives", lambda writer: writer.merge("a", files={"src/a.txt": None})),
    "markdown that is not a task": (Rule.MERGE, "tasks/README.md is not what", lambda writer: writer.merge("a", files={"tasks/README.md": "# Hi\n"})),
    "squashed": (Rule.MERGE, "src/a.txt is not what the head had", lambda writer: writer.merge("a", parents=[writer.head])),
    "check with source": (Rule.MERGE, "src/x.txt is not what the head had", lambda writer: writer.check("r", files={"src/x.txt": "x\n"})),
    "blocker with source": (Rule.MERGE, "src/x.txt is not what the head had", lambda writer: writer.block("d", files={"src/x.txt": "x\n"})),
    "another's task file": (Rule.MERGE, 'which is the task file of "e"', lambda writer: writer.merge(
        "a", files={PATHS["e"]: START[PATHS["e"]].replace("Do it.", "Do it!")})),
    "another's task file gone": (Rule.MERGE, 'which is the task file of "e"', lambda writer: writer.merge("a", files={PATHS["e"]: None})),
    "own task file gone": (Rule.MERGE, "removes its task file", lambda writer: writer.merge("a", files={PATHS["a"]: None})),
    "own description": (Rule.MERGE, "more of tasks/a.md than its status, Notes and Summary", lambda writer: writer.merge(
        "a", files={PATHS["a"]: writer.complete("a")[PATHS["a"]].replace("Do it.", "Do it!")})),
    "a task added": (Rule.MERGE, 'adds the task "new"', lambda writer: writer.merge("a", files={"tasks/new.md": write_task("new")})),
    "a task added by a blocker": (Rule.MERGE, 'adds the task "new"', lambda writer: writer.block("d", files={"tasks/new.md": write_task("new")})),
}  # fmt: skip


@pytest.fixture(scope="module")
def shared_pen(tmp_path_factory: pytest.TempPathFactory) -> HistoryWriter:
    """One repository for all broken commits: none is published, so each starts from the same state."""
    return HistoryWriter(tmp_path_factory.mktemp("shared"))


@pytest.mark.parametrize("name", COMMITS)
def test_a_commit_that_breaks_a_promise_is_named(shared_pen: HistoryWriter, name: str) -> None:
    writer, (rule, said, write) = shared_pen, COMMITS[name]
    writer.head, writer.texts = writer.before.commit, dict(START)
    write(writer)
    git = Git(writer.repo)
    with Objects(git) as objects:
        examiner = Examiner(git, objects, TaskReader(objects, "tasks"))
        commits = [examiner.examine(commit) for commit in read_chain(git, writer.head, 100).ours]
    found = [str(violation) for commit in commits for violation in judge_commit(commit)]
    assert_says(found, said, f"({rule})")


def test_what_persons_commit_is_not_judged(writer: HistoryWriter) -> None:
    writer.merge("a")
    writer.advance([writer.head], "Tidy", {PATHS["a"]: START[PATHS["a"]], "src/x.txt": "x\n"}, {"Task": "PROJ-12"})
    writer.merge("a", files={"src/a.txt": "again\n"}, parents=[])
    assert_says(find(writer), "src/a.txt is not what the merge gives")
    assert len(find(writer)) == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [("name: Do a", "name: Do A"), ("  # by hand", ""), ("Do it.", "Do it!"), ("level: implementation\n", ""),
     ("[]   # in order", "[r]   # in order"), ("## Description", "## Extra\nmore\n\n## Description")],
)  # fmt: skip
def test_lines_that_were_not_meant_are_told_from_those_that_were(old: str, new: str) -> None:
    before = write_task("a")
    after = f"{before.replace('status: pending', 'status: completed')}\n## Summary\nDid it.\n"
    assert is_meant(before, after, "merge")
    assert old in after
    assert not is_meant(before, after.replace(old, new, 1), "merge")


# Leftovers.


def open_landed(writer: HistoryWriter) -> tuple[Repository, Path]:
    """Make a worktree and a record of node a, which has landed; return the repository and the worktree's git directory."""
    write_rest(writer)
    writer.publish()
    repository = Repository.open(writer.repo)
    merge = text(writer.repo, "log", "--format=%H", "--grep=^Merge feat/a:", "main")
    opened = Worktrees(repository).open_branch("feat/a", f"{text(writer.repo, 'rev-parse', f'{merge}^2')}")
    write_record(opened.git_dir, Record("a", "feat/a"))
    return repository, opened.git_dir


def leave_branch(writer: HistoryWriter) -> None:
    _, git_dir = open_landed(writer)
    Worktrees(Repository.open(writer.repo)).remove(
        next(one for one in Worktrees(Repository.open(writer.repo)).list() if one.git_dir == git_dir)
    )


def leave_half_made(writer: HistoryWriter) -> None:
    run_git(writer.repo, "worktree", "add", "-q", "--lock", "--reason", MAKING, "-b", "feat/x", ".worktrees/feat/x")


def leave_pooled(writer: HistoryWriter) -> None:
    run_git(writer.repo, "worktree", "add", "-q", "--detach", ".worktrees/.pool/1")
    write_slot(writer.repo / ".git/worktrees/1", 1)


def leave_gone(writer: HistoryWriter) -> None:
    run_git(writer.repo, "worktree", "add", "-q", "--detach", ".worktrees/feat/x")
    write_slot(writer.repo / ".git/worktrees/x", 1)
    (writer.repo / ".worktrees/feat/x").rename(writer.repo.parent / "elsewhere")


def leave_file(name: str) -> Callable[[HistoryWriter], None]:
    def leave(writer: HistoryWriter) -> None:
        path = writer.repo / ".git" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    return leave


def leave_broken_kept(writer: HistoryWriter) -> None:
    worktree = Worktrees(Repository.open(writer.repo)).open_branch("feat/e", writer.head)
    (worktree.path / "draft").write_text("only here\n")
    ref = keep_state(worktree, "e", "run")
    blob = text(writer.repo, "rev-parse", f"{ref}:draft")
    (writer.repo / ".git" / "objects" / blob[:2] / blob[2:]).unlink()


LEFT: dict[str, tuple[str, Callable[[HistoryWriter], Any]]] = {
    "worktree": ('feat/a: the worktree of "a", which has landed', open_landed),
    "branch": ("feat/a: a branch whose work has landed", leave_branch),
    "half-made": (".worktrees/feat/x: a worktree that a run was using", leave_half_made),
    "pooled": (".pool/1: a worktree that a run was using", leave_pooled),
    "gone": ("feat/x: a worktree that is gone", leave_gone),
    "lock": ("feat/a.lock: a stale lock", leave_file("refs/heads/feat/a.lock")),
    "lock on a ref of the coordinator's": ("main.lock: a stale lock", leave_file("refs/coordinator/queue/main.lock")),
    "half-written": ("run.json.coordinator-x: was left", leave_file("coordinator/run.json.coordinator-x")),
    "trash": ("x: was left by a run that was killed", leave_file("coordinator/.trash/x")),
    "published queue": ("queue/main: is left over, although main contains all of it", lambda writer: run_git(writer.repo, "update-ref", "refs/coordinator/queue/main", "main")),
    "queue of nothing": ("queue/x: does not belong to any branch", lambda writer: run_git(writer.repo, "update-ref", "refs/coordinator/queue/x", "main")),
    "strange ref": ("refs/coordinator/x: does not belong to any branch", lambda writer: run_git(writer.repo, "update-ref", "refs/coordinator/x", "main")),
    "broken kept": ("refs/coordinator/kept/e/1: fatal: missing blob", leave_broken_kept),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_what_is_left_lying_about_is_named(writer: HistoryWriter, name: str) -> None:
    said, leave = LEFT[name]
    leave(writer)
    writer.head = text(writer.repo, "rev-parse", "main")
    assert_says(find(writer), said)


def test_a_lock_is_looked_for_at_the_branch_that_a_node_has_beside_the_target(writer: HistoryWriter) -> None:
    run_git(writer.repo, "branch", "--move", "main", "feat/e")
    project = load_project(writer.repo, {})
    branch = project.name_branches()["e"]
    leave_file("refs/heads/feat/e.lock")(writer)
    leave_file(f"refs/heads/{branch}.lock")(writer)
    found = [str(one) for one in audit(project, 1000).violations]
    assert_says(found, f"{branch}.lock: a stale lock")
    assert not any("feat/e.lock" in one for one in found)


def test_a_process_that_is_left_is_named_and_one_of_another_repository_is_not(writer: HistoryWriter) -> None:
    marked = {**os.environ, REPOSITORY_MARKER: str(Repository.open(writer.repo).common_dir)}
    left = subprocess.Popen(["sleep", "600"], env=marked)
    other = subprocess.Popen(["sleep", "600"], env={**marked, REPOSITORY_MARKER: "/elsewhere"})
    try:
        assert find(writer) == [f"process {left.pid}: was started by a run and is still running ({Rule.LEFT})"]
    finally:
        for process in (left, other):
            process.kill()
            process.wait()


def make_dead_private(owner: str) -> Path:
    """Make a temporary directory of `owner` whose creating process is dead."""
    made = make_private(owner)
    return made.rename(made.with_name(made.name.replace(f"-{os.getpid()}-", f"-{DEAD_PID}-")))


def test_what_dead_runs_of_other_repositories_left_in_shared_places_is_not_told_of_this_one(
    writer: HistoryWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    own, shared, other = (make_dead_private(owner) for owner in (name_owner(writer.repo / ".git"), BRIEF, "0badcafe"))
    assert find(writer) == [f"{own}: was left by a run that was killed ({Rule.LEFT})"]
    assert find_unattributed(None) == [shared]
    assert other.is_dir()


def test_a_pending_publication_is_no_fault_and_is_said(writer: HistoryWriter) -> None:
    write_rest(writer)
    run_git(writer.repo, "update-ref", "refs/coordinator/queue/main", writer.head)
    found = audit(load_project(writer.repo, {}), 1000)
    assert (found.violations, found.commits) == ((), 4)
    assert_says(found.notes, "Publication is pending: 4 commits wait at refs/coordinator/queue/main")


# Reports.


def write_view(writer: HistoryWriter, outcomes: dict[str, str], exit_code: int, ended: str = "") -> RunView:
    """Write the run's own report: every landed node with its own commit."""
    log = text(writer.repo, "log", "--first-parent", "--format=%(trailers:key=Task,valueonly,separator=)%x00%H", "main")
    commits = dict(line.split("\0") for line in log.splitlines())
    nodes = {
        one: NodeView(one, one, outcome=OutcomeName(said), commit=commits.get(one, ""))
        for one, said in outcomes.items()
    }
    view = RunView("r-1", "main", now_text(), ended=ended or now_text(), exit_code=exit_code, nodes=nodes)
    (writer.repo / ".git/coordinator").mkdir(exist_ok=True)
    board = Board(view, writer.repo / ".git/coordinator/run.json")
    board.write()
    return view


ENDED = {"a": "Merged", "b/c": "Merged", "d": "Blocked", "r": "Checked", "e": "Skipped"}


@pytest.mark.parametrize(
    ("changes", "exit_code", "said"),
    [
        ({}, 1, ""),
        ({}, 0, "ended with 0, although d did not land"),
        ({"e": "Merged"}, 1, 'reports that "e" landed as no commit'),
        ({"a": "Failed"}, 1, 'reports that "a" ended as Failed, but it is completed'),
    ],
)
def test_a_report_that_git_does_not_bear_out_is_named(
    writer: HistoryWriter, changes: dict[str, str], exit_code: int, said: str
) -> None:
    write_rest(writer)
    writer.publish()
    write_view(writer, {**ENDED, **changes}, exit_code, "2999-01-01T00:00:00+00:00")
    assert_says(find(writer), said, f"({Rule.REPORT})") if said else None
    assert len(find(writer)) == bool(said)


def test_a_landing_that_was_rewritten_away_is_named_and_one_that_is_far_below_is_not(writer: HistoryWriter) -> None:
    write_rest(writer)
    writer.publish()
    write_view(writer, ENDED, 1)
    assert audit_history(writer, 1).violations == ()
    run_git(writer.repo, "reset", "-q", "--hard", "HEAD~2")
    writer.head = text(writer.repo, "rev-parse", "main")
    assert_says(find(writer), 'reports that "r" landed')


def test_a_run_that_was_killed_is_said_and_one_that_goes_on_is_left_alone(writer: HistoryWriter) -> None:
    write_rest(writer)
    writer.publish()
    board = Board(
        replace(write_view(writer, {}, 0), ended="", exit_code=None), writer.repo / ".git/coordinator/run.json"
    )
    board.write()
    assert_says(audit_history(writer).notes, "run r-1 exited uncleanly")


def test_verifying_again_finds_what_is_red_and_leaves_nothing(writer: HistoryWriter, tmp_path: Path) -> None:
    writer.merge("a", files={"src/a.txt": "BROKEN\n"})
    writer.merge("b/c", files={"src/a.txt": "fixed\n"})
    writer.advance([writer.head], "Set it up", {"coordinator.yaml": "verify: [sh check.sh]\n"}, {"Note": "by hand"})
    merges = audit_history(writer).landed
    project = load_project(writer.repo, {})
    before = sorted(writer.repo.rglob("*"))
    violations, count = asyncio.run(verify_again(project, merges, 10))
    assert ([str(one.where)[11:] for one in violations], count) == (["(Merge feat/a: Do a)"], 2)
    assert "`sh check.sh` exited with 1" in violations[0].what
    assert asyncio.run(verify_again(project, merges, 1)) == ([], 1)
    assert sorted(writer.repo.rglob("*")) == before
