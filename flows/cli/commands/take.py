"""`coordinator take`: prepares a task of a person for the person whose name git commits with here."""

from pathlib import Path

from rich.console import Console

from flows.cli.display.request_answers import print_answers
from flows.node_requests import take_node
from tasks_lib.reporting.run_report import ExitCode


def take(path: Path, name: str, *, is_forced: bool, as_json: bool, console: Console) -> ExitCode:
    """Prepare the worktree of the task `name`, and print where it is. Raises as `node_requests.take_node`."""
    return print_answers(take_node(path, name, is_forced=is_forced), as_json=as_json, console=console)
