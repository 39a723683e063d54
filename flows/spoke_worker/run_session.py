"""The flow of a session, as Prefect's own workers would run it: it only says what to start in their place.

A session is run by a spoke's own worker (`session_worker.py`), which does not call this flow.
"""

import socket
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.states import Failed

from flows.spokes.session_labels import SESSION_FLOW, SESSION_POOL


@flow(name=SESSION_FLOW, persist_result=False, retries=0)
async def run_session(order: dict[str, Any]) -> State[Any]:
    """Refuse to run a session in a process of its own.

    Two of them would use the same slots and copies of repositories, nobody would recover what a killed one leaves, and
    a worker that stops would not wait until the work is pushed.
    """
    context = FlowRunContext.get()
    flow_run = context.flow_run if context else None
    pool = (flow_run.work_pool_name if flow_run else None) or SESSION_POOL
    said = explain_refusal(socket.gethostname(), pool)
    get_run_logger().error(said)
    return Failed(message=said)


def explain_refusal(host: str, pool: str) -> str:
    """Say which worker to stop, and what to start instead."""
    what = f"A plain Prefect worker on {host} took this session, which only `coordinator spoke start` can run"
    how = f"stop the `prefect worker` of the work pool {pool} there, and run `coordinator spoke start --pool {pool}`"
    return f"{what}: {how} instead."
