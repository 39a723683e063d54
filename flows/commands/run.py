"""`coordinator run`: works a repository's graph in this terminal, with a server of its own where there is none."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import httpx
from rich.console import Console

from flows.commands.output import say
from flows.commands.settling import settle
from flows.places import VIEW, name_program, register
from flows.progress import show
from flows.server import Server, authorize, serve
from tasks_lib.errors import BusyError, CoordinatorError, SystemFailure
from tasks_lib.git.lock import read_dead_holder, read_holder
from tasks_lib.git.repository import Repository
from tasks_lib.life.backends import check_agent
from tasks_lib.life.board import RunView, read_view
from tasks_lib.life.project import Project, load_project
from tasks_lib.life.remote_leftovers import tidy_remote
from tasks_lib.life.startup import NO_VERIFY, OpenRun
from tasks_lib.plan import Plan
from tasks_lib.report import EXIT_SENTENCES, STOPPED_EARLY, ExitCode, find_exit_code

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

T = TypeVar("T")
FLUSH_SECONDS = 30
RECORD_SECONDS = 60


def run_repository(
    path: Path, only: Sequence[str], max_sessions: int | None, *, is_dry_run: bool, port: int, console: Console
) -> ExitCode:
    """Work the graph of the repository at `path`. Raises InputError or BusyError before anything was started."""
    project = load_project(path, is_fetching=not is_dry_run)
    plan = Plan(project.graph, only)
    if is_dry_run:
        show_dry_run(plan, project, max_sessions or project.settings.max_sessions, console)
        return ExitCode.COMPLETED
    check_agent(project)
    if holder := read_holder(project.repository.state_dir):
        raise BusyError(f"{project.repository.top} is worked by {holder} already; wait for it, or stop it")
    # What a killed run left, in Prefect too, is put right by opening a run, even if nothing is left to work.
    # What a killed run left, in Prefect too, is put right by opening a run, even if nothing is left to work.
    if not was_killed(project.repository) and (code := end_at_once(plan, project, only, console)) is not None:
        for line in settle(project.repository.common_dir):
            say(console, line, "yellow")
        return code
    name = register(project.repository.top)
    if not os.environ.get("PREFECT_API_URL"):
        console.print("Starting Prefect's server (10 to 20 seconds) …", style="dim")
    with serve(port) as server:
        options = {"repository": name, "only": list(only), "max_sessions": max_sessions}
        return drive(options, project.repository.common_dir, server, console)


def was_killed(repository: Repository) -> bool:
    """Whether the last run here ended without a word: it died holding the lock, or before it had said how it ended."""
    view = read_view(repository.state_dir / VIEW)
    return read_dead_holder(repository.state_dir) is not None or (view is not None and not view.ended)


def end_at_once(plan: Plan, project: Project, only: Sequence[str], console: Console) -> ExitCode | None:
    """How a run ends that needs no server, and why, said; None where there is something to do."""
    if has_nothing_to_do(project, only):
        console.print(f"Every node is completed on {project.base_name}; there is nothing to do.")
        for line in tidy_remote(project):
            say(console, line, "yellow")
        return ExitCode.COMPLETED
    if plan.ready() or project.open_head().is_pending():
        return None
    return explain_wait(plan, project, only, console)


def has_nothing_to_do(project: Project, only: Sequence[str]) -> bool:
    """Whether the nodes asked for are completed and all of it is published."""
    wanted = only or project.graph.tasks.keys()
    is_completed = all(project.graph.tasks[task_id].is_completed for task_id in wanted)
    left = project.repository.worktrees_dir.exists()
    return is_completed and not left and not project.open_head().is_pending()


def explain_wait(plan: Plan, project: Project, only: Sequence[str], console: Console) -> ExitCode:
    """Say why nothing can start, which needs no server; the code is the one that a run would end with."""
    say(console, "Nothing can start now:")
    for task_id, reason in plan.waits().items():
        say(console, f"  {task_id} {reason}")
    code = find_exit_code(project.graph, only, {}, is_interrupted=False)
    say(console, EXIT_SENTENCES[code], "bold")
    return code


def show_dry_run(plan: Plan, project: Project, sessions: int, console: Console) -> None:
    """What would start, and why the rest waits."""
    ready = plan.ready()
    if project.is_remote:
        say(console, f"On {project.where}:")
    console.print("Would start now:" if ready else "Nothing would start.")
    for task_id in ready[:sessions]:
        task = project.graph.tasks[task_id]
        say(console, f"  {task_id}: {task.name} (as {project.settings.role_for(task.level)})")
    if len(ready) > sessions:
        say(console, f"Ready, and waiting for one of {sessions} sessions: {', '.join(ready[sessions:])}")
    for task_id, reason in plan.waits().items():
        say(console, f"  {task_id} {reason}")
    if not project.settings.verify:
        console.print(NO_VERIFY, style="yellow")


def drive(words: Mapping[str, Any], common_dir: Path, server: Server, console: Console) -> ExitCode:
    """Run the flow in this process and show it; Prefect is imported only now, as its settings are in place."""
    from prefect import tags

    from flows.run_graph import RunOptions, on_open, run_graph
    from flows.stale_runs import list_tags

    options = RunOptions(**words)
    stage = _Stage(server, console)
    token = on_open.set(stage.open)
    state: State[Any] | None = None
    try:
        # Tagged from its first moment on: whoever comes after a kill knows the flow run by that.
        with stage.stack, tags(*list_tags(common_dir)), suppress(asyncio.CancelledError):
            # Prefect's types do not know that a flow that is async is awaited for its state.
            begin = cast("Callable[[], Awaitable[State[Any]]]", partial(run_graph, options, return_state=True))
            state = asyncio.run(stage.perform(begin))
    finally:
        on_open.reset(token)
        flush()
    if state is None:
        return ExitCode.INTERRUPTED
    if stage.opened is None or stage.opened.run.board.view.exit_code is None:
        error: object = state.result(raise_on_failure=False)
        raise error if isinstance(error, CoordinatorError) else SystemFailure(f"the flow run broke: {state.message}")
    wait_until_recorded(server, stage.opened.run.board.view)
    return stage.say_goodbye()


def flush() -> None:
    """Send the last logs and states while the server is there; left to the interpreter's exit, they never arrive."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all(timeout=FLUSH_SECONDS)
    EventsWorker.drain_all(timeout=FLUSH_SECONDS)


