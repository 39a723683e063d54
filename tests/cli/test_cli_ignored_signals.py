"""A signal is not lost in code that ignores exceptions, or raises others in their place, as pydantic does on import."""

import io
import signal
from collections.abc import Callable, Generator
from contextlib import suppress

import pytest
from rich.console import Console

from flows.cli.display.server_start import show_start
from flows.cli.error_messages import explain
from flows.importing import importing
from flows.termination_signals import Ended, on_signals, raise_ended, take_ended
from tasks_lib.reporting.run_report import ExitCode


@pytest.fixture(autouse=True)
def as_in_a_command() -> Generator[None]:
    with on_signals(raise_ended):
        yield
    take_ended()


def press_where_it_is_ignored() -> None:
    with suppress(BaseException):
        signal.raise_signal(signal.SIGINT)


def press_where_it_is_replaced() -> None:
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt as error:
        raise ValueError("could not be serialized") from error


PRESSES = (press_where_it_is_ignored, press_where_it_is_replaced)


@pytest.mark.parametrize("press", PRESSES)
def test_a_signal_during_a_start_ends_it(press: Callable[[], None]) -> None:
    shown = io.StringIO()
    with pytest.raises(Ended), show_start(Console(file=shown), "Starting"):
        press()
    assert "Ctrl-C: nothing was started." in shown.getvalue()


@pytest.mark.parametrize("press", PRESSES)
def test_a_signal_during_an_import_is_raised_at_its_end(press: Callable[[], None]) -> None:
    with pytest.raises(Ended), importing():
        press()
    with importing():
        pass  # It is raised once.


def test_an_error_in_place_of_a_signal_is_explained_as_the_signal() -> None:
    press_where_it_is_ignored()
    error = ValueError("could not be serialized")
    assert explain(error) == ExitCode.INTERRUPTED
    with pytest.raises(ValueError, match="serialized"):
        explain(error)


def test_an_error_after_a_signal_that_arrived_is_not_hidden() -> None:
    with pytest.raises(ValueError, match="serialized") as caught:
        press_where_it_is_replaced()
    with pytest.raises(ValueError, match="serialized"):
        explain(caught.value)
