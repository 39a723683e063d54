"""Generates conflicts of two sides with honest resolutions of each, and careless ones made by git."""

import random
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

Files = Mapping[str, str]
"""The text of each file by its path; a file that is missing does not exist."""
MAIN, OTHER = "src/main.py", "src/other.py"
_NAMES = [
    "order",
    "price",
    "total",
    "user",
    "cart",
    "item",
    "rate",
    "tax",
    "stock",
    "name",
    "key",
    "value",
    "count",
    "limit",
    "cache",
    "token",
    "path",
    "line",
    "node",
]
_VERBS = [
    "load",
    "save",
    "find",
    "parse",
    "check",
    "send",
    "read",
    "write",
    "merge",
    "count",
    "build",
    "open",
    "close",
    "update",
    "apply",
    "list",
]
_LITERALS = ("0", "1", "2", "10", "True", "None", '""', "self")


@dataclass(frozen=True, slots=True)
class Conflict:
    """Both sides of a conflict with their base, and resolutions that keep what both intended."""

    kind: str
    base: Files
    head: Files
    branch: Files
    honest: tuple[Files, ...]


@dataclass(frozen=True, slots=True)
class Careless:
    """A resolution that drops changes of the side `lost` (`head`, `branch` or `both`)."""

    how: str
    lost: str
    files: Files


@dataclass(slots=True)
class _Text:
    """A core of lines in which the sides conflict, between lines in which each side may have changes of its own."""

    chance: random.Random
    around: dict[str, tuple[list[str], list[str]]] = field(default_factory=dict[str, tuple[list[str], list[str]]])

    def __post_init__(self) -> None:
        before, after = _write_lines(self.chance, 4, 20), _write_lines(self.chance, 4, 20)
        head_before = _edit(self.chance, before) if self.chance.random() < 0.5 else before
        branch_after = _edit(self.chance, after) if self.chance.random() < 0.5 else after
        self.around = {
            "base": (before, after),
            "head": (head_before, after),
            "branch": (before, branch_after),
            "result": (head_before, branch_after),
        }

    def write(self, state: str, core: list[str]) -> str:
        before, after = self.around[state]
        return "\n".join([*before, "", *core, "", *after]) + "\n"

    def make(self, kind: str, base: list[str], head: list[str], branch: list[str], *honest: list[str]) -> Conflict:
        results = tuple({MAIN: self.write("result", one)} for one in honest)
        texts = [
            {MAIN: self.write(state, core)} for state, core in (("base", base), ("head", head), ("branch", branch))
        ]
        return Conflict(kind, texts[0], texts[1], texts[2], results)


def _name(chance: random.Random) -> str:
    return "_".join(chance.sample(_NAMES, chance.choice((1, 2, 2))))


def _call(chance: random.Random, extra: str = "") -> str:
    args = ", ".join(
        [chance.choice((*_LITERALS, _name(chance))) for _ in range(chance.randint(0, 2))] + [extra] * bool(extra)
    )
    return f"{chance.choice(_VERBS)}_{_name(chance)}({args})"


def _write_lines(chance: random.Random, least: int, most: int) -> list[str]:
    lines: list[str] = []
    while len(lines) < chance.randint(least, most):
        lines += chance.choice(
            (
                [f"{_name(chance)} = {_call(chance)}"],
                [f"def {chance.choice(_VERBS)}_{_name(chance)}({_name(chance)}):", f"    return {_call(chance)}", ""],
                [f"if {_name(chance)} is None:", f"    {_call(chance)}"],
                [f"# {_name(chance)} and {_name(chance)}"],
                ["", ")", ""][: chance.randint(1, 3)],
            )
        )
    return lines


def _edit(chance: random.Random, lines: list[str]) -> list[str]:
    """`lines` with an addition, away from their ends so that it does not touch the core."""
    at = len(lines) // 2
    return [*lines[:at], f"{_name(chance)} = {_call(chance, 'added')}", *lines[at:]]


