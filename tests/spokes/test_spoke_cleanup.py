"""What killed workers and runs leave on machines of sessions and on their remote is found, told and removed."""

import asyncio
import os
from dataclasses import replace
from pathlib import Path

from spoke_harness import SpokeHarness

from flows.repository_cleanup import apply_cleanup, plan_cleanup
from tasks_lib.cleanup.leftovers import Kind
from tasks_lib.cleanup.repository_audit import audit
from tasks_lib.cleanup.spoke_plan import clean_up_spoke, find_spoke_leftovers
from tasks_lib.git.commits.isolated_git import IsolatedGit
from tasks_lib.git.kept.snapshots import keep_commit
from tasks_lib.git.remote_sessions.access_probe import PROBE
from tasks_lib.git.remote_sessions.session_remote import SESSION_REFS
from tasks_lib.git.remote_sessions.session_repository import SessionRepository
from tasks_lib.git.remote_sessions.state_commits import SessionState
from tasks_lib.git.session_record import write_record
from tasks_lib.git.worktrees.lifecycle import Worktrees
from tasks_lib.model import Stage
from tasks_lib.process.private_directories import make_private, name_owner
from tasks_lib.project.child_environment import REPOSITORY_MARKER
from tasks_lib.project.loading import load_project
from tasks_lib.reporting.run_report import ExitCode
from tasks_lib.session.attempt_record import AttemptIdentity, Record


def age(path: Path, days: float) -> None:
    then = path.stat().st_mtime - days * 86_400
    os.utime(path, (then, then))


def leave_old_things(data: Path, place: Path, old: str) -> Path:
    """Make the kept state `old`, a log and a lock old, and half of a copy; return the directory of logs."""
    (place / "logs" / old).parent.mkdir(parents=True, exist_ok=True)
    (place / "logs" / old).touch()
    age(place / "logs" / old, 8)
    logs = data / "spokes" / "logs"
    logs.mkdir()
    for name, days in (("old.log", 8), ("new.log", 6)):
        (logs / name).write_text(name)
        age(logs / name, days)
    (data / "spokes" / "failed.git").mkdir()
    (place / "refs/heads/feat/b.lock").touch()
    age(place / "refs/heads/feat/b.lock", 1)
    return logs


async def test_everything_that_a_killed_worker_left_is_found_and_removed(spokes: SpokeHarness) -> None:
    spokes.make({"a": {}}, kept_days=7)
    data, place = spokes.place / "north", spokes.place_of("north")
    remotes = spokes.link.machines["north"].list_remotes()
    copy = SessionRepository(place, "main")
    git, isolation = copy.repository.git, IsolatedGit(copy.repository.git, spokes.place / "isolation")
    copy.remote.remote.fetch()
    left = copy.open_worktree(Worktrees(copy.repository, isolation=isolation), isolation, "feat/a", state(spokes), "a")
    write_record(left.git_dir, Record("a", "feat/a", Stage.SESSION))
    (left.path / "part.txt").write_text("part")
    work = left.git.text("commit-tree", "-p", spokes.at(), "-m", "Alone", f"{spokes.at()}^{{tree}}")
    git.run("branch", "feat/b", work)
    git.run("update-ref", f"{SESSION_REFS}/hub/s1/start", spokes.at())
    spokes.git.run("push", "--quiet", "origin", f"HEAD:{SESSION_REFS}/{PROBE}/p1/state")
    logs = leave_old_things(data, place, keep_commit(git, "old", spokes.at()))
    agent = await asyncio.create_subprocess_exec("sleep", "1000", env={**os.environ, REPOSITORY_MARKER: str(place)})

    found = find_spoke_leftovers(remotes, data)

    kinds = {one.kind for one in found.list()}
    assert kinds >= {Kind.PROCESS, Kind.LOCK, Kind.SESSION, Kind.BRANCH, Kind.PUBLISHED, Kind.KEPT, Kind.LOG}
    assert {one.where for one in found.list() if one.kind is Kind.PROCESS} == {f"process {agent.pid}"}
    lines = await clean_up_spoke(remotes, data)
    assert find_spoke_leftovers(remotes, data).list() == [], lines
    await agent.wait()
    assert spokes.list_published() == []
    assert [path.name for path in logs.iterdir()] == ["new.log"]
    assert not (data / "spokes" / "failed.git").exists()
    kept = git.text("for-each-ref", "--format=%(refname) %(objectname)", "refs/coordinator").splitlines()
    assert {line.split("/")[3] for line in kept} == {"a", "feat-b"}, "the old state is gone"
    assert f"refs/coordinator/kept/feat-b/1 {work}" in kept
    assert git.text("cat-file", "blob", "refs/coordinator/kept/a/1:part.txt") == "part"
    assert any("cut short" in line and "refs/coordinator/kept/a/1" in line for line in lines)


