"""Decides what counts as progress, and when a loop that waits for something outside has run too long without it.

A limit counts consecutive rounds. Progress resets it, activity does not: an event, an answer or a commit that only
repeats an earlier one is not progress. docs/reliability.md lists every such loop with its limit.
"""

import hashlib
from dataclasses import dataclass, replace

from tasks_lib import repetition
from tasks_lib.repetition import Repeats

MAX_IN_A_ROW = 3
"""How many consecutive failures are allowed before giving up."""
STEPS_OF_PROGRESS = 2
"""How many answers with something new count as progress; every compaction produces one of them by itself."""
_REMEMBERED = 32
"""How many tool results are remembered, so that a repeated one is not counted as new."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Whether one session of a turn makes progress or repeats itself.

    `compactions` and `answers` count how many times in a row, without progress in between, its conversation was
    compacted, and its model answered without calling a tool or ending its turn. `new_steps` counts the answers since
    the last compaction whose tools returned something new. `repeats` are of all its tool calls. `is_overflow`: the last
    compaction was made because the provider rejected the conversation as too long.
    """

    compactions: int = 0
    answers: int = 0
    new_steps: int = 0
    is_overflow: bool = False
    results: tuple[str, ...] = ()
    repeats: Repeats = repetition.NONE
    parts: frozenset[str] = frozenset()
    called: bool = False
    is_new: bool = False
    is_summary: bool = False


UNTRIED = Progress()


@dataclass(frozen=True, slots=True)
class Result:
    """The end of a tool call: its id, what it was given and returned, after how long, and its error ("" for none)."""

    call: str
    tool: str
    given: str
    result: str
    error: str = ""
    seconds: float = 0.0
    title: str = ""


def note_result(progress: Progress, ended: Result) -> Progress:
    """Record that a tool finished; a call and result that were seen recently are not new."""
    said = "\0".join((ended.tool, ended.given, ended.result))
    digest = hashlib.sha256(said.encode("utf-8", "replace")).hexdigest()[:16]
    name = f"{ended.tool}: {ended.title}" if ended.title else ended.tool
    repeats = repetition.note_call(progress.repeats, ended.call, name, digest, ended.error, ended.seconds)
    known = replace(progress, called=True, repeats=repeats)
    if digest in progress.results:
        return known
    return replace(known, is_new=True, results=(*progress.results, digest)[-_REMEMBERED:])


def note_call(progress: Progress) -> Progress:
    """Record that a tool was started."""
    return progress if progress.called else replace(progress, called=True)


def note_step(progress: Progress) -> Progress:
    """Record that the model finished an answer; call once for each."""
    new_steps = progress.new_steps + progress.is_new
    answers = 0 if progress.called else progress.answers + (not progress.is_summary)
    return replace(progress, new_steps=new_steps, answers=answers, called=False, is_new=False, is_summary=False)


def note_compaction(progress: Progress, part: str, *, is_overflow: bool) -> Progress:
    """Record that the conversation is being compacted; `part` identifies the message part, which may arrive twice."""
    if part in progress.parts:
        return progress
    is_first = progress.new_steps >= STEPS_OF_PROGRESS
    return replace(
        progress,
        compactions=1 if is_first else progress.compactions + 1,
        new_steps=0,
        is_overflow=is_overflow,
        is_summary=True,
        called=False,
        is_new=False,
        parts=progress.parts | {part},
    )


def note_prompt(progress: Progress) -> Progress:
    """Record that the session was prompted: a text-only answer is a valid reply again."""
    return replace(progress, answers=0) if progress.answers else progress


def describe_exhaustion(progress: Progress) -> str:
    """Say in one clause why a session that reached its limit is ended."""
    if progress.answers >= MAX_IN_A_ROW:
        return (
            f"the model answered {MAX_IN_A_ROW} times in a row without calling a tool, and its provider did not report "
            "the turn as finished"
        )
    if progress.is_overflow:
        return (
            f"the provider rejected the conversation as too long {MAX_IN_A_ROW} times in a row, although opencode "
            "compacted it each time; the task, or the output of its tools, is too large for the model's context"
        )
    return (
        f"the conversation was compacted {MAX_IN_A_ROW} times in a row without progress in between: nothing new in "
        "the worktree and hardly any steps; the model's context is too small for this task"
    )
