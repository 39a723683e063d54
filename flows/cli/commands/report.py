"""`coordinator report`: the after-action report on a run or a milestone, and its action items as task files."""

import gc
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from flows.cli.commands.init import write_new
from flows.cli.display.output import print_json, say
from tasks_lib.errors import InputError
from tasks_lib.naming import flatten
from tasks_lib.project.after_action import gather
from tasks_lib.project.loading import Project, load_project, read_checkout
from tasks_lib.reporting.action_items import name_item, render_item
from tasks_lib.reporting.after_action import AfterActionReport
from tasks_lib.reporting.after_action_text import write_markdown
from tasks_lib.reporting.run_report import ExitCode

SHORT = 8


def show_report(
    path: Path, run: str, milestone: str, *, is_proposing: bool, as_json: bool, console: Console
) -> ExitCode:
    """Print the report; with `is_proposing`, also write its action items as task files into the checkout.

    Raises InputError if nothing is known of the run or the milestone, or if task files cannot be written.
    """
    gc.disable()  # It would look through all that was read several times, and the process ends soon.
    project = load_project(path)
    report = gather(project, run, milestone)
    proposed = propose(project, report) if is_proposing else []
    if as_json:
        print_json(report.to_json() | ({"proposed": proposed} if is_proposing else {}))
        return ExitCode.COMPLETED
    say(console, write_markdown(report))
    if is_proposing:
        _tell_proposed(proposed, console)
    return ExitCode.COMPLETED


def propose(project: Project, report: AfterActionReport) -> list[str]:
    """Write a task file for each action item that no task asks for yet; return their paths, relative to the top.

    A completed task counts only if it was proposed by the same report: what it was for has happened again. Nothing is
    committed, and nothing overwritten; called again, it writes nothing.
    """
    repository = project.repository
    if repository.is_bare:
        raise InputError([f"{repository.top} is a bare repository without a checkout; run this in a clone of it"])
    tasks, _ = read_checkout(repository, project.tasks_dir)
    stem = f"aar-{flatten(report.name)[:SHORT].rstrip('-.')}"
    found = {task.id: task for task in (*tasks, *project.graph.tasks.values())}
    known = set(found)
    names = {task.name for task in found.values() if not task.is_completed or task.id.startswith(f"{stem}-")}
    wrote: list[str] = []
    for number, item in enumerate(report.action_items, 1):
        if item.task or name_item(item) in names:
            continue
        task_id = _name_task(stem, number, known)
        known.add(task_id)
        wrote.append(f"{project.tasks_dir}/{task_id}.md")
        write_new(repository.top / wrote[-1], render_item(item, task_id, report.name, report.runs))
    return wrote


def _name_task(stem: str, number: int, known: set[str]) -> str:
    """The id for the action item `number` of the report, or the next number whose id is free."""
    while f"{stem}-{number}" in known:
        number += 1
    return f"{stem}-{number}"


def _tell_proposed(proposed: Sequence[str], console: Console) -> None:
    if not proposed:
        say(console, "No action item asks for a new task file.")
        return
    say(console, f"Wrote {', '.join(proposed)}. Edit what you want, delete the others, then:")
    say(console, f"  git add {' '.join(proposed)} && git commit -m 'Plan what the report asks for'")
    say(console, "  coordinator run")
