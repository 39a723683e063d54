"""Decides what is progress, and when a loop over something outside has come round too often without any.

A bound counts in a row and is reset by progress, never by activity: an event, an answer or a commit that only repeats
what was there brings nothing nearer to its end. docs/reliability.md lists every such loop with its bound.
"""

import hashlib
from dataclasses import dataclass, replace

MAX_IN_A_ROW = 3
"""How often in a row something may come to nothing before it is ended."""
STEPS_OF_PROGRESS = 2
"""So many answers with something new are progress in a conversation: one alone is what each compaction repeats."""
_REMEMBERED = 32
"""How many results of tools are known, so that one that only repeats another is not new."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Whether one session of a turn gets on, or only goes round.

    `compactions` and `answers` count, in a row and without progress in between, how often its conversation was made
    shorter, and how often its model answered without calling a tool and without ending its turn. `new_steps` are the
    answers since the last compaction whose tools said something new. `is_overflow` says that the last compaction was
    made because the provider refused the conversation as too long.
    """

    compactions: int = 0
    answers: int = 0
    new_steps: int = 0
    is_overflow: bool = False
    results: tuple[str, ...] = ()
    parts: frozenset[str] = frozenset()
    called: bool = False
    is_new: bool = False
    is_summary: bool = False


UNTRIED = Progress()


def note_result(headway: Progress, tool: str, given: str, result: str) -> Progress:
    """A tool came to its end; the same call with the same result as a recent one is nothing new."""
    digest = hashlib.sha256("\0".join((tool, given, result)).encode("utf-8", "replace")).hexdigest()[:16]
    known = replace(headway, called=True)
    if digest in headway.results:
        return known
    return replace(known, is_new=True, results=(*headway.results, digest)[-_REMEMBERED:])


def note_call(headway: Progress) -> Progress:
    """A tool has begun."""
    return headway if headway.called else replace(headway, called=True)


def note_step(headway: Progress) -> Progress:
    """An answer of the model is whole; call once for each."""
    new_steps = headway.new_steps + headway.is_new
    answers = 0 if headway.called else headway.answers + (not headway.is_summary)
    return replace(headway, new_steps=new_steps, answers=answers, called=False, is_new=False, is_summary=False)


def note_compaction(headway: Progress, part: str, *, is_overflow: bool) -> Progress:
    """The conversation is being made shorter; `part` is what tells of it, which may come twice."""
    if part in headway.parts:
        return headway
    is_first = headway.new_steps >= STEPS_OF_PROGRESS
    return replace(
        headway,
        compactions=1 if is_first else headway.compactions + 1,
        new_steps=0,
        is_overflow=is_overflow,
        is_summary=True,
        called=False,
        is_new=False,
        parts=headway.parts | {part},
    )


def note_prompt(headway: Progress) -> Progress:
    """Somebody spoke to the session: an answer that only says something is one again."""
    return replace(headway, answers=0) if headway.answers else headway


def describe_exhaustion(headway: Progress) -> str:
    """Why a session whose bound is used up is ended, in one sentence."""
    if headway.answers >= MAX_IN_A_ROW:
        return (
            f"the model answered {MAX_IN_A_ROW} times in a row without calling a tool, and its provider did not say "
            "that it was done"
        )
    if headway.is_overflow:
        return (
            f"the provider refused the conversation as too long {MAX_IN_A_ROW} times in a row, though opencode "
            "made it shorter each time; the task, or what its tools print, is too large for the model's context"
        )
    return (
        f"the conversation was made shorter {MAX_IN_A_ROW} times in a row without progress in between: nothing "
        "new in the worktree, and hardly a step; the model's context is too small for what it is given"
    )
