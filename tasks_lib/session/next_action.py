"""Decides what to do about a session: leave it alone, ask how it is, answer it, end it. Nothing waits for ever."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from tasks_lib.loop_limits import MAX_IN_A_ROW, describe_exhaustion
from tasks_lib.session.events import Member, Request
from tasks_lib.session.spending import Allowance, find_excess, find_seconds_left
from tasks_lib.session.state import UNSEEN, Watch

QUIET_SECONDS = 15.0
"""After so long without an event the session is asked how it is: an event may have been lost."""
SETTLE_SECONDS = 2.0
"""An agent may be seen idle a little before its last message is whole."""
START_SECONDS = 60.0
"""How long a prompt that was accepted may stay without any sign of work."""
REREAD_SECONDS = 0.2
LOOK_SECONDS = 2.0
"""How often a session is read that was asked and has not been heard of: it loads its worktree, and is left alone."""
_LAST_MOMENT = datetime.max.replace(tzinfo=UTC).timestamp() - 1
RETRY_MARGIN_SECONDS = 60.0
"""How long after the moment that a provider named the next sign of life may come."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`stall_seconds` of silence are allowed without a tool, `tool_seconds` with one; the turn may last to `ends_at`,
    and spend what `allowances` leave. A provider may ask for `limit_seconds` of patience before it answers again.
    """

    stall_seconds: float
    tool_seconds: float
    ends_at: float
    allowances: tuple[Allowance, ...] = ()
    limit_seconds: float = math.inf


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing before `until`, unless something is heard."""

    until: float


@dataclass(frozen=True, slots=True)
class Answer:
    requests: tuple[Request, ...]


@dataclass(frozen=True, slots=True)
class End:
    """Abort the session; `sentence` says why. With "limit" no other session could do better."""

    kind: Literal["excess", "timed out", "stalled", "waits too long", "no progress", "limit"]
    sentence: str


@dataclass(frozen=True, slots=True)
class Poll:
    """Ask who works, and what is asked."""


@dataclass(frozen=True, slots=True)
class Read:
    """Read the whole tree."""


@dataclass(frozen=True, slots=True)
class InspectWorktree:
    """See what the worktree of `session` holds: its conversation was made shorter, and that should have come of it."""

    session: str


@dataclass(frozen=True, slots=True)
class AwaitServer:
    """Wait for a server that answers, and go on there."""


@dataclass(frozen=True, slots=True)
class Over:
    """The turn is at its end; the watch's reply, or its problem, says how."""


Decision = Wait | Answer | End | Poll | Read | InspectWorktree | AwaitServer | Over


def decide(watch: Watch, now: float, limits: Limits) -> Decision:
    """Say what to do at `now`. No state is without a deadline: a wait ends at `limits.ends_at` at the latest."""
    if excess := find_excess(limits.allowances, watch.spent(now)):
        return End("excess", excess)
    if now >= limits.ends_at:
        seconds = limits.ends_at - watch.began
        return End("timed out", f"the turn took longer than {seconds:g} seconds: {describe(watch)}")
    if watch.is_dead:
        return AwaitServer()
    if stuck := _find_stuck(watch):
        return stuck
    if watch.requests:
        return Answer(tuple(watch.requests.values()))
    if watch.has_gap:
        return Read()
    return _follow(watch, now, limits) if watch.is_busy else _confirm(watch, now, limits)


def _find_stuck(watch: Watch) -> InspectWorktree | End | None:
    """What to do about a session that may go round without progress; None while none does."""
    for session, headway in watch.headway.items():
        setbacks = watch.setbacks(session)
        if setbacks and watch.looks.get(session, UNSEEN).compactions < len(headway.parts):
            return InspectWorktree(session)
        if max(setbacks, headway.answers) >= MAX_IN_A_ROW:
            return End("no progress", describe_exhaustion(headway))
    return None


def _confirm(watch: Watch, now: float, limits: Limits) -> Decision:
    """What to do with a tree in which nothing works: see that it is so, and give a late message time to come."""
    changed_at = max(watch.idle_at, watch.asked_at)
    is_confirmed = watch.reread_at >= changed_at
    has_begun = watch.reply is not None and watch.prompts >= watch.sent
    is_whole = watch.reply is not None and watch.reply.kind not in ("interrupted", "unfinished")
    if is_confirmed and ((has_begun and is_whole) or watch.problem):
        return Over()
    patience = SETTLE_SECONDS if has_begun else min(START_SECONDS, limits.stall_seconds)
    if is_confirmed and now >= changed_at + patience:
        return Over()
    has_news = watch.idle_at > watch.asked_at or watch.problem is not None
    if has_news and not is_confirmed:
        return Read()
    due = max(watch.reread_at, watch.asked_at) + (REREAD_SECONDS if has_news else LOOK_SECONDS)
    return Read() if now >= due else Wait(min(due, limits.ends_at))


