"""`coordinator message`: sends a message to the agent of a running node, from another terminal."""

from pathlib import Path

from rich.console import Console

from flows.cli.display.request_answers import print_answers
from flows.node_requests import send_message as send
from tasks_lib.reporting.run_report import ExitCode


def send_message(path: Path, node: str, text: str, *, as_json: bool, console: Console) -> ExitCode:
    """Send `text` to the agent of `node`, and print the answer. Raises InputError as `node_requests.send_message`."""
    return print_answers(send(path, node, text), as_json=as_json, console=console)
