"""How commands print: tables and colours in a terminal, full plain lines elsewhere, or JSON."""

import json
import sys
from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tasks_lib.text import cut_apart, fold


def say(console: Console, text: str, style: str | None = None) -> None:
    """Print `text` as is: brackets are not markup, and lines are not cut."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def print_json(value: object) -> None:
    """Print one JSON document."""
    sys.stdout.write(json.dumps(value, indent=1) + "\n")


LONGEST = 40
"""Maximum width in columns of any cell except the last in its row, unless ids need more to differ."""


def make_rows_table(headings: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str]) -> Table:
    """Make a table as wide as the terminal. The last column gets the remaining width; text that does not fit is cut.

    Cells of the first column, such as ids, are never cut to the same text.
    """
    table = Table(box=None, pad_edge=False, expand=True)
    first = cut_apart([row[0] for row in rows], LONGEST)
    rows = [(name, *row[1:]) for name, row in zip(first, rows, strict=True)]
    table.add_column(headings[0], no_wrap=True, min_width=max(map(cell_len, first), default=0))
    for heading in headings[1:-1]:
        table.add_column(heading, no_wrap=True, overflow="ellipsis", max_width=LONGEST)
    table.add_column(headings[-1], no_wrap=True, overflow="ellipsis", ratio=1)
    for row, style in zip(rows, styles, strict=True):
        table.add_row(*(Text(fold(cell)) for cell in row), style=style)
    return table


def drop_empty(
    headings: Sequence[str], rows: Sequence[Sequence[str]]
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Remove the columns that are empty in every row."""
    used = [at for at in range(len(headings)) if any(row[at] for row in rows)]
    return tuple(headings[at] for at in used), tuple(tuple(row[at] for at in used) for row in rows)


def print_rows(
    console: Console, headings: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str] = ()
) -> None:
    """Print rows of cells below `headings`: cut to the terminal's width, or in full outside a terminal."""
    if console.is_terminal:
        console.print(make_rows_table(headings, rows, styles or [""] * len(rows)))
        return
    lines = [list(headings), *([fold(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    for line in lines:
        say(console, "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def count(number: int, noun: str) -> str:
    """Write `1 edge`, `2 edges` or `3 processes`."""
    plural = "es" if noun.endswith("s") else "s"
    return f"{number} {noun}{'' if number == 1 else plural}"
