"""What a person does with tasks, without a command line: takes, works, lets land; for the harness of runs."""

from pathlib import Path

from run_harness import RunHarness, RunResult

from tasks_lib.git.repository_lock import RunLock
from tasks_lib.git.runner import Git
from tasks_lib.node.landing_approval import permit_landing
from tasks_lib.node.taken_setup import find_unprepared, set_up_taken
from tasks_lib.node.taking import Taker, take_without_run
from tasks_lib.project.loading import load_project

ANN, BOB = Taker("Ann <ann@example.org>"), Taker("Bob <bob@example.org>")


def take(harness: RunHarness, name: str, taker: Taker = ANN) -> str:
    project = load_project(harness.top, {}, is_fetching=True)
    with RunLock(project.repository.state_dir, "take", keeps_record=True) as lock:
        return take_without_run(project, lock, name, taker)


def set_up(harness: RunHarness, name: str) -> str:
    """Run `setup` for a taken task, as the command does after it was taken; return why it failed."""
    project = load_project(harness.top, {})
    taken = find_unprepared(project, name)
    return set_up_taken(project, taken) if taken else ""


def permit(harness: RunHarness, name: str) -> None:
    project = load_project(harness.top, {}, is_fetching=True)
    branch, copied = project.name_branches().get(name, ""), project.settings.copy_paths
    permit_landing(project.repository, project.graph.tasks, name, branch, project.head, copied)


async def land(harness: RunHarness, name: str) -> RunResult:
    permit(harness, name)
    return await harness.work(only=[name])


def commit_by_hand(harness: RunHarness, name: str, path: str, text: str) -> Path:
    worktree = harness.top / ".worktrees" / "feat" / name
    (worktree / path).write_text(text)
    git = Git(worktree)
    git.run("add", "-A")
    git.run("-c", "user.name=Ann", "-c", "user.email=ann@example.org", "commit", "-qm", f"Work on {name}")
    return worktree
