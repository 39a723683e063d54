"""What the audit says of commits by which a session spawned a task."""

import pytest

from tasks_lib.model import Status, Task
from tasks_lib.reporting.audit_rules import CommitFacts, FileChange, is_ours, judge_commit

TEXT = "---\nid: part\nname: Do it\n---\nBody.\n"
MARKED = "---\nid: part\nname: Do it\nspawned_by: lead\n---\nBody.\n"
LEAD = Task("lead", "Lead", "tasks/lead.md")
PART = Task("part", "Do it", "tasks/part.md", spawned_by="lead")
FREE = Task("part", "Do it", "tasks/part.md")
OTHER = Task("other", "Other", "tasks/other.md")


def judge(
    before: tuple[Task, ...],
    after: tuple[Task, ...],
    *changes: FileChange,
    subject: str = "spawned(part): Do it",
    parent: str = "lead",
) -> str:
    trailers = {"Task": "part", "Parent": parent}
    old, new = ({task.id: task for task in tasks} for tasks in (before, after))
    facts = CommitFacts("c" * 40, subject, ("p" * 40,), trailers, old, new, changes)
    assert is_ours(subject, trailers)
    return " ".join(map(str, judge_commit(facts)))


ADDED = FileChange("tasks/part.md", None, MARKED)
ADOPTED = FileChange("tasks/part.md", TEXT, MARKED)


def test_new_task_and_one_that_is_given_to_the_session_are_as_promised() -> None:
    assert judge((LEAD,), (LEAD, PART), ADDED) == ""
    assert judge((LEAD, FREE), (LEAD, PART), ADOPTED) == ""
    assert judge((LEAD,), (LEAD, FREE), FileChange("tasks/part.md", None, TEXT), parent="") == ""


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (judge((LEAD,), (LEAD,)), 'its Task is "part", which no task file has'),
        (judge((LEAD,), (LEAD, PART), ADDED, subject="spawned(lead): Do it"), 'does not contain "part"'),
        (judge((LEAD,), (LEAD, PART), ADDED, parent="other"), 'adds the task "part"'),
        (
            judge((LEAD,), (LEAD, PART, OTHER), ADDED, FileChange("tasks/other.md", None, "")),
            'adds the task "other"',
        ),
        (
            judge((LEAD, FREE), (LEAD, PART), FileChange("tasks/part.md", TEXT, MARKED.replace("Body", "Soul"))),
            "changes more of tasks/part.md than spawned_by",
        ),
        (judge((LEAD, PART), (LEAD, PART), FileChange("tasks/part.md", MARKED, TEXT)), "although lead spawned it"),
        (
            judge((LEAD,), (LEAD, Task("part", "Do it", "tasks/part.md", status=Status.COMPLETED)), ADDED),
            'completes "part"',
        ),
    ],
    ids=["no file", "subject", "parent", "another file", "other lines", "twice", "completed"],
)
def test_commit_that_does_more_is_named(found: str, said: str) -> None:
    assert said in found
