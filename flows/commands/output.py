"""Decides how commands print: tables and colours in a terminal, plain lines of full length elsewhere, or JSON."""

import json
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text


def say(console: Console, text: str, style: str | None = None) -> None:
    """Print `text` as it is: what stands in brackets is no markup, and no line is cut."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def print_json(value: object) -> None:
    """Print one JSON document."""
    sys.stdout.write(json.dumps(value, indent=1) + "\n")


def make_rows_table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str], wide: Sequence[str]
) -> Table:
    """A table as wide as the terminal; the columns `wide` share the room, and what does not fit is cut."""
    table = Table(box=None, pad_edge=False, expand=bool(wide))
    for heading in headings:
        ratio = 2 if heading == wide[-1:][0] else 1 if heading in wide else None
        table.add_column(heading, no_wrap=ratio is not None, overflow="ellipsis", ratio=ratio)
    for row, style in zip(rows, styles, strict=True):
        table.add_row(*(Text(fold(cell)) for cell in row), style=style)
    return table


def print_rows(
    console: Console,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    styles: Sequence[str] = (),
    wide: Sequence[str] = (),
) -> None:
    """Print rows of cells below `headings`: cut to the terminal's width, or in full where there is no terminal."""
    if console.is_terminal:
        console.print(make_rows_table(headings, rows, styles or [""] * len(rows), wide or headings[-1:]))
        return
    lines = [list(headings), *([fold(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    for line in lines:
        say(console, "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def fold(text: str) -> str:
    """`text` in one line."""
    return " ".join(text.split())


def count(number: int, noun: str) -> str:
    """`1 edge`, `2 edges`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
