"""Tells Prefect that a node was resolved, so that an automation can start a run; Prefect itself is not imported."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime

import httpx

from flows.event_format import Payload, describe_event
from flows.prefect_api import ask, require_accepted_login
from flows.prefect_server import find_api
from tasks_lib.errors import InputError
from tasks_lib.landing.resolution import Resolution

VERB = "node.resolved"
SEND_SECONDS = 5.0


def describe_resolved(resolution: Resolution, guidance: str) -> Mapping[str, Payload]:
    """Map each node that can run again, or else the resolve task itself, to the payload of its event."""
    nodes = resolution.waiting or (resolution.task_id,)
    told = {"resolve_id": resolution.task_id, "guidance": guidance, "commit": resolution.commit}
    return {node: {"id": node, **told} for node in nodes}


def name_place(*, is_in_run: bool) -> dict[str, str]:
    """The label by which an automation tells whether the run in progress continues with the node."""
    return {"coordinator.in-run": "true" if is_in_run else "false"}


def send_resolved(resolution: Resolution, guidance: str, repository: str) -> str:
    """Send the events while no run is in progress; return a sentence for the user if the server rejects the login.

    Without a server, or if it does not accept them for another reason, nothing happens.
    """
    api = find_api().get("PREFECT_API_URL")
    if not api:
        return ""
    labels, events = name_place(is_in_run=False), list[dict[str, object]]()
    for node, payload in describe_resolved(resolution, guidance).items():
        event = describe_event(VERB, payload, repository=repository, run="", node_id=node, labels=labels)
        events.append({**event, "id": str(uuid.uuid4()), "occurred": datetime.now(UTC).isoformat(), "related": []})
    try:
        with ask(api, SEND_SECONDS) as client:
            require_accepted_login(api, client.post("events", json=events).status_code)
    except InputError as error:
        return f"Prefect was not told, so no automation starts a run: {error}."
    except httpx.HTTPError:
        pass
    return ""
