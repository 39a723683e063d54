"""Checks what a commit that lets a node run again may change in task files: criteria, dependencies, follow-up tasks."""

import re
from collections.abc import Iterator, Sequence

from tasks_lib.graph.spawned_tasks import KEY
from tasks_lib.model import Status, Task
from tasks_lib.naming import name_follow_ups
from tasks_lib.taskfile.criteria import drop_criteria, list_criteria
from tasks_lib.taskfile.parsing import set_spawner, set_status
from tasks_lib.taskfile.sections import set_section

EDITS = ("narrowed", "waits", "requested")
"""A resolver narrowed the task, or found what it has to wait for; a review node requested follow-up tasks."""


def judge_edit_statuses(kind: str, task: Task | None, added: Sequence[Task]) -> Iterator[str]:
    """Find what is wrong with the status of the node's `task` after a commit of one of `EDITS`, and with `added`."""
    if kind not in EDITS:
        return
    if task is not None and task.status is not Status.PENDING:
        yield f'leaves "{task.id}" {task.status} instead of pending'
    if kind != "waits" and not added:
        yield "adds no follow-up task"


def may_follow_up(kind: str, task_id: str, added: Task) -> bool:
    """Whether a commit for the node `task_id` may add the task `added`."""
    number = added.id.removeprefix(name_follow_ups(task_id))
    is_named = number != added.id and number.isdecimal() and added.status is Status.PENDING
    if kind == "narrowed":
        return is_named and added.depends_on == (task_id,)
    return kind == "requested" and is_named and task_id not in added.depends_on


def may_spawn(task_id: str, spawner: str, added: Task) -> bool:
    """Whether the commit for a session of `spawner` that spawned `task_id` may add the task `added`."""
    return added.id == task_id and added.spawned_by == spawner and added.status is Status.PENDING


def judge_adoption(texts: tuple[str, str], task: Task, spawner: str) -> Iterator[str]:
    """Find what the commit for a session of `spawner` that spawned an existing `task` may not change in its file."""
    if task.spawned_by or not spawner:
        yield f"changes {task.path} although " + (f"{task.spawned_by} spawned it" if task.spawned_by else "nobody did")
    elif set_spawner(texts[0], spawner) != texts[1]:
        yield f"changes more of {task.path} than {KEY}"


def judge_edit(
    kind: str, texts: tuple[str, str], tasks: tuple[Task, Task | None], added: Sequence[Task]
) -> Iterator[str]:
    """Find what a commit of the kind `kind` may not change in the node's file.

    `texts` are the file before and after, `tasks` what they say, and `added` the tasks that the commit adds.
    """
    (before, after), (task, edited) = texts, tasks
    old, new = list_other_lines(before), list_other_lines(after)
    if kind == "narrowed":
        left = list_criteria(after)
        gone = [one for one in list_criteria(before) if one not in left]
        if not gone or list_other_lines(drop_criteria(before, gone)[0]) != new:
            yield f"changes more of {task.path} than its criteria, status and Notes"
        return
    if without_dependencies(old) != without_dependencies(new):
        yield f"changes more of {task.path} than depends_on, status and Notes"
    needed = edited.depends_on if edited else ()
    kept, fresh = needed[: len(task.depends_on)], needed[len(task.depends_on) :]
    is_right = sorted(fresh) == sorted(one.id for one in added) if kind == "requested" else len(fresh) == 1
    if kept != task.depends_on or not is_right:
        yield f"changes depends_on of {task.path} from {list(task.depends_on)} to {list(needed)}"


def list_other_lines(text: str) -> list[str]:
    """The lines of a task file without its status, Notes and Summary, and without blank lines."""
    for heading in ("Notes", "Summary"):
        text = set_section(text, heading, "")
    plain = set_status(text, Status.PENDING)
    lines = (line.rstrip() for line in plain.splitlines())
    # The two headings may have been added.
    return [line for line in lines if line and line.lstrip("# ").rstrip(" #").casefold() not in ("notes", "summary")]


def without_dependencies(lines: Sequence[str]) -> list[str]:
    """`lines` without those of `depends_on`."""
    kept: list[str] = []
    is_within = False
    for line in lines:
        if re.match(r"(depends_on|dependsOn)\s*:", line):
            is_within = True
        elif is_within and re.match(r"[A-Za-z_]|---", line):
            is_within = False
        if not is_within:
            kept.append(line)
    return kept
