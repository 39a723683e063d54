"""Maps outcomes to Prefect states: the name and type of a state for each way a node or a run can end."""

from typing import Any, assert_never

from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Failed

from tasks_lib import model
from tasks_lib.errors import BusyError, InputError
from tasks_lib.node.attempt import AttemptRetry
from tasks_lib.reporting.run_report import EXIT_SENTENCES, STOPPED_EARLY, ExitCode

RETRY = "AttemptFailed"
"""The only state that Prefect retries; no task run ends in it."""


def describe_outcome(outcome: model.Outcome | AttemptRetry) -> State[Any]:
    """The final state of a node's task run."""
    match outcome:
        case model.Merged(commit) | model.Checked(commit):
            return Completed(name=str(outcome.name), message=f"on the head as {commit[:12]}")
        case model.Blocked(reason, resolve_id):
            hint = f" To let it run again: `coordinator resolve {resolve_id}`." if resolve_id else ""
            return Failed(name=str(outcome.name), message=f"{reason}.{hint}")
        case model.Failed(reason):
            return Failed(name=str(outcome.name), message=reason)
        case model.Aborted(reason) | model.Skipped(reason) | model.Waiting(reason):
            return Cancelled(name=str(outcome.name), message=reason)
        case AttemptRetry(reason):
            return Failed(name=RETRY, message=reason)
        case _:
            assert_never(outcome)


def describe_refusal(error: BusyError | InputError) -> State[Any]:
    """The final state of a flow run that started nothing, with all of the reason, as that is what the UI shows."""
    match error:
        case BusyError():
            return Cancelled(name=str(model.OutcomeName.ABORTED), message=f"busy: {error}")
        case InputError():
            return Failed(message=f"{EXIT_SENTENCES[ExitCode.BAD_INPUT]}\n{error}")
        case _:
            assert_never(error)


def describe_run(code: ExitCode, detail: str, halt_reason: str = "", continuation: str = "") -> State[Any]:
    """The final state of the flow run: Completed only if every node is.

    `halt_reason` says why it stopped early, `continuation` how to continue it.
    """
    sentence = f"{STOPPED_EARLY} {halt_reason}." if halt_reason else EXIT_SENTENCES[code]
    message = " ".join(part for part in (sentence, detail, continuation) if part)
    match code:
        case ExitCode.COMPLETED:
            return Completed(message=message)
        case ExitCode.INTERRUPTED:
            return Cancelled(name="Aborted", message=message)
        case ExitCode.WAITING:
            return Failed(name="Waiting", message=message)
        case ExitCode.BLOCKED | ExitCode.BAD_INPUT:
            return Failed(message=message)
        case _:
            assert_never(code)
