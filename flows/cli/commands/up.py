"""`coordinator up`: the whole local stack, until Ctrl-C: Prefect's server and UI, deployments, and a worker."""

import os
import sys
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial

from rich.console import Console

from flows.cli.commands.option_values import MAX_RUNS
from flows.cli.commands.up_detached import DETACHED_VARIABLE, detach
from flows.cli.commands.up_port import choose_port, tell_of_port
from flows.cli.display.output import say
from flows.cli.display.server_start import show_start
from flows.data_directory import data_dir
from flows.importing import importing
from flows.local_stack.postgres import Database, check_database, parse_database
from flows.local_stack.session_workers import register_repositories
from flows.local_stack.stack import LocalStack, Prepared, StackOptions, take_lock
from flows.loopback import LOOPBACK
from flows.prefect_server import Server, describe_start, serve
from flows.server_sharing import read_running
from flows.server_users import Note, Stage, recorded
from flows.termination_signals import on_signals, raise_ended
from tasks_lib.errors import BusyError, InputError
from tasks_lib.reporting.run_report import ExitCode

POOL = "coordinator"
"""The work pool of the worker and of the deployments."""


@dataclass(frozen=True, slots=True)
class UpOptions:
    """The options of `coordinator up`; `postgres` is "" for the server's own SQLite database.

    `port` None is the usual port, or the next that is free.
    """

    port: int | None
    postgres: str = ""
    has_worker: bool = True
    max_runs: int = MAX_RUNS
    spokes: int = 0


def bring_up(options: UpOptions, console: Console, *, is_detached: bool) -> ExitCode:
    """Keep the stack up in this process or, if `is_detached`, in one in the background, which this starts."""
    if is_detached:
        check_options(options)
        secrets = {"COORDINATOR_UP_POSTGRES": options.postgres} if options.postgres else {}
        return detach(list_arguments(options), secrets, console)
    if os.environ.pop(DETACHED_VARIABLE, ""):
        return keep_up_in_background(options, console)
    with recorded() as note:
        return keep_up(options, console, note)


def list_arguments(options: UpOptions) -> list[str]:
    """The arguments of the `coordinator up` that has these options, without the database, whose URL is secret."""
    found = ["--port", str(options.port)] if options.port is not None else []
    found += [] if options.has_worker else ["--no-worker"]
    found += ["--max-runs", str(options.max_runs)] if options.max_runs != MAX_RUNS else []
    return found + (["--spokes", str(options.spokes)] if options.spokes else [])


def keep_up_in_background(options: UpOptions, console: Console) -> ExitCode:
    """Keep the stack up as the only one in the background. Raises BusyError if there is one."""
    lock = take_lock(data_dir() / "prefect" / "detached.lock")
    if lock is None:
        raise BusyError("another `coordinator up` already runs in the background")
    with lock, recorded(is_detached=True) as note:
        with suppress(OSError):
            os.ftruncate(sys.stdout.fileno(), 0)  # Its log, of which an earlier one has written the rest.
        return keep_up(options, console, note, how_to_end="")


def keep_up(options: UpOptions, console: Console, note: Note, how_to_end: str = "Press Ctrl-C to stop.") -> ExitCode:
    """Start the stack, or share the running server; on Ctrl-C, TERM or HUP, drain it and return.

    `note` is told once it can be used, and when it ends; `how_to_end` is printed, unless it is "".

    A run in another terminal that still uses the server keeps it until that run ends. Raises InputError for options
    that cannot be used, ServerError if the server does not start, SystemFailure if it ends.
    """
    tell = partial(say, console)
    database = check_options(options)
    # The stack runs even if the output is closed (`>&-`); a closed terminal ends it, as Ctrl-C does.
    with on_signals(raise_ended), suppress(KeyboardInterrupt):
        port = 0
        if not os.environ.get("PREFECT_API_URL"):
            port = choose_port(options.port, tell)
            check_database(database)
        with ExitStack() as exits:
            with show_start(console, describe_start()):
                server = exits.enter_context(serve(port, database.settings if database else None))
            tell_of_port(options.port, server, tell)
            stack = make_stack(server, options, tell)
            with stack.running(), serving(note, server):
                if how_to_end:
                    tell(how_to_end)
                stack.watch()
    tell_of_others(tell)
    return ExitCode.COMPLETED


@contextmanager
def serving(note: Note, server: Server) -> Generator[None]:
    """Note that the stack can be used while the block runs, and that it ends after it."""
    note(Stage.SERVING, server.ui)
    try:
        yield
    finally:
        note(Stage.ENDING, server.ui)


def make_stack(server: Server, options: UpOptions, tell: Callable[[str], None]) -> LocalStack:
    """Say where the UI is, and make the stack; call this where Prefect is isolated, with its settings in place."""
    tell(f"Prefect's UI, with the history of all runs: {server.ui}")
    settings = {name: value for name, value in os.environ.items() if name.startswith("PREFECT_")}

    def prepare() -> Prepared:
        with importing():
            from flows.local_stack.preparation import prepare as make

        register_repositories(options.spokes, tell)
        return make(api=server.api if server.is_ours else "", has_worker=options.has_worker)

    return LocalStack(
        server, settings, StackOptions(POOL, options.max_runs, options.has_worker, options.spokes), prepare, tell
    )


def check_options(options: UpOptions) -> Database | None:
    """Return the database; raises InputError if it is not one, or if it is for a server that is not started here."""
    if options.postgres and os.environ.get("PREFECT_API_URL"):
        raise InputError(
            ["--postgres (COORDINATOR_UP_POSTGRES) is for our own server, but PREFECT_API_URL is set; omit one of them"]
        )
    return parse_database(options.postgres) if options.postgres else None


def tell_of_others(tell: Callable[[str], None]) -> None:
    """Say that the server stays, if another coordinator uses it."""
    if not os.environ.get("PREFECT_API_URL") and (left := read_running(data_dir() / "prefect")):
        tell(f"The server at http://{LOOPBACK}:{left.port} continues: a run or another `coordinator up` uses it.")