def wait_until_recorded(server: Server, view: RunView) -> None:
    """Wait until the server, which records with a delay, has the end of every node that was worked."""
    worked = sum(1 for node in view.nodes.values() if node.attempt)
    ended = {"state": {"type": {"any_": ["COMPLETED", "FAILED", "CANCELLED", "CRASHED"]}}}
    body = {"flow_runs": {"id": {"any_": [view.run]}}, "task_runs": ended}
    deadline = time.monotonic() + RECORD_SECONDS
    with suppress(httpx.HTTPError), httpx.Client(headers=authorize(), timeout=RECORD_SECONDS) as client:
        while time.monotonic() < deadline:
            if client.post(f"{server.api}/task_runs/count", json=body).raise_for_status().json() >= worked:
                return
            time.sleep(0.1)


class _Stage:
    """Where the flow performs: its progress on the console, and the keys that stop it."""

    def __init__(self, server: Server, console: Console) -> None:
        self._server = server
        self._console = console
        self.stack = ExitStack()
        self.opened: OpenRun | None = None

    async def perform(self, begin: Callable[[], Awaitable[T]]) -> T:
        """Do what `begin` begins; the first signal stops it gently, the second at once."""
        loop = asyncio.get_running_loop()
        job = asyncio.ensure_future(begin())
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, lambda: self._stop(job.cancel))
        return await job

    def open(self, opened: OpenRun) -> None:
        self.opened = opened
        link = f"{self._server.ui}/runs/flow-run/{opened.run.id}"
        opened.run.board.set_link(link, self._server.api)
        self._console.print(f"Watch it at {link}", highlight=False, soft_wrap=True)
        self.stack.enter_context(show(opened.run.board, self._console))

    def _stop(self, cancel: Callable[[], object]) -> None:
        if self.opened is None or self.opened.run.is_stopping:
            cancel()
            return
        self._console.print("Stopping: sessions are ended, their work is kept. Once more stops at once.")
        self.opened.run.stop()

    def say_goodbye(self) -> ExitCode:
        """Say how it ended, and how to look at it later."""
        assert self.opened is not None
        view = self.opened.run.board.view
        code = ExitCode(view.exit_code or 0)
        from flows.summary import print_summary

        print_summary(view, self._console)
        self._console.print(STOPPED_EARLY if self.opened.run.halt_reason else EXIT_SENTENCES[code], style="bold")
        if self._server.is_ours:
            say(self._console, f"To look at this run again in Prefect's UI: {name_program()} up")
        return code
