"""Hears the signals that tell a process to end, in one way for every command: Ctrl-C, TERM, a closed terminal, QUIT.

Outside of a run each raises `Ended`, so that everything that is open is closed on the way out, and the command ends
with 130. A signal that the starter of a command has it ignore (`nohup`) stays ignored.
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
    """A signal told this process to end."""


def is_ignored(number: signal.Signals) -> bool:
    """Whether the starter of this process had it ignore `number`; a script's `&` does that to Ctrl-C, and is heard."""
    return number is not signal.SIGINT and signal.getsignal(number) is signal.SIG_IGN


@contextmanager
def on_signals(hear: Callable[[signal.Signals], object]) -> Generator[Callable[[], None]]:
    """Call `hear` in the main thread for each signal while the block runs; yields what takes them back.

    Prefect puts a handler of its own in the place of that for TERM when a flow begins.
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


def raise_ended(number: signal.Signals) -> None:
    """What a command does unless it says otherwise."""
    raise Ended(NAMES[number])


def pass_over(number: signal.Signals) -> None:
    """What is done while something is being ended that has a bound of its own."""


def on_hangup(hear: Callable[[], object]) -> None:
    """Call `hear` on the running event loop when the terminal of this process is closed; for a flow of a worker."""
    import asyncio  # Only here: agents call `notify` often, and that needs no event loop.

    if not is_ignored(signal.SIGHUP) and threading.current_thread() is threading.main_thread():
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hear)


def ignore_background_stop() -> None:
    """Let this process write to its terminal from the background: being stopped for that would stop a whole run."""
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
