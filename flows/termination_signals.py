"""Handles termination signals the same way for every command: Ctrl-C, TERM, a closed terminal, QUIT.

Outside a run, each raises `Ended`, so that everything that is open is closed and the command exits with 130. A signal
that was ignored when the command started (`nohup`) stays ignored.
"""

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
NAMES = {
    signal.SIGINT: "Ctrl-C",
    signal.SIGTERM: "TERM",
    signal.SIGHUP: "The terminal was closed",
    signal.SIGQUIT: "QUIT",
}


class Ended(KeyboardInterrupt):
    """This process received a termination signal."""


def is_ignored(number: signal.Signals) -> bool:
    """Whether this process was started with `number` ignored; never for Ctrl-C, which a script's `&` ignores."""
    return number is not signal.SIGINT and signal.getsignal(number) is signal.SIG_IGN


@contextmanager
def on_signals(hear: Callable[[signal.Signals], object]) -> Generator[Callable[[], None]]:
    """Call `hear` in the main thread for each signal while the block runs; yields a function that installs it again.

    That is needed because Prefect replaces the TERM handler when a flow starts.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return

    def handle(number: int, frame: FrameType | None) -> None:
        hear(signal.Signals(number))

    heard = [number for number in ENDING if not is_ignored(number)]
    before = {number: signal.getsignal(number) for number in heard}

    def take() -> None:
        for number in heard:
            signal.signal(number, handle)

    take()
    try:
        yield take
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_raised: list[Ended] = []


def raise_ended(number: signal.Signals) -> None:
    """The default handler of a command. What it interrupts may ignore any exception: see `not_ignored`."""
    _raised[:] = [Ended(NAMES[number])]
    raise _raised[0]


def take_ended() -> Ended | None:
    """Return what `raise_ended` raised last, once."""
    return _raised.pop() if _raised else None


@contextmanager
def not_ignored() -> Generator[None]:
    """Raise `Ended` after the block if a signal came, even if the code that it interrupted has ignored or replaced it.

    pydantic ignores what is raised while it creates some validators, and replaces what is raised while it serializes,
    so that importing Prefect may end with another error, or as if nothing had happened.
    """
    try:
        yield
    except BaseException as error:
        if (ended := take_ended()) and not isinstance(error, Ended):
            raise ended from error
        raise
    if ended := take_ended():
        raise ended


def pass_over(number: signal.Signals) -> None:
    """Ignore signals while something ends that has its own time limit."""


def on_worker_end(hear: Callable[[], object]) -> None:
    """Call `hear` on the running event loop for TERM, and when the terminal is closed; for flows run by a worker.

    A worker sends TERM when its run is cancelled, and kills the process 30 seconds later. Prefect's own handler would
    end every node as Crashed.
    """
    import asyncio  # Imported here because agents run `notify` often, which needs no event loop.

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if not is_ignored(number):
                asyncio.get_running_loop().add_signal_handler(number, hear)


def ignore_background_stop() -> None:
    """Let this process write to its terminal from the background; otherwise that would suspend the whole run."""
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
