"""Keeps how each session of a turn progresses: from its events, and from checks of the worktree after compactions."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from tasks_lib import loop_limits, repetition
from tasks_lib.loop_limits import UNTRIED, Progress, Result
from tasks_lib.repetition import NOT_SEEN, WorkSeen
from tasks_lib.session import events as ev
from tasks_lib.session.events import Event


@dataclass(frozen=True, slots=True)
class WorktreeCheck:
    """The worktree after `compactions` of a session; up to the one numbered `excused`, there was progress.

    `work` changes if and only if the content of the worktree does.
    """

    compactions: int = 0
    work: str = ""
    excused: int = 0


UNCHECKED = WorktreeCheck()


@dataclass(frozen=True, slots=True)
class TurnProgress:
    """The progress of each session, by its id, and what checks of the worktree showed: after it was compacted
    (`checks`), and while it repeated itself (`seen`).
    """

    sessions: Mapping[str, Progress] = field(default_factory=dict[str, Progress])
    checks: Mapping[str, WorktreeCheck] = field(default_factory=dict[str, WorktreeCheck])
    seen: Mapping[str, WorkSeen] = field(default_factory=dict[str, WorkSeen])

    def count_setbacks(self, session: str) -> int:
        """How many times in a row the conversation of `session` was compacted without progress in between."""
        progress = self.sessions.get(session, UNTRIED)
        return min(progress.compactions, len(progress.parts) - self.checks.get(session, UNCHECKED).excused)

    def needs_check(self, session: str) -> bool:
        """Whether the worktree is to be checked for `session`, which was compacted since, or repeats itself."""
        progress = self.sessions.get(session, UNTRIED)
        checked = self.checks.get(session, UNCHECKED).compactions
        if self.count_setbacks(session) > 0 and checked < len(progress.parts):
            return True
        return repetition.needs_look(progress.repeats, self.seen.get(session, NOT_SEEN))

    def find_loop(self, session: str) -> str:
        """Say in one clause how `session` repeats itself; "" if it may continue."""
        repeats = self.sessions.get(session, UNTRIED).repeats
        return repetition.find_loop(repeats, self.seen.get(session, NOT_SEEN))

    def follow(self, event: Event, steps: Collection[str] = ()) -> "TurnProgress":
        """The progress after `event`; `steps` are the ones already counted."""
        return replace(self, sessions=advance(self.sessions, event, steps))

    def add_check(self, event: ev.WorktreeChecked) -> "TurnProgress":
        """The progress after a check of the worktree; if the worktree changed, only the newest compaction counts."""
        before = self.checks.get(event.session)
        compactions = len(self.sessions.get(event.session, UNTRIED).parts)
        if before is None or before.work == event.work:
            check = WorktreeCheck(compactions, event.work, before.excused if before else 0)
        else:
            check = WorktreeCheck(compactions, event.work, compactions - 1)
        repeats = self.sessions.get(event.session, UNTRIED).repeats
        seen = repetition.note_work(repeats, self.seen.get(event.session, NOT_SEEN), event.work)
        return replace(self, checks={**self.checks, event.session: check}, seen={**self.seen, event.session: seen})


def advance(known: Mapping[str, Progress], event: Event, steps: Collection[str] = ()) -> Mapping[str, Progress]:
    """`known` after `event`; `steps` are the ones already counted. Used for live events and for history alike."""
    before = known.get(event.session, UNTRIED)
    match event:
        case ev.ToolStarted():
            after = loop_limits.note_call(before)
        case ev.ToolEnded():
            tool, error = event.tool, event.error
            ended = Result(event.call, tool.name, event.given, event.result, error, event.seconds, tool.title)
            after = loop_limits.note_result(before, ended)
        case ev.StepEnded() if event.step not in steps:
            after = loop_limits.note_step(before)
        case ev.Compacted():
            after = loop_limits.note_compaction(before, event.part, is_overflow=event.is_overflow)
        case ev.Sent():
            after = loop_limits.note_prompt(before)
        case _:
            after = before
    return known if after == before else {**known, event.session: after}
