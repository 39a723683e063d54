"""`coordinator run`: runs a repository's graph in this terminal, and starts a Prefect server if there is none."""

import asyncio
import logging
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from rich.console import Console

from flows.cli.commands.up_port import tell_of_port
from flows.cli.display.next_steps import find_here
from flows.cli.display.output import count, say
from flows.cli.display.server_start import show_start
from flows.cli.display.terminal_run import Stage
from flows.data_directory import register
from flows.importing import importing
from flows.prefect_api import ask
from flows.prefect_cleanup import settle
from flows.prefect_server import Server, describe_start, serve
from flows.server_users import recorded
from flows.standard_streams import detach_output
from flows.termination_signals import ignore_background_stop
from tasks_lib.cleanup.moved_repository import find_former_top, find_move
from tasks_lib.cleanup.remote_branches import clean_up_remote
from tasks_lib.engine.run_lifecycle import NO_VERIFY
from tasks_lib.errors import BusyError, CoordinatorError, StartError, SystemFailure
from tasks_lib.git.repository import Repository
from tasks_lib.git.repository_lock import announcing_start, read_dead_holder, read_holder
from tasks_lib.graph.run_plan import Plan
from tasks_lib.naming import show_some
from tasks_lib.node.landing_approval import list_permitted
from tasks_lib.process.program_starts import allow_starts
from tasks_lib.project.loading import Project, load_project
from tasks_lib.reporting.run_report import EXIT_SENTENCES, ExitCode, find_exit_code
from tasks_lib.runtime.backend_factory import check_agent
from tasks_lib.runtime.last_run import read_last_run
from tasks_lib.runtime.status_board import Board, RunView

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

FLUSH_SECONDS = 30
QUICK_FLUSH_SECONDS = 2
"""Used if Prefect has lost the run, or its server does not answer."""
RECORD_SECONDS = 60


def run_repository(
    path: Path,
    only: Sequence[str],
    max_sessions: int | None,
    *,
    max_landings: int | None = None,
    is_dry_run: bool,
    port: int,
    console: Console,
) -> ExitCode:
    """Run the graph of the repository at `path`. Raises InputError or BusyError before anything is started."""
    project = load_project(path, is_fetching=not is_dry_run)
    plan = Plan(project.graph, only)
    for task_id in list_permitted(project.repository, project.graph.tasks):
        plan.land(task_id)
    if is_dry_run:
        show_dry_run(plan, project, max_sessions or project.settings.max_sessions, console)
        return ExitCode.COMPLETED
    check_agent(project)
    refuse_second_run(project.repository)
    # Opening a run cleans up after a killed one, in Prefect too, even if nothing is left to do.
    if not was_killed(project.repository) and (code := end_at_once(plan, project, only, console)) is not None:
        for line in settle(project.repository.common_dir):
            say(console, line, "yellow")
        return code
    repository, here = project.repository, find_here()
    name = register(repository.top, find_former_top(repository, find_move(repository)))
    detach_output()
    with ExitStack() as stack:
        if not os.environ.get("PREFECT_API_URL"):
            stack.enter_context(recorded(str(repository.top)))
        repository.prepare()
        starting = stack.enter_context(ExitStack())
        starting.enter_context(announcing_start(repository.state_dir))
        with show_start(console, describe_start()):
            linger_seconds = project.settings.server_linger_seconds
            server = stack.enter_context(serve(port, meanwhile=import_flow, linger_seconds=linger_seconds))
        tell_of_port(port, server, partial(say, console))
        options = {"repository": name, "only": list(only), "max_sessions": max_sessions, "max_landings": max_landings}
        return drive(options, project.repository.common_dir, Stage(server, console, stack.close, starting.close, here))


def refuse_second_run(repository: Repository) -> None:
    if holder := read_holder(repository.state_dir):
        raise BusyError(f"{repository.top} is already in use by {holder}; wait for it to end, or stop it")


def was_killed(repository: Repository) -> bool:
    """Whether the last run was killed: it held the lock when it died, or did not record how it ended."""
    return read_dead_holder(repository.state_dir) is not None or read_last_run(repository.state_dir).was_killed


def end_at_once(plan: Plan, project: Project, only: Sequence[str], console: Console) -> ExitCode | None:
    """Print why there is nothing to run and return the exit code; None if there is something to do."""
    if is_completed(project, only):
        done = f"{show_some(only)} {'is' if len(only) == 1 else 'are'} completed" if only else "Every node is completed"
        say(console, f"{done} on {project.base_name}; there is nothing to do.")
        for line in clean_up_remote(project):
            say(console, line, "yellow")
        return ExitCode.COMPLETED
    if plan.ready() or project.open_head().is_pending():
        return None
    return explain_wait(plan, project, only, console)


def is_completed(project: Project, only: Sequence[str]) -> bool:
    """Whether the requested nodes are completed and published."""
    wanted = only or project.graph.tasks.keys()
    return all(project.graph.tasks[task_id].is_completed for task_id in wanted) and not project.open_head().is_pending()


