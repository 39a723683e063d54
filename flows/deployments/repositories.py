"""The deployments of the repositories that are registered on this machine."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName, FlowFilter, FlowFilterName

from flows.data_directory import list_repositories, name_program
from flows.deployments.applying import Applied, apply_deployments, remove_deployments
from flows.deployments.definitions import (
    CLEANUP_FLOW,
    GRAPH_FLOW,
    Deployment,
    Schedule,
    define_any_graph,
    define_cleanup,
    define_graph,
    define_requests,
    name_deployment,
)
from flows.deployments.parameter_forms import get_cleanup_schema, get_graph_schema, get_request_schemas
from flows.deployments.pools import find_obstacle


@dataclass(frozen=True, slots=True)
class Request:
    """What a repository's deployments should be. `pool` "" and None elsewhere leave what there is."""

    repository: str
    schedule: Schedule | None = None
    cleanup_schedule: Schedule | None = None
    max_sessions: int | None = None
    pool: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """What was done, and in `warnings` what keeps runs from starting, each with its fix."""

    applied: Sequence[Applied]
    warnings: Sequence[str] = ()


async def deploy(request: Request, api: str) -> Result:
    """Make or update the deployments of one repository, even if someone removed them, and those that offer it.

    `api` is the address of the server, or "" if the user's shell has it in PREFECT_API_URL. Raises InputError if the
    work pool cannot be used, and what Prefect's client raises.
    """
    own = [define_run(request)]
    if request.cleanup_schedule:
        own.append(define_cleanup(request.repository, get_cleanup_schema(), request.cleanup_schedule))
    async with get_client() as client:
        applied = await apply_deployments(client, own, pool=request.pool, is_restoring=True)
        applied += await apply_deployments(client, list_shared(), is_restoring=True)
        return Result(applied, await find_warnings(client, applied, api))


async def apply_registered(client: PrefectClient) -> list[Applied]:
    """Make or update the deployments of every registered repository, except those that someone removed.

    Those that clean up are only updated where `deploy` has made one. Errors are those of `deploy`.
    """
    wanted = [*list_shared(), *(define_run(Request(name)) for name in list_present())]
    return await apply_deployments(client, [*wanted, *await _list_cleanups(client)], is_restoring=False)


async def _list_cleanups(client: PrefectClient) -> list[Deployment]:
    """The deployments that clean up a registered repository and exist; their schedules stay as they are."""
    existing = await client.read_deployments(
        flow_filter=FlowFilter(name=FlowFilterName(any_=[CLEANUP_FLOW])),
        deployment_filter=DeploymentFilter(
            name=DeploymentFilterName(any_=[name_deployment(name) for name in list_present()])
        ),
    )
    names = {one.name for one in existing}
    schema = get_cleanup_schema()
    return [define_cleanup(name, schema) for name in list_present() if name_deployment(name) in names]


async def remove(repository: str) -> Result:
    """Remove the deployments of one repository."""
    name = name_deployment(repository)
    async with get_client() as client:
        return Result(await remove_deployments(client, [(GRAPH_FLOW, name), (CLEANUP_FLOW, name)]))


def list_present() -> list[str]:
    """The names of the registered repositories that exist."""
    return sorted(name for name, place in list_repositories().items() if place.is_dir())


def list_shared() -> list[Deployment]:
    """The deployments that offer all registered repositories; none while none is registered."""
    names = list_present()
    return (
        [define_any_graph(names, get_graph_schema()), *define_requests(names, get_request_schemas())] if names else []
    )


def define_run(request: Request) -> Deployment:
    """The deployment that runs the graph of a registered repository."""
    return define_graph(request.repository, get_graph_schema(), request.schedule, request.max_sessions)


async def find_warnings(client: PrefectClient, applied: Sequence[Applied], api: str) -> list[str]:
    """Say what keeps the runs of these deployments from starting: removed, paused, or no worker."""
    places = {name_deployment(name): place for name, place in list_repositories().items()}
    lines: list[str] = []
    for one in applied:
        if one.action == "missing":
            place = places.get(one.name.partition("/")[2])
            where = f" {shlex.quote(str(place))}" if place else ""
            lines.append(f"{one.name} was removed, so it is not made. To make it: {name_program()} deploy{where}")
        if one.is_paused:
            lines.append(f"{one.name} is paused, so its schedules start nothing. Resume it in Prefect's UI.")
    for name in sorted({one.pool for one in applied if one.pool}):
        obstacle = await find_obstacle(client, await client.read_work_pool(name), api)
        lines += [obstacle] if obstacle else []
    return lines
