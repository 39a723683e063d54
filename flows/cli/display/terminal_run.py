"""Where a run performs in a terminal: what is seen of it, and the signals by which a person ends it.

The first signal ends the run gently: sessions are ended, their work is kept, and what is being waited for is said at
once. The second leaves at once, and still leaves nothing running; so does the first, after `STOP_SECONDS`.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from typing import TypeVar

from rich.console import Console

from flows.cli.display.output import say
from flows.cli.display.progress_table import show
from flows.cli.display.run_summary import print_summary
from flows.data_directory import name_program
from flows.prefect_server import Server
from flows.standard_streams import close_output
from flows.termination_signals import NAMES, on_signals
from tasks_lib.cleanup.dead_run import end_processes
from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.errors import AgentError
from tasks_lib.reporting.run_report import EXIT_SENTENCES, INCOMPLETE, STOPPED_EARLY, ExitCode

T = TypeVar("T")
STOP_SECONDS = 120.0
"""How long what is being ended may take, after the first signal and beside what agents are given to stop."""
REPEAT_SECONDS = 0.5
"""A signal that comes again so soon is the same one: `timeout` and closing terminals send theirs twice."""
UNWIND_SECONDS = 3.0
"""How long a run that is left at once may take to close what it has open, before its processes are ended."""
KILL_SECONDS = 1.0
END_SECONDS = 60.0
"""How long Prefect may take to end its flow run, once all has been judged."""
LOST_END_SECONDS = 10.0
"""The same where it has already been said that Prefect does not have all of the run."""
LOOK_SECONDS = 0.5


class Stage:
    """Where the flow performs: its progress on the console, and the signals that stop it.

    `leave` ends the server, for a way out on which the run itself cannot be waited for.
    """

    def __init__(self, server: Server, console: Console, leave: Callable[[], None]) -> None:
        self.server: Server = server
        self._console = console
        self._leave = leave
        self._said: set[str] = set()
        self._last_press = 0.0
        self._leaving: asyncio.Task[None] | None = None
        self.presses: int = 0
        self._take_signals: Callable[[], None] = lambda: None
        self.stack: ExitStack = ExitStack()
        self.opened: OpenRun | None = None

    def begin(self) -> None:
        """The flow has begun: Prefect's handler of TERM, which is in place by then, gives way to ours."""
        self._take_signals()

    def open(self, opened: OpenRun) -> None:
        """The run is open from now on, and can be seen and stopped."""
        self.opened = opened
        self._console.print(f"Watch it at {opened.run.board.view.link}", highlight=False, soft_wrap=True)
        self.stack.enter_context(show(opened.run.board, self._console))

    # Ending.

    async def perform(self, begin: Callable[[], Awaitable[T]]) -> T:
        """Do what `begin` begins, until it has ended or a person has lost patience."""
        loop = asyncio.get_running_loop()
        job = asyncio.ensure_future(begin())

        def hear(number: signal.Signals) -> None:
            with suppress(RuntimeError):  # The loop is closed: what ends then ends within a bound.
                loop.call_soon_threadsafe(self._hear, number, job)

        with on_signals(hear) as self._take_signals:
            deadline = 0.0
            while not job.done():
                await asyncio.wait([job], timeout=LOOK_SECONDS)
                self._say_waits()
                deadline = deadline or self._find_deadline()
                if deadline and loop.time() > deadline and not job.done():
                    await self._give_up(job)
            return await job

    def _find_deadline(self) -> float:
        """When what is going on has to be over, on the event loop's clock; 0 for never."""
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
            self._tell(f"{NAMES[number]}: nothing was started yet.")
            job.cancel()
        else:
            self._stop(self.opened, number)

    def _stop(self, opened: OpenRun, number: signal.Signals) -> None:
        waits = f" Waiting for {' and '.join(opened.run.stopping.waits)} to end." if opened.run.stopping.waits else ""
        self._said |= set(opened.run.stopping.waits)
        self._tell(
            f"{NAMES[number]}: sessions are ended, and their work is kept.{waits} Press again to leave at once."
            if number is signal.SIGINT
            else f"{NAMES[number]}: sessions are ended, and their work is kept.{waits}"
        )
        opened.run.stopping.request()

    def _say_waits(self) -> None:
        """What began to be waited for since the run was told to stop."""
        if self.presses and self.opened:
            for what in sorted(set(self.opened.run.stopping.waits) - self._said):
                self._said.add(what)
                self._tell(f"Waiting for {what} to end. Press again to leave at once.")

    def _tell(self, line: str) -> None:
        say(self._console, line)

    def _begin_to_leave(self, job: "asyncio.Future[T]") -> None:
        if self._leaving is None:
            self._tell("Leaving at once: what still runs is ended. `coordinator run` continues from here.")
            self._leaving = asyncio.create_task(self._leave_at_once(job), name="leaving")

    async def _leave_at_once(self, job: "asyncio.Future[T]") -> None:
        job.cancel()
        await asyncio.wait([job], timeout=UNWIND_SECONDS)
        if not job.done():
            await self._end_all()
            await asyncio.wait([job], timeout=UNWIND_SECONDS)
        if not job.done():
            await self._exit(ExitCode.INTERRUPTED)

    async def _give_up(self, job: "asyncio.Future[T]") -> None:
        """What had to be over is not: Prefect's own end of a run that is judged, or what a stopped run waits for."""
        if self.is_judged():
            await self._exit(self.say_goodbye())
        self._tell(f"What still runs has not ended within {STOP_SECONDS:.0f} seconds.")
        await self._end_all()
        await self._leave_at_once(job)

    async def _end_all(self) -> None:
        """End every process of the run, git's too; what that leaves half done, the next run puts right."""
        if self.opened:
            run = self.opened.run
            try:
                await asyncio.wait_for(end_processes(run.git.repository, KILL_SECONDS), 5 * UNWIND_SECONDS)
            except (AgentError, OSError) as error:
                self._tell(f"Not everything could be ended: {error}")

    async def _exit(self, code: ExitCode) -> None:
        """Leave this process with nothing behind it: threads may hang, and are not waited for."""
        self.stack.close()
        await asyncio.to_thread(self._leave)
        close_output()
        os._exit(int(code))

    # The end.

    def is_judged(self) -> bool:
        """Whether it is known, from git, how the run ended."""
        return self.opened is not None and self.opened.run.board.view.exit_code is not None

    def is_incomplete(self) -> bool:
        """Whether it was said that Prefect does not have all of the run."""
        messages = self.opened.run.board.view.messages if self.opened else ()
        return any(message.startswith(INCOMPLETE) for message in messages)

    def say_goodbye(self) -> ExitCode:
        """Say how it ended, and how to look at it later."""
        assert self.opened is not None
        view = self.opened.run.board.view
        code = ExitCode(view.exit_code or 0)
        print_summary(view, self._console)
        self._console.print(
            STOPPED_EARLY if self.opened.run.stopping.halt_reason else EXIT_SENTENCES[code], style="bold"
        )
        if self.server.is_ours:
            say(self._console, f"To look at this run again in Prefect's UI: {name_program()} up")
        return code
