"""Makes the console that commands print to, imported only then: agents run `notify` often, so it must start fast."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def make_console() -> "Console":
    """Return the console that a command prints to."""
    from flows.cli.display.progress_table import make_console as make

    return make()
