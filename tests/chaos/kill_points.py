"""Decides from the trace of an undisturbed run where to kill: before and after each signature's first and last time."""

import hashlib
import json
import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from chaos.tracer import Mode, Target

from flows.prefect_server import SERVER

READING = (
    "rev-parse", "for-each-ref", "cat-file", "config --get", "log", "--literal-pathspecs log", "diff", "status",
    "symbolic-ref", "var", "version", "merge-base", "worktree list", "rev-list", "show", "ls-tree", "ls-files",
)  # fmt: skip
"""Git commands that change nothing: one kill before the first and one after the last suffice."""
CUTS_OF_OTHERS = 12
"""How many system calls of an agent or a verify are cut at; of the coordinator's git commands, all are."""


@dataclass(frozen=True, slots=True)
class Effect:
    """One side effect of a run, numbered in order. `is_plain`: a process that no shim can stand in for."""

    number: int
    kind: str
    signature: str
    argv: tuple[str, ...]
    is_plain: bool

    @property
    def is_reading(self) -> bool:
        return any(self.signature.startswith(f"process git {word}") for word in READING)


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill: `about` describes where; `first` and `then` are the targets of the run and its rerun."""

    about: str
    first: Target
    then: Target | None = None

    @property
    def key(self) -> str:
        """A short name that is stable between runs."""
        digest = hashlib.sha256(f"{self.about}{self.first}{self.then}".encode()).hexdigest()
        return f"{self.first.mode}-{digest[:8]}"

    def __str__(self) -> str:
        return f"{self.key} {self.about}"


def read_effects(trace: Path) -> list[Effect]:
    lines = (json.loads(line) for line in trace.read_text(encoding="utf-8").splitlines())
    return [Effect(one["number"], one["kind"], one["signature"], tuple(one["argv"]), one["is_plain"]) for one in lines]


def read_calls(path: Path) -> dict[int, list[str]]:
    """Where each process can be cut: map the number of its start to its system calls."""
    lines = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return {line["number"]: [f"{name} {place}" for name, place in line["calls"]] for line in lines}


def count_kinds(effects: Sequence[Effect]) -> Counter[str]:
    """Count side effects by kind; processes by whether they are git, and whether they write."""
    return Counter(_name_kind(effect) for effect in effects)


def _name_kind(effect: Effect) -> str:
    if effect.kind != "process":
        return effect.kind
    if effect.argv[:1] != ("git",):
        return "other process"
    return "git that reads" if effect.is_reading else "git that writes"


def list_kills(effects: Sequence[Effect], *, every: bool = False) -> list[Kill]:
    """Kills before and after the first and the last occurrence of each signature, or `every` one."""
    found: defaultdict[str, list[Effect]] = defaultdict(list)
    for effect in effects:
        found[effect.signature].append(effect)
    kills: list[Kill] = []
    for signature, several in found.items():
        last = len(several)
        for occurrence in range(1, last + 1) if every else sorted({1, last}):
            for mode in _list_modes(several[0], occurrence == 1, occurrence == last, every=every):
                kills.append(_describe(Target(mode, signature, occurrence)))
    return kills


def _list_modes(effect: Effect, is_first: bool, is_last: bool, *, every: bool) -> list[Mode]:
    if effect.kind != "process":
        return ["before", "after"]
    if effect.is_plain:
        return ["before"]
    if SERVER in effect.argv:
        return ["before", "orphan"]  # It runs until it gets a signal, so nothing comes after it in this run.
    if effect.is_reading and not every:
        return [*(["before"] if is_first else []), *(["after"] if is_last else [])]
    return ["before", "after", "orphan"]


def list_cuts(effects: Sequence[Effect], calls: Mapping[int, Sequence[str]], seed: int) -> list[Kill]:
    """Kills of the coordinator together with a process it started, just before each change by that process."""
    rng = random.Random(seed)
    kills: list[Kill] = []
    seen: set[str] = set()
    for effect in effects:
        made = calls.get(effect.number, ())
        if effect.signature in seen or not made:
            continue
        seen.add(effect.signature)
        numbers = list(range(1, len(made) + 1))
        if effect.argv[:1] != ("git",):
            numbers = sorted(rng.sample(numbers, k=min(CUTS_OF_OTHERS, len(numbers))))
        kills += [_describe(Target("cut", effect.signature, 1, cut=number)) for number in numbers]
    return kills


def list_calls(calls: Sequence[str], *, every: bool = False) -> list[Kill]:
    """Kills before the first call of each kind and after the last, or before and after `every` one."""
    kills: list[Kill] = []
    for signature, count in Counter(calls).items():
        if every:
            modes: list[tuple[Mode, int]] = [(mode, at) for at in range(1, count + 1) for mode in ("before", "after")]
        else:
            modes = [("before", 1), ("after", count)]
        kills += [_describe(Target(mode, signature, occurrence)) for mode, occurrence in modes]
    return kills


def _describe(target: Target) -> Kill:
    which = f" #{target.occurrence}" + (f" call {target.cut}" if target.cut else "")
    return Kill(f"{target.mode}{which}: {target.signature}", target)


def list_pairs(kills: Sequence[Kill], count: int, most: int, seed: int) -> list[Kill]:
    """Kills from `kills` whose rerun is killed too, before or after one of its first `most` side effects."""
    rng = random.Random(seed)
    pairs: list[Kill] = []
    for _ in range(count):
        first = rng.choice(kills)
        # Half of them early, while the rerun recovers from the first kill.
        number = rng.randint(1, rng.choice((80, most)))
        then = Target(rng.choice(("before", "after")), number=number)
        pairs.append(Kill(f"{first.about}; then {then.mode} effect {number} of the rerun", first.first, then))
    return pairs
