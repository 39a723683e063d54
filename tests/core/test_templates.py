"""A repository's own prompts: their placeholders, and the message for every fault."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_lib.errors import InputError
from tasks_lib.prompts.templates import (
    DEFAULT,
    NEEDED,
    PLACEHOLDERS,
    SHIPPED,
    PromptName,
    TemplateFile,
    Templates,
    read_templates,
)

VALUES = dict.fromkeys(PLACEHOLDERS["changes"], "It is wrong.")


def render(text: str, report: str = "It is wrong.") -> str:
    return read_templates({"changes": TemplateFile("p.md", text)}).render("changes", {"report": report})


def faults(text: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        read_templates({"task": TemplateFile("prompts/task.md", text)})
    return [str(fault) for fault in caught.value.faults]


def test_the_shipped_texts_use_every_needed_placeholder_and_have_no_faults() -> None:
    assert set(SHIPPED) == set(PLACEHOLDERS) == set(NEEDED) == set(get_args(PromptName))
    read = read_templates({name: TemplateFile(f"{name}.md", text) for name, text in SHIPPED.items()})
    assert read == Templates(SHIPPED) == DEFAULT


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("$report", "It is wrong.\n"),
        ("${report}s and $report.", "It is wrong.s and It is wrong..\n"),
        ("$$report costs $5 or $(date) of $HOME in ${PATH:-x}", "$report costs $5 or $(date) of $HOME in ${PATH:-x}\n"),
        ("a\r\n$report\r\n", "a\nIt is wrong.\n"),
        ("\ufeffa\n\n\n", "a\n"),
    ],
)
def test_placeholders_are_replaced_and_shell_variables_stay(text: str, rendered: str) -> None:
    assert render(text) == rendered


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("a\n\n$report\n\nb", "a\n\nb\n"),
        ("$report\n\n${report}\n\nb\n\n$report", "b\n"),
        ("a\n  $report\nb", "a\nb\n"),
        ("a $report\n\nb", "a \n\nb\n"),
    ],
)
def test_a_line_with_an_empty_value_leaves_no_gap(text: str, rendered: str) -> None:
    assert render(text, report="") == rendered


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("\n$tsak", ':2: `$tsak` is not a placeholder of the prompt "task"; write `$$` for a dollar sign. Did you mean "$task"?'),
        ("a ${finsh} b", ':1: `${finsh}` is not a placeholder of the prompt "task"; write `$$` for a dollar sign. Did you mean "$finish"?'),
        ("$zzzzzz", ':1: `$zzzzzz` is not a placeholder of the prompt "task"; write `$$` for a dollar sign. The placeholders are $id, $name, $path, $role, $branch, $target, $attempt, $task, $prerequisites, $earlier, $instructions, $finish, $safe_exit'),
        ("${task", ":1: `${task` is never closed; write `}` after the name, or `$$` for a dollar sign"),
        (" \n", ": is empty; write the prompt, or remove prompts.task from coordinator.yaml"),
    ],
)  # fmt: skip
def test_a_fault_says_where_and_what_to_do(text: str, fault: str) -> None:
    assert faults(text) == [f"prompts/task.md{fault}"]


def test_all_faults_of_all_files_are_named_at_once() -> None:
    files = {"task": TemplateFile("a.md", "$x1\n$x2 $x3"), "red": TemplateFile("b.md", "$report")}
    with pytest.raises(InputError) as caught:
        read_templates(files)  # pyright: ignore[reportArgumentType]
    assert [(fault.path, fault.line) for fault in caught.value.faults] == [
        ("a.md", 1),
        ("a.md", 2),
        ("a.md", 2),
        ("b.md", 1),
    ]


def test_a_missing_placeholder_is_a_warning() -> None:
    read = read_templates({"task": TemplateFile("a.md", "$task $finish"), "changes": TemplateFile("b.md", "$report")})
    assert len(read.warnings) == 1
    assert str(read.warnings[0]) == (
        "a.md: warning: does not use $earlier (what happened in earlier attempts, with a heading), $safe_exit (how to "
        "stop safely, with a heading); add it, unless the text covers it itself"
    )


@given(st.text(st.sampled_from("${}$abreport_1A\n \r"), max_size=30), st.text(max_size=10))
def test_any_text_is_rendered_or_refused(text: str, report: str) -> None:
    try:
        rendered = render(text, report)
    except InputError as error:
        assert error.faults  # noqa: PT017 - Both endings are fine, but an error must list a fault.
    else:
        assert rendered.endswith("\n")
