"""`coordinator message`: sends a message to the agent of a running node, from another terminal."""

from pathlib import Path

from rich.console import Console

from flows.cli.commands.request_sender import send_and_print
from flows.request_messages import MAX_CHARS, RequestKind, UserRequest
from tasks_lib.errors import InputError
from tasks_lib.reporting.run_report import ExitCode


def send_message(path: Path, node: str, text: str, *, as_json: bool, console: Console) -> ExitCode:
    """Send `text` to the agent of `node`: during its turn if the backend supports that, else with the next prompt.

    Raises InputError if the text is empty or too long, or if no run is in progress.
    """
    if not text.strip():
        raise InputError(["the message is empty; write it in quotes after the node's id"])
    if len(text) > MAX_CHARS:
        raise InputError([f"the message is longer than {MAX_CHARS} characters; put it in a file and send its path"])
    return send_and_print(path, UserRequest(RequestKind.MESSAGE, (node,), text), as_json=as_json, console=console)
