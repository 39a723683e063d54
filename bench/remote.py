"""Measures sessions on other machines beside the same on this one: their start, messages to them, a graph, and kills.

    python -m bench.remote --agent-seconds 5 dispatch graph

The exit status is 1 if a target is missed. With short agents, the graph's ratio tells only what a node costs more.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from bench.common import SHARED_MACHINE, Edges, end_on_term
from bench.figures import judge
from bench.overhead import draw_graph
from bench.remote_kills import run_kills
from bench.remote_messages import run_messages
from bench.remote_site import (
    Plan,
    Site,
    add_repository,
    finish_run,
    open_site,
    read_dispatches,
    read_marks,
    start_run,
    stop_runs,
)
from bench.second_machine import find_obstacle

NAMES = ("north", "south")
AT_ONCE = 8
ONE_TARGET, MANY_TARGET = 2.5, 10.0
SINGLES = 5
HOLD_SECONDS = 15
"""How long agents of the sessions that start at once work, so that none ends while another is still starting."""
NODES, MEAN_PREREQUISITES = 30, 1.0
AGENT_SECONDS, GRAPH_TARGET = 60.0, 1.25


@dataclass(frozen=True, slots=True)
class Starts:
    """Seconds from dispatch to the first prompt: of each session that started alone, and of each round of several."""

    singles: Sequence[float]
    rounds: Sequence[float]


def run_dispatch(site: Site, _: float) -> list[str]:
    """Start sessions alone and eight at once, here and on one other machine."""
    plan = Plan("dispatch", chain_up(), pause=f"case $id in many-*) sleep {HOLD_SECONDS};; esac")
    here = measure_starts(site, plan)
    there = measure_starts(site, plan.elsewhere(AT_ONCE, NAMES[0]))
    lines = ["From dispatch to a session's first prompt, `command` backend, no setup, everything fetched before:"]
    for what, mine, theirs, target in (
        (f"one ({SINGLES} times, median)", here.singles, there.singles, ONE_TARGET),
        (f"{AT_ONCE} at once, the last ({len(here.rounds)} times, median)", here.rounds, there.rounds, MANY_TARGET),
    ):
        near, far = median(mine), median(theirs)
        verdict = judge(f"remote: start of {what}, s", far, target)
        lines.append(
            f"  {what}: {far:.2f} s on a spoke, worst {max(theirs):.2f} s, {verdict}; "
            f"here {near:.2f} s, ratio {far / near:.1f}"
        )
    return lines


def chain_up() -> Edges:
    """One node after the other, the first to warm everything up, and then twice eight at once."""
    singles = ["warm", *(f"one-{number}" for number in range(SINGLES))]
    edges: dict[str, tuple[str, ...]] = {node: (singles[at - 1],) if at else () for at, node in enumerate(singles)}
    above: tuple[str, ...] = (singles[-1],)
    for turn in ("a", "b"):
        names = tuple(f"many-{turn}-{number}" for number in range(AT_ONCE))
        edges |= dict.fromkeys(names, above)
        edges[f"join-{turn}"] = names
        above = (f"join-{turn}",)
    return edges


def measure_starts(site: Site, plan: Plan) -> Starts:
    """Run the graph, and compare when Prefect started each node with when its agent began."""
    top = add_repository(site, plan)
    view = finish_run(top, start_run(site, top, AT_ONCE))
    began, dispatched = read_marks(site, plan.name), read_dispatches(site, view.run, plan.edges)
    singles = [began[node] - dispatched[node] for node in plan.edges if node.startswith("one-")]
    rounds: list[float] = []
    for turn in ("a", "b"):
        names = [node for node in plan.edges if node.startswith(f"many-{turn}-")]
        rounds.append(max(began[node] for node in names) - min(dispatched[node] for node in names))
    return Starts(singles, rounds)


def run_graph(site: Site, seconds: float) -> list[str]:
    """Run one graph here and with its sessions on two machines, at the same time, so that both have the same load."""
    plan = Plan("graph", draw_graph(NODES, MEAN_PREREQUISITES), pause=f"sleep {seconds:g}")
    plans = [plan, plan.elsewhere(AT_ONCE // len(NAMES))]
    tops = [add_repository(site, one) for one in plans]
    with ThreadPoolExecutor(len(tops)) as pool:
        try:
            here, there = pool.map(partial(measure_graph, site), tops)
        except BaseException:  # The threads wait for the runs.
            stop_runs(site)
            raise
    ratio = there / here
    verdict = judge(f"remote: {NODES} nodes on spokes over here", ratio, GRAPH_TARGET)
    return [
        f"{NODES} nodes, {AT_ONCE} sessions at a time, agents of {seconds:g} s, from the run's start to its end:",
        f"  {there:.1f} s with two spokes over {here:.1f} s here: ratio {ratio:.3f}, {verdict}",
    ]


def measure_graph(site: Site, top: Path) -> float:
    began = time.monotonic()
    finish_run(top, start_run(site, top, AT_ONCE))
    return time.monotonic() - began


PARTS: Mapping[str, Callable[[Site, float], list[str]]] = {
    "dispatch": run_dispatch,
    "messages": run_messages,
    "graph": run_graph,
    "kills": run_kills,
}


def run(seconds: float = AGENT_SECONDS) -> str:
    """Measure everything, with agents of the graph that work `seconds`; takes a quarter of an hour."""
    return "\n".join(measure(seconds, tuple(PARTS)))


def measure(seconds: float, names: Sequence[str]) -> Iterator[str]:
    """Yield the lines of the parts `names`, each as soon as it is known."""
    obstacle = find_obstacle()
    where = f"processes on this machine's own network ({obstacle})" if obstacle else "network namespaces"
    yield f"Sessions on other machines: two spokes in {where}, with homes of their own."
    yield SHARED_MACHINE
    with open_site(NAMES) as site:
        for name in names:
            yield from PARTS[name](site, seconds)


def main() -> int:
    """Print the figures; the exit status is 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.remote", description="Measure sessions on other machines.")
    parser.add_argument("names", nargs="*", metavar="part", help=f"some of {', '.join(PARTS)}; all without any")
    parser.add_argument("--agent-seconds", type=float, default=AGENT_SECONDS, help="how long agents of the graph work")
    options = parser.parse_args()
    names: list[str] = options.names
    if unknown := [name for name in names if name not in PARTS]:
        parser.error(f"unknown part: {', '.join(unknown)}; choose from {', '.join(PARTS)}")
    end_on_term()
    has_missed = False
    for line in measure(options.agent_seconds, names or tuple(PARTS)):
        print(line, flush=True)
        has_missed = has_missed or ": missed" in line
    return 1 if has_missed else 0


if __name__ == "__main__":
    sys.exit(main())