# Kinds of conflicts.


def _same_call(chance: random.Random) -> Conflict:
    name, args, mine, theirs = f"{chance.choice(_VERBS)}_all", _name(chance), *chance.sample(_NAMES, 2)
    base, head = [f"{name}({args})"], [f"{name}({args}, {mine}={chance.choice(_LITERALS)})"]
    second = f"{theirs}={chance.choice(_LITERALS)}"
    wide = [f"{name}(", f"    {args},", f"    {head[0].split(', ')[1][:-1]},", f"    {second},", ")"]
    return _Text(chance).make(
        "same call", base, head, [f"{name}({args}, {second})"], [f"{head[0][:-1]}, {second})"], wide
    )


def _renamed_and_changed(chance: random.Random) -> Conflict:
    old, new, more = _name(chance), f"new_{_name(chance)}", _call(chance)
    base = [f"{old} = {_call(chance)}", f"print({old})"]
    head = [line.replace(old, new) for line in base]
    branch = [base[0], f"{_name(chance)}.append({old}, {more})", f"print({old}, {more})"]
    return _Text(chance).make(
        "renamed and changed", base, head, branch, [head[0], *(one.replace(old, new) for one in branch[1:])]
    )


def _both_added(chance: random.Random) -> Conflict:
    base = [f"class {_name(chance).title()}:", "    pass"]
    mine, theirs = _write_lines(chance, 1, 6), _write_lines(chance, 1, 6)
    mine, theirs = (
        [f"{_name(chance)} = {_call(chance, 'mine')}", *mine],
        [f"{_name(chance)} = {_call(chance, 'other')}", *theirs],
    )
    orders = ([*base, *mine, "", *theirs], [*base, *theirs, *mine])
    return _Text(chance).make("both added", base, [*base, *mine], [*base, *theirs], *orders)


def _imports(chance: random.Random) -> Conflict:
    names = chance.sample([f"{verb}_{name}" for verb in _VERBS for name in _NAMES], 9)
    old, mine, theirs, both = names[:4], names[4:6], names[6:8], names[8:]
    shared = both if chance.random() < 0.5 else []
    gone = old[:1] if chance.random() < 0.3 else []
    merged = {*old, *mine, *theirs, *shared} - {*gone}
    states = (set(old), {*old, *mine, *shared} - {*gone}, {*old, *theirs, *shared}, merged)
    lines = [[f"from lib import {name}" for name in sorted(found)] for found in states]
    unsorted = lines[3][::-1]
    return _Text(chance).make("imports", lines[0], lines[1], lines[2], lines[3], unsorted)


def _wrapped(chance: random.Random) -> Conflict:
    base = [f"{_name(chance)} = {_call(chance)}" for _ in range(chance.randint(2, 5))]
    head = [f"with {_call(chance)} as {_name(chance)}:", *(f"    {line}" for line in base)]
    changed = base[1].replace("(", f"(fast_{_name(chance)}, ", 1)
    branch = [base[0], changed, *base[2:]]
    return _Text(chance).make("wrapped", base, head, branch, [head[0], *(f"    {line}" for line in branch)])


def _moved(chance: random.Random) -> Conflict:
    text = _Text(chance)
    name = f"{chance.choice(_VERBS)}_moved"
    body = [f"    {_name(chance)} = {_call(chance)}" for _ in range(chance.randint(2, 4))]
    base = [f"def {name}():", *body, "    return None"]
    changed = [*base[:-2], f"    {_name(chance)} = {_call(chance, 'changed')}", base[-1]]
    left = [f"from other import {name}"]
    rest = "\n".join(_write_lines(chance, 3, 8)) + "\n"
    tail = "\n\n" + "\n".join(base) + "\n"
    kept = "\n\n" + "\n".join(changed) + "\n"
    return Conflict(
        "moved",
        {MAIN: text.write("base", base), OTHER: rest},
        {MAIN: text.write("head", left), OTHER: rest + tail},
        {MAIN: text.write("branch", changed), OTHER: rest},
        ({MAIN: text.write("result", left), OTHER: rest + kept},),
    )


