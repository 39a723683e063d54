"""`coordinator prompt`: prints the next prompt exactly as an agent would get it, without starting anything."""

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from flows.cli.commands.option_values import PromptKind
from flows.cli.display.output import print_json
from tasks_lib.agents.opencode.config.roles import load_shipped, read_roles
from tasks_lib.errors import InputError
from tasks_lib.git.commits.branch_state import read_diffstat
from tasks_lib.git.commits.landed_commits import find_landed
from tasks_lib.git.commits.task_reader import TaskReader
from tasks_lib.git.objects.object_database import Objects
from tasks_lib.git.repository_lock import read_holder
from tasks_lib.model import REVIEW_LEVEL, Status, Task
from tasks_lib.node.attempt_opening import make_next_record
from tasks_lib.node.first_prompt import AttemptInfo, PromptContext, compose_first_prompt
from tasks_lib.node.previous_attempt import count_attempts, is_work_left, read_previous
from tasks_lib.project.agent_instructions import Instructions, read_instructions
from tasks_lib.project.loading import Project, load_project
from tasks_lib.prompts.agent_prompts import add_messages, write_review_prompt
from tasks_lib.reporting.run_report import ExitCode
from tasks_lib.runtime.node_registry import MAX_HISTORY
from tasks_lib.session.attempt_record import Record
from tasks_lib.suggestions import suggest


@dataclass(frozen=True, slots=True)
class Shown:
    """A prompt and its recipient; `remarks` say why it would not be sent right now."""

    task: str
    kind: str
    role: str
    model: str
    branch: str
    attempt: int
    head: str
    remarks: tuple[str, ...]
    prompt: str


def show_prompt(path: Path, task_id: str, kind: PromptKind, *, as_json: bool) -> ExitCode:
    """Print the first prompt of the next attempt at a node, or of the review of its branch.

    The recipient goes to standard error, so that standard output is only the prompt. Raises InputError naming every
    fault, and for an unknown id.
    """
    shown = find_prompt(load_project(path), task_id, kind)
    if as_json:
        print_json(asdict(shown))
        return ExitCode.COMPLETED
    with_model = f" with {shown.model}" if shown.model else ""
    heading = f"{shown.task}: attempt {shown.attempt} on {shown.branch}, as {shown.role}{with_model}"
    sys.stderr.write("".join(f"{line}\n" for line in (heading, *shown.remarks)))
    sys.stderr.flush()
    sys.stdout.write(shown.prompt)
    return ExitCode.COMPLETED


def find_prompt(project: Project, task_id: str, kind: PromptKind) -> Shown:
    """Find what would be sent next, and to whom. Raises InputError."""
    task = project.graph.tasks.get(task_id)
    if task is None:
        raise InputError([f'there is no task with the id "{task_id}"{suggest(task_id, project.graph.tasks) or "."}'])
    branch = project.name_branches()[task_id]
    record = _foresee_record(project, task, branch)
    is_review = kind is PromptKind.REVIEW
    role = project.settings.role_for(REVIEW_LEVEL) if is_review else project.settings.role_of(task)
    with Objects(project.repository.git) as objects:
        instructions = read_instructions(objects, project.head, project.settings)
        reader = TaskReader(objects, project.tasks_dir, project.target)
        write = _write_review if is_review else _write_task
        text = write(project, reader, instructions, task, record)
    return Shown(
        task=task_id,
        kind=kind.value,
        role=role,
        model=_find_model(project, instructions, task, role, is_review=is_review),
        branch=branch,
        attempt=record.attempt.number,
        head=project.head,
        remarks=tuple(_remark(project, task, record, is_review=is_review)),
        prompt=text.encode("utf-8", "replace").decode(),
    )


def _foresee_record(project: Project, task: Task, branch: str) -> Record:
    """The record that the next attempt would start with."""
    repository, head = project.repository, project.head
    previous = read_previous(repository, project.graph.tasks, task.id, branch, head)
    attempts_before = 0 if previous else count_attempts(repository, task, head)
    return make_next_record(previous, task.id, branch, head, "", attempts_before)


def _write_task(project: Project, reader: TaskReader, instructions: Instructions, task: Task, record: Record) -> str:
    git, landed = project.repository.git, find_landed(project.repository.git, project.head, MAX_HISTORY)
    briefing = PromptContext(
        settings=project.settings,
        target=project.target,
        tasks=project.graph.tasks,
        reader=reader,
        head=project.head,
        diffstat=lambda task_id: read_diffstat(git, landed[task_id]) if task_id in landed else "",
        landed=lambda task_id: landed.get(task_id, ""),
        instructions=instructions,
    )
    is_resumed = is_work_left(project.repository, record.branch, project.head)
    attempt = AttemptInfo(record.branch, record.attempt.number, is_resumed, record.notes)
    return add_messages(compose_first_prompt(briefing, task, attempt), record.turn.messages)


def _write_review(project: Project, reader: TaskReader, instructions: Instructions, task: Task, record: Record) -> str:
    commit = project.repository.branch_head(record.branch) or project.head
    text = reader.text(commit, task.path) or ""
    files, templates = instructions.files, instructions.templates
    return write_review_prompt(task, text, record.branch, project.head, files, templates, record.rounds.requested)


def _find_model(project: Project, instructions: Instructions, task: Task, role: str, *, is_review: bool) -> str:
    """`provider/model`, or "" if the agent chooses the model itself."""
    agent = project.settings.agent
    chosen = agent.models.get(role, "") if is_review else project.settings.model_for(task, role)
    if agent.preset:
        return chosen or agent.model
    if agent.backend != "opencode":
        return ""
    known = {**load_shipped(), **read_roles(instructions.roles)}.get(role)
    return chosen or (known.model if known else "") or agent.model


def _remark(project: Project, task: Task, record: Record, *, is_review: bool) -> Iterator[str]:
    if holder := read_holder(project.repository.state_dir):
        yield f"{holder} is in progress, and may already have sent this prompt or a newer one."
    if task.is_completed:
        yield "The task is completed, so no prompt is sent."
    elif task.is_human:
        yield "The task is assigned to a human, so no prompt is sent."
    elif task.status in (Status.FAILED, Status.BLOCKED):
        yield f"Its status is {task.status}, so no prompt is sent until you change that."
    tasks = project.graph.tasks
    if waiting := [one for one in task.depends_on if one in tasks and not tasks[one].is_completed]:
        yield f"It waits for {', '.join(waiting)}; the prompt will then also contain their changes."
    tip = project.repository.branch_head(record.branch)
    if is_review and not tip:
        yield f"There is no branch {record.branch} yet; this is the task as it is now."
    if not is_review and record.acceptance.finished and record.acceptance.finished == tip:
        yield "Its work is already accepted and only has to land."
