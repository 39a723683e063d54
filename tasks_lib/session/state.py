"""Decides what a session is doing, from events that may arrive twice, late, out of order or never."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import assert_never

from tasks_lib import loop_limits
from tasks_lib.loop_limits import UNTRIED, Progress
from tasks_lib.session import events as ev
from tasks_lib.session.events import IDLE, Event, Member, Problem, Reply, Request, Todo
from tasks_lib.session.spending import NOTHING, Spent, add_up


@dataclass(frozen=True, slots=True)
class Look:
    """The worktree after `compactions` of a session; up to the one numbered `excused`, there was progress."""

    compactions: int = 0
    work: str = ""
    excused: int = 0


UNSEEN = Look()


@dataclass(frozen=True, slots=True)
class Watch:
    """What is known about the turn of the session `root` and its children.

    Times: `active_at` is the last activity, `idle_at` when a member last turned idle, `asked_at` the last prompt (of
    `sent`), `heard_at` the last event of any kind, `reread_at` the last snapshot, `limited_at` when the provider began
    to rate-limit without an answer since (0: it does not). `headway` and `looks` track the progress of each session.
    """

    root: str
    began: float
    active_at: float
    idle_at: float
    asked_at: float
    heard_at: float
    reread_at: float = 0.0
    limited_at: float = 0.0
    sent: int = 0
    prompts: int = 0
    members: Mapping[str, Member] = field(default_factory=dict[str, Member])
    requests: Mapping[str, Request] = field(default_factory=dict[str, Request])
    steps: Mapping[str, Spent] = field(default_factory=dict[str, Spent])
    headway: Mapping[str, Progress] = field(default_factory=dict[str, Progress])
    looks: Mapping[str, Look] = field(default_factory=dict[str, Look])
    used: Spent = NOTHING
    todos: tuple[Todo, ...] = ()
    reply: Reply | None = None
    problem: Problem | None = None
    growth: int = -1
    has_stepped: bool = False
    has_gap: bool = False
    is_dead: bool = False

    @property
    def is_busy(self) -> bool:
        return any(member.is_busy for member in self.members.values())

    def setbacks(self, session: str) -> int:
        """How many times in a row the conversation of `session` was compacted without progress in between."""
        headway = self.headway.get(session, UNTRIED)
        return min(headway.compactions, len(headway.parts) - self.looks.get(session, UNSEEN).excused)

    def spent(self, now: float) -> Spent:
        """What the turn has used by `now`, including subagents."""
        return self.used + Spent(turns=1, seconds=max(0.0, now - self.began))


def begin(root: str, now: float) -> Watch:
    """The watch of a turn before its first prompt."""
    return Watch(root, now, now, now, now, now, members={root: IDLE})


def observe(watch: Watch, event: Event) -> Watch:
    """The watch after `event`. A snapshot replaces what earlier events said, except for the times of activity."""
    heard = replace(watch, heard_at=max(watch.heard_at, event.at))
    match event:
        case ev.SnapshotTaken():
            return _take_snapshot(heard, event)
        case ev.Polled():
            return _take_poll(heard, event)
        case ev.Gap():
            return replace(heard, has_gap=True)
        case ev.ServerDied():
            return replace(heard, is_dead=True, members=dict.fromkeys(watch.members, IDLE), requests={})
        case ev.Sent():
            alive = replace(_live(heard, event.at), is_dead=False, problem=None)
            asked = replace(alive, sent=watch.sent + 1, asked_at=max(watch.asked_at, event.at))
            return replace(asked, headway=advance(watch.headway, event))
        case ev.Looked():
            return replace(heard, looks={**watch.looks, event.session: _compare(watch, event)})
        case ev.Answered():
            return replace(heard, requests={key: one for key, one in watch.requests.items() if key != event.request})
        case ev.ErrorSeen():
            return _take_error(heard, event)
        case _:
            progressing = replace(_live(heard, event.at), headway=advance(watch.headway, event, watch.steps))
            return _take_life(_time_limit(progressing, event), event)


def advance(known: Mapping[str, Progress], event: Event, steps: Collection[str] = ()) -> Mapping[str, Progress]:
    """`known` after `event`; `steps` are the ones already counted. Used for live events and for history alike."""
    before = known.get(event.session, UNTRIED)
    match event:
        case ev.ToolStarted():
            after = loop_limits.note_call(before)
        case ev.ToolEnded():
            after = loop_limits.note_result(before, event.tool.name, event.given, event.result)
        case ev.StepEnded() if event.step not in steps:
            after = loop_limits.note_step(before)
        case ev.Compacted():
            after = loop_limits.note_compaction(before, event.part, is_overflow=event.is_overflow)
        case ev.Sent():
            after = loop_limits.note_prompt(before)
        case _:
            after = before
    return known if after == before else {**known, event.session: after}


def _compare(watch: Watch, event: ev.Looked) -> Look:
    """Compare the worktree with the last look; if it changed, only the newest compaction counts."""
    before, seen = watch.looks.get(event.session), len(watch.headway.get(event.session, UNTRIED).parts)
    if before is None or before.work == event.work:
        return Look(seen, event.work, before.excused if before else 0)
    return Look(seen, event.work, seen - 1)


def _time_limit(watch: Watch, event: Event) -> Watch:
    match event:
        case ev.Retrying() if event.retry.is_rate_limit and not watch.limited_at:
            return replace(watch, limited_at=event.at)
        case ev.StepEnded() | ev.ToolEnded() if watch.limited_at:
            return replace(watch, limited_at=0.0)
        case _:
            return watch


_Doing = ev.Busy | ev.Retrying | ev.StepStarted | ev.TextGrew | ev.ToolStarted | ev.ToolEnded
_Other = (
    ev.Idle | ev.StepEnded | ev.TextEnded | ev.Asked | ev.TodosChanged | ev.ChildOpened
    | ev.Compacted
)  # fmt: skip


def _take_life(watch: Watch, event: _Doing | _Other) -> Watch:
    match event:
        case ev.Idle():
            return _fall_idle(watch, event.session, event.at)
        case ev.StepEnded():
            return _add_step(watch, event)
        case ev.Asked():
            return replace(watch, requests={**watch.requests, event.request.id: event.request})
        case ev.TodosChanged():
            return replace(watch, todos=event.todos) if event.session == watch.root else watch
        case ev.ChildOpened():
            return watch if event.child in watch.members else _put(watch, event.child, IDLE)
        case ev.TextEnded() | ev.Compacted():
            return watch
        case _:
            stepped = replace(watch, has_stepped=True) if isinstance(event, ev.StepStarted) else watch
            return _put(stepped, event.session, _work(watch.members.get(event.session, IDLE), event))


def _work(member: Member, event: _Doing) -> Member:
    match event:
        case ev.Busy():
            return replace(member, is_busy=True, retry=None)
        case ev.Retrying():
            return replace(member, is_busy=True, retry=event.retry)
        case ev.StepStarted():
            return replace(member, is_busy=True, retry=None, is_thinking=False)
        case ev.TextGrew():
            thinks = member.is_thinking if event.is_thinking is None else event.is_thinking
            return replace(member, is_busy=True, retry=None, is_thinking=thinks)
        case ev.ToolStarted():
            return replace(member, is_busy=True, tools={**member.tools, event.call: event.tool})
        case ev.ToolEnded():
            return replace(member, tools={key: tool for key, tool in member.tools.items() if key != event.call})
        case _:
            assert_never(event)


def _take_error(watch: Watch, event: ev.ErrorSeen) -> Watch:
    """Keep a refusal, else the first error; errors of children are ignored, because their parent handles them."""
    known = watch.problem
    if event.session != watch.root or (known and (known.is_refusal or not event.problem.is_refusal)):
        return watch
    return replace(watch, problem=event.problem)


def _live(watch: Watch, at: float) -> Watch:
    return replace(watch, active_at=max(watch.active_at, at))


def _put(watch: Watch, session: str, member: Member) -> Watch:
    if watch.members.get(session) == member:
        return watch
    return replace(watch, members={**watch.members, session: member})


def _fall_idle(watch: Watch, session: str, at: float) -> Watch:
    if watch.members.get(session) == IDLE:
        return watch
    return replace(_put(watch, session, IDLE), idle_at=max(watch.idle_at, at))


def _add_step(watch: Watch, event: ev.StepEnded) -> Watch:
    if event.step in watch.steps:
        return watch
    return replace(watch, steps={**watch.steps, event.step: event.spent}, used=watch.used + event.spent)


def _take_snapshot(watch: Watch, event: ev.SnapshotTaken) -> Watch:
    snapshot = event.snapshot
    has_grown = snapshot.growth != watch.growth
    fell_idle = watch.is_busy and not any(member.is_busy for member in snapshot.members.values())
    return replace(
        watch,
        members=dict(snapshot.members),
        requests={request.id: request for request in snapshot.requests},
        steps=dict(snapshot.steps),
        headway=dict(snapshot.headway),
        limited_at=(watch.limited_at or event.at) if _is_limited(snapshot.members) else 0.0,
        used=add_up(snapshot.steps.values()),
        todos=snapshot.todos,
        prompts=snapshot.prompts,
        reply=snapshot.reply,
        problem=None if snapshot.reply else watch.problem,
        growth=snapshot.growth,
        active_at=max(watch.active_at, event.at) if has_grown else watch.active_at,
        idle_at=max(watch.idle_at, event.at) if fell_idle else watch.idle_at,
        reread_at=max(watch.reread_at, event.at),
        has_stepped=watch.has_stepped or bool(snapshot.steps),
        has_gap=False,
        is_dead=False,
    )


def _is_limited(members: Mapping[str, Member]) -> bool:
    return any(member.retry and member.retry.is_rate_limit for member in members.values())


def _take_poll(watch: Watch, event: ev.Polled) -> Watch:
    for session, member in watch.members.items():
        if session not in event.busy:
            watch = _fall_idle(watch, session, event.at)
        else:
            watch = _put(watch, session, replace(member, is_busy=True, retry=event.busy[session]))
    requests = {request.id: request for request in event.requests if request.session in watch.members}
    # A request from an unknown session may come from a child whose opening was missed.
    if not watch.limited_at and _is_limited(watch.members):
        watch = replace(watch, limited_at=event.at)
    return replace(watch, requests=requests, has_gap=watch.has_gap or len(requests) < len(event.requests))