def state(spokes: SpokeHarness) -> SessionState:
    return SessionState(spokes.at())


async def test_a_copy_that_is_not_registered_stays_while_it_has_work(spokes: SpokeHarness) -> None:
    spokes.make({"a": {}})
    copy = SessionRepository(spokes.place_of("north"), "main")
    ref = keep_commit(copy.repository.git, "a", spokes.at())
    lines = await clean_up_spoke({}, spokes.place / "north")
    assert copy.repository.git.resolve(ref)
    assert any(ref in line and "it stays" in line for line in lines)
    copy.repository.git.run("update-ref", "-d", ref)
    await clean_up_spoke({}, spokes.place / "north")
    assert not spokes.place_of("north").exists()


async def test_logs_of_sessions_are_deleted_with_the_next_session(spokes: SpokeHarness) -> None:
    spokes.make({"a": {}}, kept_days=7)
    logs = spokes.place / "north" / "spokes" / "logs"
    logs.mkdir()
    (logs / "old.log").write_text("old")
    age(logs / "old.log", 8)
    result = await spokes.work()
    assert result.code is ExitCode.COMPLETED, result.lines
    names = [path.name for path in logs.iterdir()]
    assert "old.log" not in names
    assert len(names) == 1, "the session's own log stays"


def test_published_sessions_that_nobody_continues_are_audited_and_cleaned_up(spokes: SpokeHarness) -> None:
    spokes.make({"a": {}, "b": {}}, kept_days=7)
    hub = spokes.begin_sessions("dead00", "alive0")
    open_one = Worktrees(load_project(spokes.top).repository).open_branch("feat/a", spokes.at())
    attempt = AttemptIdentity(1, 1, "alive0", slot=open_one.slot)
    write_record(open_one.git_dir, replace(Record("a", "feat/a", Stage.SESSION), attempt=attempt))
    dead, alive = f"{SESSION_REFS}/{hub}/dead00/state", f"{SESSION_REFS}/{hub}/alive0/state"
    other = f"{SESSION_REFS}/another/dead00/state"
    for ref in (dead, alive, other):
        spokes.git.run("push", "--quiet", "origin", f"HEAD:{ref}")
    project = load_project(spokes.top)
    assert [one.where for one in audit(project, 10).violations] == [dead]
    assert [line for line in plan_cleanup(project).lines if dead in line and "would be deleted" in line]
    assert spokes.list_published() == sorted((dead, alive, other)), "nothing has changed so far"
    done = apply_cleanup(project, lambda place, former: []).lines
    assert any(line.startswith(f"{dead}: deleted from origin") for line in done)
    assert spokes.list_published() == sorted((alive, other))
    assert audit(project, 10).violations == ()


async def test_a_remote_that_does_not_answer_is_a_note_of_the_audit(spokes: SpokeHarness) -> None:
    spokes.make({"a": {}})
    project = load_project(spokes.top)
    spokes.remote.directory.rename(spokes.place / "moved.git")
    found = audit(project, 10)
    assert found.violations == ()
    assert any("was not looked at" in note for note in found.notes)
    assert any("was not looked at" in line for line in plan_cleanup(project).lines)


async def test_directories_of_workers_that_are_gone_are_removed(spokes: SpokeHarness) -> None:
    spokes.make({"a": {}})
    data, remotes = spokes.place / "north", spokes.link.machines["north"].list_remotes()
    alive = make_private(name_owner(data / "spokes"))
    words = alive.name.split("-")
    words[-2] = "1"  # Another process had this number.
    dead = alive.rename(alive.with_name("-".join(words)))
    assert find_spoke_leftovers(remotes, data).private == (dead,)
    await clean_up_spoke(remotes, data)
    assert not dead.exists()
