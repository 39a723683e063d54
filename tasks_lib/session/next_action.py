"""Decides the next action for a session: wait, poll, answer a request or end it. No wait is unbounded."""

import math
from dataclasses import dataclass
from typing import Literal

from tasks_lib.loop_limits import MAX_IN_A_ROW, describe_exhaustion
from tasks_lib.moments import find_moment
from tasks_lib.session.events import Member, Request
from tasks_lib.session.shell_watch import find_interval
from tasks_lib.session.spending import Allowance, find_excess, find_seconds_left
from tasks_lib.session.state import Watch

QUIET_SECONDS = 15.0
"""How long a session may send no event before it is polled, in case an event was lost."""
SETTLE_SECONDS = 2.0
"""An agent may be reported idle shortly before its last message is complete."""
START_SECONDS = 60.0
"""How long an accepted prompt may show no sign of work."""
REREAD_SECONDS = 0.2
LOOK_SECONDS = 2.0
"""How often a session is read that was prompted but has sent nothing yet; it is still loading its worktree."""
EARLY_READ_SHARE = 0.25
"""The share of an allowed silence after which the session is read. What that read shows is then known: the one before
the session is ended must not take it for something new, and wait for as long again."""
RETRY_MARGIN_SECONDS = 60.0
"""How long after the time named by a provider the session may stay silent."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`stall_seconds` of silence are allowed while no tool runs, `tool_seconds` while one does, and `input_seconds` if
    a program of its shell waits at a terminal for somebody to type. The turn may last until `ends_at` and spend what
    `allowances` leave. A provider may delay its answer by at most `limit_seconds`; a session that can do nothing else
    for more than `suspend_seconds` meanwhile is suspended.
    """

    stall_seconds: float
    tool_seconds: float
    ends_at: float
    allowances: tuple[Allowance, ...] = ()
    limit_seconds: float = math.inf
    input_seconds: float = math.inf
    suspend_seconds: float = math.inf


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing until `until`, unless an event arrives."""

    until: float


@dataclass(frozen=True, slots=True)
class Answer:
    requests: tuple[Request, ...]


@dataclass(frozen=True, slots=True)
class End:
    """Abort the session; `sentence` says why. "limit" would end any other session too; "suspended" continues later."""

    kind: Literal["excess", "timed out", "stalled", "waits too long", "no progress", "loop", "limit", "suspended"]
    sentence: str


@dataclass(frozen=True, slots=True)
class Poll:
    """Ask which sessions are busy and which requests are open."""


@dataclass(frozen=True, slots=True)
class Read:
    """Read the whole tree."""


@dataclass(frozen=True, slots=True)
class CheckWorktree:
    """Check the worktree for progress, because the conversation of `session` was compacted."""

    session: str


@dataclass(frozen=True, slots=True)
class SampleShells:
    """Look at what the processes of the session's shells do."""


@dataclass(frozen=True, slots=True)
class AwaitServer:
    """Wait for a server that responds, and continue there."""


@dataclass(frozen=True, slots=True)
class Over:
    """The turn is over; the watch's reply or problem says how it ended."""


Decision = Wait | Answer | End | Poll | Read | CheckWorktree | SampleShells | AwaitServer | Over


def decide(watch: Watch, now: float, limits: Limits) -> Decision:
    """Say what to do at `now`. Every state has a deadline: a wait ends at `limits.ends_at` at the latest."""
    if excess := find_excess(limits.allowances, watch.spent(now)):
        return End("excess", excess)
    if now >= limits.ends_at:
        seconds = limits.ends_at - watch.times.began
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


def _find_stuck(watch: Watch) -> CheckWorktree | End | None:
    """What to do about a session that makes no progress; None if there is none."""
    for session, progress in watch.progress.sessions.items():
        if watch.progress.needs_check(session):
            return CheckWorktree(session)
        if loop := watch.progress.find_loop(session):
            return End("loop", loop)
        if max(watch.progress.count_setbacks(session), progress.answers) >= MAX_IN_A_ROW:
            return End("no progress", describe_exhaustion(progress))
    return None


def _confirm(watch: Watch, now: float, limits: Limits) -> Decision:
    """What to do when no session is busy: confirm that, and allow time for a late message."""
    changed_at = max(watch.times.idle_at, watch.times.asked_at)
    is_confirmed = watch.last_read.at >= changed_at
    has_begun = watch.last_read.reply is not None and watch.last_read.prompts >= watch.sent
    is_whole = watch.last_read.reply is not None and watch.last_read.reply.kind not in ("interrupted", "unfinished")
    if is_confirmed and ((has_begun and is_whole) or watch.problem):
        return Over()
    quiet_seconds = SETTLE_SECONDS if has_begun else min(START_SECONDS, limits.stall_seconds)
    if is_confirmed and now >= changed_at + quiet_seconds:
        return Over()
    has_news = watch.times.idle_at > watch.times.asked_at or watch.problem is not None
    if has_news and not is_confirmed:
        return Read()
    due = max(watch.last_read.at, watch.times.asked_at) + (REREAD_SECONDS if has_news else LOOK_SECONDS)
    return Read() if now >= due else Wait(min(due, limits.ends_at))


