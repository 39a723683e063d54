"""Makes the automation of each repository that starts a run when something is resolved; a person's changes stay."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import yaml
from prefect.client.orchestration import PrefectClient
from prefect.events.schemas.automations import AutomationCore

from flows.deployments.applying import Applied
from flows.deployments.definitions import ANY_REPOSITORY, GRAPH_FLOW
from flows.deployments.memory import remembering

FILES = Path(__file__).parent / "automation_files"
"""A link to `deployments/automations` in a checkout, and that directory's files in a wheel."""
RUN_AGAIN = "run-again-when-resolved.yaml"


async def apply_automations(client: PrefectClient, applied: Sequence[Applied]) -> list[str]:
    """Make the automation of each repository's deployment; returns lines for the user.

    One of the same name is left as it is. One that a person removed is not made again, unless the deployment is new.
    """
    lines: list[str] = []
    for one in applied:
        flow, _, name = one.name.partition("/")
        if flow == GRAPH_FLOW and name != ANY_REPOSITORY and one.id is not None:
            made = fill_in(RUN_AGAIN, {"REPOSITORY": read_repository(name), "DEPLOYMENT_ID": str(one.id)})
            lines += await _apply(client, AutomationCore.model_validate(made), one.id)
    return lines


async def _apply(client: PrefectClient, automation: AutomationCore, deployment: UUID) -> list[str]:
    found = await client.read_automations_by_name(automation.name)
    with remembering() as memory:
        if found:
            return []
        if memory.recall(deployment, automation.name) is not None:
            return [f'The automation "{automation.name}" was removed in Prefect, and is not made again.']
        await client.create_automation(automation)
        memory.remember(deployment, automation.name, {})
    return []


def read_repository(deployment: str) -> str:
    """The repository that a deployment is named after (`definitions.name_deployment`)."""
    return deployment.removesuffix(" repository")


def fill_in(file: str, values: dict[str, str]) -> dict[str, Any]:
    """Read an automation, with each of the words in `values` replaced."""
    return _replace(yaml.safe_load((FILES / file).read_text(encoding="utf-8")), values)


def _replace(found: Any, values: dict[str, str]) -> Any:
    if isinstance(found, dict):
        return {key: _replace(value, values) for key, value in found.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(found, list):
        return [_replace(value, values) for value in found]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(found, str):
        for word, value in values.items():
            found = found.replace(word, value)
    return found
