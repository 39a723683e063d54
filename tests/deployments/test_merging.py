"""What a deployment becomes that is in Prefect already: what a person changed there stays, and nothing else."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from flows.deployments.definitions import (
    ANY_REPOSITORY,
    Deployment,
    define_any_graph,
    define_graph,
    list_offered,
    name_deployment,
    offer_also,
)
from flows.deployments.merging import flatten, list_fields, merge, unflatten

POOL = "coordinator"
SCHEMA = {
    "properties": {"options": {"$ref": "#/definitions/RunOptions"}},
    "definitions": {"RunOptions": {"properties": {"repository": {"type": "string"}, "only": {"type": "array"}}}},
}
SESSIONS = "parameters.options.max_sessions"


def make(**changes: Any) -> Deployment:
    return replace(define_graph("shop", SCHEMA), **changes)


def written_by(deployment: Deployment) -> Mapping[str, Any]:
    """What is remembered after the deployment was made for the first time."""
    return merge(deployment, POOL, {}, None).written


def test_a_new_deployment_is_made_as_it_is_defined() -> None:
    merged = merge(make(), POOL, {}, None)
    assert (merged.fields, merged.kept) == (list_fields(make(), POOL), ())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("description", "Ours, do not touch"),
        ("tags", ["team-a"]),
        ("pool", "big-machines"),
        ("concurrency_limit", None),
        ("concurrency_options", {"collision_strategy": "ENQUEUE"}),
        ("job_variables.command", "nice python -m prefect.engine"),
        (SESSIONS, 7),
        ("parameters.options.only", ["pay"]),
    ],
)
def test_what_a_person_changed_is_kept_also_the_next_time(field: str, value: object) -> None:
    last = written_by(make())
    for description in ("New text.", "Newer text."):
        wanted = make(description=description)
        current = {**list_fields(make(), POOL), "description": last["description"], field: value}
        merged = merge(wanted, POOL, current, last)
        assert (merged.fields[field], merged.kept) == (value, (field,))
        if field != "description":
            assert merged.fields["description"] == description
        last = merged.written


def test_what_nobody_changed_follows_the_definition() -> None:
    merged = merge(make(description="New text."), POOL, list_fields(make(), POOL), written_by(make()))
    assert (merged.fields["description"], merged.kept) == ("New text.", ())


def test_an_option_replaces_what_a_person_set_and_stays_without_being_given_again() -> None:
    current = {**list_fields(make(), POOL), SESSIONS: 7}
    asked = merge(define_graph("shop", SCHEMA, None, 3), POOL, current, written_by(make()))
    assert (asked.fields[SESSIONS], asked.kept) == (3, ())
    later = merge(make(), POOL, asked.fields, asked.written)
    assert (later.fields[SESSIONS], later.kept) == (3, ())


def test_without_a_memory_every_value_counts_as_a_persons_and_nothing_else() -> None:
    current = {**list_fields(make(), POOL), "description": "", "tags": ["theirs"]}
    del current["job_variables.command"]
    merged = merge(make(), POOL, current, None)
    assert merged.fields == {**list_fields(make(), POOL), "tags": ["theirs"]}


def test_job_variables_of_a_person_stay_and_one_that_was_removed_stays_removed() -> None:
    current = {**list_fields(make(), POOL), "job_variables.env.TZ": "UTC"}
    del current["job_variables.command"]
    merged = merge(make(), POOL, current, written_by(make()))
    assert unflatten(merged.fields, "job_variables", depth=1) == {"env.TZ": "UTC"}


def test_a_parameter_that_the_flow_no_longer_has_is_dropped() -> None:
    current = {**list_fields(make(), POOL), "parameters.options.gone": 1}
    assert "parameters.options.gone" not in merge(make(), POOL, current, written_by(make())).fields


def test_a_deployment_never_runs_another_repository_than_its_own() -> None:
    current = {**list_fields(make(), POOL), "parameters.options.repository": "other"}
    merged = merge(make(), POOL, current, written_by(make()))
    assert merged.fields["parameters.options.repository"] == "shop"
    assert list_offered(make().schema) == ["shop"]


def test_the_form_for_all_has_a_default_only_while_there_is_one_repository() -> None:
    one, two = define_any_graph(["shop"], SCHEMA), define_any_graph(["blog", "shop"], SCHEMA)
    assert one.parameters["options"]["repository"] == "shop"
    assert "repository" not in two.parameters["options"]
    assert (list_offered(two.schema), two.is_single) == (["blog", "shop"], False)
    # Only what coordinator chose is taken back, not a default that a person chose.
    before = list_fields(one, POOL)
    assert "parameters.options.repository" not in merge(two, POOL, before, written_by(one)).fields
    chosen = merge(two, POOL, {**before, "parameters.options.repository": "blog"}, written_by(one)).fields
    assert chosen["parameters.options.repository"] == "blog"


def test_repositories_of_another_machine_stay_in_the_form() -> None:
    wanted = offer_also(define_any_graph(["shop"], SCHEMA), ["elsewhere"])
    assert list_offered(wanted.schema) == ["shop", "elsewhere"]
    assert "repository" not in wanted.parameters["options"]


def test_a_repository_that_is_called_like_the_form_for_all_has_a_deployment_of_its_own() -> None:
    assert define_graph(ANY_REPOSITORY, SCHEMA).full_name != define_any_graph(["a"], SCHEMA).full_name
    assert name_deployment("shop") == "shop"


def test_what_is_taken_apart_is_put_together_again() -> None:
    parameters: dict[str, Any] = {"options": {"only": [], "max_sessions": None}, "repository": "a"}
    assert unflatten(flatten(parameters, "parameters"), "parameters") == parameters
    variables: dict[str, Any] = {"command": "x", "env": {"A": "1"}, "env.B": "2"}
    assert unflatten(flatten(variables, "job_variables", depth=1), "job_variables", depth=1) == variables
