"""The start of a run recovers from whatever an earlier run left, however often recovery itself is interrupted."""

import asyncio
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from killed_process import run_in_child
from new_repository import make_template
from run_harness import RunHarness, until

from tasks_lib.cleanup.dead_run import end_processes
from tasks_lib.engine.run_lifecycle import open_run
from tasks_lib.git.kept.snapshots import keep_state, list_kept
from tasks_lib.git.repository import Repository
from tasks_lib.git.session_record import write_record
from tasks_lib.git.worktree_admin import MAKING, write_slot
from tasks_lib.git.worktrees.lifecycle import Worktree, Worktrees
from tasks_lib.naming import flatten
from tasks_lib.process import private_directories
from tasks_lib.process.marked_processes import marked
from tasks_lib.process.private_directories import make_private, name_owner
from tasks_lib.process.process_table import read_start
from tasks_lib.project.child_environment import REPOSITORY_MARKER
from tasks_lib.project.loading import load_project
from tasks_lib.session.attempt_record import AttemptIdentity, Record, TurnRecord
from tasks_lib.settings.schema import Settings

DEAD = (4_194_301, 12)
"""Pid and start time of a process that does not exist."""
DAY_SECONDS = 86_400


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory for this test's temporary files only; the template of repositories serves others as well."""
    make_template()
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


def open_node(harness: RunHarness, task_id: str) -> Worktree:
    """Make a node's worktree with an agent's commit in it."""
    opened = Worktrees(Repository.open(harness.top)).open_branch(f"feat/{task_id}", harness.at())
    write_record(opened.git_dir, Record(task_id, f"feat/{task_id}"))
    (opened.path / f"{flatten(task_id)}.txt").write_text("work\n")
    opened.git.run("add", "--all")
    opened.git.run("commit", "--quiet", "--message", f"Work on {task_id}")
    return opened


def land(harness: RunHarness, task_id: str) -> None:
    harness.git.run("merge", "--quiet", "--no-ff", "--no-commit", f"feat/{task_id}")
    path = harness.top / f"tasks/{task_id}.md"
    path.write_text(path.read_text().replace("status: pending", "status: completed"))
    harness.git.run("commit", "--quiet", "--all", "--message", f"Merge feat/{task_id}: Do it\n\nTask: {task_id}")


def make_dead_private(harness: RunHarness) -> Path:
    """Make the private directory of a run of this repository whose process is dead."""
    place = make_private(name_owner(harness.top / ".git"))
    words = place.name.split("-")
    return place.rename(place.with_name("-".join([*words[:3], *map(str, DEAD), words[5]])))