def _settings(chance: random.Random) -> Conflict:
    keys = chance.sample(_NAMES, 4)
    base = [f'  "{key}": {chance.randint(1, 9)},' for key in keys]
    head = [base[0], f'  "{keys[1]}": {chance.randint(10, 99)},', *base[2:]]
    branch = [*base[:2], f'  "{keys[2]}": {chance.randint(100, 999)},', base[3]]
    return _Text(chance).make("settings", base, head, branch, [base[0], head[1], branch[2], base[3]])


def _deleted_beside(chance: random.Random) -> Conflict:
    base = [f"{_name(chance)} = {_call(chance)}" for _ in range(5)]
    changed = base[3].replace("(", "(strict, ", 1)
    branch = [*base[:3], changed, base[4]]
    return _Text(chance).make("deleted beside", base, [base[0], *base[3:]], branch, [base[0], changed, base[4]])


def _superseded(chance: random.Random) -> Conflict:
    """One side removes lines that the other one still needs and changes, and they stay."""
    base = [f"{_name(chance)} = {_call(chance)}" for _ in range(4)]
    branch = [base[0], base[1].replace("(", "(needed, ", 1), *base[2:]]
    head = [base[0], base[3]]
    return _Text(chance).make("superseded", base, head, branch, branch)


def _computed(chance: random.Random) -> Conflict:
    name = _name(chance)
    low, high = sorted(chance.sample(range(10, 900), 2))
    results = [f"{name} = max({low}, {high})"], [f"{name} = read_default_{chance.choice(_NAMES)}(setting)"]
    return _Text(chance).make("computed", [f"{name} = 3"], [f"{name} = {low}"], [f"{name} = {high}"], *results)


def _one_side_chosen(chance: random.Random) -> Conflict:
    """Both raise a version, and the higher one is right: the texts alone do not tell."""
    first, second = sorted(chance.sample(range(10, 99), 2))
    lines = [[f'version = "1.{number}.0"'] for number in (3, first, second, second)]
    return _Text(chance).make("one side chosen", *lines)


def _made_needless(chance: random.Random) -> Conflict:
    """One side removes what the other one improves, and it is right to be gone."""
    base = [f"{_name(chance)} = {_call(chance)}" for _ in range(4)]
    branch = [base[0], base[1].replace("(", "(improved, ", 1), *base[2:]]
    return _Text(chance).make("made needless", base, [base[0], base[3]], branch, [base[0], base[3]])


def _prose(chance: random.Random) -> Conflict:
    def say() -> str:
        words = " ".join(chance.sample(_NAMES, 3))
        return f"- The {words} can {chance.choice(_VERBS)} a {chance.choice(_NAMES)} {chance.randint(1, 99)}."

    base = ["## Unreleased", "", *(say() for _ in range(3))]
    mine, theirs = [say() for _ in range(chance.randint(1, 2))], [say() for _ in range(chance.randint(1, 2))]
    both = [*base[:2], *theirs, *mine, *base[2:]]
    joined = [*base[:2], *mine, " ".join([*theirs[:-1], theirs[-1]]), *base[2:]]
    return _Text(chance).make(
        "prose", base, [*base[:2], *mine, *base[2:]], [*base[:2], *theirs, *base[2:]], both, joined
    )


def _body(chance: random.Random) -> Conflict:
    base = [f"    {_name(chance)} = {_call(chance)}" for _ in range(5)]
    mine, theirs = f"    assert {_name(chance)} > {chance.randint(1, 9)}", base[3].replace("(", "(retry, ", 1)
    head = [base[0], mine, base[2].replace("=", "+="), *base[3:]]
    branch = [*base[:2], base[2], theirs, base[4]]
    branch[1] = f"    log_{chance.choice(_NAMES)}({_name(chance)}, 7)"
    honest = [base[0], branch[1], mine, head[2], theirs, base[4]]
    tested = [*honest, f"    # resolved: {_name(chance)}", f"    {_call(chance, 'glue')}"]
    return _Text(chance).make("body", base, head, branch, honest, tested)


