"""`coordinator resolve`: resolves what blocks a node, in the current run or for the next one."""

from pathlib import Path

from rich.console import Console

from flows.cli.display.request_answers import print_answers
from flows.node_requests import resolve_node
from tasks_lib.model import PersonsWord
from tasks_lib.reporting.run_report import ExitCode


def resolve(path: Path, name: str, word: PersonsWord, *, as_json: bool, console: Console) -> ExitCode:
    """Resolve what blocks the node `name`, and print the answer. Raises as `node_requests.resolve_node`."""
    return print_answers(resolve_node(path, name, word), as_json=as_json, console=console)
