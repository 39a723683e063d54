"""Runs the named benchmarks, or all, and prints their figures, including any missed targets."""

import argparse
from collections.abc import Callable, Mapping

from bench import handover, merging, opencode, overhead, reading, scale, schedule, up, worktrees

BENCHMARKS: Mapping[str, Callable[[], str]] = {
    "schedule": schedule.run,
    "overhead": overhead.run,
    "handover": handover.run,
    "merging": merging.run,
    "reading": reading.run,
    "worktrees": worktrees.run,
    "scale": scale.run,
    "opencode": opencode.run,
    "up": up.run,
}


def main() -> None:
    """Print each benchmark's figures as soon as they are available."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Print the benchmarks' figures.")
    parser.add_argument("names", nargs="*", metavar="name", help=f"one of {', '.join(BENCHMARKS)}; all without any")
    names: list[str] = parser.parse_args().names
    if unknown := [name for name in names if name not in BENCHMARKS]:
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    for name in names or BENCHMARKS:
        print(BENCHMARKS[name](), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
