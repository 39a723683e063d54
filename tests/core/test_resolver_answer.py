"""A resolver's answer is read in any form that names one thing to do; anything else counts as none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_lib.session.resolver_answer import (
    AddDependency,
    AgentWork,
    NarrowScope,
    NeedsPerson,
    ResolverAnswer,
    SupplyContext,
    describe_answer,
    parse_answer,
)
from tasks_lib.taskfile.criteria import drop_criteria, list_criteria

ANSWERS: dict[str, ResolverAnswer] = {
    "I looked.\n\nResolution: context\nContext: It is 19 %.\nSee docs/rates.md.": SupplyContext(
        "It is 19 %.\nSee docs/rates.md."
    ),
    "- **Resolution:** `context`\n- **Context:** 19": SupplyContext("19"),
    "## Resolution\ncontext\n\n## Context\n19": SupplyContext("19"),
    "Context: 19": SupplyContext("19"),
    "Resolution: scope\nDrop:\n- [ ] One\n- Two\n": NarrowScope(("- [ ] One", "- Two")),
    "Resolution: dependency\nDepends on: `tax/rates`.": AddDependency("tax/rates"),
    "Resolution: work\nWork: Add the file.": AgentWork("Add the file."),
    "Resolution: person\nPerson: 19 or 7?": NeedsPerson("19 or 7?"),
    "Resolution: context\nContext: 19\nPerson: none": SupplyContext("19"),
}


@pytest.mark.parametrize("text", ANSWERS)
def test_answer_is_read(text: str) -> None:
    found = parse_answer(text)
    assert found == ANSWERS[text]
    assert found is not None
    assert describe_answer(found)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I am sorry, I cannot help.",
        "Resolution: context",
        "Resolution: context\nContext:\n",
        "Resolution: scope\nContext: 19",
        "Resolution: banana\nContext: 19",
        "Context: 19\nWork: Add it.",
        "Context: none",
    ],
)
def test_what_names_nothing_to_do_is_no_answer(text: str) -> None:
    assert parse_answer(text) is None


@given(st.text())
def test_no_text_is_an_error(text: str) -> None:
    parse_answer(text)
    parse_answer(f"Resolution: dependency\nDepends on: {text}")


TASK = """---
id: a
---
## Acceptance Criteria
- [ ] The report has a total
- [x] The total is rounded
      to cents
- [ ] The report is in French

## Notes
- [ ] not a criterion
"""


def test_criteria_are_dropped_with_their_lines_and_nothing_else_changes() -> None:
    text, dropped = drop_criteria(TASK, ["- [ ] the report is in french.", "The total is rounded"])
    assert dropped == ("The total is rounded to cents", "The report is in French")
    assert text == TASK.replace("- [x] The total is rounded\n      to cents\n- [ ] The report is in French\n", "")
    assert list_criteria(text) == ["The report has a total"]


@pytest.mark.parametrize(
    "names",
    [
        ["It is blue"],
        ["The report"],  # Too short and ambiguous.
        ["The report has a total", "The total is rounded to cents", "The report is in French"],
        [],
        [""],
    ],
)
def test_unknown_ambiguous_or_all_criteria_are_not_dropped(names: list[str]) -> None:
    assert drop_criteria(TASK, names) == (TASK, ())
