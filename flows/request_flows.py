"""Flows for people who have only a browser: they do what `coordinator resolve`, `land`, `message` and `abort` do.

A worker on the machine that has the repository runs them. They need no agent, and execute nothing that they are given.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import httpx
from prefect import flow
from prefect.client.schemas.objects import State
from prefect.deployments import arun_deployment
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.states import Completed, Failed
from pydantic import Field

from flows import node_requests
from flows.data_directory import find_repository
from flows.prefect_isolation import in_own_directory, remove_from_import_path
from flows.request_messages import MAX_CHARS
from flows.request_sender import SentRequest
from tasks_lib.errors import CoordinatorError
from tasks_lib.model import PersonsWord
from tasks_lib.naming import MAX_ID_BYTES

RUN_ANY = "run-graph/run-graph"
"""The deployment that runs any repository."""

Repository = Annotated[
    str,
    Field(title="Repository", description="A registered repository; `coordinator init` registers one."),
]
Node = Annotated[
    str, Field(title="Node", min_length=1, max_length=MAX_ID_BYTES, description="The id of its task, such as `pay`.")
]
BlockedNode = Annotated[
    str,
    Field(
        title="Node",
        min_length=1,
        max_length=MAX_ID_BYTES,
        description="The id of the blocked node, or of its resolve file.",
    ),
]
Guidance = Annotated[
    str,
    Field(
        title="Answer",
        max_length=MAX_CHARS,
        description="What the agent needs to know. It is committed in the resolve file and is in the next prompt.",
    ),
]
Message = Annotated[
    str, Field(title="Message", min_length=1, max_length=MAX_CHARS, description="The message for its agent.")
]


@flow(name="resolve-node", flow_run_name="{repository}: resolve {node}", persist_result=False, retries=0)
def resolve_node(repository: Repository, node: BlockedNode, text: Guidance = "") -> State[Any]:
    """Resolve what blocks a node, so that the run in progress, or the next one, runs it again."""
    return _ask(repository, lambda top: node_requests.resolve_node(top, node, PersonsWord(text)))


@flow(name="land-node", flow_run_name="{repository}: land {node}", persist_result=False, retries=0)
async def land_node(repository: Repository, node: Node) -> State[Any]:
    """Land work that waits for a person, or a person's own: in the run in progress, or in one that this starts."""
    sent = await asyncio.to_thread(_send, repository, lambda top: node_requests.land_node(top, node))
    if isinstance(sent, str):
        return Failed(message=sent)
    if sent.run or not sent.is_done:
        return _describe(sent)
    parameters = {"options": {"repository": repository, "only": [node]}}
    try:
        started = await arun_deployment(RUN_ANY, parameters=parameters, timeout=0, as_subflow=False)
    except (ObjectNotFound, PrefectException, httpx.HTTPError) as error:
        said = f"{node} may land, and the next run does it: {RUN_ANY} could not be started: {error}"
        return Failed(message=said)
    return Completed(message=f"{node} may land. The flow run {started.name} ({started.id}) lands it.")


@flow(name="message-node", flow_run_name="{repository}: message {node}", persist_result=False, retries=0)
def message_node(repository: Repository, node: Node, text: Message) -> State[Any]:
    """Send a message to the agent of a node of the run in progress."""
    return _ask(repository, lambda top: node_requests.send_message(top, node, text))


@flow(name="abort-node", flow_run_name="{repository}: abort {node}", persist_result=False, retries=0)
def abort_node(repository: Repository, node: Node) -> State[Any]:
    """End a node of the run in progress and keep its work, while the others continue."""
    return _ask(repository, lambda top: node_requests.abort_nodes(top, [node]))


def _ask(repository: str, send: Callable[[Path], SentRequest]) -> State[Any]:
    """Send a request about a registered repository; the final state says what came of it."""
    sent = _send(repository, send)
    return Failed(message=sent) if isinstance(sent, str) else _describe(sent)


def _send(repository: str, send: Callable[[Path], SentRequest]) -> SentRequest | str:
    """Send a request about a registered repository; return why it could not be sent instead."""
    try:
        top = find_repository(repository)
        remove_from_import_path(top)
        with in_own_directory():
            return send(top)
    except CoordinatorError as error:
        return str(error)


def _describe(sent: SentRequest) -> State[Any]:
    message = " ".join(answer.sentence for answer in sent.answers)
    return Completed(message=message) if sent.is_done else Failed(message=message)
