"""The Prefect flow: reads the graph, plans it, runs what is ready until nothing is left, publishes and reports."""

import asyncio
import gc
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext
from prefect.settings import PREFECT_API_URL
from prefect.states import Completed
from pydantic import BaseModel, ConfigDict, Field

from flows.after_action_artifact import write_after_action_report
from flows.data_directory import data_dir, find_repository
from flows.deployment_version import own_release, warn_of_other_release
from flows.earlier_process import take_over
from flows.flow_run_marks import is_marked
from flows.node_artifact import making_artifacts
from flows.prefect_events import announcing
from flows.prefect_isolation import in_own_directory, remove_from_import_path
from flows.prefect_reporting import PrefectConnection
from flows.prefect_states import describe_refusal, describe_run
from flows.request_inbox import receiving_requests, stop, stop_paused
from flows.run_artifact import write_markdown
from flows.run_ending import RunEnding, end_flow_run, tell_continuation
from flows.run_node import PrefectLauncher
from flows.sessions_table import showing_sessions
from flows.spokes.run_link import linking
from flows.stale_flow_runs import FLOW, OUTAGE, end_stale
from flows.termination_signals import on_worker_end
from tasks_lib.engine.report_summary import write_summary
from tasks_lib.engine.run_lifecycle import OpenRun, SpokeAccess, open_run
from tasks_lib.engine.scheduler import Scheduler
from tasks_lib.engine.telling import tell_end
from tasks_lib.errors import BusyError, CoordinatorError, Fault, InputError
from tasks_lib.git.repository import Repository
from tasks_lib.graph.run_plan import Plan
from tasks_lib.project.loading import Project, load_project
from tasks_lib.reporting.run_report import ExitCode, ReportRow, write_report
from tasks_lib.runtime.backend_factory import find_command_fault
from tasks_lib.runtime.status_board import VIEW_NAME, RunView, read_view
from tasks_lib.session.spending import Spent

GARBAGE = (20_000, 10, 20)
"""Thresholds for `gc.set_threshold`. With Python's defaults, garbage collection scans every object of a long run every
few seconds, which took an eighth of the coordinator's CPU time at a thousand nodes."""
STALE_SECONDS = 60.0
"""Time limit for marking dead runs in Prefect, which may have a thousand nodes; the next run does the rest."""
on_begin: ContextVar[Callable[[], None] | None] = ContextVar("on_begin", default=None)
"""Called when the flow starts; by then Prefect has installed its own TERM handler."""
on_open: ContextVar[Callable[[OpenRun], None] | None] = ContextVar("on_open", default=None)
"""Called with the run once it is open, so that the command line in the same process can show and stop it."""
on_refusal: ContextVar[Callable[[CoordinatorError], None] | None] = ContextVar("on_refusal", default=None)
"""Called with the reason if the flow starts nothing; the command line needs it for its message and exit code."""


class RunOptions(BaseModel):
    """Parameters of the flow: what to run, and how much at a time."""

    model_config = ConfigDict(extra="forbid", title="Run a task graph")

    repository: str = Field(
        title="Repository", description="A registered repository; `coordinator init` registers one."
    )
    only: list[str] = Field(
        default=[], title="Only these nodes", description="Ids of the nodes to run; leave empty to run the whole graph."
    )
    max_sessions: int | None = Field(
        default=None,
        ge=1,
        le=256,
        title="Sessions at a time",
        description="How many agents run in parallel; leave empty to use the repository's `max_sessions`.",
    )
    max_landings: int | None = Field(
        default=None,
        ge=1,
        title="Landings",
        description="How many nodes may land in this run; leave empty for any. The next run lands the rest.",
    )
    dry_run: bool = Field(
        default=False, title="Dry run", description="Only show what would start, and why the rest waits."
    )


