"""Composes the first prompt of an attempt from the repository, whether it is sent or only shown."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tasks_lib.git.commits.task_reader import TaskReader
from tasks_lib.model import Task
from tasks_lib.naming import is_resolve_task
from tasks_lib.project.agent_instructions import NO_INSTRUCTIONS, Instructions
from tasks_lib.prompts.agent_prompts import MAX_LISTED, Prerequisite, Setting, write_task_prompt
from tasks_lib.runtime.run_context import Run
from tasks_lib.settings.schema import Settings
from tasks_lib.taskfile.parsing import get_section


@dataclass(frozen=True, slots=True)
class PromptContext:
    """The inputs common to all first prompts of a run.

    `tasks` are the tasks of the graph at the commit `head`, by id. `diffstat` returns what the merge of a landed node
    changed, "" if it changed nothing, and `landed` that merge, "" if it has none.
    """

    settings: Settings
    target: str
    tasks: Mapping[str, Task]
    reader: TaskReader
    head: str
    diffstat: Callable[[str], str]
    landed: Callable[[str], str]
    instructions: Instructions = NO_INSTRUCTIONS


@dataclass(frozen=True, slots=True)
class AttemptInfo:
    """The attempt that begins: its branch and number, and the notes of earlier attempts, oldest first."""

    branch: str
    number: int
    is_resumed: bool = False
    notes: tuple[str, ...] = ()


def gather_context(run: Run, instructions: Instructions = NO_INSTRUCTIONS) -> PromptContext:
    """The inputs of first prompts in `run` as it stands, with `instructions` to agents."""
    return PromptContext(
        settings=run.settings,
        target=run.project.target,
        tasks=run.nodes.graph.tasks,
        reader=run.git.reader,
        head=run.git.head.last_seen(),
        diffstat=run.nodes.diffstat,
        landed=run.nodes.landed,
        instructions=instructions,
    )


def compose_first_prompt(briefing: PromptContext, task: Task, attempt: AttemptInfo) -> str:
    """Write the prompt that begins or resumes `attempt` at `task`."""
    setting = Setting(
        branch=attempt.branch,
        target=briefing.target,
        attempt=attempt.number,
        role=briefing.settings.role_of(task),
        is_resumed=attempt.is_resumed,
        notes=attempt.notes,
        instructions=briefing.instructions.files,
    )
    text = briefing.reader.text(briefing.head, task.path) or ""
    before = describe_prerequisites(briefing, task)
    return write_task_prompt(task, text, setting, before, briefing.instructions.templates)


def describe_prerequisites(briefing: PromptContext, task: Task) -> list[Prerequisite]:
    """Return the Summary and the merge's diffstat of each completed prerequisite of `task`.

    Resolve tasks come first, newest first, so that a person's answer is never among those that are only counted.
    """
    found: list[Prerequisite] = []
    resolves = [one for one in task.depends_on if is_resolve_task(one)]
    for task_id in dict.fromkeys((*reversed(resolves), *task.depends_on)):
        one = briefing.tasks.get(task_id)
        if one is None:
            continue
        if len(found) >= MAX_LISTED:
            # The prompt only counts these, so git is not asked for their Summary and diffstat.
            found.append(Prerequisite(task_id, one.name, "", ""))
            continue
        summary = get_section(briefing.reader.text(briefing.head, one.path) or "", "Summary") or ""
        found.append(Prerequisite(task_id, one.name, summary, briefing.diffstat(task_id), briefing.landed(task_id)))
    return found
