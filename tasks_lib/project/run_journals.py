"""Finds and reads the journals of a repository's runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks_lib.naming import flatten
from tasks_lib.process.files import read_regular
from tasks_lib.reporting.journal_events import JournalEvent
from tasks_lib.reporting.run_facts import Entry, parse_journal

JOURNALS = "journals"
"""The folder of the journals in the repository's state directory; each file is named by its run."""
SUFFIX = ".jsonl"
UNNAMED = "unnamed"
"""The name of the journal of a run without an id."""
TAIL_BYTES = 8_000
MAX_BYTES = 64_000_000
"""No more is written to a journal of this size: a run of ten thousand nodes writes about half of it."""


@dataclass(frozen=True, slots=True)
class Journal:
    """The journal of one run: its entries by time, and how many lines of it cannot be read."""

    run: str
    entries: tuple[Entry, ...]
    unread: int = 0


def name_journal(run_id: str) -> str:
    """The name of a run's journal."""
    return f"{flatten(run_id) or UNNAMED}{SUFFIX}"


def list_journals(state_dir: Path) -> Sequence[str]:
    """The runs with a journal, the one that was written last first."""
    found: list[tuple[float, str]] = []
    for path in (state_dir / JOURNALS).glob(f"*{SUFFIX}"):
        if not path.is_symlink() and path.is_file():
            found.append((path.stat().st_mtime, path.name.removesuffix(SUFFIX)))
    return [name for _, name in sorted(found, reverse=True)]


def read_summary(state_dir: Path, run: str) -> Entry | None:
    """Read what the journal of a run ends with if it was summed up, without reading all of it; None if it was not."""
    try:
        data = read_regular(state_dir / JOURNALS / name_journal(run), TAIL_BYTES)
    except OSError:
        return None
    entries, _ = parse_journal(data.decode("utf-8", "replace").rstrip("\n").rpartition("\n")[2])
    return entries[-1] if entries and entries[-1].event is JournalEvent.SUMMED else None


def read_journal(state_dir: Path, run: str) -> Journal | None:
    """Read the journal of a run, as `list_journals` names it, without its summary; None if there is none to read."""
    try:
        data = read_regular(state_dir / JOURNALS / name_journal(run), 2 * MAX_BYTES)
    except OSError:
        return None
    entries, unread = parse_journal(data.decode("utf-8", "replace"))
    return Journal(run, tuple(one for one in entries if one.event is not JournalEvent.SUMMED), unread)
