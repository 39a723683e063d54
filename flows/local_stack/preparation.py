"""Makes what runs need in Prefect: work pool, deployments of all registered repositories, and their automations."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException

from flows.data_directory import name_program
from flows.deployments.applying import Applied
from flows.deployments.definitions import POOL
from flows.deployments.pools import describe_worker
from flows.deployments.repositories import apply_registered, find_warnings
from flows.local_stack.automations import apply_automations
from flows.local_stack.stack import Prepared
from tasks_lib.errors import SystemFailure
from tasks_lib.text import fold


def prepare(*, api: str, has_worker: bool) -> Prepared:
    """Make or update what runs need on the server, and say what can be done with it.

    Doing it again changes nothing. `api` is the address that a worker's shell lacks, "" if it has it. Raises InputError
    if the work pool cannot be used, SystemFailure if the server does not answer or refuses something.
    """
    try:
        lines = asyncio.run(_prepare(api, has_worker=has_worker))
    except (httpx.HTTPError, PrefectException) as error:
        what = fold(str(error))[:500] or type(error).__name__
        raise SystemFailure(f"the Prefect server did not accept coordinator's deployments: {what}") from error
    return Prepared(tuple(lines), describe_worker(POOL, api))


async def _prepare(api: str, *, has_worker: bool) -> list[str]:
    async with get_client() as client:
        applied = await apply_registered(client)
        # A worker that is only just starting is not online yet.
        seen = [replace(one, pool="") for one in applied] if has_worker else applied
        removed = await apply_automations(client, applied)
        return [*describe(applied), *await find_warnings(client, seen, api), *removed]


def describe(applied: Sequence[Applied]) -> list[str]:
    """Say what can be started."""
    if ready := [one.name for one in applied if one.action != "missing"]:
        return ["To start a run there: Deployments, then one of these, then Run:", *(f"  {name}" for name in ready)]
    if applied:
        return []
    return [f"No repository is registered yet. To register one, in the repository: {name_program()} init"]