def explain_wait(plan: Plan, project: Project, only: Sequence[str], console: Console) -> ExitCode:
    """Print why no requested node can start, and return the exit code that a run would end with."""
    graph = project.graph
    shown = {one for task_id in only for one in (task_id, *graph.ancestors(task_id))}
    say(console, f"{show_some(only)} cannot start now:" if only else "Nothing can start now:")
    for task_id, reason in plan.waits().items():
        if not only or task_id in shown:
            say(console, f"  {task_id} {reason}")
    code = find_exit_code(graph, only, {}, is_interrupted=False)
    say(console, EXIT_SENTENCES[code], "bold")
    return code


def show_dry_run(plan: Plan, project: Project, sessions: int, console: Console) -> None:
    """Print what would start, and why the rest waits."""
    ready = plan.ready()
    if project.is_remote:
        say(console, f"On {project.where}:")
    console.print("Would start now:" if ready else "Nothing would start now.")
    for task_id in ready[:sessions]:
        task = project.graph.tasks[task_id]
        say(console, f"  {task_id}: {task.name} (as {project.settings.role_of(task)})")
    if len(ready) > sessions:
        say(console, f"Ready, but waiting for one of {count(sessions, 'session')}: {', '.join(ready[sessions:])}")
    for task_id, reason in plan.waits().items():
        say(console, f"  {task_id} {reason}")
    if not project.settings.verify:
        console.print(NO_VERIFY, style="yellow")


def import_flow() -> None:
    """Import Prefect and the flow, which takes seconds."""
    with importing():
        for name in ("flows.prefect_reporting", "flows.run_graph"):
            import_module(name)


def drive(words: Mapping[str, Any], common_dir: Path, stage: Stage) -> ExitCode:
    """Run the flow in this process and show it. Prefect is imported only now that its settings are in place.

    The exit code comes from the board, which judges by git, and not from the state of the flow run in Prefect.
    """
    with importing():
        from prefect.exceptions import TerminationSignal

        from flows.flow_run_marks import run_marked
        from flows.prefect_reporting import FAULTS
        from flows.run_graph import RunOptions, on_begin, on_open, on_refusal, run_graph

    ignore_background_stop()
    options = RunOptions(**words)
    logging.raiseExceptions = False  # Prefect's log worker would print every failure to reach the server.
    tokens = on_begin.set(stage.begin), on_open.set(stage.open), on_refusal.set(stage.refuse)
    state: State[Any] | None = None
    broke: BaseException | None = None
    try:
        with stage.stack, suppress(asyncio.CancelledError):
            state = asyncio.run(stage.perform(lambda: run_marked(run_graph, {"options": options}, common_dir)))
    except (*FAULTS, TerminationSignal) as error:
        broke = error
    finally:
        on_begin.reset(tokens[0])
        on_open.reset(tokens[1])
        on_refusal.reset(tokens[2])
        flush(QUICK_FLUSH_SECONDS if broke or stage.is_incomplete() else FLUSH_SECONDS)
    if stage.opened and stage.is_judged():
        allow_starts()
        conclude(stage, stage.opened.run.board, broke)
        return stage.say_goodbye()
    if stage.presses or isinstance(broke, TerminationSignal) or (state is None and broke is None):
        return ExitCode.INTERRUPTED
    raise stage.refusal or explain_break(state, broke, is_open=stage.opened is not None)


def conclude(stage: Stage, board: Board, broke: BaseException | None) -> None:
    """Wait until Prefect has recorded all of the run, or report that it has not."""
    from flows.prefect_reporting import say_incomplete

    if broke:
        say_incomplete(board, broke)
        board.write()
    if not stage.is_incomplete():
        wait_until_recorded(stage.server, board.view)


def explain_break(state: "State[Any] | None", broke: BaseException | None, *, is_open: bool) -> CoordinatorError:
    """Why the run failed before it could be judged; nothing was started unless it `is_open`."""
    from flows.prefect_reporting import explain

    if broke or state is None:
        said = f"Prefect did not accept the run: {explain(broke) if broke else 'no state'}. Run again."
        return SystemFailure(said) if is_open else StartError(said)
    error: object = state.result(raise_on_failure=False)
    return error if isinstance(error, CoordinatorError) else SystemFailure(f"the flow run failed: {state.message}")


def flush(seconds: float) -> None:
    """Send the last logs and events while the server is up; at interpreter exit it is too late."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all(timeout=seconds)
    EventsWorker.drain_all(timeout=seconds)


def wait_until_recorded(server: Server, view: RunView) -> None:
    """Wait until the server, which records with a delay, has the end of every node that was run."""
    worked = sum(1 for node in view.nodes.values() if node.attempt)
    ended = {"state": {"type": {"any_": ["COMPLETED", "FAILED", "CANCELLED", "CRASHED"]}}}
    body = {"flow_runs": {"id": {"any_": [view.run]}}, "task_runs": ended}
    deadline = time.monotonic() + RECORD_SECONDS
    with suppress(httpx.HTTPError), ask(server.api, RECORD_SECONDS) as client:
        while time.monotonic() < deadline:
            if client.post("/task_runs/count", json=body).raise_for_status().json() >= worked:
                return
            time.sleep(0.1)
