"""Decides what an event is called and what it is about, for events of a run and for those of a command."""

from collections.abc import Mapping

MAX_CHARS = 2_000
"""Maximum length of a reason or message in an event."""
Payload = Mapping[str, str | int | float]


def describe_event(
    verb: str,
    payload: Payload,
    *,
    repository: str,
    run: str,
    node_id: str = "",
    labels: Mapping[str, str] | None = None,
) -> dict[str, object]:
    """Return the name, resource and payload of an event of `run` ("" for none), or of its node `node_id`.

    `labels` are added to the resource; automations can match them.
    """
    kind = "node" if node_id else "run"
    resource = {
        "prefect.resource.id": f"coordinator.{kind}.{repository}.{node_id or run}",
        "prefect.resource.name": node_id or repository,
        "coordinator.repository": repository,
        "coordinator.run": run,
    } | ({"coordinator.node": node_id} if node_id else {})
    cut = {key: value[:MAX_CHARS] if isinstance(value, str) else value for key, value in payload.items()}
    return {"event": f"coordinator.{verb}", "resource": {**resource, **(labels or {})}, "payload": cut}
