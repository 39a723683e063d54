"""A blocker is read from whatever an agent writes; no words are lost, and a field is found in each usual form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_lib.model import BlockerKind
from tasks_lib.session.blockers import Blocker, find_fields, list_lines, parse_blocker, parse_kind, write_criterion

LINES = "Kind: scope\nError: E404 /tax\nTried: twice\nSuggested: drop the third criterion"
FORMS = {
    "plain": LINES,
    "upper case": LINES.replace("Kind", "KIND").replace("Error", "ERROR"),
    "list": "\n".join(f"- {line}" for line in LINES.splitlines()),
    "numbered list": "\n".join(f"{number}. {line}" for number, line in enumerate(LINES.splitlines(), 1)),
    "bold": "\n".join("**{}:** {}".format(*line.split(": ")) for line in LINES.splitlines()),
    "bold list, colon outside": "\n".join("* **{}**: {}".format(*line.split(": ")) for line in LINES.splitlines()),
    "headings": "\n\n".join("### {}\n{}".format(*line.split(": ")) for line in LINES.splitlines()),
    "headings with a colon": "\n".join("## {}:\n\n{}\n".format(*line.split(": ")) for line in LINES.splitlines()),
    "quoted": "\n".join(f"> {line}" for line in LINES.splitlines()),
    "other names": "Type: scope\nExact error: E404 /tax\nWhat I tried: twice\n"
    "What would resolve it: drop the third criterion",
}
FIELDS = {"kind": "scope", "error": "E404 /tax", "tried": "twice", "suggested": "drop the third criterion"}


@pytest.mark.parametrize("form", FORMS)
def test_fields_are_found_in_each_form(form: str) -> None:
    assert find_fields(FORMS[form]) == FIELDS


def test_text_without_fields_is_the_reason_as_it_is() -> None:
    assert parse_blocker("The key is missing.", "I looked.") == Blocker("The key is missing.", text="I looked.")


def test_first_sentence_is_the_reason_and_every_word_is_kept() -> None:
    said = f"No rate for 2027.\n{LINES}"
    found = parse_blocker(said)
    assert found == Blocker(
        "No rate for 2027.", BlockerKind.SCOPE, "E404 /tax", "twice", "drop the third criterion", said
    )


def test_reason_of_fields_alone_is_what_they_say_is_wrong() -> None:
    assert parse_blocker(LINES).reason == "E404 /tax"
    assert parse_blocker(f"What: no rate\n{LINES}").reason == "no rate"
    assert parse_blocker("Kind: scope").reason == "Kind: scope"


def test_field_is_taken_from_the_most_reliable_text_that_has_it() -> None:
    found = parse_blocker("No.\nTried: a", "Tried: c\nError: d", notes="Tried: b\nKind: dependency")
    assert (found.tried, found.error, found.kind) == ("a", "d", BlockerKind.DEPENDENCY)


def test_value_spans_lines_up_to_the_next_field_or_heading() -> None:
    text = "Error:\n```\nTraceback:\n  x\n```\nTried: it\n## Other\nKept out"
    assert find_fields(text) == {"error": "```\nTraceback:\n  x\n```", "tried": "it"}


@pytest.mark.parametrize("line", ["an error: x happened", "ValueError: x", "Kind", "Errors: many", "## Error 404"])
def test_line_that_only_looks_like_a_field_is_text(line: str) -> None:
    assert find_fields(line) == {}


@pytest.mark.parametrize(
    ("text", "kind"),
    [("Environment.", BlockerKind.ENVIRONMENT), ("`decision`", BlockerKind.DECISION), ("a guess", None), ("", None)],
)
def test_kind_is_the_first_known_word(text: str, kind: BlockerKind | None) -> None:
    assert parse_kind(text) is kind


def test_unknown_kind_has_the_default_of_its_source() -> None:
    assert parse_blocker("No.\nKind: odd", kind=BlockerKind.ENVIRONMENT).kind is BlockerKind.ENVIRONMENT


def test_record_is_one_line_for_each_field() -> None:
    found = parse_blocker("No.\nError:\n  a\n  b\nSuggested: c")
    assert list_lines(found) == ["- Kind: context", "- Error: a b", "- Suggested: c"]
    assert write_criterion(found) == "c"


@given(st.text(), st.text(), st.text())
def test_no_text_of_an_agent_is_an_error_or_loses_words(reason: str, text: str, notes: str) -> None:
    found = parse_blocker(reason, text, notes=notes)
    assert reason.strip() in (found.reason, *found.text.split("\n\n")) or reason.strip() in found.text
    assert text.strip() in found.text
