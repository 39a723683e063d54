"""Prints what a person can do once a run has ended, as command lines that can be copied."""

import shlex
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from flows.cli.display.output import say
from flows.data_directory import name_program
from tasks_lib.git.repository import Repository
from tasks_lib.git.taken_tasks import list_taken
from tasks_lib.graph.run_plan import Plan
from tasks_lib.model import OutcomeName
from tasks_lib.reporting.next_steps import list_next_steps


def print_next_steps(
    repository: Repository, plan: Plan, outcomes: Mapping[str, OutcomeName], console: Console, *, is_pending: bool
) -> None:
    """Print the next steps under a headline; nothing if there is nothing to do but to run again."""
    steps = list_next_steps(plan, outcomes, list_taken(repository), is_pending=is_pending)
    if not steps:
        return
    program = name_program()
    say(console, "What to do next:", "bold")
    if not _is_here(repository.top):
        say(console, f"  cd {shlex.quote(str(repository.top))}")
    for step in steps:
        say(console, f"  {program} {step.command}    ({step.purpose})" if step.command else f"  … {step.purpose}")


def _is_here(top: Path) -> bool:
    try:
        return Path.cwd().is_relative_to(top)
    except OSError:  # The directory was deleted.
        return False
