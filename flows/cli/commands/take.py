"""`coordinator take`: prepares a task of a person for the person whose name git commits with here."""

from dataclasses import replace
from pathlib import Path

from rich.console import Console

from flows.cli.display.output import say
from flows.cli.display.request_answers import print_answers
from flows.node_requests import set_up_taken_node, take_node
from tasks_lib.reporting.run_report import ExitCode


def take(path: Path, name: str, *, is_forced: bool, as_json: bool, console: Console) -> ExitCode:
    """Prepare the worktree of the task `name`, print where it is, and run `setup` there.

    Raises as `node_requests.take_node`.
    """
    sent = take_node(path, name, is_forced=is_forced)
    if sent.is_done:
        failed = set_up_taken_node(path, name, lambda line: None if as_json else say(console, line))
        sent = replace(sent, answers=[*sent.answers, *failed])
    return print_answers(sent, as_json=as_json, console=console)
