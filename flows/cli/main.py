"""Runs the command line: turns errors and signals into messages and exit codes, and leaves nothing waiting at exit."""

import os
import sys
import traceback

import typer

from flows.cli.app import app
from flows.cli.error_messages import explain
from flows.data_directory import ensure_home

ACTING = ("run", "demo", "cleanup", "abort", "message", "resolve", "up", "down", "deploy", "init", "notify")
"""Commands whose exit code reports what was done, even if the output could not be written."""


def main() -> None:
    """Run the command line. Expected errors go to standard error without a traceback."""
    from flows.standard_streams import close_output, make_streams_resilient

    make_streams_resilient()
    try:
        code = call()
    except Exception:  # Unexpected: print the traceback before the streams are closed.
        traceback.print_exc()
        code = 1
    if (lost := close_output()) and code == 0:
        print(f"standard output: {lost.strerror or lost}", file=sys.stderr)  # noqa: T201
        code = code if sys.argv[1:2] and sys.argv[1] in ACTING else 1
    if "prefect" in sys.modules:
        # At interpreter exit, Prefect's threads could wait forever for a server that is gone, or for a limit.
        os._exit(code)
    sys.exit(code)


def call() -> int:
    """Run the command and return its exit code. On a signal, everything that is open is closed first."""
    from flows.termination_signals import on_signals, raise_ended

    with on_signals(raise_ended):
        try:
            ensure_home()
            code = app(standalone_mode=False)
        except typer.Exit as left:
            code = left.exit_code
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 1
        except (Exception, KeyboardInterrupt) as error:
            code = explain(error)
    return int(code or 0)