KINDS: tuple[Callable[[random.Random], Conflict], ...] = (
    _same_call, _renamed_and_changed, _both_added, _imports, _wrapped, _moved, _settings, _deleted_beside, _superseded,
    _computed, _prose, _body,
)  # fmt: skip


UNDECIDABLE: tuple[Callable[[random.Random], Conflict], ...] = (_one_side_chosen, _made_needless)
"""Kinds whose honest resolution is the same as a careless one: only somebody who knows what is meant can tell."""


def generate_undecidable(seed: int) -> Conflict:
    """A conflict whose honest resolution takes one side, and is right."""
    return UNDECIDABLE[seed % len(UNDECIDABLE)](random.Random(seed))


def generate(seed: int) -> Conflict:
    """The conflict of a seed; the kinds take turns."""
    return KINDS[seed % len(KINDS)](random.Random(seed))


# Careless resolutions, by git.


def list_careless(conflict: Conflict) -> Iterator[Careless]:
    """What `git merge -s ours`, `checkout --theirs`, `-X ours`, `-X theirs` leave, and conflicts that were deleted.

    Those that are as good as an honest one, or in which the files do not conflict, are left out.
    """
    found = [Careless("-s ours", "branch", conflict.head), Careless("checkout --theirs", "head", conflict.branch)]
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        if _merge_all(Path(name), conflict)[1]:
            for how, lost in (("--ours", "branch"), ("--theirs", "head")):
                found.append(Careless(f"-X {how[2:]}", lost, _merge_all(Path(name), conflict, how)[0]))
            marked = _merge_all(Path(name), conflict, "--diff3")[0]
            for how, lost, keep, added in (
                ("delete both", "both", "", ""),
                ("keep the base", "both", "|", ""),
                ("ours, with a comment", "branch", "<", "# resolved by hand"),
            ):
                found.append(Careless(how, lost, {path: _resolve(text, keep, added) for path, text in marked.items()}))
    honest = [_fold(files) for files in conflict.honest]
    return (one for one in found if _fold(one.files) not in honest)


def _merge_all(place: Path, conflict: Conflict, *options: str) -> tuple[Files, bool]:
    """Merge file by file; return the texts, and whether any file conflicts."""
    merged: dict[str, str] = {}
    conflicts = 0
    for path in sorted({*conflict.base, *conflict.head, *conflict.branch}):
        for state, files in (("base", conflict.base), ("head", conflict.head), ("branch", conflict.branch)):
            (place / state).write_text(files.get(path, ""))
        words = ["git", "merge-file", "-p", *options, "head", "base", "branch"]
        done = subprocess.run(words, cwd=place, capture_output=True, text=True, check=False)
        merged[path] = done.stdout
        conflicts += done.returncode
    return merged, conflicts > 0


def _resolve(text: str, keep: str, added: str = "") -> str:
    """`text` with each conflict replaced by its base (`|`), the head's side (`<`) or nothing, and by a line `added`."""
    kept: list[str] = []
    state = ""
    for line in text.split("\n"):
        mark = line[:1] if line[:7] in ("<<<<<<<", "|||||||", "=======", ">>>>>>>") else ""
        if mark:
            state = "" if mark == ">" else mark
            kept += [added] if added and mark == ">" else []
        elif not state or state == keep:
            kept.append(line)
    return "\n".join(kept)


def _fold(files: Files) -> dict[str, list[str]]:
    return {
        path: sorted(" ".join(line.split()) for line in text.split("\n") if line.strip())
        for path, text in files.items()
    }
