"""Shows what people wait for, such as the start of Prefect's server, and for how long."""

import time
from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner

from flows.cli.display.output import say
from flows.cli.display.progress_table import can_redraw
from flows.termination_signals import not_ignored


@contextmanager
def show_start(console: Console, what: str) -> Generator[None]:
    """Show `what` as `show_seconds` does, and say that nothing was started if a signal ends the block."""
    try:
        with not_ignored(), show_seconds(console, what):
            yield
    except KeyboardInterrupt as ended:
        say(console, f"{ended or 'Ctrl-C'}: nothing was started.")
        raise


@contextmanager
def show_seconds(console: Console, what: str) -> Generator[None]:
    """Show `what` while the block runs, in a terminal with its seconds; nothing if `what` is ""."""
    if not (what and can_redraw(console)):
        if what:
            say(console, f"{what} …", "dim")
        yield
        return
    began = time.monotonic()
    spinner = Spinner("dots")

    def render() -> Spinner:
        spinner.update(text=f"{what}: {time.monotonic() - began:.0f} s", style="dim")
        return spinner

    with Live(console=console, get_renderable=render, refresh_per_second=8, transient=True):
        yield
