"""The JSON schemas of the flows' parameters, from which Prefect's UI makes its forms."""

from collections.abc import Iterator, Mapping
from typing import Any, get_type_hints

from prefect import Flow
from pydantic.fields import FieldInfo

from flows.clean_up import clean_up_repository
from flows.request_flows import abort_node, land_node, message_node, resolve_node
from flows.run_graph import run_graph


def get_graph_schema() -> Mapping[str, Any]:
    """The schema of the parameters of `run_graph`."""
    return read_schema(run_graph)


def get_cleanup_schema() -> Mapping[str, Any]:
    """The schema of the parameters of `clean_up_repository`."""
    return read_schema(clean_up_repository)


def get_request_schemas() -> Mapping[str, Mapping[str, Any]]:
    """The schema of the parameters of each flow that makes a request about a node, by the flow's name."""
    return {one.name: read_schema(one) for one in (resolve_node, land_node, message_node, abort_node)}


def read_schema(flow: Flow[..., Any]) -> dict[str, Any]:
    """The schema of a flow's parameters, with the titles and descriptions of their annotations.

    Prefect's own schema takes the constraints of an annotation, but calls each parameter by its name in Python.
    """
    schema: dict[str, Any] = flow.parameters.model_dump()
    for name, field in _list_fields(flow):
        texts = {"title": field.title, "description": field.description}
        schema["properties"][name].update({key: text for key, text in texts.items() if text})
    return schema


def _list_fields(flow: Flow[..., Any]) -> Iterator[tuple[str, FieldInfo]]:
    """Each annotated parameter, with what its annotation says."""
    for name, hint in get_type_hints(flow.fn, include_extras=True).items():
        for field in getattr(hint, "__metadata__", ()):
            if isinstance(field, FieldInfo):
                yield name, field
