"""Lists the flow runs of one flow that have not ended; Prefect answers in pages, and cannot filter by labels."""

from collections.abc import Collection

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType

_PAGE = 200
_PAGES = 50


async def list_open(client: PrefectClient, flow: str, states: Collection[StateType]) -> list[FlowRun]:
    """List the flow runs of `flow` that are in one of `states`; the last ten thousand at most."""
    found: list[FlowRun] = []
    for page in range(_PAGES):
        runs = await client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[flow])),
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(states)))),
            limit=_PAGE,
            offset=page * _PAGE,
        )
        found += runs
        if len(runs) < _PAGE:
            break
    return found