@flow(name=FLOW, flow_run_name="{options.repository}", persist_result=False, retries=0)
async def run_graph(
    options: Annotated[RunOptions, Field(title="Options", description="What to run, and how much at a time.")],
) -> State[Any]:
    """Run the task graph of a registered repository, and land what passes its verification."""
    if took := on_begin.get():
        took()
    try:
        top = find_repository(options.repository)
        remove_from_import_path(top)
        with in_own_directory():
            return await work_repository(top, options)
    except (BusyError, InputError) as error:
        if refuse := on_refusal.get():
            refuse(error)
        return describe_refusal(error)


async def work_repository(top: Path, options: RunOptions) -> State[Any]:
    """Read the repository at `top`, then run its graph or report what would run."""
    connection = PrefectConnection()
    context = FlowRunContext.get()
    flow_run = context.flow_run if context else None
    if flow_run and not is_marked(flow_run):  # A worker's; one from the command line has its marks from the start.
        common_dir = (await asyncio.to_thread(Repository.open, top)).common_dir
        await take_over(flow_run, common_dir, connection)
    warnings = find_release_warnings(flow_run)
    project = await asyncio.to_thread(load_project, top, is_fetching=not options.dry_run)
    plan = Plan(project.graph, options.only)
    if options.dry_run:
        text = describe_plan(plan)
        await connection.call(lambda: write_markdown("coordinator-plan", text, "What would start, and why not"))
        get_run_logger().info(text)
        return Completed(name="Planned", message="Nothing was started.")
    if fault := await asyncio.to_thread(find_command_fault, project):
        raise InputError([fault])
    project = replace(project, warnings=(*project.warnings, *warnings))
    return await work_graph(project, options, flow_run.id if flow_run else None, connection)


def find_release_warnings(flow_run: FlowRun | None) -> list[Fault]:
    """Warn if another release made the deployment; logged at once, since it may be why the run fails to start."""
    warning = warn_of_other_release(flow_run.deployment_version) if flow_run else ""
    if not warning:
        return []
    get_run_logger().warning(warning)
    return [Fault("", 0, warning, is_warning=True)]


async def work_graph(
    project: Project, options: RunOptions, flow_run: UUID | None, connection: PrefectConnection
) -> State[Any]:
    """Open the run, run the graph, and report the result."""
    gc.set_threshold(*GARBAGE)
    logger = get_run_logger()
    sessions = options.max_sessions or project.settings.max_sessions
    run_id = str(flow_run or "")
    # Read before the run is opened, which overwrites it.
    last = await asyncio.to_thread(read_view, project.repository.state_dir / VIEW_NAME)
    async with AsyncExitStack() as stack:
        # The judgement after the inner block is still announced.
        spokes = await stack.enter_async_context(reaching_spokes(project))
        async with open_run(project, run_id, sessions, begin, data=data_dir(), spokes=spokes) as opened:
            opened.limit_landings(options.max_landings or 0)
            board = opened.run.board
            board.show("", only=tuple(options.only))
            board.listen(lambda node, line: None if node else logger.warning(line))
            connection.show_on(board)
            await end_dead_runs(opened, flow_run, last)
            journal = opened.run.nodes.journal
            announcer = stack.enter_context(announcing(board, journal, run_id, options.repository, sessions))
            async with (
                receiving_requests(opened, flow_run, connection, announcer),
                showing_sessions(board),
                making_artifacts(opened.run, options.repository, connection) as artifacts,
            ):
                pause = partial(stop_paused, opened.run)
                launcher = PrefectLauncher(board, opened.run.settings.retry, connection, artifacts, pause)
                scheduler = Scheduler(opened, Plan(opened.run.nodes.graph, options.only), launcher)
                await scheduler.work()
                await write_summary(opened.run, scheduler.judge())
        ending = await finish(opened, scheduler, options, connection)
        await tell_end(opened, scheduler.judge())
        ended = {"id": run_id, "exit_code": board.view.exit_code or 0, "state": ending.state.name or ""}
        announcer.announce("run.ended", {**ended, "at": opened.run.nodes.journal.judged_at})
    return ending.leave()


