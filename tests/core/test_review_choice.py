"""A branch is reviewed for the reasons that the settings name, and the reason is said in words."""

from typing import Any

import pytest

from tasks_lib.errors import InputError
from tasks_lib.model import Risk, Scope, Task
from tasks_lib.settings.review_choice import NO_FACTS, WorkFacts
from tasks_lib.settings.schema import Settings, read_settings

BIG = WorkFacts(changed_lines=612)
ON_PATH = WorkFacts(dependents=2)


def explain(review: dict[str, Any], facts: WorkFacts = NO_FACTS, **task: Any) -> str:
    return Settings(review=review).explain_review(Task("a", "A", "tasks/a.md", **task), facts)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("review", "facts", "task", "reason"),
    [
        ({}, NO_FACTS, {}, ""),
        ({}, NO_FACTS, {"risk": Risk.HIGH}, "its risk is high"),
        ({}, NO_FACTS, {"scope": Scope.SYSTEM}, "its scope is system"),
        ({}, BIG, {}, "its diff has 612 changed lines; review.diff_lines is 500"),
        ({"diff_lines": 612}, BIG, {}, "its diff has 612 changed lines; review.diff_lines is 612"),
        ({"diff_lines": 613}, BIG, {}, ""),
        ({"diff_lines": 0}, BIG, {}, ""),
        ({}, ON_PATH, {}, ""),
        ({"critical_path": True}, ON_PATH, {}, "it is on the critical path, and 2 nodes wait for it"),
        ({"critical_path": True}, WorkFacts(1), {}, "it is on the critical path, and 1 node waits for it"),
        ({"critical_path": True}, NO_FACTS, {}, ""),
        ({"levels": ["Architecture"]}, NO_FACTS, {"level": "architecture"}, "its level is architecture, which review.levels lists"),
        ({"levels": ["implementation"]}, NO_FACTS, {}, "its level is implementation, which review.levels lists"),
        ({"levels": ["research"]}, NO_FACTS, {"level": "planning"}, ""),
        ({"when": "always"}, NO_FACTS, {}, "review.when is always"),
        ({"when": "never", "levels": ["implementation"]}, BIG, {"risk": Risk.CRITICAL}, ""),
        ({"when": "always"}, BIG, {"level": "review"}, ""),
        ({"critical_path": True}, WorkFacts(3, 9_999), {"level": "review", "risk": Risk.CRITICAL}, ""),
    ],
)  # fmt: skip
def test_a_branch_is_reviewed_for_a_reason_that_is_said(
    review: dict[str, Any], facts: WorkFacts, task: dict[str, Any], reason: str
) -> None:
    assert explain(review, facts, **task) == reason


def test_a_task_may_be_reviewed_if_only_its_work_can_tell() -> None:
    task, review = Task("a", "A", "tasks/a.md"), Task("r", "R", "tasks/r.md", level="review")
    assert Settings().may_be_reviewed(task)
    assert not Settings().may_be_reviewed(review)
    assert not Settings(review={"diff_lines": 0}).may_be_reviewed(task)  # pyright: ignore[reportArgumentType]
    assert not Settings(review={"when": "never"}).may_be_reviewed(task)  # pyright: ignore[reportArgumentType]


def test_a_server_of_the_user_reviews_big_diffs_only_if_it_is_known_to_have_a_reviewer() -> None:
    agent = "agent: {backend: opencode, url: http://127.0.0.1:1}"
    task, risky = Task("a", "A", "tasks/a.md"), Task("a", "A", "tasks/a.md", risk=Risk.HIGH)
    theirs, named = read_settings(agent, "c", {}), read_settings(f"{agent}\nroles: {{review: critic}}", "c", {})
    assert (theirs.may_be_reviewed(task), theirs.may_be_reviewed(risky), named.may_be_reviewed(task)) == (
        False,
        True,
        True,
    )
    assert (bool(theirs.explain_review(task, BIG)), bool(named.explain_review(task, BIG))) == (False, True)


def test_reviews_cannot_be_reviewed_because_of_their_level() -> None:
    with pytest.raises(InputError, match="reviews are not reviewed themselves"):
        read_settings("review: {levels: [research, Review]}", "coordinator.yaml", {})
