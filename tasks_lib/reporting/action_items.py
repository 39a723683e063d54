"""Decides what could be improved after a run, each as an action item, and as a task file where an agent can do it."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from tasks_lib.model import HUMAN, Scope
from tasks_lib.reporting.journal_events import Cause
from tasks_lib.reporting.makespan import Makespan
from tasks_lib.reporting.run_facts import Evidence
from tasks_lib.reporting.run_trouble import AFTERWARDS, LANDED_LATER, STILL_OPEN, Found, SharedFile, Trouble
from tasks_lib.taskfile.parsing import render_task
from tasks_lib.text import cut, fold

MAX_ITEMS = 8
LARGE_SHARE = 0.2
"""A wait that took this share of a run is worth an action item."""
MIN_SECONDS = 1.0
RED_NODES = 2
"""As many nodes whose merge was red suggest that agents do not know how to check their work."""
NAME_CHARS = 70
MAX_RUNS = 3
"""How many journals a task file names; the report on a milestone may have many."""
FOR_AGENTS = "AGENTS.md"
"""The file that agents are given, and the place for what they should know."""


@dataclass(frozen=True, slots=True)
class ActionItem:
    """Something specific to improve: its `text`, `why`, and what has to be true afterwards (`criteria`).

    `task` is the id of a task file that already asks for it, "" if none does. `is_for_person` if only a person may
    decide it. `scope` is how much of the repository it is about, None if that is not known.
    """

    text: str
    why: str
    criteria: tuple[str, ...]
    evidence: tuple[Evidence, ...]
    is_for_person: bool = False
    task: str = ""
    scope: Scope | None = None


def list_action_items(trouble: Trouble, makespan: Makespan, sessions: int) -> tuple[ActionItem, ...]:
    """The action items of a run, the most urgent first, at most `MAX_ITEMS`."""
    found = _join(
        *_resolve_blockers(trouble.blockers),
        *_split_files(trouble.files),
        *_write_down_answers(trouble.blockers),
        *_check_first(trouble.refusals),
        *_end_stalls(trouble.stalls),
        *_shorten_waits(makespan, sessions),
    )
    return tuple(found[:MAX_ITEMS])


def _join(*items: ActionItem) -> list[ActionItem]:
    """`items`, those with the same text as one with the evidence of all."""
    found: dict[str, ActionItem] = {}
    for one in items:
        first = found.setdefault(one.text, one)
        if first is not one:
            found[one.text] = replace(first, evidence=(*first.evidence, *one.evidence))
    return list(found.values())


def _resolve_blockers(blockers: Sequence[Found]) -> Iterator[ActionItem]:
    for one in blockers:
        if one.ended == STILL_OPEN:
            text = f"Decide what blocks {one.node}: {fold(one.what)}"
            why = f"{one.node} is blocked, and everything that depends on it waits."
            criteria = (f"`coordinator resolve {one.node}` was called with the answer",)
            yield ActionItem(text, why, criteria, one.evidence, is_for_person=True, task=one.node)


def _split_files(files: Sequence[SharedFile]) -> Iterator[ActionItem]:
    for one in files:
        if one.conflicts:
            times = "once" if one.conflicts == 1 else f"{one.conflicts} times"
            changed = f", and {_list_names(one.nodes)} changed it" if one.nodes else ""
            yield ActionItem(
                f"Let {one.path} be changed in several places at once",
                f"It was in conflict {times}{changed}. Work that adds to the same lines is serialised.",
                (
                    f"What tasks add to `{one.path}` goes to separate files, or to places that git merges by itself",
                    "Nothing else changes in behaviour, and the tests pass",
                ),
                one.evidence,
                scope=Scope.NARROW,
            )


def _write_down_answers(blockers: Sequence[Found]) -> Iterator[ActionItem]:
    """One item for all answers, since sessions that add to the same file at once would be in conflict."""
    answered: dict[str, list[Found]] = {}
    for one in blockers:
        if _find_answer(one):
            answered.setdefault(fold(one.what), []).append(one)
    if not answered:
        return
    found = [one for group in answered.values() for one in group]
    text = f"Write down the answers to {len(answered)} questions that agents stopped to ask"
    if len(answered) == 1:
        text = f'Write down the answer to "{fold(found[0].what)}"'
    yield ActionItem(
        text,
        " ".join(f'{group[0].node} asked "{what}", and {_find_answer(group[0])}.' for what, group in answered.items()),
        tuple(f'{FOR_AGENTS}, or a document that it refers to, answers "{what}"' for what in answered),
        _join_evidence(found),
        scope=Scope.SINGLE if len(answered) == 1 else Scope.NARROW,
    )


def _find_answer(blocker: Found) -> str:
    """Who answered what, "" if neither a resolver nor a person did."""
    answer = fold(blocker.ended).removeprefix(AFTERWARDS).removesuffix(LANDED_LATER).rstrip(".")
    return answer if answer.startswith(("a person answered:", "a resolver supplied context")) else ""


def _check_first(refusals: Sequence[Found]) -> Iterator[ActionItem]:
    red = [one for one in refusals if one.about == "verify"]
    nodes = sorted({one.node for one in red})
    if len(nodes) >= RED_NODES:
        yield ActionItem(
            f"Say in {FOR_AGENTS} which checks have to pass before work is done",
            f"{len(nodes)} nodes ended a turn with work that `verify` was red on as merged: {_list_names(nodes)}.",
            (f"{FOR_AGENTS} names the commands of `verify`, and how to run each of them",),
            _join_evidence(red),
            scope=Scope.SINGLE,
        )


def _end_stalls(stalls: Sequence[Found]) -> Iterator[ActionItem]:
    of_nodes: defaultdict[str, list[Found]] = defaultdict(list)
    for one in stalls:
        of_nodes[one.node].append(one)
    for node, found in of_nodes.items():
        yield ActionItem(
            f"Find out why a turn of {node} hung",
            f"The turn was ended: {fold(found[0].what)}.",
            (f"The command that hung ends by itself or has a time limit, or {FOR_AGENTS} says what to use instead",),
            _join_evidence(found),
            scope=Scope.NARROW,
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
                ("A run of the same size spends a smaller share of its time on this",),
                tuple(Evidence("task", node) for node in nodes),
                is_for_person=True,
            )


def _join_evidence(found: Iterable[Found]) -> tuple[Evidence, ...]:
    return tuple(evidence for one in found for evidence in one.evidence)


def _list_names(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def name_item(item: ActionItem) -> str:
    """The name of the task that an action item becomes."""
    return cut(fold(item.text), NAME_CHARS)


def render_item(item: ActionItem, task_id: str, name: str, runs: Sequence[str]) -> str:
    """The task file of an action item, with its evidence; `name` is that of the report on `runs`."""
    criteria = "\n".join(f"- [ ] {one}" for one in item.criteria)
    body = f"""## Description
{item.text}.

{item.why}

## Acceptance Criteria
{criteria}

## References
{_cite(item.evidence, name, runs)}

## Notes

## Summary
"""
    assignee = HUMAN if item.is_for_person else None
    return render_task(task_id, name_item(item), assignee=assignee, scope=item.scope, body=body)


def _cite(evidence: Sequence[Evidence], name: str, runs: Sequence[str]) -> str:
    """Where an action item comes from, in a form that helps someone who has only the repository."""
    about = f"run {name}" if [name] == list(runs) else name
    lines = [f"The after-action report on {about} proposes this, from this evidence:", ""]
    lines += [f"- {one.cite()}" for one in evidence] or ["- the report itself"]
    if any(one.kind == "event" for one in evidence):
        files = " and ".join(f"`coordinator/journals/{one}.jsonl`" for one in runs[:MAX_RUNS])
        lines += ["", f"Events are lines of {files} in `git rev-parse --git-common-dir`."]
    return "\n".join(lines)
