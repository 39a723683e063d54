"""The flow of a session, for workers that start a process for each flow run, as Prefect's own do.

A spoke's own worker (`session_worker.py`) runs the same session in its own process.
"""

import socket
from typing import Any

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext

from flows.data_directory import data_dir
from flows.deployment_version import own_release
from flows.prefect_isolation import in_own_directory
from flows.spoke_worker.session_link import host_session
from flows.spoke_worker.session_worker import tell
from flows.spokes.registry import list_remotes
from flows.spokes.session_labels import SESSION_FLOW
from tasks_lib.process.private_directories import name_owner, private_directory
from tasks_lib.spokes.machine import SpokeMachine


@flow(name=SESSION_FLOW, persist_result=False, retries=0)
async def run_session(order: dict[str, Any]) -> State[Any]:
    """Run a session that a run on another machine has ordered."""
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    with in_own_directory(), private_directory(name_owner(data_dir())) as private:
        name, release = socket.gethostname(), own_release()
        machine = SpokeMachine(name, release, list_remotes, data_dir(), private, tell)
        async with get_client() as client:
            try:
                return await host_session(client, machine, context.flow_run, {"order": order})
            finally:
                await machine.close()
