"""Commit messages: text in a body cannot forge trailers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_lib.git.commits.commit_messages import BODY_CHARS, read_trailers, replace_trailer, write_message

_TRAILERS = {"Task": "api", "Verified": "d1gest"}


@given(subject=st.text(), body=st.text(), value=st.text())
def test_no_subject_body_or_value_changes_the_trailers(subject: str, body: str, value: str) -> None:
    message = write_message(f"Merge {subject}", body, {**_TRAILERS, "Session": value, "Reviewed": ""})
    found = read_trailers(message)
    assert {name: found[name] for name in _TRAILERS} == _TRAILERS
    assert found.keys() <= {*_TRAILERS, "Session"}
    message.encode()


@pytest.mark.parametrize("message", ["", "Task: a", "Subject\n\nTask: a\nwords\n", "Subject\n\nTask: a\n\nwords\n"])
def test_only_a_last_paragraph_of_trailers_counts(message: str) -> None:
    assert read_trailers(message) == {}


def test_long_bodies_are_cut() -> None:
    assert len(write_message("s", "x" * 5000, {})) == len("s\n\n\n") + BODY_CHARS


def test_replacing_a_trailer_leaves_the_rest() -> None:
    message = write_message("s", "Verified: in the body", _TRAILERS)
    assert replace_trailer(message, "Verified", "new") == message.replace("d1gest", "new")
    assert replace_trailer(message, "Run", "new") == message
