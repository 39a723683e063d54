"""Decides what a session is doing, from events that may arrive twice, late, out of order or never."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import assert_never

from tasks_lib.session import events as ev
from tasks_lib.session import shell_watch
from tasks_lib.session.events import IDLE, Event, Member, Problem, Reply, Request, Todo
from tasks_lib.session.shell_watch import Shells
from tasks_lib.session.spending import NOTHING, Spent, add_up
from tasks_lib.session.turn_progress import TurnProgress


@dataclass(frozen=True, slots=True)
class Times:
    """When something last happened, in seconds since the epoch.

    `active_at` is the last activity, `idle_at` when a member last turned idle, `asked_at` the last prompt, `heard_at`
    the last event of any kind, `limited_at` when the provider began to rate-limit without an answer since (0: it does
    not).
    """

    began: float
    active_at: float
    idle_at: float
    asked_at: float
    heard_at: float
    limited_at: float = 0.0


@dataclass(frozen=True, slots=True)
class LastRead:
    """What the last snapshot, taken at `at`, says about the conversation; its fields are those of Snapshot."""

    at: float = 0.0
    prompts: int = 0
    reply: Reply | None = None
    growth: int = -1


@dataclass(frozen=True, slots=True)
class Usage:
    """What each model answer of the turn used, by its id, and their sum."""

    steps: Mapping[str, Spent] = field(default_factory=dict[str, Spent])
    total: Spent = NOTHING

    def add(self, step: str, spent: Spent) -> "Usage":
        """The usage with one more answer; one that was counted already is not counted again."""
        return self if step in self.steps else Usage({**self.steps, step: spent}, self.total + spent)


@dataclass(frozen=True, slots=True)
class Watch:
    """What is known about the turn of the session `root` and its children, to which `sent` prompts were sent.

    `shells` is None while no tool of theirs runs a shell.
    """

    root: str
    times: Times
    sent: int = 0
    members: Mapping[str, Member] = field(default_factory=dict[str, Member])
    requests: Mapping[str, Request] = field(default_factory=dict[str, Request])
    usage: Usage = field(default_factory=Usage)
    progress: TurnProgress = field(default_factory=TurnProgress)
    last_read: LastRead = field(default_factory=LastRead)
    todos: tuple[Todo, ...] = ()
    problem: Problem | None = None
    shells: Shells | None = None
    has_gap: bool = False
    is_dead: bool = False

    @property
    def is_busy(self) -> bool:
        return any(member.is_busy for member in self.members.values())

    def spent(self, now: float) -> Spent:
        """What the turn has used by `now`, including subagents."""
        return self.usage.total + Spent(turns=1, seconds=max(0.0, now - self.times.began))


def begin(root: str, now: float) -> Watch:
    """The watch of a turn before its first prompt."""
    return Watch(root, Times(now, now, now, now, now), members={root: IDLE})


def observe(watch: Watch, event: Event) -> Watch:
    """The watch after `event`. A snapshot replaces what earlier events said, except for the times of activity."""
    after = _observe(watch, event)
    shells = shell_watch.follow(watch.shells, after.members.values(), watch.times.heard_at, event.at)
    return after if shells == watch.shells else replace(after, shells=shells)


def _take_sample(watch: Watch, event: ev.ShellsSampled) -> Watch:
    if watch.shells is None:
        return watch
    shells = shell_watch.take(watch.shells, event.sample, event.at)
    after = replace(watch, shells=shells)
    return _live(after, event.at) if shell_watch.was_active(watch.shells, shells) else after


def _observe(watch: Watch, event: Event) -> Watch:
    if isinstance(event, ev.ShellsSampled):
        return _take_sample(watch, event)
    heard = _set_times(watch, heard_at=max(watch.times.heard_at, event.at))
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
            asked = _set_times(alive, asked_at=max(watch.times.asked_at, event.at))
            return replace(asked, sent=watch.sent + 1, progress=watch.progress.follow(event))
        case ev.WorktreeChecked():
            return replace(heard, progress=watch.progress.add_check(event))
        case ev.Answered():
            return replace(heard, requests={key: one for key, one in watch.requests.items() if key != event.request})
        case ev.ErrorSeen():
            return _take_error(heard, event)
        case _:
            progressing = replace(_live(heard, event.at), progress=watch.progress.follow(event, watch.usage.steps))
            return _take_life(_time_limit(progressing, event), event)


def _set_times(watch: Watch, **changes: float) -> Watch:
    return replace(watch, times=replace(watch.times, **changes))


def _time_limit(watch: Watch, event: Event) -> Watch:
    match event:
        case ev.Retrying() if event.retry.is_rate_limit and not watch.times.limited_at:
            return _set_times(watch, limited_at=event.at)
        case ev.StepEnded() | ev.ToolEnded() if watch.times.limited_at:
            return _set_times(watch, limited_at=0.0)
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
            return replace(watch, usage=watch.usage.add(event.step, event.spent))
        case ev.Asked():
            return replace(watch, requests={**watch.requests, event.request.id: event.request})
        case ev.TodosChanged():
            return replace(watch, todos=event.todos) if event.session == watch.root else watch
        case ev.ChildOpened():
            return watch if event.child in watch.members else _put(watch, event.child, IDLE)
        case ev.TextEnded() | ev.Compacted():
            return watch
        case _:
            return _put(watch, event.session, _work(watch.members.get(event.session, IDLE), event))


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
    return _set_times(watch, active_at=max(watch.times.active_at, at))


def _put(watch: Watch, session: str, member: Member) -> Watch:
    if watch.members.get(session) == member:
        return watch
    return replace(watch, members={**watch.members, session: member})


def _fall_idle(watch: Watch, session: str, at: float) -> Watch:
    if watch.members.get(session) == IDLE:
        return watch
    return _set_times(_put(watch, session, IDLE), idle_at=max(watch.times.idle_at, at))


def _take_snapshot(watch: Watch, event: ev.SnapshotTaken) -> Watch:
    snapshot, times, last = event.snapshot, watch.times, watch.last_read
    has_grown = snapshot.growth != last.growth
    fell_idle = watch.is_busy and not any(member.is_busy for member in snapshot.members.values())
    return replace(
        watch,
        times=replace(
            times,
            active_at=max(times.active_at, event.at) if has_grown else times.active_at,
            idle_at=max(times.idle_at, event.at) if fell_idle else times.idle_at,
            limited_at=(times.limited_at or event.at) if _is_limited(snapshot.members) else 0.0,
        ),
        members=dict(snapshot.members),
        requests={request.id: request for request in snapshot.requests},
        usage=Usage(dict(snapshot.steps), add_up(snapshot.steps.values())),
        progress=replace(watch.progress, sessions=dict(snapshot.progress)),
        last_read=LastRead(max(last.at, event.at), snapshot.prompts, snapshot.reply, snapshot.growth),
        todos=snapshot.todos,
        problem=None if snapshot.reply else watch.problem,
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
    if not watch.times.limited_at and _is_limited(watch.members):
        watch = _set_times(watch, limited_at=event.at)
    return replace(watch, requests=requests, has_gap=watch.has_gap or len(requests) < len(event.requests))
