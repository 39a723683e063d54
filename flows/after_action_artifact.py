"""Writes the after-action report of a run as an artifact of its flow run, and commits it if that is configured."""

import asyncio
from dataclasses import asdict

from flows.prefect_reporting import PrefectConnection
from flows.run_artifact import write_markdown
from tasks_lib.errors import CoordinatorError
from tasks_lib.landing.report_commit import SHORT, commit_report, name_report
from tasks_lib.project.after_action import gather
from tasks_lib.reporting import after_action_text
from tasks_lib.reporting.run_figures import make_headline
from tasks_lib.runtime.run_context import Run

KEY = "coordinator-after-action"
DESCRIPTION = "What went right, what went wrong, what could be better, and action items"


async def write_after_action_report(run: Run, connection: PrefectConnection, *, is_committed: bool) -> None:
    """Write the report on `run`, from its journal and git; if that fails, say why, since the run itself is done.

    It `is_committed` too if the configuration has a folder for that. The run has released its lock by then.
    """
    try:
        report = await asyncio.to_thread(gather, run.project, run.nodes.journal.name)
    except (CoordinatorError, OSError) as error:
        run.board.say(f"The after-action report could not be written: {error}. Try `coordinator report`.")
        return
    run.nodes.journal.sum_up(asdict(make_headline(report.name, report.figures, report.started)))
    text = after_action_text.write_markdown(report)
    await connection.call(lambda: write_markdown(KEY, text, DESCRIPTION))
    if is_committed and (folder := run.settings.report.folder):
        await _commit(run, report.name, name_report(folder, report.name, report.started), text)


async def _commit(run: Run, name: str, path: str, text: str) -> None:
    try:
        change = await asyncio.to_thread(commit_report, run.project, name, path, text)
    except (CoordinatorError, OSError) as error:
        by_hand = f"`coordinator report {name[:SHORT]} > {path}`"
        run.board.say(f"The after-action report was not committed: {error}. {by_hand} writes it.")
        return
    waits = f"; publishing that waits: {change.pending.rstrip('.')}" if change.pending else ""
    run.board.say(f"The after-action report was committed as {path} with {change.commit[:12]}{waits}.")
    for note in change.notes:
        if note not in run.board.view.messages:  # The run may have said it of its own push.
            run.board.say(note)
