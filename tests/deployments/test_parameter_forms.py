"""What a person reads in the forms of Prefect's UI: a title and an explanation for each field."""

from collections.abc import Mapping
from typing import Any

import pytest

from flows.deployments.parameter_forms import get_cleanup_schema, get_graph_schema, get_request_schemas

FORMS = {"run-graph": get_graph_schema(), "cleanup-repository": get_cleanup_schema(), **get_request_schemas()}


@pytest.mark.parametrize("form", FORMS)
def test_each_field_has_a_title_and_an_explanation(form: str) -> None:
    models: Mapping[str, Any] = FORMS[form].get("definitions", {})
    for properties in (FORMS[form]["properties"], *(model["properties"] for model in models.values())):
        for name, field in properties.items():
            assert field["title"][0].isupper(), name
            assert field.get("description"), name


def test_the_fields_of_an_answer_are_in_order_and_keep_their_limits() -> None:
    properties = FORMS["resolve-node"]["properties"]
    assert [one["title"] for one in properties.values()] == ["Repository", "Node", "Answer"]
    assert properties["node"]["minLength"] == 1
