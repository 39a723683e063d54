"""Kills what people and agents do around runs: tasks taken, landed, asked about and spawned, and reports committed.

Each case is a sequence of commands and runs. After a kill all of it is repeated, as a person would repeat commands
without knowing which of them had taken effect.
"""

import asyncio
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import yaml
from chaos.forked_run import run_in_child
from chaos.kill_cases import UndisturbedRun, Verdict, conclude, find_faults, judge
from chaos.kill_points import Kill
from chaos.tracer import Target
from checker import Meant, check, snapshot_user_state
from checker_traces import read_lines, resolve, text
from generated_graphs import Made, run_git
from run_harness import PlainLauncher, reach, write_task

from flows.node_requests import land_node, set_up_taken_node, take_node
from tasks_lib.engine.run_lifecycle import OpenRun, open_run
from tasks_lib.engine.scheduler import Scheduler
from tasks_lib.errors import InputError
from tasks_lib.graph.run_plan import Plan
from tasks_lib.landing.report_commit import commit_report
from tasks_lib.landing.spawning import SpawnOrder, spawn_in_run
from tasks_lib.project.loading import load_project

AGENT = """cat > /dev/null
id=$COORDINATOR_TASK_ID
if [ "$id" = lead ]; then
    n=0 base=$(git rev-parse -q --verify --symbolic-full-name refs/remotes/origin/main || echo main)
    until git cat-file -e "$base:tasks/part.md" 2> /dev/null; do n=$((n + 1)); [ $n -lt 400 ] || exit 1; sleep 0.05; done
fi
echo "$id" > "$id.txt"
git add "$id.txt"
git diff --cached --quiet || git commit -q -m "feat($id): write $id.txt"
echo "Did $id."
"""
VERIFY = ("test -e prepared.txt",)
SETUP = ("echo prepared > prepared.txt",)
SETTINGS: Mapping[str, object] = {
    # Started through `env`, so that the shim can stand in for it.
    "agent": {"command": ["env", "sh", "agent.sh"]},
    "setup": list(SETUP),
    "verify": list(VERIFY),
    "copy": ["local.txt"],
    "spawn": {"enabled": True},
    "report": {"folder": "docs/aar"},
    "retry": {"attempts": 3, "delay_seconds": 0, "max_delay_seconds": 0},
    "watch": {"stop_seconds": 2},
}
DESIGN, ASKED, LEAD, PART = "design", "asked", "lead", "part"
REMOTE = {"mode": "push", "remote": "origin", "fetch_seconds": 0.5}
SPAWNED = f"---\nid: {PART}\nname: Do {PART}\n---\n## Description\nWrite it.\n"


def make_people_case(place: Path, *, is_pushed: bool = False) -> Made:
    """Make a repository in `place`: a person's task, one of an agent, and one whose session spawns another.

    With `is_pushed`, what lands is pushed to a bare remote next to it.
    """
    repository = place / "repository"
    repository.mkdir(parents=True)
    run_git(repository, "init", "-q", "--initial-branch=main")
    for name, value in (("user.name", "Ada"), ("user.email", "ada@example.org")):
        run_git(repository, "config", name, value)
    settings = {**SETTINGS, "land": {"ask": True, **(REMOTE if is_pushed else {})}}
    files = {"coordinator.yaml": yaml.safe_dump(settings), "agent.sh": AGENT, ".gitignore": "local.txt\nprepared.txt\n"}
    edges: dict[str, tuple[str, ...]] = {DESIGN: (), ASKED: (), LEAD: ()}
    paths = {task_id: f"tasks/{task_id}.md" for task_id in edges}
    files |= {paths[one]: write_task(one, **({"assignee": "human"} if one == DESIGN else {})) for one in edges}
    for path, content in files.items():
        (repository / path).parent.mkdir(exist_ok=True)
        (repository / path).write_text(content, encoding="utf-8")
    run_git(repository, "add", "--all")
    run_git(repository, "commit", "-q", "-m", "Plan")
    (repository / "local.txt").write_text("copied\n", encoding="utf-8")
    if is_pushed:
        run_git(place, "init", "-q", "--bare", "--initial-branch=main", "remote.git")
        # Push to the path: pushing to `origin` would create the tracking ref, which the run is to move.
        run_git(repository, "push", "-q", str(place / "remote.git"), "main")
        run_git(repository, "remote", "add", "origin", str(place / "remote.git"))
    expected = dict.fromkeys((*edges, PART), "completed")
    return Made(
        repository, place / "plan.json", place / "journal.jsonl", edges, paths, (), expected, verify=VERIFY, skipped=()
    )


