"""Explains runs that Prefect cancels because their deployment runs one at a time: which run was in their way.

Prefect cancels such a run before it starts. It then has a made-up name, and the message "Deployment concurrency limit
reached."; here it gets the name and the kind of message that it would have got from the flow.
"""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled

from flows.prefect_api import find_ui
from tasks_lib.model import OutcomeName

_ACTIVE = (StateType.RUNNING, StateType.PENDING, StateType.CANCELLING)


class Collisions:
    """Watches the runs that a worker has taken until they start or are cancelled; `api` is the server's address."""

    def __init__(self, client: PrefectClient, api: str) -> None:
        self._client = client
        self._ui = find_ui(api)
        self._taken: set[UUID] = set()

    def watch(self, run: UUID) -> None:
        """Look into a run that the worker has just taken, the next time."""
        self._taken.add(run)

    async def explain(self) -> None:
        """Explain those of the taken runs that were cancelled meanwhile. Raises what Prefect's client raises."""
        for run in sorted(self._taken):
            try:
                found = await self._client.read_flow_run(run)
            except ObjectNotFound:
                self._taken.discard(run)
                continue
            if found.state_type is StateType.SCHEDULED:
                continue
            self._taken.discard(run)
            if found.state_type is StateType.CANCELLED and not found.run_count and found.deployment_id:
                await self._explain(found, found.deployment_id)

    async def _explain(self, run: FlowRun, deployment: UUID) -> None:
        other = await self._find_active(deployment)
        which = f"{self._ui}/runs/flow-run/{other.id} was in progress" if other else "another one was in progress"
        message = f"busy: this deployment runs one at a time, and {which}."
        if name := name_run(run.parameters):
            await self._client.update_flow_run(run.id, name=name)
        state = Cancelled(name=str(OutcomeName.ABORTED), message=message)
        await self._client.set_flow_run_state(run.id, state, force=True)

    async def _find_active(self, deployment: UUID) -> FlowRun | None:
        found = await self._client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                deployment_id=FlowRunFilterDeploymentId(any_=[deployment]),
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[*_ACTIVE])),
            ),
            sort=FlowRunSort.START_TIME_ASC,
            limit=1,
        )
        return found[0] if found else None


def name_run(parameters: Mapping[str, Any]) -> str:
    """The name that the flow would have given to a run with these parameters; "" if they are of no flow of ours."""
    match parameters:
        case {"options": {"repository": str(repository)}}:
            return repository
        case {"repository": str(repository)}:
            return f"cleanup {repository}"
        case _:
            return ""
