"""The figures that have targets: each is judged where it is measured, and all of them stand in a table at the end."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

RELEASED = Path(__file__).with_name("figures.json")
"""The figures of the last release by name, written by `python -m bench --save` only."""
HEAD = ("figure", "target", "now", "", "last release")


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value and its target, both in the unit that the name ends with (a ratio without one)."""

    name: str
    value: float
    target: float
    is_least: bool = False
    """Whether the target is a lower bound; otherwise the value should not exceed it."""

    @property
    def is_met(self) -> bool:
        return self.value >= self.target if self.is_least else self.value <= self.target

    @property
    def bound(self) -> str:
        return f"at {'least' if self.is_least else 'most'} {format_value(self.target)}"

    @property
    def verdict(self) -> str:
        return "met" if self.is_met else "missed"


MEASURED: list[Figure] = []
"""What this process has judged so far, in order."""


def judge(name: str, value: float, target: float) -> str:
    """Record a value that should not exceed its target; state the target, and whether it is met or missed."""
    return _record(Figure(name, value, target))


def judge_least(name: str, value: float, target: float) -> str:
    """As `judge`, for a value that should not be below its target."""
    return _record(Figure(name, value, target, is_least=True))


def _record(figure: Figure) -> str:
    MEASURED.append(figure)
    return f"target {figure.bound}: {figure.verdict}"


def format_value(value: float) -> str:
    """Three digits that count, and no exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def describe_figures(figures: Sequence[Figure], released: Mapping[str, float]) -> str:
    """A table of targets and figures, the last release's beside them, and how many are missed."""
    rows = [HEAD, *(_list_cells(figure, released.get(figure.name)) for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    missed = sum(not figure.is_met for figure in figures)
    return "\n".join([*lines, f"{len(figures)} targets, {missed} missed"])


def _list_cells(figure: Figure, released: float | None) -> tuple[str, ...]:
    before = "" if released is None else format_value(released)
    return figure.name, figure.bound, format_value(figure.value), figure.verdict, before


def read_released(path: Path) -> dict[str, float]:
    """The figures of the last release by name; empty without the file. Raises ValueError for invalid JSON."""
    if not path.exists():
        return {}
    return cast("dict[str, float]", json.loads(path.read_text()))


def save(figures: Iterable[Figure], path: Path) -> None:
    """Make these the figures of the last release; those that were not measured now stay as they are."""
    kept = read_released(path) | {figure.name: float(f"{figure.value:.4g}") for figure in figures}
    path.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n")
