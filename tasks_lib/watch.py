"""Decides what a session is doing, from events that may come twice, late, in another order or never."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import assert_never

from tasks_lib import signs
from tasks_lib.signs import IDLE, Event, Member, Problem, Reply, Request, Todo
from tasks_lib.spending import NOTHING, Spent, add_up


@dataclass(frozen=True, slots=True)
class Watch:
    """What is known of the turn of the session `root`, children included.

    `active_at` is the last sign of life, `idle_at` when a member last fell idle, `asked_at` the last prompt, of which
    there were `sent`; `heard_at` is when anything was last heard, `reread_at` the last snapshot.
    """

    root: str
    began: float
    active_at: float
    idle_at: float
    asked_at: float
    heard_at: float
    reread_at: float = 0.0
    sent: int = 0
    prompts: int = 0
    members: Mapping[str, Member] = field(default_factory=dict[str, Member])
    requests: Mapping[str, Request] = field(default_factory=dict[str, Request])
    steps: Mapping[str, Spent] = field(default_factory=dict[str, Spent])
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

    def spent(self, now: float) -> Spent:
        """What the turn used up to `now`, subagents included."""
        return self.used + Spent(turns=1, seconds=max(0.0, now - self.began))


def begin(root: str, now: float) -> Watch:
    """The watch of a turn before anything was sent."""
    return Watch(root, now, now, now, now, now, members={root: IDLE})


def observe(watch: Watch, event: Event) -> Watch:
    """The watch after `event`. A snapshot replaces all that events said; only when there was life is remembered."""
    heard = replace(watch, heard_at=max(watch.heard_at, event.at))
    match event:
        case signs.Reread():
            return _take_snapshot(heard, event)
        case signs.Polled():
            return _take_poll(heard, event)
        case signs.Gap():
            return replace(heard, has_gap=True)
        case signs.ServerDied():
            return replace(heard, is_dead=True, members=dict.fromkeys(watch.members, IDLE), requests={})
        case signs.Sent():
            alive = replace(_live(heard, event.at), is_dead=False, problem=None)
            return replace(alive, sent=watch.sent + 1, asked_at=max(watch.asked_at, event.at))
        case signs.Answered():
            return replace(heard, requests={key: one for key, one in watch.requests.items() if key != event.request})
        case signs.ErrorSeen():
            return _take_error(heard, event)
        case _:
            return _take_life(_live(heard, event.at), event)


_Doing = signs.Busy | signs.Retrying | signs.StepStarted | signs.Grew | signs.ToolStarted | signs.ToolEnded
_Other = (
    signs.Idle | signs.StepEnded | signs.TextEnded | signs.Asked | signs.TodosChanged | signs.ChildOpened
)  # fmt: skip


def _take_life(watch: Watch, event: _Doing | _Other) -> Watch:
    match event:
        case signs.Idle():
            return _fall_idle(watch, event.session, event.at)
        case signs.StepEnded():
            return _add_step(watch, event)
        case signs.Asked():
            return replace(watch, requests={**watch.requests, event.request.id: event.request})
        case signs.TodosChanged():
            return replace(watch, todos=event.todos) if event.session == watch.root else watch
        case signs.ChildOpened():
            return watch if event.child in watch.members else _put(watch, event.child, IDLE)
        case signs.TextEnded():
            return watch
        case _:
            stepped = replace(watch, has_stepped=True) if isinstance(event, signs.StepStarted) else watch
            return _put(stepped, event.session, _work(watch.members.get(event.session, IDLE), event))


def _work(member: Member, event: _Doing) -> Member:
    match event:
        case signs.Busy():
            return replace(member, is_busy=True, retry=None)
        case signs.Retrying():
            return replace(member, is_busy=True, retry=event.retry)
        case signs.StepStarted():
            return replace(member, is_busy=True, retry=None, is_thinking=False)
        case signs.Grew():
            thinks = member.is_thinking if event.is_thinking is None else event.is_thinking
            return replace(member, is_busy=True, retry=None, is_thinking=thinks)
        case signs.ToolStarted():
            return replace(member, is_busy=True, tools={**member.tools, event.call: event.tool})
        case signs.ToolEnded():
            return replace(member, tools={key: tool for key, tool in member.tools.items() if key != event.call})
        case _:
            assert_never(event)


def _take_error(watch: Watch, event: signs.ErrorSeen) -> Watch:
    """Of several errors a refusal says most, else the first; a child's is an answer to its parent, which goes on."""
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


def _add_step(watch: Watch, event: signs.StepEnded) -> Watch:
    if event.step in watch.steps:
        return watch
    return replace(watch, steps={**watch.steps, event.step: event.spent}, used=watch.used + event.spent)


def _take_snapshot(watch: Watch, event: signs.Reread) -> Watch:
    snapshot = event.snapshot
    has_grown = snapshot.growth != watch.growth
    fell_idle = watch.is_busy and not any(member.is_busy for member in snapshot.members.values())
    return replace(
        watch,
        members=dict(snapshot.members),
        requests={request.id: request for request in snapshot.requests},
        steps=dict(snapshot.steps),
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


def _take_poll(watch: Watch, event: signs.Polled) -> Watch:
    for session, member in watch.members.items():
        if session not in event.busy:
            watch = _fall_idle(watch, session, event.at)
        else:
            watch = _put(watch, session, replace(member, is_busy=True, retry=event.busy[session]))
    requests = {request.id: request for request in event.requests if request.session in watch.members}
    # A session that is not known asks for something: it may be a child whose opening was not heard of.
    return replace(watch, requests=requests, has_gap=watch.has_gap or len(requests) < len(event.requests))
