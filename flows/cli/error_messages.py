"""Prints expected errors as messages, and chooses the exit code that each ends with."""

import sys

import typer

from flows.termination_signals import take_ended
from tasks_lib.errors import BusyError, CoordinatorError, InputError, StartError


def explain(error: BaseException) -> int:
    """Print what went wrong and choose the exit code; re-raises unexpected errors."""
    from tasks_lib.reporting.run_report import ExitCode

    match error:
        case typer.Abort() | KeyboardInterrupt():
            return ExitCode.INTERRUPTED
        case InputError() | BusyError() | StartError():
            print(error, file=sys.stderr)  # noqa: T201
            return ExitCode.BAD_INPUT
        case CoordinatorError():
            print(error, file=sys.stderr)  # noqa: T201
            return ExitCode.BLOCKED
        case OSError():
            print(f"{error.filename or 'the system'}: {error.strerror or error}", file=sys.stderr)  # noqa: T201
            return ExitCode.BLOCKED
        case _ if hasattr(error, "show"):
            error.show()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
            return ExitCode.BAD_INPUT
        case _ if (ended := take_ended()) and not follows(error, ended):
            return ExitCode.INTERRUPTED  # What the signal interrupted has raised this in its place.
        case _:
            raise error


def follows(error: BaseException, cause: BaseException) -> bool:
    """Whether `error` was raised while `cause` was handled: then both are told, since something failed after it."""
    before: BaseException | None = error
    while before is not None and before is not cause:
        before = before.__cause__ or before.__context__
    return before is cause
