"""An event loop for simulations: its clock jumps to the next timer whenever no real work is going on."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
EPOCH = 1_700_000_000.0
"""The wall-clock time at which a simulation starts, in seconds since the epoch."""


class StuckError(Exception):
    """Nothing is going on, and no timer is set: the simulation would wait for ever."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Runs coroutines in virtual time, which stands still while threads or processes work.

    Timers fire in their order, but no time passes between them. Work in executors and subprocesses is real, and takes
    no virtual time; `idling` excludes a subprocess that itself waits for the simulation.
    """

    def __init__(self) -> None:
        self._virtual: float = 0.0
        self._working: int = 0
        super().__init__(_JumpingSelector(lambda: self._working > 0, self._jump))

    def time(self) -> float:
        """The virtual time, in seconds since the simulation began."""
        return self._virtual

    def wall_clock(self) -> float:
        """The virtual time in seconds since the epoch."""
        return EPOCH + self._virtual

    def _jump(self, seconds: float) -> None:
        self._virtual += seconds

    def run_in_executor(self, executor: Executor | None, func: Callable[..., T], *args: Any) -> "asyncio.Future[T]":
        """Run `func` in a thread; virtual time stands still until it returns."""
        future = super().run_in_executor(executor, func, *args)
        self._begin()
        future.add_done_callback(lambda _: self._end())
        return future

    async def subprocess_exec(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, protocol_factory: Callable[[], asyncio.SubprocessProtocol], *args: Any, **options: Any
    ) -> tuple[asyncio.SubprocessTransport, asyncio.SubprocessProtocol]:
        """Start a process; virtual time stands still until it exits."""

        def observe() -> asyncio.SubprocessProtocol:
            protocol = protocol_factory()
            exited = protocol.process_exited

            def end() -> None:
                self._end()
                exited()

            setattr(protocol, "process_exited", end)  # noqa: B010 - The type checker rejects a plain assignment.
            return protocol

        self._begin()
        try:
            return await super().subprocess_exec(observe, *args, **options)
        except BaseException:
            self._end()
            raise

    async def shutdown_default_executor(self, *args: Any) -> None:
        """Wait for the threads to end, which is real work. From Python 3.12 on, `args` may contain a limit."""
        self._begin()
        try:
            await super().shutdown_default_executor(*args)
        finally:
            self._end()

    @contextmanager
    def idling(self) -> Generator[None]:
        """One process that was started waits for the simulation, so time may pass while the block runs."""
        self._end()
        try:
            yield
        finally:
            self._begin()

    def _begin(self) -> None:
        self._working += 1

    def _end(self) -> None:
        self._working -= 1


class _JumpingSelector(selectors.DefaultSelector):
    """Waits for real events while there is real work; otherwise returns at once, and lets the clock jump."""

    def __init__(self, is_working: Callable[[], bool], jump: Callable[[float], None]) -> None:
        super().__init__()
        self._is_working: Callable[[], bool] = is_working
        self._jump: Callable[[float], None] = jump

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout <= 0:
            return super().select(0)
        if self._is_working():
            return super().select(None)
        if events := super().select(0):
            return events
        if timeout is None:
            raise StuckError("nothing is going on, and no timer is set")
        self._jump(timeout)
        return []


def simulate(main: Callable[[VirtualTimeLoop], Coroutine[Any, Any, T]]) -> T:
    """Run `main(loop)` to its end in virtual time. Raises StuckError if it would wait for ever."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualTimeLoop)
        return runner.run(main(loop))
