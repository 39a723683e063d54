"""Turns what a review node asks for into follow-up tasks that the run works on, after which it reviews again."""

from collections.abc import Sequence

from tasks_lib.errors import InputError
from tasks_lib.git.commits.commit import read_commit
from tasks_lib.git.commits.commit_search import count_by_subject_since
from tasks_lib.git.compose.commit_composer import NewTask
from tasks_lib.git.compose.task_file_text import note_text
from tasks_lib.model import AttemptEnd, Blocked, BlockerKind, Task
from tasks_lib.naming import is_resolve_task, show_some
from tasks_lib.node.attempt_context import MAX_NOTES, AttemptContext
from tasks_lib.node.attempt_inputs import REQUESTED, read_inputs_at_head
from tasks_lib.node.task_edits import commit_task_edit, name_follow_up, place_task
from tasks_lib.prompts.agent_prompts import MAX_LISTED, fence
from tasks_lib.session.fingerprint import digest_inputs, digest_situation
from tasks_lib.session.review_follow_ups import FollowUp, group_findings
from tasks_lib.session.review_report import list_open, parse_review
from tasks_lib.settings.review_choice import DEFAULT_LEVEL
from tasks_lib.taskfile.parsing import add_dependency, render_task
from tasks_lib.text import cut, fold


async def request_follow_ups(context: AttemptContext, objection: str, report: str) -> Blocked | None:
    """Commit follow-up tasks for the `report` of a review node, which waits for them and then reviews again.

    None if a person has to decide: the node has had `review.max_rounds` rounds since it was last blocked, or its tasks
    would form no valid graph. Nothing is recorded before the commit; after a kill in between, the review is repeated,
    and after one that follows it, the node waits for the tasks on the head.
    """
    run, task = context.run, context.task
    head, limit = run.git.head.last_seen(), run.settings.review.max_rounds
    subject = f"{REQUESTED}({task.id}):"
    count = await run.git.call(count_by_subject_since, run.git.repository.git, head, subject, f"blocked({task.id}):")
    if count >= limit:
        return None
    before = digest_situation(await run.git.call(read_inputs_at_head, context))
    owners = await run.git.call(_find_owners, context)
    added = _make_follow_ups(context, group_findings(parse_review(report), owners), report)
    names = show_some([new.id for new in added])
    note = f"Round {count + 1} of {limit}: {objection}. It waits for {names} and is then repeated."

    def edit(text: str) -> str:
        text = note_text(text, note)
        for new in added:
            text = add_dependency(text, new.id)
        return text

    try:
        await commit_task_edit(context, edit, f"{subject} {names}", added)
    except InputError as error:
        run.board.say(f"{task.id}: no follow-up tasks could be made of its review: {error}")
        return None
    run.board.say(f"{task.id}: {objection}; the run works on {names}, and then reviews again.")
    await _leave(context, report, names, before)
    return Blocked(f"{objection}; it waits for {names}", kind=BlockerKind.DEPENDENCY, waits_for=added[0].id)


async def _leave(context: AttemptContext, report: str, names: str, situation: str) -> None:
    """End the attempt; the next one is told what this one found."""
    found = list_open(parse_review(report), ())
    listed = "\n".join(f"{number}. {text}" for number, text in enumerate(found, 1)) or cut(report, 1_000)
    note = f"""The review of attempt {context.record.attempt.number} asked for changes:

{listed}

The tasks {names} have landed since. Say of each finding whether it is answered, by its number, such as `- [answered] 1`
or `- [open] 2: why`."""
    context.note(notes=(*context.record.notes, note)[-MAX_NOTES:])
    left = digest_inputs(await context.run.git.call(read_inputs_at_head, context))
    context.note(stage=AttemptEnd.ANSWERED, unblocking=context.record.unblocking.leave(situation, left))


def _find_owners(context: AttemptContext) -> dict[str, str]:
    """Map each path that exactly one covered node changed to that node. Blocking."""
    run, found = context.run, dict[str, list[str]]()
    for task_id in _list_covered(context):
        commit = run.nodes.landed(task_id)
        parents = read_commit(run.git.objects, commit).parents if commit else ()
        for change in run.git.objects.diff(parents[0], commit) if parents else ():
            found.setdefault(change.path, []).append(task_id)
    return {path: ids[0] for path, ids in found.items() if len(ids) == 1}


def _list_covered(context: AttemptContext) -> list[str]:
    """The nodes whose work this one reviews."""
    graph = context.run.nodes.graph
    return [one for one in graph.prerequisites(context.task.id) if not is_resolve_task(one)]


def _make_follow_ups(context: AttemptContext, groups: Sequence[FollowUp], report: str) -> list[NewTask]:
    tasks = context.run.nodes.graph.tasks
    known, added = set(tasks), list[NewTask]()
    covered = _list_covered(context)[-MAX_LISTED:]
    for group in groups:
        task_id = name_follow_up(context.task, known)
        known.add(task_id)
        owner = tasks.get(group.node)
        level = owner.level if owner and not owner.is_review else DEFAULT_LEVEL
        first = group.criteria[0] if group.criteria else "what its review asks for"
        text = render_task(
            task_id,
            f"Follow up {context.task.id}: {cut(fold(first), 60)}",
            level=level,
            depends_on=(group.node,) if group.node else covered,
            body=_write_body(context.task, owner, group, report),
        )
        added.append(place_task(context, task_id, text))
    return added


def _write_body(review: Task, owner: Task | None, group: FollowUp, report: str) -> str:
    about = f" about the work of task `{owner.id}` ({owner.name})" if owner else ""
    about = about or (f" about `{group.path}`" if group.path else "")
    criteria = "\n".join(f"- [ ] {one}" for one in group.criteria)
    said = "" if criteria else f"\nIts report:\n\n{fence(report)}\n"
    return f"""## Description
The review `{review.id}` ({review.name}) asks for changes{about}. Once they have landed, it reviews again.
{said}
## Acceptance Criteria
{criteria or "- [ ] What the report asks for is done"}

## Notes

## Summary
"""
