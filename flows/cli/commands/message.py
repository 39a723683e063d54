"""`coordinator message`: sends a message to the agent of a running node, from another terminal."""

from pathlib import Path

from rich.console import Console

from flows.cli.commands.request_sender import speak
from flows.request_messages import MOST_CHARS, UserRequest, Wish
from tasks_lib.errors import InputError
from tasks_lib.reporting.run_report import ExitCode


def send_message(path: Path, node: str, text: str, *, as_json: bool, console: Console) -> ExitCode:
    """Send `text` to the agent of `node`: during its turn if the backend supports that, else with the next prompt.

    Raises InputError if the text is empty or too long, or if no run is in progress.
    """
    if not text.strip():
        raise InputError(["the message is empty; write it in quotes after the node's id"])
    if len(text) > MOST_CHARS:
        raise InputError([f"the message is longer than {MOST_CHARS} characters; put it in a file and send its path"])
    return speak(path, UserRequest(Wish.MESSAGE, (node,), text), as_json=as_json, console=console)
