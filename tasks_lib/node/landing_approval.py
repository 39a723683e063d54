"""Has a person decide what lands: verified work waits for them, and their own goes back to them if it cannot land."""

from collections.abc import Mapping

from tasks_lib.errors import InputError
from tasks_lib.git.commits.branch_state import read_state
from tasks_lib.git.commits.merge_tree import is_ancestor
from tasks_lib.git.compose.commit_composer import Landing
from tasks_lib.git.inspection.content_marks import mark_content
from tasks_lib.git.repository import Repository
from tasks_lib.git.session_record import read_record, write_record
from tasks_lib.git.worktree_admin import Entry, Worktree, find_entry, list_entries
from tasks_lib.landing.results import CompletedElsewhere, GivenBack, Held, Verified
from tasks_lib.model import Stage, Task, Waiting
from tasks_lib.naming import show, show_some
from tasks_lib.node.attempt_context import MAX_NOTE_CHARS, MAX_NOTES, AttemptContext
from tasks_lib.node.review_gate import verify_early
from tasks_lib.node.uncommitted_paths import read_marks
from tasks_lib.runtime.copied_files import is_copied
from tasks_lib.runtime.run_context import Run
from tasks_lib.runtime.user_requests import RequestResult
from tasks_lib.session.attempt_record import Record
from tasks_lib.suggestions import suggest
from tasks_lib.text import cut

MOST_PATHS = 5


async def ask_before_landing(
    context: AttemptContext, landing: Landing, rank: float
) -> Waiting | GivenBack | Held | CompletedElsewhere | None:
    """With `land.ask`, verify the work and have it wait for a person; None once they let exactly this commit land.

    What was verified for them once only waits in later runs. It is verified again when it lands, as all work is.
    """
    acceptance, commit = context.record.acceptance, landing.commit
    if not context.run.settings.land.ask or not commit or acceptance.permitted == commit:
        return None
    if acceptance.offered != commit:
        result = await verify_early(context, landing, rank, "before a person lets it land")
        if not isinstance(result, Verified | None):
            return result
        context.note(acceptance=context.record.acceptance.offer(commit))
    return Waiting(f"waits for a person to land it: `coordinator land {context.task.id}`", commit)


def give_back_to_person(context: AttemptContext, back: GivenBack) -> Waiting:
    """Give work back to the person who did it: it stays in their worktree, and what they asked for is over.

    Changes that they have dropped in a conflict are named; if they land it again as it is, it lands without them.
    """
    record = context.record
    work, target = record.acceptance.finished, context.run.project.base_name
    conflicts = record.conflicts.give_back(back.conflicted, is_about_drops=back.is_about_drops).ask(back.missing)
    note = cut(f"Did not land: {back.reason}\n\n{back.facts}".strip(), MAX_NOTE_CHARS)
    notes = (*record.notes, note)[-MAX_NOTES:]
    # In one step: after a kill, nothing may land without what the person was not told of.
    context.note(acceptance=record.acceptance.refuse(), conflicts=conflicts, notes=notes)
    context.enter(Stage.GIVEN_BACK, back.reason)
    how = f"merge {target} into it, and resolve that" if back.conflicted else "fix that"
    said = _tell_person(context, how)
    if back.is_about_drops:
        said = _tell_person(context, "put back what is missing", " or leave it out")
    return Waiting(f"did not land: {back.reason}. {said}", work)


def explain_change(context: AttemptContext) -> Waiting:
    """Why a person's work does not land although they asked for it: they have changed it since."""
    work = context.record.acceptance.finished
    context.note(acceptance=context.record.acceptance.refuse())
    return Waiting(
        f"did not land: its worktree has changed since. {_tell_person(context, 'commit what is to land')}", work
    )


def _tell_person(context: AttemptContext, how: str, otherwise: str = "") -> str:
    by, place = context.record.taken.by or "a person", context.worktree.path
    return f"It is back with {by}: {how} in {place}{otherwise}, then `coordinator land {context.task.id}`"


# A person asks for it.


