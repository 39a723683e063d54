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
    repository: Repository,
    plan: Plan,
    outcomes: Mapping[str, OutcomeName],
    console: Console,
    *,
    here: Path | None,
    is_pending: bool,
) -> None:
    """Print the next steps under a headline, for a shell in `here`; nothing if running again is all that is to do."""
    steps = list_next_steps(plan, outcomes, list_taken(repository), is_pending=is_pending)
    if not steps:
        return
    program = name_program()
    say(console, "What to do next:", "bold")
    if here is None or not here.is_relative_to(repository.top):
        say(console, f"  cd {shlex.quote(str(repository.top))}")
    for step in steps:
        say(console, f"  {program} {step.command}    ({step.purpose})" if step.command else f"  … {step.purpose}")


def find_here() -> Path | None:
    """The current directory; None if it was deleted. A run leaves it, so ask before."""
    try:
        return Path.cwd()
    except OSError:
        return None