@asynccontextmanager
async def reaching_spokes(project: Project) -> AsyncGenerator[SpokeAccess | None]:
    """Yield how to reach other machines, None if the configuration names no remote for that."""
    if not project.settings.spokes.remote:
        yield None
        return
    async with linking(project.settings.spokes.work_pool) as link:
        yield SpokeAccess(link, own_release())


async def end_dead_runs(opened: OpenRun, own: UUID | None, last: RunView | None) -> None:
    """End killed runs of this repository in Prefect, which does not notice by itself; `last` is the last run's view."""
    moved = opened.relocation
    former = moved.former if moved and not moved.is_copy else None
    try:
        async with asyncio.timeout(STALE_SECONDS):
            lines = await end_stale(opened.run.git.repository.common_dir, own, former, last)
        for line in lines:
            opened.run.board.say(line)
    except OUTAGE as error:
        opened.run.board.say(f"Could not report killed runs to Prefect: {error}. The next run will try again.")


def begin(opened: OpenRun) -> None:
    """Record where the run can be viewed and reached, and pass it to the command line if there is one."""
    api = PREFECT_API_URL.value() or ""
    link = f"{api.removesuffix('/').removesuffix('/api')}/runs/flow-run/{opened.run.id}" if api else ""
    opened.run.board.set_link(link, api)
    if show := on_open.get():
        show(opened)
    else:
        # Agents run in their own sessions, and would continue unattended.
        on_worker_end(partial(stop, opened.run, "because its worker ends it"))


async def finish(
    opened: OpenRun, scheduler: Scheduler, options: RunOptions, connection: PrefectConnection
) -> RunEnding:
    """Judge the run by the head, write the report, and return how the flow run ends."""
    run, plan, code = opened.run, scheduler.plan, scheduler.judge()
    view = run.board.view
    rows = [
        ReportRow(n.id, n.name, n.outcome, n.attempt, n.commit, n.reason, str(Spent(n.tokens, n.cost)), n.blocker_kind)
        for n in (view.nodes[task_id] for task_id in plan.graph.order() if task_id in view.nodes)
    ]
    dropped = f"{view.dropped_messages} older messages are only in the run's log."
    told = run.nodes.dispatches.describe()
    messages = (*([dropped] if view.dropped_messages else []), *view.messages, *([told] if told else []))
    report = write_report(f"Run of {options.repository}", rows, messages, code, str(run.budgets.total))
    await connection.call(lambda: write_markdown("coordinator-report", report, "How each node ended"))
    run.nodes.journal.judge(int(code))
    is_told = code is not ExitCode.INTERRUPTED and any(row.attempt for row in rows)
    await write_after_action_report(run, connection, is_committed=is_told)
    detail = f"Publication is pending: {opened.publisher.pending}." if opened.publisher.pending else ""
    if code is ExitCode.COMPLETED and not detail and not any(row.attempt for row in rows):
        detail = "Nothing was left to do."
    context = FlowRunContext.get()
    is_deployed = bool(context and context.flow_run and context.flow_run.deployment_id)
    continuation = tell_continuation(code, options.repository, is_deployed=is_deployed)
    state = describe_run(code, detail, run.stopping.halt_reason, continuation)
    ending = await connection.call(lambda: end_flow_run(UUID(run.id), state, options.repository)) if run.id else None
    run.board.close(int(code))
    return ending or RunEnding(state)


def describe_plan(plan: Plan) -> str:
    """Describe what would start now, and why the rest waits, in markdown."""
    ready, waits = plan.ready(), plan.waits()
    lines = [
        "Would start now, in this order:",
        *(f"- `{task_id}`: {plan.graph.tasks[task_id].name}" for task_id in ready),
    ]
    if not ready:
        lines.append("- nothing")
    if waits:
        lines += ["", "Waiting:", *(f"- `{task_id}` {reason}" for task_id, reason in waits.items())]
    return "\n".join(lines)


__all__ = ["ExitCode", "RunOptions", "run_graph"]
