"""Kills a run whose sessions are on other machines, again and again, and checks that it ends as if undisturbed."""

import signal
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.common import TARGET_BRANCH, git
from bench.remote_site import (
    Gate,
    Plan,
    Site,
    add_repository,
    count_sessions,
    find_view,
    finish_run,
    read_journal,
    read_marks,
    start_run,
    wait_until,
)
from bench.second_machine import find_copy, find_processes
from tasks_lib.git.remote_sessions.session_remote import SESSION_REFS
from tasks_lib.model import Stage

SESSIONS = 6
PREFIX = "kill-"
NODES = tuple(f"{PREFIX}{number}" for number in range(SESSIONS))
GIVEN_BACK = NODES[-1]
"""Its first turn leaves a file that `verify` refuses, so it has a second one, in the same session."""
PAUSE = f"""
if [ "$id" = {GIVEN_BACK} ] && [ "$COORDINATOR_TURN" = 1 ]; then echo no > wrong.txt; else rm -f wrong.txt; fi
read -r _ < "$place/$id.gate"
git add --all"""


@dataclass(slots=True)
class Series:
    """One repository, its agents' gates on every machine, and the run in progress."""

    site: Site
    plan: Plan
    top: Path
    gates: Mapping[str, Sequence[Gate]]
    run: "subprocess.Popen[bytes]"
    kills: int = 0

    def release(self, *nodes: str) -> None:
        """Let agents go on; each node's is on one machine only, wherever that is."""
        for node in nodes:
            for gate in self.gates[node]:
                gate.open()

    def wait(self, nodes: Sequence[str], what: str) -> None:
        """Wait until the agents of `nodes` have left the mark `what`."""
        wait_until(lambda: set(nodes) <= set(read_marks(self.site, self.plan.name, what)), f"{nodes} have {what}")

    def kill(self) -> None:
        self.run.send_signal(signal.SIGKILL)
        self.run.wait()
        self.kills += 1

    def restart(self) -> None:
        """Start the run again; returns once it has opened the repository."""
        before = find_view(self.top)
        self.run = start_run(self.site, self.top, SESSIONS)
        wait_until(lambda: (find_view(self.top) or before) != before, "the run starts", self.run)

    def wait_until_found(self, count: int) -> None:
        """Wait until the run follows `count` sessions."""

        def look() -> bool:
            view = find_view(self.top)
            return view is not None and sum(1 for node in view.nodes.values() if node.stage == Stage.SESSION) >= count

        wait_until(look, f"the run follows {count} sessions", self.run)

    def wait_until_landed(self, count: int) -> None:
        wait_until(lambda: count_landed(self.top) >= count, f"{count} nodes have landed", self.run)


def run_kills(site: Site, _: float) -> list[str]:
    """Kill a run with six sessions on the machines five times, and compare its end with that of an undisturbed one."""
    calm = open_repository(site, "calm")
    killed = open_repository(site, "killed")
    with ExitStack() as stack:
        for plan, top in (calm, killed):
            series = begin(site, plan, top, stack)
            if plan is killed[0]:
                kill_five_times(series)
            series.release(*NODES)
            series.release(GIVEN_BACK)
            finish_run(top, series.run)
    faults = find_faults(site, killed[0], killed[1], calm[1])
    found = "; ".join(faults) or "all sessions found, none repeated, the end as undisturbed"
    verdict = "missed" if faults else "met"
    what = f"A run with {SESSIONS} sessions on two spokes, killed with -9 {series.kills} times"
    return [f"{what}: {found}: {verdict}"]


def open_repository(site: Site, name: str) -> tuple[Plan, Path]:
    settings = {"verify": ["test ! -e wrong.txt"], "retry": {"attempts": 2, "delay_seconds": 0}}
    plan = Plan(name, dict.fromkeys(NODES, ()), PAUSE, settings).elsewhere(SESSIONS // len(site.machines))
    return plan, add_repository(site, plan)


def begin(site: Site, plan: Plan, top: Path, stack: ExitStack) -> Series:
    places = [machine.home / plan.name for machine in site.machines]
    gates = {node: [stack.enter_context(Gate(place / f"{node}.gate")) for place in places] for node in NODES}
    series = Series(site, plan, top, gates, start_run(site, top, SESSIONS))
    series.wait(NODES, "began")
    return series


def kill_five_times(series: Series) -> None:
    """Kill it while all agents work, while it finds them, after some ended without it, and while they report."""
    series.kill()  # All agents work.
    series.restart()
    series.kill()  # It finds them.
    series.release(*NODES[:2])
    series.wait(NODES[:2], "ended")  # They end without it.
    series.restart()
    series.wait_until_landed(1)
    series.kill()  # One has landed.
    series.restart()
    series.wait_until_found(SESSIONS - 2)
    series.release(GIVEN_BACK)
    series.wait([GIVEN_BACK], "ended")
    series.kill()  # One reports, and is given back afterwards.
    series.restart()
    series.wait_until_found(SESSIONS - 2)
    series.release(NODES[2])
    series.wait_until_landed(3)
    series.kill()
    series.restart()


def count_landed(top: Path) -> int:
    refs = ("refs/heads/" + TARGET_BRANCH, "--glob=refs/coordinator/queue")
    return int(git(top, "rev-list", "--count", "--merges", *refs))


def find_faults(site: Site, plan: Plan, killed: Path, calm: Path) -> list[str]:
    """Say what is different from an undisturbed run, and what was left."""
    turns = Counter((node, attempt, turn) for node, attempt, turn, _ in read_journal(site, plan.name))
    expected = Counter([*((node, 1, 1) for node in NODES), (GIVEN_BACK, 1, 2)])
    faults = [
        f"{count} times turn {turn[2]} of attempt {turn[1]} of {turn[0]}"
        for turn, count in turns.items()
        if turn not in expected or count > 1
    ]
    faults += [f"no turn {turn[2]} of {turn[0]}" for turn in expected if turn not in turns]
    sessions = count_sessions(site, PREFIX)
    if sessions != 2 * SESSIONS:
        faults.append(f"{sessions} sessions were started instead of {2 * SESSIONS}")
    if list_tree(killed) != list_tree(calm):
        faults.append("the files that landed differ")
    if read_trailers(killed) != read_trailers(calm):
        faults.append("what landed differs")
    refs = git(site.remotes / f"{plan.name}.git", "for-each-ref", SESSION_REFS)
    faults += [f"{refs} is left on the remote"] if refs else []
    for machine in site.machines:
        copy = find_copy(machine, plan.name)
        worktrees = git(copy, "worktree", "list", "--porcelain").split("\n\n")[1:]
        if worktrees or git(copy, "for-each-ref", "refs/heads") or find_processes(machine, plan.name):
            faults.append(f"something is left on {machine.name}")
    return faults


def list_tree(top: Path) -> str:
    """The files that landed, except the configuration and the agent, which name the repository."""
    rows = git(top, "ls-tree", "-r", TARGET_BRANCH).splitlines()
    return "\n".join(row for row in rows if not row.endswith(("\tagent.sh", "\tcoordinator.yaml")))


def read_trailers(top: Path) -> list[str]:
    """Node and attempt of each merge, in the order of the nodes."""
    form = "--format=%(trailers:key=Task,valueonly,separator=) %(trailers:key=Attempt,valueonly,separator=)"
    return sorted(git(top, "log", "--first-parent", "--merges", form, TARGET_BRANCH).splitlines())
