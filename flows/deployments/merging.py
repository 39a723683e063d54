"""Decides what a deployment becomes that is in Prefect already: what a person changed there stays.

A deployment is compared by its fields, such as `description`, `tags`, `job_variables.command` or
`parameters.options.max_sessions`, with what coordinator wrote last.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flows.deployments.definitions import COMMAND, Deployment, list_offered

Fields = Mapping[str, Any]
"""The fields of a deployment that a person may change, by name; values are plain JSON."""
CANCEL_NEW = {"collision_strategy": "CANCEL_NEW"}
_REPOSITORIES = ("parameters.repository", "parameters.options.repository")


@dataclass(frozen=True, slots=True)
class Merge:
    """`fields` are to be written; those named in `kept` are a person's. `written` is what to remember for next time."""

    fields: Fields
    kept: tuple[str, ...]
    written: Fields


def list_fields(deployment: Deployment, pool: str) -> dict[str, Any]:
    """The fields as coordinator makes them."""
    return {
        "description": deployment.description,
        "tags": list(deployment.tags),
        "pool": pool,
        "concurrency_limit": 1 if deployment.is_single else None,
        "concurrency_options": CANCEL_NEW if deployment.is_single else None,
        "job_variables.command": COMMAND,
        **flatten(deployment.parameters, "parameters"),
    }


def flatten(values: Mapping[str, Any], before: str, depth: int = 2) -> dict[str, Any]:
    """Name each value of nested mappings by its path, down to `depth` keys below `before`."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value and depth > 1:
            found |= flatten(value, f"{before}.{key}", depth - 1)  # pyright: ignore[reportUnknownArgumentType]
        else:
            found[f"{before}.{key}"] = value
    return found


def unflatten(fields: Fields, before: str, depth: int = 2) -> dict[str, Any]:
    """The nested mappings below `before` that `flatten` took apart."""
    found: dict[str, Any] = {}
    for path, value in fields.items():
        first, *keys = path.split(".", depth)
        if first == before and keys:
            inner = found
            for key in keys[:-1]:
                inner = inner.setdefault(key, {})
            inner[keys[-1]] = value
    return found


def merge(deployment: Deployment, pool: str, current: Fields, last: Fields | None) -> Merge:
    """Merge what coordinator makes with what is in Prefect now (`current`) and what it wrote there last.

    A field that differs from what was written last was changed by a person, and is kept. Without `last`, every field
    that has a value counts as a person's. Parameters are kept in any case, since earlier calls of `coordinator deploy`
    set them, but not those that the flow no longer has, or a repository that is not offered.
    """
    wanted = list_fields(deployment, pool)
    fields: dict[str, Any] = {k: v for k, v in current.items() if k not in wanted and _stays(k, v, deployment, last)}
    kept = list(fields) if last is not None else []
    for key, value in wanted.items():
        was_changed = key in current and current[key] != (last or {}).get(key, value)
        if key in deployment.chosen or key in _REPOSITORIES:
            fields[key] = value
        elif was_changed and (last is not None or current[key] or key.startswith("parameters.")):
            fields[key] = current[key]
            kept.append(key)
        elif key not in current and last is not None and key in last:
            kept.append(key)  # A person removed it.
        else:
            fields[key] = current[key] if key.startswith("parameters.") and key in current else value
    written = {k: (last or {}).get(k, wanted.get(k, v)) if k in kept else v for k, v in fields.items()}
    return Merge(fields, tuple(sorted(kept)), written)


def _stays(key: str, value: Any, deployment: Deployment, last: Fields | None) -> bool:
    """Whether a field that coordinator does not make stays: a job variable, or the default repository of a form."""
    if key in _REPOSITORIES:
        return deployment.is_shared and value in list_offered(deployment.schema) and value != (last or {}).get(key)
    return key.startswith("job_variables.")
