"""Matches the lines of two texts, and divides a text and its variants into regions in which they differ."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

MAX_PAIRS = 250_000
"""How many pairs of lines are compared where no line is unique, such as 500 by 500; beyond, nothing matches."""

Span = tuple[int, int]
"""The lines from the first to before the second, from 0."""


@dataclass(frozen=True, slots=True)
class Region:
    """Where at least one variant differs from the base: lines of the base, and of each variant in the given order."""

    base: Span
    variants: tuple[Span, ...]


def match_lines(old: Sequence[str], new: Sequence[str]) -> dict[int, int]:
    """Map lines of `old` to the same lines of `new`, both ascending; lines that occur once are matched first."""
    pairs: dict[int, int] = {}
    open_spans: list[tuple[Span, Span]] = [((0, len(old)), (0, len(new)))]
    while open_spans:
        (low, high), (new_low, new_high) = open_spans.pop()
        while low < high and new_low < new_high and old[low] == new[new_low]:
            pairs[low] = new_low
            low, new_low = low + 1, new_low + 1
        while low < high and new_low < new_high and old[high - 1] == new[new_high - 1]:
            high, new_high = high - 1, new_high - 1
            pairs[high] = new_high
        if low == high or new_low == new_high:
            continue
        anchors = _find_anchors(old, new, (low, high), (new_low, new_high))
        if not anchors:
            pairs.update(_match_rest(old, new, (low, high), (new_low, new_high)))
            continue
        pairs.update(anchors)
        for (start, new_start), (end, new_end) in zip(
            [(low - 1, new_low - 1), *anchors], [*anchors, (high, new_high)], strict=True
        ):
            open_spans.append(((start + 1, end), (new_start + 1, new_end)))
    return dict(sorted(pairs.items()))


def _find_anchors(old: Sequence[str], new: Sequence[str], span: Span, new_span: Span) -> list[tuple[int, int]]:
    """The longest ascending list of pairs of lines that are the same and occur once on each side."""
    places = _find_unique(new, new_span)
    common = [(at, places[line]) for line, at in _find_unique(old, span).items() if line in places]
    return _find_ascending(sorted(common))


def _find_unique(lines: Sequence[str], span: Span) -> dict[str, int]:
    counts = Counter(lines[span[0] : span[1]])
    return {lines[at]: at for at in range(*span) if counts[lines[at]] == 1}


def _find_ascending(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The longest subsequence of `pairs`, which ascend by their first number, whose second numbers ascend too."""
    ends: list[int] = []
    before: list[int] = []
    for at, (_, place) in enumerate(pairs):
        low, high = 0, len(ends)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if pairs[ends[middle]][1] < place else (low, middle)
        before.append(ends[low - 1] if low else -1)
        ends[low : low + 1] = [at]
    found: list[tuple[int, int]] = []
    at = ends[-1] if ends else -1
    while at >= 0:
        found.append(pairs[at])
        at = before[at]
    return found[::-1]


def _match_rest(old: Sequence[str], new: Sequence[str], span: Span, new_span: Span) -> dict[int, int]:
    if (span[1] - span[0]) * (new_span[1] - new_span[0]) > MAX_PAIRS:
        return {}
    matcher = SequenceMatcher(None, old[span[0] : span[1]], new[new_span[0] : new_span[1]], autojunk=False)
    return {
        span[0] + block.a + step: new_span[0] + block.b + step
        for block in matcher.get_matching_blocks()
        for step in range(block.size)
    }


def divide(base: Sequence[str], variants: Sequence[Sequence[str]]) -> list[Region]:
    """The regions, in order, between the lines of `base` that all `variants` have."""
    matches = [match_lines(base, variant) for variant in variants]
    stable = [at for at in range(len(base)) if all(at in found for found in matches)]
    regions: list[Region] = []
    last, ends = -1, [-1] * len(variants)
    for at in [*stable, len(base)]:
        is_end = at == len(base)
        starts = [len(v) if is_end else found[at] for v, found in zip(variants, matches, strict=True)]
        spans = tuple((end + 1, start) for end, start in zip(ends, starts, strict=True))
        if at > last + 1 or any(start < end for start, end in spans):
            regions.append(Region((last + 1, at), spans))
        last, ends = at, starts
    return regions
