"""Has an agent write the summary of a run's after-action report, in one turn whose changes are discarded."""

import asyncio
import uuid
from dataclasses import replace
from functools import partial

from tasks_lib.agents.backend import SessionSpec, SessionView, TurnEnd, TurnSpec
from tasks_lib.errors import CoordinatorError
from tasks_lib.git.worktrees.lifecycle import Worktree
from tasks_lib.model import Task
from tasks_lib.process.host_resources import choose_memory_limit
from tasks_lib.project.after_action import gather
from tasks_lib.prompts.summary_prompt import write_summary_prompt
from tasks_lib.reporting.after_action_text import write_markdown
from tasks_lib.reporting.journal_events import JournalEvent
from tasks_lib.reporting.report_summary import MAX_BYTES, tidy
from tasks_lib.reporting.run_report import ExitCode
from tasks_lib.runtime.run_context import Run
from tasks_lib.runtime.stopping import Interrupted
from tasks_lib.session.spending import NOTHING, Spent
from tasks_lib.settings.spoke_schema import Place

LOG = "report"
"""The name of the turn's log, and of the folder that it is in."""


async def write_summary(run: Run, code: ExitCode) -> None:
    """Have the summary written if `report.summary_role` asks for one; call it when all nodes of the run have ended.

    `code` is how the run is going to end. There is none for a run that was stopped, or in which no session worked. If
    none can be written, the run says why, and that changes nothing else.
    """
    role = run.settings.report.summary_role
    if not role or run.stopping.is_ending or not any(node.attempt for node in run.board.view.nodes.values()):
        return
    try:
        failure = await _write_summary(run, role, code)
    except Interrupted:
        return
    except (CoordinatorError, OSError) as error:
        failure = str(error)
    if failure:
        run.board.say(f"The report on this run has no summary: {failure}.")


async def _write_summary(run: Run, role: str, code: ExitCode) -> str:
    """Have it written; return why that is not possible, "" if it is there."""
    if run.agents.remote and Place.LOCAL not in run.settings.spokes.list_places(Task("", "", ""), role):
        return "no agent may run on this machine"
    if excess := run.budgets.find_run_excess(Spent(turns=1)):
        return excess
    report = await asyncio.to_thread(gather, run.project, run.nodes.journal.name)
    # It is judged only after this turn, which is part of the run.
    text = write_markdown(replace(report, exit_code=int(code), missing=()))
    head = run.git.head.last_seen()
    worktree = await run.git.call(run.git.worktrees.open_detached, head, "review")
    try:
        end = await _ask(run, role, worktree, write_summary_prompt(text, MAX_BYTES), head)
    finally:
        await run.git.call(run.git.worktrees.take_out, worktree, LOG)
        await run.git.call(run.git.worktrees.release, worktree)
    if failure := _find_failure(end):
        return failure
    answer = tidy(end.answer)
    if not answer:
        return f"{role} wrote none"
    run.nodes.journal.note(JournalEvent.SUMMARIZED, role=role, model=_find_model(run, role), text=answer)
    return ""


async def _ask(run: Run, role: str, worktree: Worktree, prompt: str, head: str) -> TurnEnd:
    """One turn of a session; what it spends counts toward the run, however it ends."""
    spec = _describe_session(run, role, worktree)
    seen = _Seen()
    session = run.agents.backend.open(replace(spec, on_view=partial(seen.show, run, spec.session)))
    began, end = run.agents.clock(), None
    try:
        end = await run.stopping.unless_stopped(session.prompt(prompt, TurnSpec(1, 1, head)), "")
        return end
    finally:
        spent = end.spent if end else seen.spent
        ended = (_find_failure(end) if end else "") or ("" if end else "it was stopped")
        run.budgets.settle(spec.session, spent)
        run.board.show("", tokens=run.budgets.total.tokens, cost=run.budgets.total.cost)
        run.nodes.journal.note(
            JournalEvent.TURNED,
            role=role,
            model=_find_model(run, role),
            attempt=1,
            turn=1,
            seconds=round(run.agents.clock() - began, 3),
            tokens=spent.tokens,
            cost=spent.cost,
            calls=spent.calls,
            stall="",
            ended=ended,
        )
        await session.close()


class _Seen:
    """What the turn has spent so far, which is known if it is cut short."""

    def __init__(self) -> None:
        self.spent: Spent = NOTHING

    def show(self, run: Run, session: str, view: SessionView) -> None:
        self.spent = view.spent
        run.budgets.show(session, "", view.spent)


def _describe_session(run: Run, role: str, worktree: Worktree) -> SessionSpec:
    settings, session = run.settings, str(uuid.uuid4())
    return SessionSpec(
        session=session,
        role=role,
        task_id="",
        task_file="",
        branch="",
        slot=worktree.slot,
        cwd=worktree.path,
        environment=run.agents.environment("agent", worktree),
        log=run.log_path(LOG, "summary"),
        prompt_directory=run.agents.prompts / session,
        turn_seconds=min(settings.report.summary_seconds, settings.watch.turn_seconds),
        stop_seconds=settings.watch.stop_seconds,
        model=settings.agent.models.get(role, ""),
        title=f"Summary of the report on run {run.nodes.journal.name}",
        allowances=run.budgets.list_run_allowances,
        memory_mb=choose_memory_limit(settings.watch.memory_mb),
        is_read_only=True,
    )


def _find_model(run: Run, role: str) -> str:
    return run.agents.backend.name_model(role, run.settings.agent.models.get(role, ""))


def _find_failure(end: TurnEnd) -> str:
    """Why the turn does not count, "" if it does."""
    if end.status == 0 and not end.timed_out and not end.is_limited:
        return end.excess or end.stall or end.loop or end.refusal
    return end.excess or end.stall or end.loop or end.refusal or end.error.rstrip(".") or f"it ended with {end.status}"
