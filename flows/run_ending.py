"""Ends a flow run in Prefect: with its final state, or as Suspended if someone paused it, so that it can be resumed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import Pause
from prefect.states import Running, Suspended

from flows.earlier_process import is_taken_over
from flows.prefect_reporting import STOPS
from tasks_lib.reporting.run_report import ExitCode

PAUSED = "It was paused: its sessions were stopped, and their work is kept."
_UNFINISHED: Sequence[ExitCode] = (ExitCode.BLOCKED, ExitCode.WAITING, ExitCode.INTERRUPTED)


def tell_continuation(code: ExitCode, repository: str, *, is_deployed: bool) -> str:
    """How to continue a run that ended with `code`: in the UI, where a worker picks it up, or by the command."""
    if code not in _UNFINISHED:
        return ""
    command = f"`coordinator run` in {repository}"
    return f"To continue: Retry here, or {command}." if is_deployed else f"To continue: {command}."


@dataclass(frozen=True, slots=True)
class RunEnding:
    """The state that a flow run ends in, and whether Prefect has it already."""

    state: State[Any]
    is_recorded: bool = False

    def leave(self) -> State[Any]:
        """Return the state for Prefect's engine to record.

        If it is recorded, raise Prefect's `Pause` with it instead: once a run was suspended, the engine does not record
        what its flow returns.
        """
        if self.is_recorded:
            raise Pause(state=self.state)
        return self.state


async def end_flow_run(flow_run: UUID, final: State[Any], repository: str) -> RunEnding:
    """Make sure that Prefect accepts `final`: resets a state that someone set manually to Running.

    A cancelled state stays if the run ended because of it. A paused run that has a deployment becomes Suspended, unless
    every node is completed: a worker continues it once someone resumes it. If that happened before this process ended,
    the run is left to the process that continues it. Raises one of FAULTS.
    """
    async with get_client() as client:
        found = await client.read_flow_run(flow_run)
        state = found.state
        if state is not None and found.deployment_id and await is_taken_over(client, found):
            return RunEnding(state, is_recorded=True)
        if state is None or state.type is StateType.RUNNING or (state.type in STOPS and final.is_cancelled()):
            return RunEnding(final)
        if state.type is StateType.PAUSED and found.deployment_id:
            ending = final if final.is_completed() else _suspend(state, repository)
            await client.set_flow_run_state(flow_run, ending, force=True)
            return RunEnding(ending, is_recorded=True)
        if _is_resumed(found) and not final.is_completed():
            return RunEnding(state, is_recorded=True)
        await client.set_flow_run_state(flow_run, Running(), force=True)
        return RunEnding(final)


def _suspend(state: State[Any], repository: str) -> State[Any]:
    """The state Suspended, until the time chosen by the person who paused the run; None for no limit.

    After that time Prefect ends the run as Failed, and Retry continues it.
    """
    message = f"{PAUSED} To continue: Resume here, or `coordinator run` in {repository}."
    return Suspended(message=message, pause_expiration_time=state.state_details.pause_timeout)


def _is_resumed(flow_run: FlowRun) -> bool:
    """Whether a worker is about to run it again, because someone resumed it before this process had ended."""
    return flow_run.deployment_id is not None and flow_run.state_type in (StateType.SCHEDULED, StateType.PENDING)
