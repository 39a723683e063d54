"""Kills a run whose sessions are on another machine, together with that machine's worker, and runs both again."""

import asyncio
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml
from chaos.forked_run import run_in_child
from chaos.kill_cases import UndisturbedRun, Verdict, conclude, find_faults, judge
from chaos.kill_points import Kill
from chaos.tracer import Target
from checker import Meant, check, snapshot_user_state
from checker_traces import read_lines, text
from generated_graphs import Made, run_git
from run_harness import PlainLauncher, write_task
from spokes.spoke_harness import RELEASE, DirectLink

from tasks_lib.cleanup.spoke_plan import clean_up_spoke, find_spoke_leftovers
from tasks_lib.engine.run_lifecycle import SpokeAccess, open_run
from tasks_lib.engine.scheduler import Scheduler
from tasks_lib.git.remote_sessions.session_repository import create_session_repository
from tasks_lib.graph.run_plan import Plan
from tasks_lib.process.private_directories import name_owner, private_directory
from tasks_lib.project.loading import load_project
from tasks_lib.spokes.machine import SpokeMachine
from tasks_lib.spokes.registered_remote import RegisteredRemote

AGENT = """cat > /dev/null
id=$COORDINATOR_TASK_ID
if [ "$id" = first ] && [ ! -e first.txt ]; then
    echo no > wrong.txt; echo half > first.txt; git add --all; git commit -q -m "feat(first): half of it"; exit
fi
rm -f wrong.txt
echo "$id" > "$id.txt"
git add --all
git diff --cached --quiet || git commit -q -m "feat($id): write $id.txt"
echo "Wrote $id.txt."
"""
"""The first node is given back once, because its first turn is red."""
VERIFY = ("test ! -e wrong.txt",)
EDGES: Mapping[str, tuple[str, ...]] = {"first": (), "second": ("first",)}


def make_spoke_case(place: Path) -> Made:
    """Make a repository of two nodes, a remote, and the copy of a machine called north, in `place`."""
    repository, remote = place / "repository", place / "remote.git"
    for one, words in ((repository, ()), (remote, ("--bare",))):
        one.mkdir(parents=True)
        run_git(one, "init", "-q", "--initial-branch=main", *words)
    for name, value in (("user.name", "Ada"), ("user.email", "ada@example.org")):
        run_git(repository, "config", name, value)
    settings = {
        # Started through `env`, so that the shim can stand in for it.
        "agent": {"command": ["env", "sh", "agent.sh"]},
        "verify": list(VERIFY),
        "spokes": {"remote": "origin", "prefer": "only"},
        "retry": {"attempts": 3, "delay_seconds": 0, "max_delay_seconds": 0},
        "watch": {"stop_seconds": 2},
    }
    files = {"coordinator.yaml": yaml.safe_dump(settings), "agent.sh": AGENT}
    paths = {task_id: f"tasks/{task_id}.md" for task_id in EDGES}
    files |= {paths[task_id]: write_task(task_id, depends_on=[*edges]) for task_id, edges in EDGES.items()}
    for path, content in files.items():
        (repository / path).parent.mkdir(exist_ok=True)
        (repository / path).write_text(content, encoding="utf-8")
    run_git(repository, "add", "--all")
    run_git(repository, "commit", "-q", "-m", "Plan")
    run_git(repository, "remote", "add", "origin", str(remote))
    run_git(repository, "push", "-q", "origin", "main")
    create_session_repository(place / "north" / "spokes" / "remote.git", str(remote))
    expected = dict.fromkeys(EDGES, "completed")
    return Made(
        repository, place / "plan.json", place / "journal.jsonl", EDGES, paths, (), expected, verify=VERIFY, skipped=()
    )


def list_remotes(place: Path) -> dict[str, RegisteredRemote]:
    return {"remote": RegisteredRemote(place / "north" / "spokes" / "remote.git", "main")}


async def work_elsewhere(repository: Path, data: Path) -> int:
    """Start the machine, run the graph of `repository` there, and stop the machine; return the run's exit code."""
    place = repository.parent
    own = place / "north"
    say_to_log(await clean_up_spoke(list_remotes(place), own))
    link = DirectLink()
    with private_directory(name_owner(own / "spokes")) as private:
        link.machines["north"] = SpokeMachine(
            "north", RELEASE, lambda: list_remotes(place), own, private, link.lines.append
        )
        return await work_with(link, repository, data)


def say_to_log(lines: Iterable[str]) -> None:
    for line in lines:
        print(f"north: {line}", flush=True)


async def work_with(link: DirectLink, repository: Path, data: Path) -> int:
    """Run the graph of `repository` with its sessions behind `link`, and close it; return the run's exit code."""
    project = await asyncio.to_thread(load_project, repository)
    spokes = SpokeAccess(link, RELEASE)
    async with open_run(project, f"run-{os.getpid()}", 2, data=data, spokes=spokes) as opened:
        opened.run.board.listen(lambda node, line: print(f"{node or '-'}: {line}", flush=True))
        scheduler = Scheduler(opened, Plan(opened.run.nodes.graph), PlainLauncher())
        await scheduler.work()
    code = scheduler.judge()
    opened.run.board.close(int(code))
    await link.close()
    return int(code)


def find_faults_elsewhere(place: Path) -> list[str]:
    """What is left on the machine and the remote, apart from states that were kept."""
    listed = text(place / "remote.git", "for-each-ref", "--format=%(refname)")
    faults = [f"{ref} is left on the remote" for ref in listed.split() if ref != "refs/heads/main"]
    left = find_spoke_leftovers(list_remotes(place), place / "north").list()
    faults += [f"on north, {one.where} {one.found}" for one in left]
    git = place / "north" / "spokes" / "remote.git"
    faults += [
        f"on north, {ref} is left" for ref in text(git, "for-each-ref", "--format=%(refname)", "refs/heads").split()
    ]
    return faults + [f"on north, {path} is left" for path in git.parent.glob(".worktrees/*/*")]


def run_elsewhere_calmly(place: Path) -> tuple[UndisturbedRun, list[str]]:
    """Do an undisturbed run, traced into `place`/trace; return its result and its faults, of which there should be none."""
    made = make_spoke_case(place)
    before = snapshot_user_state(made.repository)
    code = run_in_child(place, made.repository, place / "log", place / "trace", None, "", work_elsewhere)
    faults = find_faults(place, made, check(made.repository, before=before, meant=Meant(made.expected, made.verify)))
    return UndisturbedRun(code, read_lines(made.repository)), faults + find_faults_elsewhere(place)


def try_kill_elsewhere(place: Path, kill: Kill, *, calm: UndisturbedRun) -> Verdict:
    """Kill the run and the machine's worker, start both again, and judge."""
    made = make_spoke_case(place)
    before = snapshot_user_state(made.repository)
    codes: list[int] = []
    targets: list[Target | None] = [kill.first, *([kill.then] if kill.then else []), None]
    for number, target in enumerate(targets):
        log, trace = place / f"log-{number}", place / f"trace-{number}"
        codes.append(run_in_child(place, made.repository, log, trace, target, "", work_elsewhere))
    faults = judge(place, made, before, codes[-1], calm) + find_faults_elsewhere(place)
    return conclude(place, kill, codes, faults)
