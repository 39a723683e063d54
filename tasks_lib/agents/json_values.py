"""Tolerates unexpected shapes in what opencode sends: a missing object counts as an empty one."""

from collections.abc import Mapping
from typing import Any, cast

Json = Mapping[str, Any]
"""An object as opencode sends it."""
NOTHING: Json = {}


def as_object(value: Any) -> Json:
    """Return `value` if it is an object, otherwise an empty one."""
    return cast("Json", value) if isinstance(value, Mapping) else {}


def as_objects(value: Any) -> list[Json]:
    """Return the objects in `value`; none if it is not a list."""
    return [as_object(one) for one in cast("list[Any]", value)] if isinstance(value, list) else []
