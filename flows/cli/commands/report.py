"""`coordinator report`: the after-action report on a run or a milestone, and its action items as task files."""

import gc
from pathlib import Path

from rich.console import Console

from flows.cli.display.output import print_json, say
from tasks_lib.project.after_action import gather
from tasks_lib.project.loading import load_project
from tasks_lib.reporting.after_action_text import write_markdown
from tasks_lib.reporting.run_report import ExitCode


def show_report(path: Path, run: str, milestone: str, *, as_json: bool, console: Console) -> ExitCode:
    """Print the report. Raises InputError if nothing is known of the run or the milestone."""
    gc.disable()  # It would look through all that was read several times, and the process ends soon.
    report = gather(load_project(path), run, milestone)
    if as_json:
        print_json(report.to_json())
    else:
        say(console, write_markdown(report))
    return ExitCode.COMPLETED
