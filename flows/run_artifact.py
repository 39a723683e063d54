"""Writes the artifacts of a flow run: one for each key, so that a retry replaces what the try before it wrote."""

from uuid import UUID

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
from prefect.context import FlowRunContext


async def write_markdown(key: str, text: str, description: str) -> UUID:
    """Write a text in markdown as the current flow run's artifact `key`; returns the artifact's id."""
    return await write_artifact("markdown", key, text, description)


async def write_artifact(kind: str, key: str, data: str, description: str) -> UUID:
    """Write the current flow run's artifact `key`, in place of an earlier one; returns its id.

    `kind` is Prefect's type of artifact, and `data` what that type needs. Raises what Prefect's client raises.
    """
    context = FlowRunContext.get()
    flow_run = context.flow_run.id if context and context.flow_run else None
    async with get_client() as client:
        if flow_run and (earlier := await _find(client, flow_run, key)):
            await client.update_artifact(earlier, ArtifactUpdate(data=data, description=description))
            return earlier
        artifact = ArtifactCreate(type=kind, key=key, description=description, data=data, flow_run_id=flow_run)
        return (await client.create_artifact(artifact)).id


async def _find(client: PrefectClient, flow_run: UUID, key: str) -> UUID | None:
    found = await client.read_artifacts(
        artifact_filter=ArtifactFilter(
            key=ArtifactFilterKey(any_=[key]), flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run])
        ),
        limit=1,
    )
    return found[0].id if found else None
