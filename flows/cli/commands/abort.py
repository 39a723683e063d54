"""`coordinator abort`: ends nodes of the run that is going on, or all of it, from another terminal."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from flows.cli.commands.request_sender import speak
from flows.request_messages import UserRequest, Wish
from tasks_lib.errors import InputError
from tasks_lib.reporting.run_report import ExitCode


def abort(path: Path, nodes: Sequence[str], *, is_all: bool, as_json: bool, console: Console) -> ExitCode:
    """End `nodes`, keeping their work, while the others go on; with `is_all` stop the run as Ctrl-C does.

    Raises InputError if neither or both are asked for, and where no run is going on.
    """
    if is_all and nodes:
        raise InputError(["--all stops the whole run; leave the nodes away, or leave --all away"])
    if not is_all and not nodes:
        raise InputError(["name the nodes to end, or stop the whole run with --all"])
    letter = UserRequest(Wish.STOP) if is_all else UserRequest(Wish.ABORT, tuple(nodes))
    return speak(path, letter, as_json=as_json, console=console)
