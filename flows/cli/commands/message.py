"""`coordinator message`: says something to the agent that works a node, from another terminal."""

from pathlib import Path

from rich.console import Console

from flows.cli.commands.request_sender import speak
from flows.request_messages import MOST_CHARS, UserRequest, Wish
from tasks_lib.errors import InputError
from tasks_lib.reporting.run_report import ExitCode


def send_message(path: Path, node: str, text: str, *, as_json: bool, console: Console) -> ExitCode:
    """Bring `text` to the agent of `node`: into its turn if the backend can, else with its next prompt.

    Raises InputError for an empty or an endless text, and where no run is going on.
    """
    if not text.strip():
        raise InputError(["there is no text; write what the agent is to be told, in quotes"])
    if len(text) > MOST_CHARS:
        raise InputError([f"the text is longer than {MOST_CHARS} characters; put it into a file, and name that"])
    return speak(path, UserRequest(Wish.MESSAGE, (node,), text), as_json=as_json, console=console)
