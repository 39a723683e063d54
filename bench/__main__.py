"""Runs the named benchmarks, or all, and prints their figures, including any missed targets."""

import argparse
from collections.abc import Callable, Mapping
from functools import partial

from bench import (
    dropped_hunks,
    handover,
    merging,
    night,
    opencode,
    overhead,
    radar,
    reading,
    remote,
    report,
    resolver,
    scale,
    schedule,
    seeds,
    start,
    tools,
    up,
    watch,
    worktrees,
)
from bench.common import end_on_term

BENCHMARKS: Mapping[str, Callable[[], str]] = {
    "schedule": schedule.run,
    "overhead": overhead.run,
    "handover": handover.run,
    "merging": merging.run,
    "reading": reading.run,
    "worktrees": worktrees.run,
    "scale": scale.run,
    "opencode": opencode.run,
    "start": start.run,
    "up": up.run,
    "remote": remote.run,
    "radar": radar.run,
    "report": report.run,
    "resolver": resolver.run,
    "watch": watch.run,
    "dropped_hunks": dropped_hunks.run,
    "night": night.run,
    "seeds": seeds.run,
    "tools": tools.run,
}


def main() -> None:
    """Print each benchmark's figures as soon as they are available."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Print the benchmarks' figures.")
    parser.add_argument("names", nargs="*", metavar="name", help=f"one of {', '.join(BENCHMARKS)}; all without any")
    seconds = remote.AGENT_SECONDS
    parser.add_argument("--agent-seconds", type=float, default=seconds, help="how long agents in `remote` work")
    options = parser.parse_args()
    end_on_term()
    names: list[str] = options.names
    if unknown := [name for name in names if name not in BENCHMARKS]:
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    benchmarks = {**BENCHMARKS, "remote": partial(remote.run, options.agent_seconds)}
    for name in names or benchmarks:
        print(benchmarks[name](), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
