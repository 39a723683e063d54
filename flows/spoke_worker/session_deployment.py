"""Makes the work pool and the deployment of sessions, on any Prefect server that a run or a spoke uses."""

from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.exceptions import ObjectNotFound

from flows.deployments.applying import apply_deployments
from flows.deployments.definitions import TAGS, Deployment
from flows.deployments.pools import create_pool
from flows.spokes.session_labels import ENTRYPOINT, SESSION_DEPLOYMENT, SESSION_FLOW

ABOUT = "Sessions that runs of coordinator start on other machines. Each machine has a work queue of its own."
_SCHEMA = {
    "title": "Parameters",
    "type": "object",
    "properties": {"order": {"title": "The session, as its run wants it", "type": "object"}},
    "required": ["order"],
}


def define_sessions() -> Deployment:
    """The deployment whose flow runs are sessions; runs create them, a person does not."""
    about = "One session of a run on another machine. Runs start it; it is not started from here."
    return Deployment(SESSION_FLOW, SESSION_DEPLOYMENT, ENTRYPOINT, about, {}, _SCHEMA, TAGS)


async def ensure_sessions(client: PrefectClient, pool: str) -> UUID:
    """Make the work pool and the deployment if they are missing or outdated; return the id of the deployment.

    Raises InputError if the pool exists and its workers start no processes.
    """
    try:
        await client.read_work_pool(pool)
    except ObjectNotFound:
        await create_pool(client, pool, ABOUT)
    [applied] = await apply_deployments(client, [define_sessions()], pool=pool, is_restoring=True)
    assert applied.id
    return applied.id


async def ensure_queue(client: PrefectClient, pool: str, queue: str) -> None:
    """Make the work queue of a spoke."""
    try:
        await client.read_work_queue_by_name(queue, pool)
    except ObjectNotFound:
        await client.create_work_queue(queue, work_pool_name=pool)
