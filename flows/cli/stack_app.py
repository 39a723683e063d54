"""The commands of the local stack: parses their arguments, and calls them."""

from typing import Annotated

import typer

from flows.cli.commands.option_values import MAX_RUNS, Detached, MaxRuns, NoWorker, PostgresUrl, Spokes, UpPort
from flows.cli.lazy_console import make_console
from flows.importing import importing

stack = typer.Typer()


# Every command loads this module, so it imports nothing heavy.
@stack.command()
def up(
    port: UpPort = None,
    postgres: PostgresUrl = "",
    no_worker: NoWorker = False,
    max_runs: MaxRuns = MAX_RUNS,
    spokes: Spokes = 0,
    detach: Detached = False,
) -> int:
    """Serve Prefect's UI, and run what is started there or scheduled, until Ctrl-C.

    With --detach, in the background until `coordinator down`.
    """
    with importing():
        from flows.cli.commands.up import UpOptions, bring_up

    options = UpOptions(port, postgres, has_worker=not no_worker, max_runs=max_runs, spokes=spokes)
    return bring_up(options, make_console(), is_detached=detach)


@stack.command()
def down(
    force: Annotated[bool, typer.Option("--force", help="Also stop runs in progress; their work is kept.")] = False,
) -> int:
    """End what `coordinator up --detach` has started, and a server that nothing uses."""
    with importing():
        from flows.cli.commands.down import end_stack

    return end_stack(is_forced=force, console=make_console())
