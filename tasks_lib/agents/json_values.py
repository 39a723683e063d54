"""Hides that what opencode sends may have another shape than it should: a missing object is an empty one."""

from collections.abc import Mapping
from typing import Any, cast

Json = Mapping[str, Any]
"""An object as opencode sends it."""
NOTHING: Json = {}


def as_object(value: Any) -> Json:
    """`value` if it is an object, else an empty one."""
    return cast("Json", value) if isinstance(value, Mapping) else {}


def as_objects(value: Any) -> list[Json]:
    """The objects in `value`; none if it is no list."""
    return [as_object(one) for one in cast("list[Any]", value)] if isinstance(value, list) else []
