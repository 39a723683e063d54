"""Runs the named benchmarks, or all, prints their figures, and at the end a table of targets, met and missed."""

import argparse
import sys
import time
import traceback
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
from bench.common import end_on_term, measure_pace, work_in_memory
from bench.figures import MEASURED, RELEASED, describe_figures, read_released, save

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


PACES: list[float] = []
"""What `measure_pace` returned after each benchmark."""


def main() -> int:
    """Print each benchmark's figures as soon as they are available. The exit code is 1 if one fails or misses."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Print the benchmarks' figures.")
    parser.add_argument("names", nargs="*", metavar="name", help=f"one of {', '.join(BENCHMARKS)}; all without any")
    seconds = remote.AGENT_SECONDS
    parser.add_argument("--agent-seconds", type=float, default=seconds, help="how long agents in `remote` work")
    parser.add_argument("--save", action="store_true", help=f"keep the figures in {RELEASED.name}, as a release's")
    options = parser.parse_args()
    end_on_term()
    names: list[str] = options.names
    if unknown := [name for name in names if name not in BENCHMARKS]:
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    benchmarks = {**BENCHMARKS, "remote": partial(remote.run, options.agent_seconds)}
    failed = [name for name in names or benchmarks if not measure(name, benchmarks[name])]
    print(f"The fixed computation took {min(PACES):.0f} to {max(PACES):.0f} ms; compare seconds of two runs by that.\n")
    print(describe_figures(MEASURED, read_released(RELEASED)))
    if failed:
        print(f"Not measured, because of errors: {', '.join(failed)}")
    if options.save:
        save(MEASURED, RELEASED)
    return 1 if failed or not all(figure.is_met for figure in MEASURED) else 0


def measure(name: str, benchmark: Callable[[], str]) -> bool:
    """Run one benchmark and print its figures; an error is printed, and the result is False: others come after it."""
    began = time.monotonic()
    try:
        print(benchmark())
    except Exception:  # What was measured before it may have taken an hour.
        traceback.print_exc()
        return False
    finally:
        seconds = time.monotonic() - began
        PACES.append(measure_pace())
        print(f"({name}: {seconds:.0f} s; the fixed computation: {PACES[-1]:.0f} ms)", end="\n\n", flush=True)
    return True


if __name__ == "__main__":
    print(work_in_memory(), end="\n\n", flush=True)
    sys.exit(main())
