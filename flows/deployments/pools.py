"""Makes the work pool, and says whether a worker is there to run what is deployed."""

import os
import shlex
from pathlib import Path

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import WorkerStatus, WorkPool
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.workers.process import ProcessWorker

from flows.data_directory import DATA_VARIABLE
from flows.deployments.definitions import POOL
from tasks_lib.errors import InputError
from tasks_lib.project.child_environment import find_own_bin
from tasks_lib.suggestions import suggest

TYPE = "process"
ABOUT = "Runs coordinator's flows on the machines of its repositories."


async def require_pool(client: PrefectClient, name: str) -> WorkPool:
    """Return the work pool, which is made if it is coordinator's own and missing.

    Raises InputError if another pool is missing, or if its workers start no processes.
    """
    pool = await _read(client, name)
    if pool is None and name != POOL:
        names = [one.name for one in await client.read_work_pools() if one.type == TYPE]
        missing = f'there is no work pool "{name}" on this Prefect server{suggest(name, names) or "."}'
        how = f"Make it with `prefect work-pool create {shlex.quote(name)} --type {TYPE}`, or leave out `--pool`."
        raise InputError([f"{missing} {how}"])
    pool = pool or await create_pool(client, POOL, ABOUT)
    if pool.type != TYPE:
        what = f'the work pool "{name}" is of type {pool.type}, whose workers do not run on the machine of a repository'
        raise InputError([f"{what}. Choose a pool of type {TYPE} with `--pool`."])
    return pool


async def _read(client: PrefectClient, name: str) -> WorkPool | None:
    try:
        return await client.read_work_pool(name)
    except ObjectNotFound:
        return None


async def create_pool(client: PrefectClient, name: str, about: str) -> WorkPool:
    """Create a pool whose workers start processes, or return the one of that name."""
    template = ProcessWorker.get_default_base_job_template()
    try:
        return await client.create_work_pool(
            WorkPoolCreate(name=name, type=TYPE, base_job_template=template, description=about)
        )
    except ObjectAlreadyExists:  # Another coordinator was faster.
        return await client.read_work_pool(name)


async def find_obstacle(client: PrefectClient, pool: WorkPool, api: str) -> str:
    """Say what keeps runs in this pool from starting, and the fix; "" if nothing does.

    `api` is as in `describe_worker`.
    """
    if pool.is_paused:
        name = shlex.quote(pool.name)
        return f'The work pool "{pool.name}" is paused, so runs wait. Resume it: prefect work-pool resume {name}'
    workers = await client.read_workers_for_work_pool(pool.name)
    if any(worker.status == WorkerStatus.ONLINE for worker in workers):
        return ""
    command = describe_worker(pool.name, api)
    return f'No worker is online in the work pool "{pool.name}", so runs wait. Start one: {command}'


def describe_worker(pool: str, api: str) -> str:
    """The shell command that starts a worker for `pool` on this machine; `api` is "" if the shell has the server's."""
    own = Path(find_own_bin()) / "prefect"
    program = shlex.quote(str(own)) if find_own_bin() and own.exists() else "prefect"
    settings = {"PREFECT_API_URL": api, DATA_VARIABLE: os.environ.get(DATA_VARIABLE, "")}
    given = [f"{key}={shlex.quote(value)}" for key, value in settings.items() if value]
    return " ".join([*given, program, "worker start --pool", shlex.quote(pool)])
