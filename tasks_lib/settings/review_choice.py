"""Decides whether a branch is reviewed before it lands, and says why, from recorded facts about task and work."""

from dataclasses import dataclass

from tasks_lib.model import Risk, Scope, Task
from tasks_lib.settings.landing_schema import ReviewSettings

DEFAULT_LEVEL = "implementation"
"""The level of a task that names none."""


@dataclass(frozen=True, slots=True)
class WorkFacts:
    """What only `review.when: auto` asks for: about the graph, and about the branch once it is finished.

    `dependents` is how many open nodes wait for the node if it is on the critical path, else 0. `changed_lines` are the
    lines that the branch adds and removes; of binary files, none. Both are 0 while they are unknown.
    """

    dependents: int = 0
    changed_lines: int = 0


NO_FACTS = WorkFacts()


def explain_review(task: Task, review: ReviewSettings, facts: WorkFacts = NO_FACTS) -> str:
    """Why the branch of `task` is reviewed before it lands, "" if it is not. Review nodes are never reviewed."""
    if task.is_review or review.when == "never":
        return ""
    if review.when == "always":
        return "review.when is always"
    return _explain_task(task, review) or _explain_facts(review, facts)


def may_be_reviewed(task: Task, review: ReviewSettings) -> bool:
    """Whether what is not yet known, the place in the graph and the size of the diff, may ask for a review."""
    if explain_review(task, review):
        return True
    return review.when == "auto" and not task.is_review and bool(review.critical_path or review.diff_lines)


def _explain_task(task: Task, review: ReviewSettings) -> str:
    if task.risk in (Risk.HIGH, Risk.CRITICAL):
        return f"its risk is {task.risk}"
    if task.scope in (Scope.BROAD, Scope.SYSTEM):
        return f"its scope is {task.scope}"
    level = (task.level or DEFAULT_LEVEL).casefold()
    if level in map(str.casefold, review.levels):
        return f"its level is {level}, which review.levels lists"
    return ""


def _explain_facts(review: ReviewSettings, facts: WorkFacts) -> str:
    if review.critical_path and facts.dependents:
        waiting = "1 node waits" if facts.dependents == 1 else f"{facts.dependents} nodes wait"
        return f"it is on the critical path, and {waiting} for it"
    if review.diff_lines and facts.changed_lines >= review.diff_lines:
        return f"its diff has {facts.changed_lines} changed lines; review.diff_lines is {review.diff_lines}"
    return ""
