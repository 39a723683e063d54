"""`coordinator history`: lists the runs of a repository, or of one of its nodes, as Prefect has recorded them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from rich.console import Console

from flows.cli.display.output import print_json, print_rows, say
from flows.cli.display.progress_table import STYLES, clock
from flows.run_history import RunEntry, RunHistory, open_history
from tasks_lib.errors import InputError
from tasks_lib.git.repository import Repository
from tasks_lib.model import parse_outcome
from tasks_lib.reporting.run_report import ExitCode
from tasks_lib.runtime.status_board import VIEW_NAME, read_view
from tasks_lib.suggestions import suggest

RUN_HEADINGS = ("when", "took", "state", "run", "nodes", "what")
NODE_HEADINGS = ("when", "took", "state", "run", "attempts", "what")
RUN_STYLES = {"Completed": "green", "Failed": "red", "Crashed": "red", "Aborted": "yellow", "Waiting": "yellow"}


def show_history(path: Path, node: str, limit: int, *, as_json: bool, console: Console) -> ExitCode:
    """Print the newest runs, newest first, or with `node` that node's part in them.

    Raises InputError if no server is running, or if the node is in no run and not in the last one's graph either.
    """
    repository = Repository.open(path)
    history = open_history(repository)
    entries = history.list_node_runs(node, limit) if node else history.list_runs(limit)
    if node and not entries:
        _require_known(repository, node)
    if as_json:
        print_json(describe_history(history, repository, node, entries))
    else:
        print_history(history, node, entries, console)
    return ExitCode.COMPLETED


def _require_known(repository: Repository, node: str) -> None:
    view = read_view(repository.state_dir / VIEW_NAME)
    known: Mapping[str, object] = view.nodes if view else {}
    if node not in known:
        raise InputError([f'no recorded run has a node "{node}"{suggest(node, known)}'])


def print_history(history: RunHistory, node: str, entries: Sequence[RunEntry], console: Console) -> None:
    """Print a row for each entry, then where Prefect's UI shows them."""
    if entries:
        rows = [_write_row(entry, is_node=bool(node)) for entry in entries]
        styles = [STYLES.get(parse_outcome(entry.state)) or RUN_STYLES.get(entry.state, "") for entry in entries]
        print_rows(console, NODE_HEADINGS if node else RUN_HEADINGS, rows, styles)
        example = entries[0].link
        say(console, f"The page of the newest: {example}")
    else:
        say(console, f"No run of {node or history.name} is recorded.")
    say(console, f"In Prefect's UI: {history.node_link(node) if node else history.runs_link}")


def _write_row(entry: RunEntry, *, is_node: bool) -> tuple[str, ...]:
    when = f"{datetime.fromisoformat(entry.started).astimezone():%Y-%m-%d %H:%M:%S}" if entry.started else "not started"
    counts = ", ".join(f"{number} {name}" for name, number in entry.counts.items())
    middle = str(entry.attempts) if is_node else counts
    return (when, clock(entry.seconds), entry.state, entry.run, middle, entry.message)


def describe_history(
    history: RunHistory, repository: Repository, node: str, entries: Sequence[RunEntry]
) -> dict[str, object]:
    """Return the history as plain values."""
    return {
        "repository": str(repository.top),
        "name": history.name,
        "node": node or None,
        "link": history.node_link(node) if node else history.runs_link,
        "runs": [asdict(entry) for entry in entries],
    }
