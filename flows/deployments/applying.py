"""Applies deployments to a Prefect server, and keeps what a person changed there."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any, Literal
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate
from prefect.client.schemas.objects import ConcurrencyOptions, DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectNotFound

from flows.deployments.definitions import OWN_SLUG, POOL, Deployment, Schedule, list_offered, offer_also
from flows.deployments.memory import Memory, remembering
from flows.deployments.merging import Fields, flatten, merge, unflatten
from flows.deployments.pools import require_pool

Action = Literal["created", "updated", "unchanged", "missing", "removed"]
DISTRIBUTION = "coordinator"


@dataclass(frozen=True, slots=True)
class Applied:
    """What was done with the deployment `name`, such as `run-graph/shop`.

    `missing` means that someone had removed it, and that it was not made again. `kept` names the fields that a person
    had changed. `pool` is the work pool that its runs wait in.
    """

    name: str
    action: Action
    id: UUID | None = None
    pool: str = ""
    kept: tuple[str, ...] = ()
    schedules: tuple[DeploymentSchedule, ...] = ()
    is_paused: bool = False


async def apply_deployments(
    client: PrefectClient, wanted: Sequence[Deployment], *, pool: str = "", is_restoring: bool
) -> list[Applied]:
    """Make the deployments, or bring them up to date; calling this again changes nothing.

    `pool` is "" unless one was asked for: then existing deployments stay in theirs. With `is_restoring`, those that
    someone removed are made again. Raises InputError if the pool cannot be used, and what Prefect's client raises.
    """
    await require_pool(client, pool or POOL)
    with remembering() as memory:
        return [await _apply(client, one, pool, memory, is_restoring=is_restoring) for one in wanted]


async def remove_deployments(client: PrefectClient, names: Sequence[tuple[str, str]]) -> list[Applied]:
    """Remove deployments, given as names of a flow and a deployment; returns those that existed."""
    removed: list[Applied] = []
    for flow, name in names:
        found = await _find(client, flow, name)
        if found:
            await client.delete_deployment(found.id)
            removed.append(Applied(f"{flow}/{name}", "removed", found.id))
    return removed


async def _apply(
    client: PrefectClient, wanted: Deployment, pool: str, memory: Memory, *, is_restoring: bool
) -> Applied:
    flow = await client.create_flow_from_name(wanted.flow)
    last = memory.recall(flow, wanted.name)
    found = await _find(client, wanted.flow, wanted.name)
    if found is None and last is not None and not is_restoring:
        return Applied(wanted.full_name, "missing")
    if found and wanted.is_shared:
        wanted = offer_also(wanted, _list_others(wanted, found, last))
    if pool:
        wanted = replace(wanted, chosen=wanted.chosen | {"pool"})
    merged = merge(wanted, pool or POOL, _read_fields(found) if found else {}, last if found else None)
    action = await _write(client, flow, wanted, merged.fields, found)
    memory.remember(flow, wanted.name, {**merged.written, "offered": list_offered(wanted.schema)})
    made = await client.read_deployment_by_name(wanted.full_name)
    if wanted.schedule and await _put_schedule(client, made, wanted.schedule):
        action = "updated" if action == "unchanged" else action
        made = await client.read_deployment(made.id)
    schedules = tuple(made.schedules)
    return Applied(wanted.full_name, action, made.id, made.work_pool_name or "", merged.kept, schedules, made.paused)


async def _find(client: PrefectClient, flow: str, name: str) -> DeploymentResponse | None:
    try:
        return await client.read_deployment_by_name(f"{flow}/{name}")
    except ObjectNotFound:
        return None


def _list_others(wanted: Deployment, found: DeploymentResponse, last: Fields | None) -> list[str]:
    """The repositories that coordinators on other machines offer in the same form."""
    own = {*list_offered(wanted.schema), *(last or {}).get("offered", ())}
    return [name for name in list_offered(found.parameter_openapi_schema or {}) if name not in own]


def _read_fields(found: DeploymentResponse) -> dict[str, Any]:
    limit, options = found.global_concurrency_limit, found.concurrency_options
    return {
        "description": found.description,
        "tags": found.tags,
        "pool": found.work_pool_name,
        "concurrency_limit": limit.limit if limit else None,
        "concurrency_options": options.model_dump(mode="json", exclude_none=True) if options else None,
        **flatten(found.job_variables, "job_variables", depth=1),
        **flatten(found.parameters, "parameters"),
    }


async def _write(
    client: PrefectClient, flow: UUID, wanted: Deployment, fields: Fields, found: DeploymentResponse | None
) -> Action:
    """Create the deployment, or change what differs; creating it again would remove a person's schedules."""
    values: dict[str, Any] = {
        "version": metadata.version(DISTRIBUTION),
        "entrypoint": wanted.entrypoint,
        "path": None,
        "pull_steps": [],
        "parameters": unflatten(fields, "parameters"),
        "parameter_openapi_schema": dict(wanted.schema),
        "enforce_parameter_schema": True,
        "description": fields["description"],
        "tags": fields["tags"],
        "work_pool_name": fields["pool"],
        "job_variables": unflatten(fields, "job_variables", depth=1),
        "concurrency_limit": fields["concurrency_limit"],
        "concurrency_options": fields["concurrency_options"],
    }
    if found is None:
        options = values.pop("concurrency_options")
        given = ConcurrencyOptions(**options) if options else None
        await client.create_deployment(flow, wanted.name, **values, concurrency_options=given)
        return "created"
    # Prefect deletes scheduled runs at each change and makes them again later, so a run that is due now could be lost.
    if all(_read(found, name) == value for name, value in values.items()):
        return "unchanged"
    await client.update_deployment(found.id, DeploymentUpdate(**values))
    return "updated"


def _read(found: DeploymentResponse, name: str) -> Any:
    """The value of a field of a deployment that is in Prefect, as it would be written."""
    fields = _read_fields(found)
    return fields[name] if name in fields else getattr(found, name)


async def _put_schedule(client: PrefectClient, made: DeploymentResponse, schedule: Schedule) -> bool:
    """Make coordinator's own schedule, or change its times; one that a person paused stays paused."""
    cron = CronSchedule(cron=schedule.cron, timezone=schedule.timezone)
    for one in made.schedules:
        if one.slug == OWN_SLUG:
            if one.schedule != cron:
                await client.update_deployment_schedule(made.id, one.id, schedule=cron)
            return one.schedule != cron
    await client.create_deployment_schedules(made.id, [DeploymentScheduleCreate(schedule=cron, slug=OWN_SLUG)])
    return True
