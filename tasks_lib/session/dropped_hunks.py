"""Decides which changes of two sides a merge has dropped, from the texts of both, of their base and of the result.

A hunk is dropped if the result is, in its place, as it would be had the side not made it: nothing that it added is
there or anywhere else among the files, and nothing new stands there instead. What only removes is dropped if the
removed lines are back though the other side did not touch them. White space does not count, and neither does the place
of what was added.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from tasks_lib.session.line_matching import Region, Span, divide, match_lines

KEPT_SHARE = 0.5
"""A hunk lives on if the result has this share of the words that it added, or as many new ones in their place."""
BACK_SHARE = 0.5
"""A deletion is dropped if the result has this share of the removed lines."""
_TOKEN = re.compile(r"\w+|[^\w\s]")
_MAX_GAP = 2
"""Hunks count as one if only this many lines without a word are between them, such as a bracket or an empty line."""


class Side(StrEnum):
    """Whose change it is: that of what landed (`head`), or that of the branch."""

    HEAD = "head"
    BRANCH = "branch"


@dataclass(frozen=True, slots=True)
class Sides:
    """One file in four states, None where it does not exist; without `is_text`, the states are only compared."""

    path: str
    base: str | None
    head: str | None
    branch: str | None
    result: str | None
    is_text: bool = True

    def of(self, state: str) -> str | None:
        """The file in `base`, `result`, or on a side."""
        return {"base": self.base, Side.HEAD: self.head, Side.BRANCH: self.branch}.get(state, self.result)


@dataclass(frozen=True, slots=True)
class DroppedHunk:
    """A change of `side` that is not in the result: the lines that it `removed` from the base, and those it `added`.

    `first` and `last` count from 1: lines of the side's file, or of the base's if nothing was added; 0 for a binary
    file.
    """

    path: str
    side: Side
    first: int
    last: int
    removed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()

    @property
    def identity(self) -> str:
        """The same for the same change of the same side, wherever in the file it is."""
        data = "\0".join((self.path, self.side, *self.removed, "\0", *self.added))
        return f"{hashlib.sha256(data.encode('utf-8', 'surrogatepass')).hexdigest()[:16]} {self.side}"


@dataclass(slots=True)
class _Case:
    """A hunk, how it changes the number of each token (`delta`), and those of its words that tell it apart.

    `is_shared`: the other side made the same change.
    """

    hunk: DroppedHunk
    delta: Counter[str]
    wanted: Counter[str]
    is_shared: bool
    is_alive: bool


def find_dropped(files: Sequence[Sides]) -> tuple[DroppedHunk, ...]:
    """The hunks of either side that the result does not have, sorted by path, side and line."""
    cases = [case for file in files if file.is_text for case in _judge_file(file)]
    every = _Everywhere(
        {state: _split_all(files, state) for state in ("base", *Side, "result")},
        {side: _sum(case.delta for case in cases if case.is_alive and case.hunk.side is side) for side in Side},
    )
    found = [case.hunk for case in cases if not case.is_alive and not every.has(case)]
    found += [hunk for file in files if not file.is_text for hunk in _compare(file)]
    return tuple(sorted(found, key=lambda hunk: (hunk.path, hunk.side != Side.HEAD, hunk.first)))


def _judge_file(file: Sides) -> Iterator[_Case]:
    base, result = _split(file.base), _split(file.result)
    lines = {side: _split(file.of(side)) for side in Side}
    variants = [*(_fold(lines[side]) for side in Side), _fold(result)]
    for region in divide(_fold(base), variants):
        spans = dict(zip(Side, region.variants, strict=False))
        place = _make_place(file.path, base, lines, region, spans, _take(result, region.variants[-1]))
        for side in Side:
            yield from _judge_side(place, side)


@dataclass(frozen=True, slots=True)
class _Place:
    """A region of one file: all lines of the base and of both sides, where it is in them, and the result's lines.

    `counts` are the tokens of each state in it, `new_words` how many words of the result no other state has.
    """

    path: str
    base: Sequence[str]
    lines: Mapping[Side, Sequence[str]]
    region: Region
    spans: Mapping[Side, Span]
    result: Sequence[str]
    counts: Mapping[str, Counter[str]]
    new_words: int

    def take(self, state: str) -> Sequence[str]:
        if state == "base":
            return _take(self.base, self.region.base)
        return _take(self.lines[Side(state)], self.spans[Side(state)])


def _make_place(
    path: str,
    base: Sequence[str],
    lines: Mapping[Side, Sequence[str]],
    region: Region,
    spans: Mapping[Side, Span],
    result: Sequence[str],
) -> _Place:
    counts = {str(side): _count(_take(lines[side], spans[side])) for side in Side}
    counts |= {"base": _count(_take(base, region.base)), "result": _count(result)}
    known = {token for state in ("base", *Side) for token in counts[state]}
    new = sum(count for token, count in counts["result"].items() if _is_word(token) and token not in known)
    return _Place(path, base, lines, region, spans, result, counts, new)


@dataclass(frozen=True, slots=True)
class _Hunk:
    """Lines of the base that a side replaced, and its own lines in their place."""

    base: Span
    own: Span


def _judge_side(place: _Place, side: Side) -> Iterator[_Case]:
    """The hunks of `side` in a region, each with whether the region shows that it lives on."""
    other = _find_other(side)
    hunks, others = list(_list_hunks(place, side)), list(_list_hunks(place, other))
    deltas = [_count_delta(place, side, hunk) for hunk in hunks]
    total = _sum(deltas)
    shared = {(one.base, *_fold(_take(place.lines[other], one.own))) for one in others}
    likeness = {without: _compare_result(place, without) for without in ("base", str(other))}
    for hunk, delta in zip(hunks, deltas, strict=True):
        removed, added = _take(place.base, hunk.base), _take(place.lines[side], hunk.own)
        is_shared = (hunk.base, *_fold(added)) in shared
        if (not +delta and not -delta) or (is_shared and side is Side.BRANCH):
            continue
        first, last = hunk.own if added else hunk.base
        found = DroppedHunk(place.path, side, first + 1, last, tuple(removed), tuple(added))
        without = "base" if is_shared else str(other)
        wanted = _find_wanted(delta, place, without)
        if +delta:
            rest = total, delta
            is_alive = not wanted or _lives(place, without, likeness[without], rest, wanted)
        else:
            is_touched = any(_overlaps(hunk.base, one.base) for one in others)
            is_alive = (is_touched and not is_shared) or not _is_back(place, side, other, removed, added)
        yield _Case(found, delta, wanted, is_shared, is_alive)


def _find_wanted(delta: Counter[str], place: _Place, without: str) -> Counter[str]:
    """What a hunk adds that the other side does not add as well: words, or other characters if it adds no word."""
    added = +delta
    words = Counter({token: count for token, count in added.items() if _is_word(token)})
    there, before = place.counts[without], place.counts["base"]
    left = {token: count - max(0, there[token] - before[token]) for token, count in (words or added).items()}
    return +Counter(left)


class _Likeness(NamedTuple):
    """Whether the result has the same lines as a region without a hunk, or all of these and others."""

    is_same: bool
    is_kept: bool


def _compare_result(place: _Place, without: str) -> _Likeness:
    there = place.take(without)
    return _Likeness(_fold(place.result) == _fold(there), not _count_lines(there) - _count_lines(place.result))


def _lives(
    place: _Place,
    without: str,
    likeness: _Likeness,
    rest: tuple[Counter[str], Counter[str]],
    wanted: Counter[str],
) -> bool:
    """Whether the result has more of the `wanted` tokens than the region has without the hunk, or has new ones.

    `rest` is what all hunks of the side change here, and what this one does. New words replace both sides; where the
    other side is kept line for line, they are only an addition to it.
    """
    if likeness.is_same:
        return False
    result, expected, (total, own) = place.counts["result"], place.counts[without], rest
    kept = sum(min(n, max(0, result[t] - expected[t] - (total[t] - own[t]))) for t, n in wanted.items())
    return kept + (0 if likeness.is_kept else place.new_words) >= KEPT_SHARE * wanted.total()


def _is_back(place: _Place, side: Side, other: Side, removed: Sequence[str], added: Sequence[str]) -> bool:
    """Whether lines that a hunk removed are in the result, beyond those that the sides have there anyway."""
    gone = _count_lines(removed) - _count_lines(added)
    expected = _count_lines(place.take(side)) + (_count_lines(place.take(other)) - _count_lines(place.take("base")))
    found = _count_lines(place.result) - expected
    back = sum(min(count, found[line]) for line, count in gone.items())
    return gone.total() > 0 and back >= BACK_SHARE * gone.total()


class _Everywhere:
    """All files together: what was moved, or made by the other side in another place, is not dropped."""

    def __init__(self, lines: Mapping[str, Sequence[str]], alive: Mapping[Side, Counter[str]]) -> None:
        """`lines` are those of all files by state, `alive` what hunks that live on add and remove, by side."""
        self._tokens = {state: _count(found) for state, found in lines.items()}
        self._lines = {state: _count_lines(found) for state, found in lines.items()}
        self._alive = alive

    def has(self, case: _Case) -> bool:
        """Whether what the hunk added is anywhere in the result."""
        if not case.wanted:
            return False
        other = "base" if case.is_shared else str(_find_other(case.hunk.side))
        found, without, alive = self._tokens["result"], self._tokens[other], self._alive[case.hunk.side]
        kept = sum(min(count, max(0, found[t] - without[t] - alive[t])) for t, count in case.wanted.items())
        return kept >= KEPT_SHARE * case.wanted.total() or (not case.is_shared and self._is_made_twice(case, other))

    def _is_made_twice(self, case: _Case, other: str) -> bool:
        """Whether the other side added the same lines, in another place, and the result has these."""
        base, made, result = self._lines["base"], self._lines[other], self._lines["result"]
        return all(base[line] < made[line] <= result[line] for line in _count_lines(case.hunk.added))


def _compare(file: Sides) -> Iterator[DroppedHunk]:
    """A change of a binary file is dropped if only one side made it, and the result is without it.

    If both sides changed it, only one of them can be kept.
    """
    for side, other in ((Side.HEAD, file.branch), (Side.BRANCH, file.head)):
        if file.of(side) != file.base == other == file.result:
            yield DroppedHunk(file.path, side, 0, 0, (file.base or "",), (file.of(side) or "",))


# Lines, hunks and tokens.


def _find_other(side: Side) -> Side:
    return Side.BRANCH if side is Side.HEAD else Side.HEAD


def _list_hunks(place: _Place, side: Side) -> Iterator[_Hunk]:
    (low, high), (own_low, own_high) = place.region.base, place.spans[side]
    matched = match_lines(_fold(place.take("base")), _fold(place.take(side)))
    last, own_last = low - 1, own_low - 1
    current: _Hunk | None = None
    for at, own_at in [*((low + a, own_low + b) for a, b in matched.items()), (high, own_high)]:
        if at > last + 1 or own_at > own_last + 1:
            hunk = _Hunk((last + 1, at), (own_last + 1, own_at))
            if current and _is_gap(place.base, current.base[1], hunk.base[0]):
                hunk = _Hunk((current.base[0], at), (current.own[0], own_at))
            elif current:
                yield current
            current = hunk
        last, own_last = at, own_at
    if current:
        yield current


def _is_gap(lines: Sequence[str], start: int, end: int) -> bool:
    return end - start <= _MAX_GAP and not any(_is_word(t) for line in lines[start:end] for t in _TOKEN.findall(line))


def _overlaps(one: Span, other: Span) -> bool:
    """Whether two spans share a line, or an empty one is inside of the other."""
    return max(one[0], other[0]) < min(one[1], other[1]) or one[0] < other[0] == other[1] < one[1]


def _count_delta(place: _Place, side: Side, hunk: _Hunk) -> Counter[str]:
    delta = _count(_take(place.lines[side], hunk.own))
    delta.subtract(_count(_take(place.base, hunk.base)))
    return delta


def _split_all(files: Sequence[Sides], state: str) -> list[str]:
    return [line for file in files if file.is_text for line in _split(file.of(state))]


def _sum(counters: Iterable[Counter[str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for one in counters:
        total.update(one)  # Unlike `+`, keeps negative numbers.
    return total


def _count(lines: Sequence[str]) -> Counter[str]:
    return Counter(token for line in lines for token in _TOKEN.findall(line))


def _count_lines(lines: Sequence[str]) -> Counter[str]:
    return Counter(line for line in _fold(lines) if line)


def _is_word(token: str) -> bool:
    return token[0].isalnum() or token[0] == "_"


def _take(lines: Sequence[str], span: Span) -> Sequence[str]:
    return lines[span[0] : span[1]]


def _fold(lines: Sequence[str]) -> list[str]:
    return [" ".join(line.split()) for line in lines]


def _split(text: str | None) -> list[str]:
    return text.removesuffix("\n").split("\n") if text else []