def _follow(watch: Watch, now: float, limits: Limits) -> Decision:
    """What to do while a session is busy: trust its events, but only for a limited time."""
    waiting = _waits_until(watch)
    if watch.times.limited_at and waiting > watch.times.limited_at + limits.limit_seconds:
        return End("limit", _explain_limit(watch, waiting, limits))
    if waiting > limits.ends_at:
        moment = name_moment(waiting)
        sentence = f"the provider accepts no request before {moment}, which is after the end of the turn"
        return End("waits too long", sentence)
    if _is_suspended(watch, now, limits):
        return End("suspended", describe_suspension(waiting))
    samples_at = _samples_at(watch, limits)
    if now >= samples_at:
        return SampleShells()
    stalls_at = _find_stall(watch, limits)
    reads_at = _reads_at(watch, limits)
    if now >= reads_at:
        return Read()
    if now >= stalls_at:
        if watch.last_read.at < stalls_at:
            return Read()
        return End("stalled", _explain_stall(watch, now))
    ask_at = watch.times.heard_at + QUIET_SECONDS
    if now >= ask_at:
        return Poll()
    return Wait(min(ask_at, stalls_at, reads_at, samples_at, limits.ends_at, _spends_until(watch, limits)))


def _samples_at(watch: Watch, limits: Limits) -> float:
    """When the shells' processes are to be sampled next."""
    if watch.shells is None:
        return math.inf
    return watch.shells.looked_at + find_interval(limits.stall_seconds, limits.tool_seconds, limits.input_seconds)


def _explain_stall(watch: Watch, now: float) -> str:
    said = describe(watch)
    if watch.shells and watch.shells.said and watch.shells.said not in said:
        said = f"{said}; {watch.shells.said}"
    return f"the session was silent for {now - watch.times.active_at:.0f} seconds: {said}"


def _is_suspended(watch: Watch, now: float, limits: Limits) -> bool:
    """Whether every busy session of the tree waits for a rate limit, or for one that does, for long enough."""
    busy = [one for one in watch.members.values() if one.is_busy]
    waiting = [one.retry.until for one in busy if one.retry and one.retry.is_rate_limit and not one.tools]
    idle = [one for one in busy if one.tools and all(tool.has_child for tool in one.tools.values())]
    return len(waiting) + len(idle) == len(busy) and min(waiting, default=now) > now + limits.suspend_seconds


def describe_suspension(until: float) -> str:
    """Why a turn ended whose session continues when its provider accepts requests again, at `until`."""
    return f"the provider accepts no request before {name_moment(until)}; the session continues then"


def _explain_limit(watch: Watch, waiting: float, limits: Limits) -> str:
    said = next((one.retry.message for one in watch.members.values() if one.retry and one.retry.message), "")
    return describe_limit(waiting, limits.limit_seconds, said)


def describe_limit(until: float, limit_seconds: float, said: str) -> str:
    """Why a run stops whose provider must not be asked again before `until`; `said` is the provider's message."""
    words = f" ({said})" if said else ""
    return (
        f"the provider accepts no request before {name_moment(until)}{words}, but watch.limit_seconds only allows "
        f"a wait of {limit_seconds:g} seconds; run again after that time to continue"
    )


def _find_stall(watch: Watch, limits: Limits) -> float:
    silent_until = watch.times.active_at + _find_silence(watch, limits)
    waiting = _waits_until(watch)
    return max(silent_until, waiting + RETRY_MARGIN_SECONDS) if waiting else silent_until


def _find_silence(watch: Watch, limits: Limits) -> float:
    """How long the session may be silent in its state."""
    tools = any(not tool.has_child for member in watch.members.values() for tool in member.tools.values())
    limit = limits.tool_seconds if tools else limits.stall_seconds
    return min(limit, limits.input_seconds) if watch.shells and watch.shells.waits else limit


def _reads_at(watch: Watch, limits: Limits) -> float:
    """When a session that falls silent is read, once."""
    if watch.last_read.at >= watch.times.active_at or _waits_until(watch):
        return math.inf
    return watch.times.active_at + EARLY_READ_SHARE * _find_silence(watch, limits)


def _waits_until(watch: Watch) -> float:
    return max((member.retry.until for member in watch.members.values() if member.retry), default=0.0)


def _spends_until(watch: Watch, limits: Limits) -> float:
    """When the budget of seconds will run out."""
    return watch.times.began + find_seconds_left(limits.allowances) + REREAD_SECONDS


def describe(watch: Watch) -> str:
    """What the session is doing, in a few words; of several busy members, the one opened last."""
    if watch.is_dead:
        return "waiting for the agent's server"
    if watch.requests:
        return f"waiting for a {next(iter(watch.requests.values())).kind}"
    busy = [(name, member) for name, member in watch.members.items() if member.is_busy]
    if not busy:
        return "ending" if watch.last_read.reply else "starting"
    name, member = busy[-1]
    said = f"{'' if name == watch.root else 'subagent: '}{_describe_member(member, watch.times.heard_at)}"
    return f"{said}; {watch.shells.said}" if watch.shells and watch.shells.waits else said


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


def describe_pause(until: float, reason: str = "rate limited") -> str:
    """What a session does while no request may be sent to its provider before `until`."""
    return f"waiting until {name_time(until)} ({reason})"


def name_moment(at: float) -> str:
    """The date, time and time zone at `at`, seconds since the epoch."""
    return find_moment(at).strftime("%Y-%m-%d %H:%M:%S UTC")


def name_time(at: float) -> str:
    """The time of day at `at`, seconds since the epoch, in UTC."""
    return find_moment(at).strftime("%H:%M:%S")
