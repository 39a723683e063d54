"""Shows a run in a terminal, and handles the signals that stop it.

The first signal stops the run gracefully: sessions are stopped, their work is kept, and the terminal shows what the run
is waiting for. The second signal, or `STOP_SECONDS` after the first, exits at once and still leaves nothing running.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from flows.cli.display.next_steps import print_next_steps
from flows.cli.display.output import say
from flows.cli.display.progress_table import clock, show
from flows.cli.display.run_summary import print_summary
from flows.data_directory import name_program
from flows.prefect_server import Server
from flows.standard_streams import close_output
from flows.termination_signals import NAMES, on_signals
from tasks_lib.cleanup.dead_run import end_processes
from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.errors import AgentError, CoordinatorError
from tasks_lib.graph.run_plan import Plan
from tasks_lib.process.program_starts import refuse_starts
from tasks_lib.reporting.run_report import EXIT_SENTENCES, INCOMPLETE, STOPPED_EARLY, ExitCode

T = TypeVar("T")
STOP_SECONDS = 120.0
"""How long a graceful stop may take, in addition to the time that agents get to stop."""
REPEAT_SECONDS = 0.5
"""A repeated signal within this time counts as one: `timeout` and closing terminals send theirs twice."""
UNWIND_SECONDS = 3.0
"""How long a run may take to close what it has open on an immediate exit, before its processes are ended."""
LEAVE_SECONDS = 30.0
"""How long ending the run's processes may take on an immediate exit, once the run itself has ended."""
KILL_SECONDS = 1.0
END_SECONDS = 60.0
"""How long Prefect may take to end its flow run once the run has been judged."""
LOST_END_SECONDS = 10.0
"""The same if Prefect's record is already reported as incomplete."""
LOOK_SECONDS = 0.5


