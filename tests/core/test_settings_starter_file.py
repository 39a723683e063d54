"""The `coordinator.yaml` that `init` writes, and taskgraph's file that may exist next to it."""

import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from tasks_lib.errors import InputError
from tasks_lib.settings.schema import read_settings, read_taskgraph_tasks_dir, starter_settings

PATH = "coordinator.yaml"

LINES = st.lists(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1).filter(str.strip), max_size=3
)


@limits(max_examples=100, deadline=None)
@given(LINES, LINES, st.booleans())
def test_the_starting_file_reads_back(verify: list[str], command: list[str], has_opencode: bool) -> None:
    words = [word.replace("{", "(") for word in command]
    read = read_settings(starter_settings(verify, words, has_opencode=has_opencode), PATH, {})
    assert (read.verify, read.agent.command) == (tuple(verify), tuple(words))
    assert read.agent.backend == ("opencode" if has_opencode and not words else "command")


@pytest.mark.parametrize("has_opencode", [True, False])
def test_the_starting_file_shows_a_model_that_only_has_to_be_uncommented(has_opencode: bool) -> None:
    text = starter_settings(["make"], has_opencode=has_opencode)
    if not has_opencode:
        text = text.replace("# agent:\n#   backend", "agent:\n  backend").replace("#   model", "  model")
    read = read_settings(text.replace("  # model", "  model"), PATH, {})
    assert (read.agent.backend, read.agent.model) == ("opencode", "anthropic/claude-sonnet-4-5")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", None),
        ("[project]\nname = 'x'", None),
        ('[project]\ntasks_dir = "./a/b/"', "a/b"),
        ("[project]\ntasks_dir = ''", None),
    ],
)
def test_the_tasks_directory_of_taskgraph_is_read(text: str, found: str | None) -> None:
    assert read_taskgraph_tasks_dir(text, ".taskgraph.toml") == found


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[project]\ntasks_dir = 3", "2: tasks_dir is not text"),
        ("[project]\n\ntasks_dir = '../x'", '3: tasks_dir is "../x", which contains `..`'),
        ("\nproject = 3", "2: project is not a table"),
        ("\n[project\n", "2: is not valid TOML"),
        ("a = " + "[" * 5000, " is not valid TOML"),
    ],
)
def test_a_fault_of_taskgraphs_file_has_its_line(text: str, fault: str) -> None:
    with pytest.raises(InputError) as caught:
        read_taskgraph_tasks_dir(text, ".taskgraph.toml")
    assert str(caught.value).startswith(f".taskgraph.toml:{fault}")
