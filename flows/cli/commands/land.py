"""`coordinator land`: lets work land that a person did, or that waits for one."""

import sys
from pathlib import Path

from rich.console import Console

from flows.cli.commands.run import run_repository
from flows.cli.display.request_answers import print_answers
from flows.node_requests import land_node
from tasks_lib.reporting.run_report import ExitCode


def land(path: Path, name: str, *, as_json: bool, console: Console) -> ExitCode:
    """Ask the current run to land `name`, or do a run that does only that. Raises as `node_requests.land_node`.

    With `as_json`, the output of such a run goes to the standard error.
    """
    sent = land_node(path, name)
    if sent.run or not sent.is_done:
        return print_answers(sent, as_json=as_json, console=console)
    if as_json:
        print_answers(sent, as_json=True, console=console)
        console = Console(file=sys.stderr)
    return run_repository(path, [name], None, is_dry_run=False, port=0, console=console)