class Stage:
    """Shows the flow's progress on the console, and stops it on a signal.

    `leave` stops the server, for an exit that cannot wait for the run itself. `end_start` is called once the
    run is open. `here` is the directory of the person's shell.
    """

    def __init__(
        self,
        server: Server,
        console: Console,
        leave: Callable[[], None],
        end_start: Callable[[], None],
        here: Path | None = None,
    ) -> None:
        self.server: Server = server
        self._console = console
        self._leave = leave
        self._end_start = end_start
        self._here = here
        self._said: set[str] = set()
        self._last_press = 0.0
        self._leaving: asyncio.Task[None] | None = None
        self.presses: int = 0
        self._take_signals: Callable[[], None] = lambda: None
        self.stack: ExitStack = ExitStack()
        self.opened: OpenRun | None = None
        self.refusal: CoordinatorError | None = None

    def begin(self) -> None:
        """Called when the flow has started: replaces the TERM handler that Prefect has installed by then."""
        self._take_signals()

    def open(self, opened: OpenRun) -> None:
        """Called when the run is open, and can be shown and stopped."""
        self.opened = opened
        self._end_start()
        self._console.print(f"Watch it at {opened.run.board.view.link}", highlight=False, soft_wrap=True)
        self.stack.enter_context(show(opened.run.board, self._console))

    def refuse(self, why: CoordinatorError) -> None:
        """Called when the flow starts nothing."""
        self.refusal = why

    # Ending.

    async def perform(self, begin: Callable[[], Awaitable[T]]) -> T:
        """Await `begin()` until it ends, or until the user or a deadline ends it."""
        loop = asyncio.get_running_loop()
        job = asyncio.ensure_future(begin())

        def hear(number: signal.Signals) -> None:
            with suppress(RuntimeError):  # The loop is closed, so the run is already ending.
                loop.call_soon_threadsafe(self._hear, number, job)

        with on_signals(hear) as self._take_signals:
            deadline = 0.0
            while not job.done():
                await asyncio.wait([job], timeout=LOOK_SECONDS)
                self._say_waits()
                deadline = deadline or self._find_deadline()
                if deadline and loop.time() > deadline and not job.done():
                    await self._give_up(job)
            try:
                return await job
            finally:
                if self._leaving is not None:  # It may still be ending what the run has left.
                    await asyncio.wait([self._leaving], timeout=LEAVE_SECONDS)

    def _find_deadline(self) -> float:
        """The deadline of what is running, on the event loop's clock; 0 for never."""
        if self.is_judged():
            seconds = LOST_END_SECONDS if self.is_incomplete() else END_SECONDS
            return asyncio.get_running_loop().time() + seconds
        if not self.presses:
            return 0.0
        grace = self.opened.run.settings.watch.stop_seconds if self.opened else 0.0
        return asyncio.get_running_loop().time() + STOP_SECONDS + 2 * grace

    def _hear(self, number: signal.Signals, job: "asyncio.Future[T]") -> None:
        now = asyncio.get_running_loop().time()
        is_repeated = self.presses > 0 and (number is signal.SIGHUP or now - self._last_press < REPEAT_SECONDS)
        if is_repeated or job.done():
            return
        self._last_press = now
        self.presses += 1
        if number is signal.SIGQUIT or self.presses > 1:
            self._begin_to_leave(job)
        elif self.opened is None:
            self._tell(f"{NAMES[number]}: nothing has been started yet.")
            job.cancel()
        else:
            self._stop(self.opened, number)

    def _stop(self, opened: OpenRun, number: signal.Signals) -> None:
        waits = f" Waiting for {' and '.join(opened.run.stopping.waits)} to end." if opened.run.stopping.waits else ""
        self._said |= set(opened.run.stopping.waits)
        self._tell(
            f"{NAMES[number]}: stopping the sessions; their work is kept.{waits} Press again to exit at once."
            if number is signal.SIGINT
            else f"{NAMES[number]}: stopping the sessions; their work is kept.{waits}"
        )
        opened.run.stopping.request()

    def _say_waits(self) -> None:
        """Print what else the run started to wait for since it was stopped."""
        if self.presses and self.opened:
            for what in sorted(set(self.opened.run.stopping.waits) - self._said):
                self._said.add(what)
                self._tell(f"Waiting for {what} to end. Press again to exit at once.")

    def _tell(self, line: str) -> None:
        say(self._console, line)

    def _begin_to_leave(self, job: "asyncio.Future[T]") -> None:
        if self._leaving is None:
            self._tell("Exiting at once; everything still running is ended. `coordinator run` continues from here.")
            self._leaving = asyncio.create_task(self._leave_at_once(job), name="leaving")

    async def _leave_at_once(self, job: "asyncio.Future[T]") -> None:
        job.cancel()
        await asyncio.wait([job], timeout=UNWIND_SECONDS)
        await self._end_all()
        if not job.done():
            await asyncio.wait([job], timeout=UNWIND_SECONDS)
        if not job.done():
            await self._exit(ExitCode.INTERRUPTED)

    async def _give_up(self, job: "asyncio.Future[T]") -> None:
        """Handle a missed deadline: of Prefect's end of a judged run, or of a graceful stop."""
        if self.is_judged():
            await self._exit(self.say_goodbye())
        self._tell(f"Some processes have not ended within {STOP_SECONDS:.0f} seconds.")
        job.cancel()  # First, so that no attempt counts as failed because git was ended.
        await self._end_all()
        await self._leave_at_once(job)

    async def _end_all(self) -> None:
        """End every process of the run, including git, for good; the next run repairs what that leaves half done."""
        refuse_starts()
        if self.opened:
            run = self.opened.run
            try:
                async with asyncio.timeout(5 * UNWIND_SECONDS):
                    await end_processes(run.git.repository, KILL_SECONDS, has_own=True)
            except (AgentError, OSError) as error:
                self._tell(f"Some processes could not be ended: {error}")

    async def _exit(self, code: ExitCode) -> None:
        """Exit this process and leave nothing running; threads may hang, so they are not waited for."""
        self.stack.close()
        await asyncio.to_thread(self._leave)
        close_output()
        os._exit(int(code))

    # The end.

    def is_judged(self) -> bool:
        """Whether the run's result is known from git."""
        return self.opened is not None and self.opened.run.board.view.exit_code is not None

    def is_incomplete(self) -> bool:
        """Whether Prefect's record of the run was reported as incomplete."""
        messages = self.opened.run.board.view.messages if self.opened else ()
        return any(message.startswith(INCOMPLETE) for message in messages)

    def say_goodbye(self) -> ExitCode:
        """Print how the run ended and how to view it later, and return the exit code."""
        assert self.opened is not None
        run = self.opened.run
        code = ExitCode(run.board.view.exit_code or 0)
        print_summary(run.board.view, self._console)
        self._console.print(STOPPED_EARLY if run.stopping.halt_reason else EXIT_SENTENCES[code], style="bold")
        pending = self.opened.publisher.pending
        if pending:
            say(
                self._console,
                f"Verified work waits to be published to {run.project.base_name}: {pending.rstrip('.')}.",
                "bold",
            )
        outcomes = {node.id: node.outcome for node in run.board.view.nodes.values()}
        plan = Plan(run.nodes.graph)
        print_next_steps(
            run.project.repository, plan, outcomes, self._console, here=self._here, is_pending=bool(pending)
        )
        linger_seconds = run.settings.server_linger_seconds
        if self.server.is_ours and linger_seconds:
            how = f"to end it sooner: {name_program()} down"
            say(self._console, f"Prefect's server, {self.server.ui}, stays for {clock(linger_seconds)} more; {how}")
        elif self.server.is_ours and not self.server.was_running:
            say(self._console, f"To view this run in Prefect's UI later: {name_program()} up")
        return code
