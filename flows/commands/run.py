"""`coordinator run`: works a repository's graph in this terminal, with a server of its own where there is none."""

import asyncio
import os
import signal
from collections.abc import Coroutine, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from flows.places import register
from flows.progress import show
from flows.server import Server, serve
from tasks_lib.errors import BusyError, CoordinatorError, InputError
from tasks_lib.git.head import Head
from tasks_lib.git.lock import read_holder
from tasks_lib.life.project import Project, load_project
from tasks_lib.life.startup import NO_VERIFY, OpenRun, make_backend
from tasks_lib.plan import Plan
from tasks_lib.report import EXIT_SENTENCES, ExitCode

T = TypeVar("T")
FLUSH_SECONDS = 30


def run_repository(
    path: Path, only: Sequence[str], max_sessions: int | None, *, is_dry_run: bool, port: int, console: Console
) -> ExitCode:
    """Work the graph of the repository at `path`. Raises InputError or BusyError before anything was started."""
    project = load_project(path)
    plan = Plan(project.graph, only)
    if is_dry_run:
        show_dry_run(plan, project, max_sessions or project.settings.max_sessions, console)
        return ExitCode.COMPLETED
    make_backend(project.settings)
    if holder := read_holder(project.repository.state_dir):
        raise BusyError(f"{project.repository.top} is worked by {holder} already; wait for it, or stop it")
    if has_nothing_to_do(project, only):
        console.print(f"Every node is completed on {project.target}; there is nothing to do.")
        return ExitCode.COMPLETED
    name = register(project.repository.top)
    if not os.environ.get("PREFECT_API_URL"):
        console.print("Starting Prefect's server (10 to 20 seconds) …", style="dim")
    with serve(port) as server:
        return drive(name, only, max_sessions, server, console)


def has_nothing_to_do(project: Project, only: Sequence[str]) -> bool:
    """Whether the nodes asked for are completed and all of it is published."""
    wanted = only or project.graph.tasks.keys()
    is_completed = all(project.graph.tasks[task_id].is_completed for task_id in wanted)
    left = project.repository.worktrees_dir.exists()
    return is_completed and not left and not Head(project.repository.git, project.target).is_pending()


def show_dry_run(plan: Plan, project: Project, sessions: int, console: Console) -> None:
    """What would start, and why the rest waits."""
    ready = plan.ready()
    console.print("Would start now:" if ready else "Nothing would start.")
    for task_id in ready[:sessions]:
        task = project.graph.tasks[task_id]
        console.print(f"  {task_id}: {task.name} (as {project.settings.role_for(task.level)})", highlight=False)
    if len(ready) > sessions:
        console.print(f"Ready, and waiting for one of {sessions} sessions: {', '.join(ready[sessions:])}")
    for task_id, reason in plan.waits().items():
        console.print(f"  {task_id} {reason}", highlight=False)
    if not project.settings.verify:
        console.print(NO_VERIFY, style="yellow")


def drive(name: str, only: Sequence[str], max_sessions: int | None, server: Server, console: Console) -> ExitCode:
    """Run the flow in this process and show it; Prefect is imported only now, as its settings are in place."""
    from flows.run_graph import RunOptions, on_open, run_graph

    options = RunOptions(repository=name, only=list(only), max_sessions=max_sessions)
    stage = _Stage(server, console)
    token = on_open.set(stage.open)
    try:
        with stage.stack:
            state = asyncio.run(stage.perform(run_graph(options, return_state=True)))
    finally:
        on_open.reset(token)
        flush()
    if stage.opened is None or stage.opened.run.board.view.exit_code is None:
        error = state.result(raise_on_failure=False)
        raise error if isinstance(error, CoordinatorError) else InputError([f"the flow run broke: {state.message}"])
    return stage.say_goodbye()


def flush() -> None:
    """Send the last logs and states while the server is there; left to the interpreter's exit, they never arrive."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all(timeout=FLUSH_SECONDS)
    EventsWorker.drain_all(timeout=FLUSH_SECONDS)


class _Stage:
    """Where the flow performs: its progress on the console, and the keys that stop it."""

    def __init__(self, server: Server, console: Console) -> None:
        self._server = server
        self._console = console
        self.stack = ExitStack()
        self.opened: OpenRun | None = None

    async def perform(self, flow_run: Coroutine[Any, Any, T]) -> T:
        loop = asyncio.get_running_loop()
        job = asyncio.ensure_future(flow_run)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop, job)
        return await job

    def open(self, opened: OpenRun) -> None:
        self.opened = opened
        link = f"{self._server.ui}/runs/flow-run/{opened.run.id}"
        opened.run.board.set_link(link)
        self._console.print(f"Watch it at {link}", highlight=False, soft_wrap=True)
        self.stack.enter_context(show(opened.run.board, self._console))

    def _stop(self, job: "asyncio.Future[object]") -> None:
        if self.opened is None or self.opened.run.is_stopping:
            job.cancel()
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
        self._console.print(EXIT_SENTENCES[code], style="bold")
        if self._server.is_ours:
            self._console.print("To look at this run again in Prefect's UI: coordinator up", highlight=False)
        return code
