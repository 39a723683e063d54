"""Measures how many careless resolutions of conflicts are found, and how many honest ones are taken for careless."""

import time
from collections import Counter
from collections.abc import Iterator

from bench import figures
from bench.conflict_corpus import Careless, Conflict, Files, generate, generate_undecidable, list_careless
from bench.figures import judge_least
from tasks_lib.session.dropped_hunks import DroppedHunk, Sides, find_dropped

FIRST_HELD_OUT = 100_000
"""The rules were made with seeds below; the figures are for seeds from here on, which were not looked at."""
CONFLICTS = 1_200
UNDECIDABLE = 200
FOUND_PERCENT, FALSE_PERCENT = 95, 1
"""How many careless resolutions have to be found, and how many honest ones may be taken for careless."""


def run(first: int = FIRST_HELD_OUT) -> str:
    """Judge generated conflicts; takes about half a minute."""
    careless, found, honest, alarms = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    began = time.process_time()
    for seed in range(first, first + CONFLICTS):
        conflict = generate(seed)
        for files in conflict.honest:
            honest[conflict.kind] += 1
            alarms[conflict.kind] += bool(judge(conflict, files))
        for one in list_careless(conflict):
            careless[one.how] += 1
            found[one.how] += is_found(judge(conflict, one.files), one)
    seconds = time.process_time() - began
    lines = [f"Dropped hunks: {CONFLICTS} generated conflicts, {seconds:.1f} s of processor time without git's."]
    lines += [f"  {how}: {found[how]} of {careless[how]} found" for how in careless]
    share, wrong = found.total() / careless.total(), alarms.total() / honest.total()
    verdict = judge_least("dropped hunks: careless resolutions found, %", 100 * share, FOUND_PERCENT)
    lines.append(f"Found: {found.total()} of {careless.total()} careless resolutions ({share:.1%}), {verdict}")
    by_kind = ", ".join(f"{kind} {count}" for kind, count in alarms.items() if count)
    lines.append(f"False alarms: {alarms.total()} of {honest.total()} honest resolutions ({wrong:.1%}"
                 f"{': ' + by_kind if by_kind else ''}), "
                 f"{figures.judge('dropped hunks: false alarms, %', 100 * wrong, FALSE_PERCENT)}")  # fmt: skip
    chosen = [generate_undecidable(seed) for seed in range(first, first + UNDECIDABLE)]
    named = sum(bool(judge(one, files)) for one in chosen for files in one.honest)
    lines.append(f"Where it is right to take one side: {named} of {len(chosen)} are named; a person decides those.")
    return "\n".join(lines)


def judge(conflict: Conflict, result: Files) -> tuple[DroppedHunk, ...]:
    """What the rules say of one resolution."""
    return find_dropped(tuple(_pair(conflict, result)))


def is_found(dropped: tuple[DroppedHunk, ...], careless: Careless) -> bool:
    """Whether a hunk of a side that lost something is named."""
    return any(careless.lost in ("both", hunk.side) for hunk in dropped)


def _pair(conflict: Conflict, result: Files) -> Iterator[Sides]:
    for path in sorted({*conflict.base, *conflict.head, *conflict.branch, *result}):
        states = (conflict.base, conflict.head, conflict.branch, result)
        base, head, branch, merged = (files.get(path) for files in states)
        yield Sides(path, base, head, branch, merged)


if __name__ == "__main__":
    print(run())