async def request_landing(run: Run, task_id: str) -> RequestResult:
    """Let the work on a node land in `run`, as a person asked; it may be their own, or work that waits for them."""
    if task_id in run.requests.open_nodes():
        said = f"{task_id} is not ready to land: it is at work in this run; `coordinator status` shows its stage"
        return RequestResult(False, said)
    if run.stopping.is_ending:
        return RequestResult(False, f"{task_id} was not landed: the run is ending; try again once it has ended")
    try:
        tasks, head = run.nodes.graph.tasks, run.git.head.last_seen()
        branch = run.nodes.branch_of(task_id) if task_id in tasks else ""
        repository, copied = run.git.repository, run.settings.copy_paths
        record = await run.git.call(permit_landing, repository, tasks, task_id, branch, head, copied)
    except InputError as error:
        return RequestResult(False, str(error))
    run.nodes.let_land(record)
    run.changed.set()
    return RequestResult(True, f"{task_id} is next in the merge queue; `coordinator status` shows whether it lands")


def permit_landing(
    repository: Repository, tasks: Mapping[str, Task], task_id: str, branch: str, head: str, copied: tuple[str, ...]
) -> Record:
    """Record that a person lets the work on `branch` land, and return the record. Blocking.

    `tasks` are those at the commit `head`. Raises InputError, with what to do, if there is nothing that may land.
    """
    task = tasks.get(task_id)
    if task is None:
        raise InputError([f'"{show(task_id)}" is not a task{suggest(task_id, tasks)}'])
    if task.is_completed:
        raise InputError([f"{task_id} is completed already"])
    entry = find_entry(repository, repository.worktrees_dir / branch)
    record = read_record(entry.admin) if entry and entry.is_ours else None
    if task.is_human:
        commit = _find_persons_work(repository, tasks, task, entry, record, head, copied)
    else:
        commit = _find_offered(task_id, record)
    if entry is None or record is None:
        raise InputError([f"{task_id} has no worktree any more; `coordinator run` makes another"])
    permitted = record.change(stage=Stage.QUEUED, acceptance=record.acceptance.permit(commit))
    write_record(entry.admin, permitted)
    return permitted


def list_permitted(repository: Repository, tasks: Mapping[str, Task]) -> list[str]:
    """The open nodes whose work a person has let land, sorted; an earlier run may have died before it did. Blocking."""
    records = (read_record(entry.admin) for entry in list_entries(repository))
    permitted = (one.task_id for one in records if one and one.acceptance.is_permitted)
    return sorted(one for one in permitted if one in tasks and not tasks[one].is_completed)


def _find_offered(task_id: str, record: Record | None) -> str:
    acceptance = record.acceptance if record else None
    if acceptance and acceptance.finished and acceptance.finished in (acceptance.offered, acceptance.permitted):
        return acceptance.finished
    how = "`coordinator status` shows its state"
    raise InputError([f"{task_id} has no verified work that waits for a person (`land.ask`); {how}"])


def _find_persons_work(
    repository: Repository,
    tasks: Mapping[str, Task],
    task: Task,
    entry: Entry | None,
    record: Record | None,
    head: str,
    copied: tuple[str, ...],
) -> str:
    """The commit that a person wants to land."""
    if entry is None or record is None:
        raise InputError([f"nobody has taken {task.id}: `coordinator take {task.id}` prepares a worktree for it"])
    waits = [one for one in task.depends_on if not tasks[one].is_completed]
    if waits:
        raise InputError([f"{task.id} cannot land yet: it waits for {show_some(waits)}"])
    state = read_state(Worktree(entry.path, entry.admin, entry.slot or 0, entry.branch).git)
    if state.branch != record.branch:
        there = state.branch or "no branch"
        raise InputError([f"{entry.path} is on {there}, not on {record.branch}: `git switch {record.branch}` there"])
    prepared = read_marks(record)
    own = (path for path in state.dirty if not is_copied(path, copied))
    if dirty := [show(path) for path in own if prepared.get(path) != mark_content(entry.path / path)]:
        named = show_some(dirty, MOST_PATHS)
        raise InputError([f"{entry.path} has uncommitted changes: {named}. Commit or discard them, then try again"])
    if is_ancestor(repository.git, state.commit, head):
        raise InputError([f"{record.branch} has no commits of its own. Commit your work in {entry.path} first"])
    return state.commit