def _follow(watch: Watch, now: float, limits: Limits) -> Decision:
    """What to do with a tree in which something works: believe its events, but not for ever."""
    stalls_at = _find_stall(watch, limits)
    waiting = _waits_until(watch)
    if watch.limited_at and waiting > watch.limited_at + limits.limit_seconds:
        return End("limit", _explain_limit(watch, waiting, limits))
    if waiting > limits.ends_at:
        moment = name_moment(waiting)
        sentence = f"the provider wants to be asked again at {moment} only, which is after the turn's last moment"
        return End("waits too long", sentence)
    if now >= stalls_at:
        if watch.reread_at < stalls_at:
            return Read()
        return End("stalled", f"nothing was heard for {now - watch.active_at:.0f} seconds: {describe(watch)}")
    ask_at = watch.heard_at + QUIET_SECONDS
    return Poll() if now >= ask_at else Wait(min(ask_at, stalls_at, limits.ends_at, _spends_until(watch, limits)))


def _explain_limit(watch: Watch, waiting: float, limits: Limits) -> str:
    said = next((one.retry.message for one in watch.members.values() if one.retry and one.retry.message), "")
    return describe_limit(waiting, limits.limit_seconds, said)


def describe_limit(until: float, limit_seconds: float, said: str) -> str:
    """Why a run stops whose provider, which `said` so, is to be asked again at `until` only."""
    words = f" ({said})" if said else ""
    return (
        f"the provider wants to be asked again at {name_moment(until)} only{words}, and watch.limit_seconds allows a "
        f"wait of {limit_seconds:g} seconds; run again then, which continues with what is kept"
    )


def _find_stall(watch: Watch, limits: Limits) -> float:
    tools = any(not tool.has_child for member in watch.members.values() for tool in member.tools.values())
    silent_until = watch.active_at + (limits.tool_seconds if tools else limits.stall_seconds)
    waiting = _waits_until(watch)
    return max(silent_until, waiting + RETRY_MARGIN_SECONDS) if waiting else silent_until


def _waits_until(watch: Watch) -> float:
    return max((member.retry.until for member in watch.members.values() if member.retry), default=0.0)


def _spends_until(watch: Watch, limits: Limits) -> float:
    """When a budget of seconds will be used up."""
    return watch.began + find_seconds_left(limits.allowances) + REREAD_SECONDS


def describe(watch: Watch) -> str:
    """What the session is doing, in a few words; of several members the one that was opened last."""
    if watch.is_dead:
        return "waiting for the agent's server"
    if watch.requests:
        return f"waiting for a {next(iter(watch.requests.values())).kind}"
    busy = [(name, member) for name, member in watch.members.items() if member.is_busy]
    if not busy:
        return "ending" if watch.reply else "starting"
    name, member = busy[-1]
    return f"{'' if name == watch.root else 'subagent: '}{_describe_member(member, watch.heard_at)}"


def _describe_member(member: Member, now: float) -> str:
    if member.retry:
        why = "rate limited" if member.retry.is_rate_limit else member.retry.message
        is_today = name_moment(member.retry.until)[:10] == name_moment(now)[:10]
        name = name_time if is_today else name_moment
        return f"retrying until {name(member.retry.until)} ({why})"
    if member.tools:
        tool = list(member.tools.values())[-1]
        return f"{tool.name}: {tool.title}" if tool.title else tool.name
    return "thinking" if member.is_thinking else "working"


def name_moment(at: float) -> str:
    """Date, time and zone at `at`, seconds since the epoch: for whoever reads it on another day, or elsewhere."""
    return _date(at).strftime("%Y-%m-%d %H:%M:%S UTC")


def name_time(at: float) -> str:
    """The time of day at `at`, seconds since the epoch, in UTC."""
    return _date(at).strftime("%H:%M:%S")


def _date(at: float) -> datetime:
    # A provider may name any number, and a calendar ends.
    return datetime.fromtimestamp(min(max(at, 0.0), _LAST_MOMENT), UTC)