async def tell_story(repository: Path, data: Path) -> int:
    """Take a task, work on it, do a run, land what waits in another run; return the exit code of the last run."""
    taken = await asyncio.to_thread(take_node, repository, DESIGN, is_forced=False)
    print(taken.answers, flush=True)
    failed = await asyncio.to_thread(set_up_taken_node, repository, DESIGN, print)
    if taken.is_done and not failed:
        await asyncio.to_thread(work_by_hand, repository / ".worktrees" / "feat" / DESIGN)
    await run_and_report(repository, data, 1)
    for name in (DESIGN, ASKED, LEAD, PART):
        print((await asyncio.to_thread(land_node, repository, name)).answers, flush=True)
    return await run_and_report(repository, data, 2)


def work_by_hand(worktree: Path) -> None:
    """Do the person's task, unless that is done; it needs what `copy` and `setup` bring."""
    if not (worktree / "design.txt").exists():
        found = [(worktree / name).read_text(encoding="utf-8") for name in ("local.txt", "prepared.txt")]
        (worktree / "design.txt").write_text("".join(found), encoding="utf-8")
        run_git(worktree, "add", "design.txt")
        run_git(worktree, "commit", "-q", "-m", "feat(design): draw it")


async def run_and_report(repository: Path, data: Path, number: int) -> int:
    """Do a run, in which the lead's session spawns a task, and commit a report on it; return the run's exit code."""
    project = await asyncio.to_thread(load_project, repository, is_fetching=True)
    run_id = f"run-{os.getpid()}-{number}"
    async with open_run(project, run_id, project.settings.max_sessions, data=data) as opened:
        opened.run.board.listen(lambda node, line: print(f"{node or '-'}: {line}", flush=True))
        scheduler = Scheduler(opened, Plan(opened.run.nodes.graph), PlainLauncher())
        spawning = asyncio.create_task(spawn_part(opened))
        await scheduler.work()
        spawning.cancel()
        with suppress(asyncio.CancelledError):
            await spawning
    code = scheduler.judge()
    opened.run.board.close(int(code))
    # Of the same text each time, so that what the story leaves can be compared.
    with suppress(InputError):  # It is there already.
        await asyncio.to_thread(commit_report, project, run_id, f"docs/aar/{number}.md", f"# Run {number}\n")
    return int(code)


async def spawn_part(opened: OpenRun) -> None:
    """Spawn a task once the session of the lead is in progress, as it would by a tool."""
    await reach(opened, f"{LEAD}: session")
    order = SpawnOrder(SPAWNED, spawner=LEAD, session="a session")
    print(await spawn_in_run(opened.run, opened.merge_queue, order), flush=True)


def find_faults_on_remote(made: Made) -> list[str]:
    """What the remote has besides what is on main here; nothing without a remote."""
    remote = made.repository.parent / "remote.git"
    if not remote.exists():
        return []
    there = text(remote, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    here = f"refs/heads/main {resolve(made.repository, 'refs/heads/main')}"
    return [] if there == [here] else [f"on the remote are {', '.join(there)}, not only {here}"]


def run_people_calmly(place: Path, *, is_pushed: bool = False) -> tuple[UndisturbedRun, list[str]]:
    """Tell the story undisturbed, traced into `place`/trace; return its result and its faults, of which there should be none."""
    made = make_people_case(place, is_pushed=is_pushed)
    before = snapshot_user_state(made.repository)
    code = run_in_child(place, made.repository, place / "log", place / "trace", None, "", tell_story)
    meant = Meant(made.expected, made.verify, SETUP)
    faults = find_faults(place, made, check(made.repository, before=before, meant=meant))
    return UndisturbedRun(code, read_lines(made.repository)), faults + find_faults_on_remote(made)


def try_people(place: Path, kill: Kill, *, calm: UndisturbedRun, is_pushed: bool = False) -> Verdict:
    """Kill the story, tell it again, and judge; `place` is removed if there are no faults."""
    made = make_people_case(place, is_pushed=is_pushed)
    before = snapshot_user_state(made.repository)
    codes: list[int] = []
    targets: list[Target | None] = [kill.first, *([kill.then] if kill.then else []), None]
    for number, target in enumerate(targets):
        log, trace = place / f"log-{number}", place / f"trace-{number}"
        codes.append(run_in_child(place, made.repository, log, trace, target, "", tell_story))
    faults = judge(place, made, before, codes[-1], calm, SETUP) + find_faults_on_remote(made)
    return conclude(place, kill, codes, faults)
