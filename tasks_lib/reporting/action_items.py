"""Decides what could be improved after a run, each as an action item, and as a task file where an agent can do it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tasks_lib.model import HUMAN
from tasks_lib.reporting.journal_events import Cause
from tasks_lib.reporting.makespan import Makespan
from tasks_lib.reporting.run_facts import Evidence
from tasks_lib.reporting.run_trouble import Found, SharedFile, Trouble
from tasks_lib.taskfile.parsing import render_task
from tasks_lib.text import cut, fold

MAX_ITEMS = 8
LARGE_SHARE = 0.2
"""A wait that took this share of a run is worth an action item."""
MIN_SECONDS = 1.0
RED_NODES = 2
"""As many nodes whose merge was red suggest that agents do not know how to check their work."""
NAME_CHARS = 70


@dataclass(frozen=True, slots=True)
class ActionItem:
    """Something specific to improve: its `text`, `why`, and what has to be true afterwards (`criteria`).

    `task` is the id of a task file that already asks for it, "" if none does. `is_for_person` if only a person may
    decide it.
    """

    text: str
    why: str
    criteria: tuple[str, ...]
    evidence: tuple[Evidence, ...]
    is_for_person: bool = False
    task: str = ""


def list_action_items(trouble: Trouble, makespan: Makespan, sessions: int) -> tuple[ActionItem, ...]:
    """The action items of a run, the most urgent first, at most `MAX_ITEMS`."""
    found = [
        *_resolve_blockers(trouble.blockers),
        *_split_files(trouble.files),
        *_write_down_answers(trouble.blockers),
        *_check_first(trouble.refusals),
        *_end_stalls(trouble.stalls),
        *_shorten_waits(makespan, sessions),
    ]
    return tuple(found[:MAX_ITEMS])


def _resolve_blockers(blockers: Sequence[Found]) -> Iterator[ActionItem]:
    for one in blockers:
        if one.ended == "still open":
            text = f"Decide what blocks {one.node}: {fold(one.what)}"
            why = f"{one.node} is blocked, and everything that depends on it waits."
            criteria = (f"`coordinator resolve {one.node}` has been answered",)
            yield ActionItem(text, why, criteria, one.evidence, is_for_person=True, task=one.node)


def _split_files(files: Sequence[SharedFile]) -> Iterator[ActionItem]:
    for one in files:
        if one.conflicts:
            times = "once" if one.conflicts == 1 else f"{one.conflicts} times"
            nodes = ", ".join(one.nodes)
            yield ActionItem(
                f"Let {one.path} be changed in several places at once",
                f"It was in conflict {times}; {nodes} changed it. Work that adds to the same lines is serialised.",
                (
                    f"what tasks add to `{one.path}` goes to separate files, or to places that git merges by itself",
                    "nothing else changes in behaviour, and the tests pass",
                ),
                one.evidence,
            )


def _write_down_answers(blockers: Sequence[Found]) -> Iterator[ActionItem]:
    for one in blockers:
        if "answered:" in one.ended or one.ended.startswith("a resolver supplied context"):
            yield ActionItem(
                f"Write down the answer to: {fold(one.what).rstrip('?')}",
                f"{one.node} stopped to ask this. How it ended: {fold(one.ended).rstrip('.')}.",
                ("the repository's documentation or AGENTS.md answers the question where agents look first",),
                one.evidence,
            )


def _check_first(refusals: Sequence[Found]) -> Iterator[ActionItem]:
    red = [one for one in refusals if one.about == "verify"]
    nodes = sorted({one.node for one in red})
    if len(nodes) >= RED_NODES:
        yield ActionItem(
            "Say in AGENTS.md which checks have to pass before work is done",
            f"{len(nodes)} nodes ended a turn with work that `verify` was red on as merged: {', '.join(nodes)}.",
            ("AGENTS.md names the commands of `verify`, and how to run them alone",),
            tuple(evidence for one in red for evidence in one.evidence),
        )


def _end_stalls(stalls: Sequence[Found]) -> Iterator[ActionItem]:
    for one in stalls:
        yield ActionItem(
            f"Find out why a turn of {one.node} hung",
            f"The turn was ended: {fold(one.what)}.",
            ("the command that hung ends by itself or has a time limit, or AGENTS.md says what to use instead",),
            one.evidence,
        )


def _shorten_waits(makespan: Makespan, sessions: int) -> Iterator[ActionItem]:
    """Items for waits on the chain that the whole run waited for."""
    advice = {
        str(Cause.SLOT): (f"Raise max_sessions, which is {sessions}", "waited for a free session"),
        str(Cause.QUEUE): ("Make `verify` faster", "waited while other merges were verified"),
        str(Cause.VERIFY): ("Make `verify` faster", "went into verifying merges one by one"),
        str(Cause.LIMIT): ("Spread the sessions over several providers, or raise the limit", "waited for a provider"),
        str(Cause.PERSON): (
            "Answer blockers sooner, such as by an automation that notifies",
            "waited for a person",
        ),
        str(Cause.HELD): ("Keep the target green", "nothing could land, because the queue was on hold"),
    }
    for cause, seconds in makespan.by_cause.items():
        if cause in advice and seconds >= max(MIN_SECONDS, LARGE_SHARE * makespan.seconds):
            text, why = advice[cause]
            nodes = [link.node for link in makespan.chain if link.seconds.get(cause, 0) > 0]
            yield ActionItem(
                text,
                f"On the chain that the run waited for, {seconds:.0f} of {makespan.seconds:.0f} seconds {why}.",
                ("a run of the same size spends a smaller share of its time on this",),
                tuple(Evidence("task", node) for node in nodes),
                is_for_person=True,
            )


def name_item(item: ActionItem) -> str:
    """The name of the task that an action item becomes."""
    return cut(fold(item.text), NAME_CHARS)


def render_item(item: ActionItem, task_id: str, run: str) -> str:
    """The task file of an action item of the report on `run`, with its evidence."""
    criteria = "\n".join(f"- [ ] {one}" for one in item.criteria)
    evidence = "\n".join(f"- {one}" for one in item.evidence)
    body = f"""## Description
{item.text}.

{item.why}

## Acceptance Criteria
{criteria}

## References
The after-action report of run {run} proposes this, from this evidence:

{evidence or "- the report itself"}

## Notes

## Summary
"""
    name = name_item(item)
    return render_task(
        task_id, name, level=None, assignee=HUMAN if item.is_for_person else None, depends_on=(), body=body
    )
