"""`coordinator abort`: aborts running nodes, or stops the whole run, from another terminal."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from flows.cli.display.request_answers import print_answers
from flows.node_requests import abort_nodes, drain_run, stop_run
from flows.request_messages import Policy
from tasks_lib.errors import InputError
from tasks_lib.reporting.run_report import ExitCode


def abort(
    path: Path, nodes: Sequence[str], *, is_all: bool, policy: Policy, as_json: bool, console: Console
) -> ExitCode:
    """Abort `nodes` and keep their work, while the others continue; with `is_all`, end the run.

    `policy` says what happens to nodes in progress of the run, or to those that `nodes` have spawned. Raises InputError
    if neither or both are given, or if no run is in progress.
    """
    if is_all and nodes:
        raise InputError(["--all stops the whole run; give either nodes or --all, not both"])
    if not is_all and not nodes:
        raise InputError(["name the nodes to abort, or use --all to stop the whole run"])
    if not is_all:
        sent = abort_nodes(path, nodes, policy)
    elif policy == "continue-running":
        sent = drain_run(path)
    else:
        sent = stop_run(path)
    return print_answers(sent, as_json=as_json, console=console)