def age(path: Path, seconds: float) -> None:
    """Create `path` if needed and set its mtime to `seconds` ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (time.time() - seconds, time.time() - seconds))


def make_remains(harness: RunHarness) -> None:
    """Make everything that killed runs can leave, at once."""
    harness.make({"a": {}, "b": {}, "c/deep": {}, "d": {}})
    repository = Repository.open(harness.top)
    repository.prepare()
    repository.exclude_worktrees()
    landed, other, still_open = (open_node(harness, task_id) for task_id in ("a", "b", "c/deep"))
    for task_id in ("a", "b"):
        land(harness, task_id)
    Worktrees(repository).remove(other)
    (landed.path / "draft.txt").write_text("not landed\n")
    (still_open.path / "draft.txt").write_text("not committed\n")
    half_made = ["worktree", "add", "-q", "--no-checkout", "--lock", "--reason", MAKING, "-b", "feat/d"]
    harness.git.run(*half_made, str(repository.worktrees_dir / "feat" / "d"), "main")
    harness.git.run("worktree", "add", "-q", "--detach", str(repository.worktrees_dir / ".pool" / "9"), "main")
    write_slot(repository.common_dir / "worktrees" / "9", 9)
    for folder in (repository.worktrees_dir / ".trash" / "x", repository.common_dir / "refs/heads/feat/gone/deep"):
        folder.mkdir(parents=True)
    harness.git.run("update-ref", "refs/coordinator/queue/main", "main~1")
    for name in ("refs/heads/feat/c/deep.lock", "refs/coordinator/queue/main.lock"):
        age(repository.common_dir / name, 0)
    age(still_open.git_dir / "index.lock", 0)
    age(repository.state_dir / "run.json.coordinator-x", 0)
    for task_id, days in (("a", 40), ("b", 20), ("c-deep", 40)):
        age(repository.state_dir / "logs" / task_id / "session-1.log", days * DAY_SECONDS)
    (repository.state_dir / "lock").write_text('{"host": "", "pid": 1, "run": "dead"}')
    make_dead_private(harness)


def keep_long_ago(worktree: Worktree, label: str, days: int) -> None:
    """Keep a state, dated `days` ago."""
    log = worktree.git_dir.parent.parent / "logs" / str(keep_state(worktree, label, "run"))
    age(log, days * DAY_SECONDS)


def open_and_close(top: Path) -> list[str]:
    """Open and close a run without running any node; return its messages."""

    async def work() -> list[str]:
        project = await asyncio.to_thread(load_project, top, {})
        async with open_run(project, "next", 1) as opened:
            await until((project.repository.state_dir / "run.json").exists)  # It is written beside what this does.
            return list(opened.run.board.view.messages)

    return asyncio.run(work())


def describe(harness: RunHarness, temporary: Path) -> list[str]:
    """Everything that a run may leave, without names that vary: kept states are described by their trees and parents."""
    common = harness.top / ".git"
    own = (harness.top / ".worktrees", common / "worktrees", common / "coordinator", common / "refs", temporary)
    files = [
        f"{path.relative_to(harness.place)}" for place in own for path in place.rglob("*") if "kept" not in path.parts
    ]
    refs = harness.git.text("for-each-ref", "--format=%(refname) %(tree) %(parent)").splitlines()
    return sorted([*files, *refs, (common / "coordinator" / "lock").read_text()])


def test_whatever_moment_putting_right_is_killed_at_the_next_ends_the_same(
    harness: RunHarness, temporary: Path
) -> None:
    make_remains(harness)
    backup = harness.place / "backup"

    def restore() -> None:
        for place in (harness.top / ".git", harness.top, temporary):
            for path in place.iterdir():
                # The directory itself stays: it distinguishes a repository from a copy.
                if path.name != ".git":
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        for place in (harness.top, temporary):
            shutil.copytree(backup / place.name, place, symlinks=True, dirs_exist_ok=True)

    for place in (harness.top, temporary):
        shutil.copytree(place, backup / place.name, symlinks=True)
    total = run_in_child(lambda: open_and_close(harness.top), None)
    calm = describe(harness, temporary)
    assert "repository/.worktrees/feat/c/deep/draft.txt" in calm
    left = [line for line in calm if line.endswith(".lock") or ".coordinator-" in line or "temporary" in line]
    assert left == ["repository/.git/coordinator/worktrees.lock"]
    assert [one.label for one in list_kept(Repository.open(harness.top))] == ["a"]
    open_and_close(harness.top)
    assert describe(harness, temporary) == calm
    for moment in sorted(random.Random(5).sample(range(total), 6)):
        restore()
        run_in_child(lambda: open_and_close(harness.top), moment)
        run_in_child(lambda: open_and_close(harness.top), moment // 5)
        open_and_close(harness.top)
        assert describe(harness, temporary) == calm, moment


def test_what_is_put_right_is_said_and_logs_of_open_nodes_and_young_ones_stay(harness: RunHarness) -> None:
    make_remains(harness)
    said = "\n".join(open_and_close(harness.top))
    for part in (
        "Resuming after run dead (process 1",
        "while creating it",
        "while writing it",
        "an earlier run that was killed had made",
    ):
        assert part in said
    logs = harness.top / ".git/coordinator/logs"
    assert sorted(str(path.relative_to(logs)) for path in logs.rglob("*.log")) == [
        "b/session-1.log",
        "c-deep/session-1.log",
    ]


def test_states_kept_long_ago_are_forgotten_in_one_line_and_younger_ones_stay(harness: RunHarness) -> None:
    harness.make({"a": {}}, kept_days=7)
    opened = open_node(harness, "a")
    for number, days in enumerate((8, 6, 20)):
        (opened.path / "draft.txt").write_text(f"{number}\n")
        keep_long_ago(opened, "a", days)
    said = open_and_close(harness.top)
    assert [line for line in said if "kept" in line] == ["Deleted 2 states that were kept more than 7 days ago."]
    assert [one.ref.rpartition("/")[2] for one in list_kept(Repository.open(harness.top))] == ["2"]


def test_private_directories_of_the_living_of_others_and_of_people_stay(harness: RunHarness, temporary: Path) -> None:
    harness.make({"a": {}})
    owner = name_owner(harness.top / ".git")
    dead = make_dead_private(harness)
    alive, other = make_private(owner), make_private("0badcafe")
    stay = [
        alive,
        other.rename(other.with_name(other.name.replace(f"-{os.getpid()}-", f"-{DEAD[0]}-"))),
        dead.with_name(dead.name.replace(dead.name.split("-")[2], "0badcafe")),
        temporary / "coordinator-notes",
        temporary / f"{dead.name}.txt",
    ]
    for path in stay:
        path.mkdir(exist_ok=True)
    link = dead.with_name(f"{dead.name}link")
    link.symlink_to(harness.top)
    assert private_directories.find_dead(owner) == [dead]
    open_and_close(harness.top)
    assert sorted(temporary.iterdir()) == sorted([*stay, link])


def test_group_that_a_record_names_is_ended_though_it_carries_no_mark(harness: RunHarness) -> None:
    harness.make({"a": {}})
    opened = open_node(harness, "a")
    clean = {"PATH": os.environ["PATH"]}
    left, other = (subprocess.Popen(["sleep", "600"], env=clean, start_new_session=True) for _ in range(2))
    try:
        record = Record(
            "a",
            "feat/a",
            attempt=AttemptIdentity(session="s"),
            turn=TurnRecord(pid=left.pid, pid_started=read_start(left.pid)),
        )
        write_record(opened.git_dir, record)
        # The pid of a dead process now belongs to another one.
        write_record(
            open_node(harness, "b").git_dir,
            Record(
                "b", "feat/b", attempt=AttemptIdentity(session="t"), turn=TurnRecord(pid=other.pid, pid_started=12.0)
            ),
        )
        count = asyncio.run(end_processes(Repository.open(harness.top), Settings().watch.stop_seconds))
        assert (count, left.wait(), other.poll()) == (1, -signal.SIGTERM, None)
    finally:
        for process in (left, other):
            process.kill()
            process.wait()


def test_git_that_this_process_is_running_is_not_left_by_an_earlier_run(harness: RunHarness, tmp_path: Path) -> None:
    harness.make({"a": {}})
    repository, pause = Repository.open(harness.top), tmp_path / "pause"
    os.mkfifo(pause)

    async def end_beside_git() -> tuple[str, int]:
        left = await asyncio.create_subprocess_exec("sleep", "600", start_new_session=True)
        running = asyncio.create_task(
            asyncio.to_thread(repository.git.text, "-c", f"alias.pause=!cat {pause}", "pause")
        )
        await until(lambda: "cat" in [one.name() for one in psutil.Process().children(recursive=True)])
        count = await end_processes(repository, Settings().watch.stop_seconds)
        await left.wait()
        if not running.done():
            await asyncio.to_thread(pause.write_text, "all of it")
        return await running, count

    with marked(REPOSITORY_MARKER, str(repository.common_dir)):
        assert asyncio.run(end_beside_git()) == ("all of it", 1)
