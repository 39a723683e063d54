"""Checks docs/judgement.md against the code: each decision names a key that exists, or a constant, with its value."""

import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_docs import list_keys

from tasks_lib.settings.schema import settings_schema

TOP = Path(__file__).resolve().parent.parent
SOURCE = re.compile(r"`([\w/]+)\.py::([A-Z_]+)`")
KEY = re.compile(r"`([a-z_]+(?:\.[a-z_]+)+)`")
NUMBER = re.compile(r"\d+(?:\.\d+)?")


def list_rows() -> Iterator[tuple[str, list[str]]]:
    """The rows of all tables of decisions, with the first cell; a table of two columns explains answers."""
    for line in (TOP / "docs" / "judgement.md").read_text("utf-8").splitlines():
        if line.startswith("| ") and not line.startswith(("| decision |", "| step |")):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if len(cells) > 2:
                yield cells[0], cells


ROWS = dict(list_rows())


def list_defaults() -> dict[str, str]:
    schema = settings_schema()
    return {key: value.strip("`") for key, value in list_keys(schema, schema["properties"])}


@pytest.mark.parametrize("name", ROWS)
def test_decision_names_what_sets_its_bound_and_the_value_it_has(name: str) -> None:
    cells = ROWS[name]
    bound, where = NUMBER.search(cells[2]), cells[3]
    if not where:
        assert bound is None
        return
    assert bound, f"the bound of {name} has no number"
    if source := SOURCE.fullmatch(where):
        value = getattr(importlib.import_module(source[1].replace("/", ".")), source[2])
    else:
        (key,) = KEY.findall(where)
        value = json.loads(list_defaults()[key])
    assert float(bound[0]) == float(value)


def test_every_key_on_the_page_exists() -> None:
    text = (TOP / "docs" / "judgement.md").read_text("utf-8")
    named = {key for key in KEY.findall(text) if not key.endswith((".yaml", ".py"))}
    assert named
    assert named <= list_defaults().keys()
