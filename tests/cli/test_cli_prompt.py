"""What `coordinator prompt` shows, and that it changes nothing."""

import json

import pytest
from cli_fixtures import SETTINGS, Call, Main, UserRepository, task_text

from tasks_lib.errors import InputError


def test_the_prompt_alone_is_printed_and_who_gets_it_is_said_beside(repo: UserRepository, call: Call) -> None:
    before = repo.git.text("for-each-ref"), sorted(repo.top.rglob("*"))
    shown = call("prompt", "left", cwd=repo.top)
    assert shown.returncode == 0
    assert shown.stdout.startswith(
        "# Task left: Do left\n\nYou are the implementation-specialist for this task. Work on branch `feat/left`"
    )
    assert "### base: Do base" in shown.stdout
    assert shown.stdout.endswith("Then exit.\n")
    assert shown.stderr == "left: attempt 1 on feat/left, as implementation-specialist\n"
    assert (repo.git.text("for-each-ref"), sorted(repo.top.rglob("*"))) == before


def test_a_task_that_waits_or_is_done_is_shown_with_a_remark(repo: UserRepository, main_here: Main) -> None:
    def remark(task_id: str) -> list[str]:
        return json.loads(main_here("prompt", task_id, "--repo", str(repo.top), "--json")[1])["remarks"]

    assert remark("top") == ["It waits for left, right; the prompt will then also contain their changes."]
    assert remark("base") == ["The task is completed, so no prompt is sent."]
    repo.commit(repo.tasks(task_text("left", status="failed"), task_text("right", assignee="human")))
    assert remark("left") == ["Its status is failed, so no prompt is sent until you change that."]
    assert remark("right") == ["The task is assigned to a human, so no prompt is sent."]


def test_the_prompt_of_a_review_says_what_is_compared(repo: UserRepository, main_here: Main) -> None:
    code, output = main_here("prompt", "left", "--kind", "review", "--repo", str(repo.top), "--json")
    shown = json.loads(output)
    head = repo.git.text("rev-parse", "HEAD")
    assert (code, shown["kind"], shown["role"], shown["head"]) == (0, "review", "code-reviewer", head)
    assert f"git diff {head}...HEAD" in shown["prompt"]
    assert shown["remarks"] == ["There is no branch feat/left yet; this is the task as it is now."]


def test_an_id_that_no_task_has_is_refused_with_the_nearest(repo: UserRepository, main_here: Main) -> None:
    with pytest.raises(InputError, match=r'there is no task with the id "lefd"\. Did you mean "left"\?'):
        main_here("prompt", "lefd", "--repo", str(repo.top))


def test_the_repositorys_own_prompt_and_instructions_are_used_as_committed(
    repo: UserRepository, main_here: Main
) -> None:
    settings = SETTINGS.replace('agent:\n  command: [sh, -c, "true"]', "agent: {backend: opencode, model: a/usual}")
    assert settings != SETTINGS
    repo.commit(
        {
            "coordinator.yaml": settings + "prompts: {task: prompts/task.md}\n",
            "prompts/task.md": "Do $id for $$5.\n\n$instructions\n\n$finish\n",
            "AGENTS.md": "Use tabs.\n",
            ".opencode/agents/code-reviewer.md": "---\nmodel: a/judge\n---\nJudge.\n",
        }
        | repo.tasks(task_text("right", depends_on=("base",), model="b/own"))
    )
    repo.write({"prompts/task.md": "not committed", "AGENTS.md": "not committed"})

    def show(*arguments: str) -> dict[str, str]:
        return json.loads(main_here("prompt", *arguments, "--repo", str(repo.top), "--json")[1])

    left = show("left")
    assert left["prompt"].startswith(
        "Do left for $5.\n\n## Project instructions, from AGENTS.md\n\n```markdown\nUse tabs.\n```\n\n## How to"
    )
    assert (left["model"], show("right")["model"]) == ("a/usual", "b/own")
    assert show("right", "--kind", "review")["model"] == "a/judge"


def test_every_fault_in_the_repositorys_own_prompts_is_named(repo: UserRepository, main_here: Main) -> None:
    files = {"coordinator.yaml": SETTINGS + "prompts: {task: a.md, red: b.md}\n", "a.md": "x\n$tsak\n"}
    repo.commit(files)
    with pytest.raises(InputError) as caught:
        main_here("prompt", "left", "--repo", str(repo.top))
    assert [(fault.path, fault.line) for fault in caught.value.faults] == [("a.md", 2), ("coordinator.yaml", 0)]
