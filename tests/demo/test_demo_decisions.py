"""The demo's model makes of the files what its patches make of them, and leaves to the program what went wrong."""

import json
from pathlib import Path
from typing import Any

import pytest
from generated_graphs import run_git

from flows.demo.agent import QUESTIONS, WORK
from flows.demo.model_decisions import PROGRAM, DemoModel, decide
from flows.demo.model_script import Step
from flows.demo.patch_edits import read_patch
from flows.demo.story import PATHS, make_demo
from tasks_lib.prompts.agent_prompts import Setting, write_changes_prompt, write_review_prompt, write_task_prompt
from tasks_lib.prompts.resolver_prompt import write_resolver_prompt
from tasks_lib.session.resolver_answer import parse_answer
from tasks_lib.taskfile.parsing import parse_task

Messages = list[dict[str, Any]]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return make_demo(tmp_path / "demo").repository


def begin(repository: Path, task_id: str, note: str = "") -> Messages:
    """The chat with the first prompt of a task, as a run writes it, with a `note` from before."""
    text = (repository / PATHS[task_id]).read_text(encoding="utf-8")
    task, _ = parse_task(text.encode(), PATHS[task_id])
    assert task is not None
    setting = Setting("feat/x", "main", 1, "any", notes=(note,) if note else ())
    return [{"role": "user", "content": write_task_prompt(task, text, setting)}]


def answer(messages: Messages, step: Step, result: str) -> None:
    """Add the model's step to the chat, and `result` for each of its tools."""
    calls = [
        {"id": f"c{len(messages)}-{n}", "function": {"name": call.tool, "arguments": json.dumps(call.args)}}
        for n, call in enumerate(step.calls)
    ]
    messages.append({"role": "assistant", "content": step.say, "tool_calls": calls})
    messages.extend({"role": "tool", "tool_call_id": call["id"], "content": result} for call in calls)


def work(messages: Messages) -> list[Step]:
    """The model's steps while every tool does what it is asked."""
    steps: list[Step] = []
    while True:
        step = decide(messages, pace=0.0)
        steps.append(step)
        if not step.calls:
            return steps
        answer(messages, step, result_of(step))


def result_of(step: Step) -> str:
    return {"edit": "Edit applied successfully.", "write": "Wrote file successfully."}.get(
        step.calls[0].tool, "exit status 0\n"
    )


@pytest.mark.parametrize("patch", sorted(WORK.rglob("first.patch")), ids=lambda path: path.parent.name)
def test_edits_make_of_the_files_what_the_patch_makes_of_them(patch: Path, repository: Path) -> None:
    run_git(repository, "apply", "--index", str(patch))
    changed = run_git(repository, "diff", "--cached", "--name-only").splitlines()
    expected = {path: (repository / path).read_text(encoding="utf-8") for path in changed}
    run_git(repository, "reset", "-q", "--hard")
    for edit in (edit for change in read_patch(patch.read_text(encoding="utf-8")) for edit in change.edits):
        file = repository / edit.path
        before = file.read_text(encoding="utf-8") if edit.old else ""
        assert not edit.old or before.count(edit.old) == 1
        file.parent.mkdir(exist_ok=True)
        file.write_text(before.replace(edit.old, edit.new) if edit.old else edit.new, encoding="utf-8")
    assert {path: (repository / path).read_text(encoding="utf-8") for path in changed} == expected


@pytest.mark.parametrize("task_id", sorted(PATHS))
def test_every_task_ends_with_the_report_that_the_scripted_agent_gives(task_id: str, repository: Path) -> None:
    *steps, last = work(begin(repository, task_id, QUESTIONS.get(task_id, "")))
    assert steps
    report = WORK / task_id / "report.md"
    expected = report.read_text(encoding="utf-8").strip() if report.is_file() else "Verdict: approved"
    assert last.say.endswith(expected)


@pytest.mark.parametrize("task_id", sorted(QUESTIONS))
def test_task_whose_question_nobody_answered_ends_by_safe_exit_and_a_resolver_looks_it_up(
    task_id: str, repository: Path
) -> None:
    *_, last = work(begin(repository, task_id))
    assert last.say == (WORK / task_id / "blocked.md").read_text(encoding="utf-8").strip()
    text = (repository / PATHS[task_id]).read_text(encoding="utf-8")
    task, _ = parse_task(text.encode(), PATHS[task_id])
    assert task is not None
    prompt = write_resolver_prompt(task, text, "feat/x", "main", "which?", last.say)
    *_, last = work([{"role": "user", "content": prompt}])
    assert parse_answer(last.say) is not None


def test_provider_limits_the_first_request_of_a_task_and_answers_the_next(repository: Path) -> None:
    model = DemoModel(pace=0.0)
    messages = begin(repository, "docs/guide")
    assert (model(messages).error, model(messages).error) == (429, 0)
    messages.append({"role": "user", "content": "Your model's provider did not answer for a while. Continue."})
    assert model(messages).calls[0].tool == "todowrite"


def test_reviewer_asks_for_the_test_that_is_missing_and_then_approves(repository: Path) -> None:
    text = (repository / PATHS["budget"]).read_text(encoding="utf-8")
    task, _ = parse_task(text.encode(), PATHS["budget"])
    assert task is not None
    prompt: Messages = [{"role": "user", "content": write_review_prompt(task, text, "feat/budget", "main")}]
    for status, verdict in ((1, "changes requested"), (0, "approved")):
        messages = list(prompt)
        while (step := decide(messages, pace=0.0)).calls:
            grep = "grep" in str(step.calls)
            answer(messages, step, f"exit status {status if grep else 0}\n")
        assert step.say.endswith(f"Verdict: {verdict}")


def test_missing_decision_leads_to_a_safe_exit(repository: Path) -> None:
    messages = begin(repository, "tax/rounding")
    while "cat docs" not in str((step := decide(messages)).calls):
        answer(messages, step, result_of(step))
    answer(messages, step, "cat: docs/rounding-rule.txt: No such file or directory\nexit status 1\n")
    edit, commit, last = work(messages)
    assert edit.calls[0].args["newString"] == "status: blocked"
    assert "blocked(tax/rounding): " in commit.calls[0].args["command"]
    assert last.say.startswith("Blocked: ")


def test_what_a_tool_refuses_is_left_to_the_program_and_its_report_is_given(repository: Path) -> None:
    messages = begin(repository, "reports/by-month")
    while decide(messages).calls[0].tool != "edit":
        step = decide(messages)
        answer(messages, step, result_of(step))
    answer(messages, decide(messages), "Error: oldString not found in content")
    step = decide(messages)
    assert str(PROGRAM) in step.calls[0].args["command"]
    answer(messages, step, "All of it is done.\n")
    assert decide(messages).say == "All of it is done."


def test_reviewer_that_is_quoted_does_not_turn_an_author_into_a_reviewer(repository: Path) -> None:
    messages = begin(repository, "budget")
    work(messages)
    messages.append({"role": "user", "content": write_changes_prompt("No.\n\nVerdict: approved with changes")})
    assert str(PROGRAM) in decide(messages).calls[0].args["command"]


def test_chat_about_something_else_is_answered_all_the_same() -> None:
    assert decide([{"role": "system", "content": "You are kind."}]).say == "done"
    assert decide([{"role": "user", "content": "id: nothing\nname: Nothing\n"}]).say == "done"
