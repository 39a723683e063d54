"""Runs many hostile cases in watched processes, and reports what was tried and every violation: `make fuzz`."""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Lock, Thread
from time import perf_counter

from hostile_input import make_case
from oracle import Judgement, judge

SECONDS_A_CASE = 30
"""A case that takes longer counts as hanging; the slowest seen takes a fiftieth of this."""
SHOWN = 20
SEED, COUNT = 20_240_301, 20_000
HELD = (
    "Held for each: a value or well-formed faults (a path and a line of the input, one short line that can be printed), "
    "no other exception, no hang, no file, process or socket touched; ids, branches and paths that were taken stay in "
    "their place; a task file that was read can be edited, and nothing else in it changes."
)


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one case; `seconds` is how long judging it took."""

    number: int
    kind: str
    judgement: Judgement
    seconds: float


@dataclass(slots=True)
class Tally:
    """The results of all cases."""

    results: list[Result] = field(default_factory=list[Result])
    lock: Lock = field(default_factory=Lock)

    def add(self, result: Result) -> None:
        with self.lock:
            self.results.append(result)

    @property
    def violations(self) -> list[Result]:
        return sorted((one for one in self.results if one.judgement.violations), key=lambda one: one.number)


def try_case(seed: int, number: int) -> Result:
    """Make and judge one case."""
    case = make_case(seed, number)
    start = perf_counter()
    judgement = judge(case)
    return Result(number, case.kind, judgement, perf_counter() - start)


def work(seed: int, numbers: range, pipe: Connection) -> None:
    """Send the result of each case as soon as it is available, so that the receiver knows which one hangs."""
    for number in numbers:
        pipe.send(try_case(seed, number))
    pipe.close()


def watch(seed: int, numbers: range, tally: Tally) -> None:
    """Run the cases `numbers` in a child process, starting a new one after each case that hangs or ends the process."""
    context = get_context("spawn")
    while numbers:
        ours, theirs = context.Pipe(duplex=False)
        worker = context.Process(target=work, args=(seed, numbers, theirs), daemon=True)
        worker.start()
        theirs.close()
        done = 0
        # The first wait includes the start of the process, which can be slow on a busy machine.
        with suppress(EOFError):
            while done < len(numbers) and ours.poll(SECONDS_A_CASE * (1 if done else 4)):
                tally.add(ours.recv())
                done += 1
        worker.kill()
        worker.join()
        if done < len(numbers):
            stuck = numbers[done]
            said = (
                f"no answer in {SECONDS_A_CASE} s" if worker.exitcode == -9 else f"the process ended: {worker.exitcode}"
            )
            tally.add(Result(stuck, make_case(seed, stuck).kind, Judgement("broken", (said,)), SECONDS_A_CASE))
            done += 1
        numbers = numbers[done:]


def run(seed: int, numbers: range) -> Tally:
    """Run the cases `numbers` on all cores."""
    cores = os.cpu_count() or 1
    tally = Tally()
    # Dealt out round-robin, so that every process gets the same mix.
    threads = [Thread(target=watch, args=(seed, numbers[core::cores], tally)) for core in range(cores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tally


def describe(seed: int, tally: Tally) -> Iterator[str]:
    """Yield the lines of a table of what was tried and the results."""
    outcomes = sorted({one.judgement.outcome for one in tally.results})
    counts = Counter((one.kind, one.judgement.outcome) for one in tally.results)
    kinds = sorted({one.kind for one in tally.results})
    width = max(map(len, kinds), default=0)
    yield f"{'':{width}}  " + "  ".join(f"{outcome:>12}" for outcome in outcomes)
    for kind in kinds:
        yield f"{kind:{width}}  " + "  ".join(f"{counts[kind, outcome]:12}" for outcome in outcomes)
    yield f"{'together':{width}}  " + "  ".join(
        f"{sum(counts[kind, outcome] for kind in kinds):12}" for outcome in outcomes
    )
    slowest = sorted(tally.results, key=lambda one: -one.seconds)[:3]
    yield "slowest: " + ", ".join(f"{one.seconds:.2f} s (number {one.number}, {one.kind})" for one in slowest)
    yield f"{len(tally.results)} cases of seed {seed}, {len(tally.violations)} violations"


def write_down(seed: int, result: Result, folder: Path) -> Path:
    """Save the files of a failed case and its violations in a new directory; return that directory."""
    place = folder / f"{seed}-{result.number}"
    case = make_case(seed, result.number)
    for path, data in case.files.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_bytes(data)
    said = [*result.judgement.violations, *(f"{name}={value!r}" for name, value in case.environment.items())]
    (place / "violations.txt").write_text("\n".join(said) + "\n", encoding="utf-8", errors="backslashreplace")
    return place


def main() -> int:
    """Read FUZZ_SEED, FUZZ_FIRST and FUZZ_COUNT, run, and print the report; return 1 if there are violations."""
    seed, first, count = (
        int(os.environ.get(f"FUZZ_{name}") or usual) for name, usual in (("SEED", SEED), ("FIRST", 0), ("COUNT", COUNT))
    )
    print(f"FUZZ_SEED={seed} FUZZ_FIRST={first} FUZZ_COUNT={count}", flush=True)
    start = perf_counter()
    tally = run(seed, range(first, first + count))
    for line in describe(seed, tally):
        print(line)
    print(f"took {perf_counter() - start:.0f} s")
    for result in tally.violations[:SHOWN]:
        place = write_down(seed, result, Path(".local/fuzz"))
        print(f"violation, number {result.number}, {result.kind}: {'; '.join(result.judgement.violations)[:600]}")
        print(f"  kept in {place}; again: FUZZ_SEED={seed} FUZZ_FIRST={result.number} FUZZ_COUNT=1 make fuzz")
    if len(tally.violations) > SHOWN:
        print(f"… and {len(tally.violations) - SHOWN} more")
    if not tally.violations:
        print(HELD)
    return 1 if tally.violations else 0


if __name__ == "__main__":
    sys.exit(main())
