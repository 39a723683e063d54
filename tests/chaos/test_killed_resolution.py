"""Resolving a blocker is killed at its side effects: nothing of it is there then, or the whole commit, and no lock."""

import json
import os
import sys
import traceback
from pathlib import Path

import psutil
import pytest
from chaos.forked_run import make_shim
from chaos.tracer import Mode, Target, install
from checker import Meant, check, snapshot_user_state
from run_harness import RunHarness
from user_isolation import isolate_user_settings

from tasks_lib.errors import InputError
from tasks_lib.git.repository_lock import RunLock, read_holder
from tasks_lib.landing.resolution import resolve_without_run
from tasks_lib.model import PersonsWord
from tasks_lib.process.marked_processes import find_marked, marked
from tasks_lib.project.child_environment import REPOSITORY_MARKER
from tasks_lib.project.loading import load_project

KILLED = -9
ORPHAN_SECONDS = 60
CHANGING = ("lock", "truncate", "write", "rename", "remove")
COMMANDS = ("git update-ref", "git merge ")
BLOCKED = "---\nid: a\nname: Do a\nstatus: blocked\ndepends_on: [resolve-a-1]\n---\n\n## Notes\nBlocked: no key\n"
RESOLVE = "---\nid: resolve-a-1\nname: Resolve a\nstatus: pending\nassignee: human\n---\n"


def resolve_in_child(harness: RunHarness, trace: Path, target: Target | None) -> int:
    """Resolve in a forked process that is killed at `target`; return its exit code, negative for a signal."""
    make_shim(harness.place / "bin")
    child = os.fork()
    if child == 0:
        code = 70
        try:
            programs = str(harness.place / "bin")
            os.environ |= {"CHAOS_BIN": programs, "PATH": f"{programs}:{os.environ['PATH']}"}
            project = load_project(harness.top, {})
            project.repository.prepare()
            install(trace, target, {str(harness.place): "<place>", sys.executable: "<python>"})
            with (
                RunLock(project.repository.state_dir, "resolve", keeps_record=True) as lock,
                marked(REPOSITORY_MARKER, str(project.repository.common_dir)),
            ):
                resolve_without_run(project, lock, "a", PersonsWord("Use it."))
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def resolve_here(harness: RunHarness) -> str:
    """Resolve once more, as a person would who saw no answer; return why it is refused, "" if it was done."""
    project = load_project(harness.top, {})
    try:
        with RunLock(project.repository.state_dir, "resolve", keeps_record=True) as lock:
            resolve_without_run(project, lock, "a", PersonsWord("Use it."))
    except InputError as error:
        return str(error)
    return ""


def list_targets(place: Path, mode: Mode) -> list[Target]:
    """The side effects of an undisturbed command at which it is killed: its own `before`, and git's processes else."""
    harness = make(place)
    assert resolve_in_child(harness, place / "trace", None) == 0
    lines = [json.loads(line) for line in (place / "trace").read_text().splitlines()]
    wanted = [one for one in lines if one["kind"] in CHANGING]
    if mode != "before":
        wanted = [one for one in lines if one["signature"].startswith(tuple(f"process {name}" for name in COMMANDS))]
    first = {one["signature"]: one["number"] for one in reversed(wanted)}
    # By what it is and not by its number: on a busy machine, a wait more or less shifts the numbers.
    return [Target(mode, signature, number=0) for signature in sorted(first, key=first.__getitem__)]


def look(harness: RunHarness) -> tuple[object, ...]:
    """What a kill left: how many commits on the head and on main, and whether git was moving the checkout."""
    # By commits, since a command of git that outlived the kill may still remove the ref.
    found = (harness.git.resolve(ref) for ref in ("refs/coordinator/queue/main", "refs/heads/main"))
    heads = [commit for commit in found if commit]
    counts = (len(harness.log("%s", commit)) - 1 for commit in (heads[0], heads[-1]))
    return (*counts, len(heads), (harness.top / ".git/coordinator/moving.json").exists())


def list_git_locks(harness: RunHarness) -> list[Path]:
    """Git's lock files; coordinator's own files with that ending stay, and are locked only while a process holds them."""
    found = (harness.top / ".git").rglob("*.lock")
    return [path for path in found if path.parent.name != "coordinator"]


def make(place: Path) -> RunHarness:
    place.mkdir()
    harness = RunHarness(place)
    harness.make({}, files={"tasks/a.md": BLOCKED, "tasks/resolve-a-1.md": RESOLVE})
    return harness


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate_user_settings(monkeypatch, tmp_path)


@pytest.mark.parametrize("mode", ["before", "after", "orphan"])
async def test_resolving_that_is_killed_leaves_nothing_or_the_whole_commit(tmp_path: Path, mode: Mode) -> None:
    targets = list_targets(tmp_path / "undisturbed", mode)
    assert len(targets) >= (10 if mode == "before" else 3)
    seen: set[tuple[object, ...]] = set()
    for number, target in enumerate(targets):
        harness = make(tmp_path / str(number))
        before = snapshot_user_state(harness.top)
        assert resolve_in_child(harness, harness.place / "trace", target) == KILLED, target
        assert read_holder(harness.top / ".git" / "coordinator") is None, target
        # Git's command outlives the kill in one mode; what it does next must not happen between the two looks.
        repository = str((harness.top / ".git").resolve())
        _, alive = psutil.wait_procs(find_marked(REPOSITORY_MARKER, repository), timeout=ORPHAN_SECONDS)
        assert alive == [], target
        left = look(harness)
        refusal = resolve_here(harness)
        assert refusal == "" or "already completed" in refusal, target
        assert bool(refusal) is (left[0] == 1), target
        if left in seen:  # A run has shown what becomes of that.
            continue
        seen.add(left)
        worked = await harness.work()
        assert (worked.names, worked.pending) == ({"a": "Merged"}, ""), target
        assert harness.log("%s")[1:] == ["resolved(resolve-a-1): Use it.", "Begin"], target
        statuses = {"a": "completed", "resolve-a-1": "completed"}
        assert check(harness.top, before=before, meant=Meant(statuses)) == [], target
        assert (harness.leftovers(), list_git_locks(harness)) == ([], []), target
    assert len(seen) > 1
