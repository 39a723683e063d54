"""Decisions about a session, from events that may be lost, doubled or out of order."""

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_lib.session import events as ev
from tasks_lib.session.events import Event, Member, Problem, Reply, Request, Retry, Snapshot, Todo, Tool
from tasks_lib.session.next_action import (
    LOOK_SECONDS,
    QUIET_SECONDS,
    RETRY_MARGIN_SECONDS,
    SETTLE_SECONDS,
    START_SECONDS,
    Answer,
    AwaitServer,
    Decision,
    End,
    Limits,
    Over,
    Poll,
    Read,
    SampleShells,
    Wait,
    decide,
    describe,
)
from tasks_lib.session.spending import Allowance, Budget, Spent
from tasks_lib.session.state import Watch, begin, observe

ROOT, CHILD = "root", "child"
LIMITS = Limits(stall_seconds=600, tool_seconds=3600, ends_at=7200)
BASH = Tool("bash", "npm test")
TASK = Tool("task", "look", has_child=True)
DONE = Snapshot({ROOT: ev.IDLE}, prompts=1, reply=Reply("done", "ok"), growth=9)
BUSY = Snapshot({ROOT: Member(is_busy=True)}, prompts=1, growth=5)


def see(*events: Event) -> Watch:
    watch = begin(ROOT, 0)
    for event in events:
        watch = observe(watch, event)
    return watch


def working(*events: Event) -> Watch:
    return see(ev.Sent(1, ROOT), ev.Busy(2, ROOT), *events)


def test_a_new_prompt_gets_time_before_the_session_is_read() -> None:
    watch = see(ev.Sent(1, ROOT))
    assert decide(watch, 1, LIMITS) == Wait(1 + LOOK_SECONDS)
    assert decide(watch, 1 + LOOK_SECONDS, LIMITS) == Read()


def test_idle_is_confirmed_before_the_turn_ends() -> None:
    watch = working(ev.Idle(5, ROOT))
    assert decide(watch, 5, LIMITS) == Read()
    assert decide(observe(watch, ev.SnapshotTaken(5.1, ROOT, DONE)), 5.1, LIMITS) == Over()


def test_an_incomplete_message_gets_a_little_more_time() -> None:
    late = replace(DONE, reply=Reply("unfinished"))
    watch = working(ev.Idle(5, ROOT), ev.SnapshotTaken(5.1, ROOT, late))
    assert isinstance(decide(watch, 5.1, LIMITS), Wait)
    assert decide(watch, 5.4, LIMITS) == Read()
    assert decide(watch, 5 + SETTLE_SECONDS, LIMITS) == Over()


def test_a_prompt_that_is_sent_meanwhile_keeps_the_turn_open() -> None:
    watch = working(ev.Idle(5, ROOT), ev.SnapshotTaken(5.1, ROOT, DONE), ev.Sent(5.2, ROOT))
    assert isinstance(decide(watch, 5.2, LIMITS), Wait)
    both = replace(DONE, prompts=2)
    assert decide(observe(watch, ev.SnapshotTaken(6, ROOT, both)), 6, LIMITS) == Over()


def test_a_prompt_without_any_effect_is_given_up() -> None:
    empty = Snapshot({ROOT: ev.IDLE})
    watch = see(ev.Sent(1, ROOT), ev.SnapshotTaken(1 + START_SECONDS, ROOT, empty))
    assert decide(watch, 1 + START_SECONDS, LIMITS) == Over()
    assert watch.last_read.reply is None


def test_a_refused_prompt_is_over_once_confirmed() -> None:
    problem = Problem("no such model", is_refusal=True)
    watch = see(ev.Sent(1, ROOT), ev.ErrorSeen(1.1, ROOT, Problem("stack")), ev.ErrorSeen(1.2, ROOT, problem))
    assert decide(watch, 1.2, LIMITS) == Read()
    watch = observe(watch, ev.SnapshotTaken(1.3, ROOT, Snapshot({ROOT: ev.IDLE}, prompts=1)))
    assert decide(watch, 1.3, LIMITS) == Over()
    assert watch.problem == problem


def test_an_error_that_the_agent_recovered_from_is_forgotten() -> None:
    watch = working(ev.ErrorSeen(3, ROOT, Problem("too long")), ev.Idle(5, ROOT), ev.SnapshotTaken(6, ROOT, DONE))
    assert watch.problem is None


def test_an_error_of_a_child_does_not_end_the_turn() -> None:
    assert working(ev.ErrorSeen(3, CHILD, Problem("no"))).problem is None


def test_a_quiet_session_is_polled() -> None:
    watch = working()
    assert decide(watch, 2, LIMITS) == Wait(2 + QUIET_SECONDS)
    assert decide(watch, 2 + QUIET_SECONDS, LIMITS) == Poll()


def test_a_lost_idle_event_is_found_by_polling() -> None:
    watch = working(ev.Polled(20, ROOT, {}))
    assert decide(watch, 20, LIMITS) == Read()


def test_polls_are_not_activity() -> None:
    watch = working(*(ev.Polled(at, ROOT, {ROOT: None}) for at in range(20, 700, 15)))
    assert watch.times.active_at == 2


def test_silence_without_a_tool_is_a_stall_after_one_more_read() -> None:
    watch = working(ev.Polled(602, ROOT, {ROOT: None}))
    assert decide(watch, 602, LIMITS) == Read()
    same = observe(observe(watch, ev.SnapshotTaken(602, ROOT, BUSY)), ev.SnapshotTaken(1203, ROOT, BUSY))
    found = decide(same, 1203, LIMITS)
    assert isinstance(found, End)
    assert found.kind == "stalled"


def test_work_that_only_a_read_shows_is_activity() -> None:
    watch = observe(
        observe(working(), ev.SnapshotTaken(602, ROOT, BUSY)), ev.SnapshotTaken(700, ROOT, replace(BUSY, growth=6))
    )
    assert watch.times.active_at == 700


def test_a_tool_may_be_silent_for_longer() -> None:
    watch = working(ev.ToolStarted(3, ROOT, "1", BASH), ev.Polled(3600, ROOT, {ROOT: None}))
    watch = observe(watch, ev.ShellsSampled(3600, ROOT, None))
    assert decide(watch, 3600, LIMITS) == Read()
    watch = observe(watch, ev.SnapshotTaken(3600, ROOT, Snapshot({ROOT: Member(True, {"1": BASH})}, growth=-1)))
    assert isinstance(decide(watch, 3600, LIMITS), Wait)
    assert decide(watch, 3603, LIMITS) == Read()


def test_a_tool_that_waits_for_a_child_does_not_extend_the_time() -> None:
    watch = working(ev.ToolStarted(3, ROOT, "1", TASK), ev.ChildOpened(3, ROOT, CHILD), ev.Busy(3, CHILD))
    watch = observe(watch, ev.Polled(603, ROOT, {ROOT: None, CHILD: None}))
    assert decide(watch, 603, LIMITS) == Read()
    busy = observe(watch, ev.ToolStarted(603, CHILD, "2", BASH))
    busy = observe(busy, ev.ShellsSampled(700, ROOT, None))
    assert isinstance(decide(busy, 700, LIMITS), Poll)


def test_activity_of_a_child_counts_for_its_parent() -> None:
    watch = working(ev.ChildOpened(3, ROOT, CHILD), ev.TextGrew(500, CHILD))
    assert watch.times.active_at == 500
    assert watch.is_busy


def test_a_busy_child_keeps_the_turn_open() -> None:
    watch = working(ev.ChildOpened(3, ROOT, CHILD), ev.Busy(4, CHILD), ev.Idle(5, ROOT))
    assert isinstance(decide(watch, 5, LIMITS), Wait)


def test_a_retry_is_allowed_with_a_margin() -> None:
    watch = working(ev.Retrying(3, ROOT, Retry(2000, "rate limit", is_rate_limit=True)))
    polled = observe(watch, ev.Polled(2050, ROOT, {ROOT: Retry(2000)}))
    assert isinstance(decide(polled, 2050, LIMITS), Wait)
    assert decide(polled, 2000 + RETRY_MARGIN_SECONDS, LIMITS) == Read()


def test_a_retry_after_the_end_of_the_turn_ends_it() -> None:
    found = decide(working(ev.Retrying(3, ROOT, Retry(7201))), 3, LIMITS)
    assert isinstance(found, End)
    assert found.kind == "waits too long"
    assert "02:00:01" in found.sentence


def test_requests_are_answered_immediately_and_only_once() -> None:
    request = Request("r", CHILD, "permission")
    watch = working(ev.Asked(3, CHILD, request), ev.Asked(3, CHILD, request))
    assert decide(watch, 3, LIMITS) == Answer((request,))
    assert isinstance(decide(observe(watch, ev.Answered(4, CHILD, "r")), 4, LIMITS), Wait)


def test_a_request_of_an_unknown_session_triggers_a_read() -> None:
    watch = working(ev.Polled(20, ROOT, {ROOT: None}, (Request("r", CHILD, "question"),)))
    assert decide(watch, 20, LIMITS) == Read()


def test_a_gap_triggers_a_read() -> None:
    assert decide(working(ev.Gap(3, ROOT)), 3, LIMITS) == Read()


def test_a_dead_server_is_awaited_and_the_next_prompt_continues() -> None:
    watch = working(ev.ToolStarted(3, ROOT, "1", BASH), ev.ServerDied(4, ROOT))
    assert decide(watch, 4, LIMITS) == AwaitServer()
    assert isinstance(decide(observe(watch, ev.Sent(8, ROOT)), 8, LIMITS), Wait)


def test_a_turn_that_exceeds_a_budget_is_ended() -> None:
    limits = replace(LIMITS, allowances=(Allowance(Budget("budget.node", tokens=100), Spent(tokens=50)),))
    step = ev.StepEnded(3, CHILD, "s", Spent(tokens=51, calls=1))
    found = decide(working(step, step), 3, limits)
    assert found == End("excess", "budget.node.tokens is 100, but 101 were spent")


def test_a_budget_of_seconds_is_a_deadline() -> None:
    limits = replace(LIMITS, allowances=(Allowance(Budget("budget.node", seconds=10), Spent(seconds=4)),))
    found = decide(working(), 3, limits)
    assert isinstance(found, Wait)
    assert found.until < 7
    assert isinstance(decide(working(), found.until, limits), End)


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([], "working"),
        ([ev.TextGrew(3, ROOT, is_thinking=True), ev.TextGrew(4, ROOT)], "thinking"),
        ([ev.ToolStarted(3, ROOT, "1", BASH)], "bash: npm test"),
        ([ev.ToolStarted(3, ROOT, "1", BASH), ev.ToolEnded(4, ROOT, "1", BASH)], "working"),
        ([ev.ChildOpened(3, ROOT, CHILD), ev.ToolStarted(4, CHILD, "1", BASH)], "subagent: bash: npm test"),
        ([ev.Retrying(3, ROOT, Retry(3600, is_rate_limit=True))], "retrying until 01:00:00 (rate limited)"),
        ([ev.Retrying(3, ROOT, Retry(3600, "no route"))], "retrying until 01:00:00 (no route)"),
        ([ev.Asked(3, ROOT, Request("r", ROOT, "question"))], "waiting for a question"),
        ([ev.ServerDied(3, ROOT)], "waiting for the agent's server"),
        ([ev.Idle(3, ROOT)], "starting"),
    ],
)
def test_the_activity_of_a_session_is_described(events: Sequence[Event], said: str) -> None:
    assert describe(working(*events)) == said


names = st.sampled_from([ROOT, CHILD, "grandchild"])
times = st.floats(0, 100)
calls = st.sampled_from(["1", "2"])
requests = st.builds(Request, st.sampled_from(["p", "q"]), names, st.just("permission"))
retries = st.builds(Retry, st.floats(0, 10_000))
steps = st.builds(ev.StepEnded, times, names, calls, st.builds(Spent, st.integers(0, 9)))
events = st.one_of(
    *(st.builds(kind, times, names) for kind in (ev.Busy, ev.Idle, ev.StepStarted, ev.Gap, ev.Sent)),
    st.builds(ev.ServerDied, times, st.just(ROOT)),
    st.builds(ev.Retrying, times, names, retries),
    st.builds(ev.TextGrew, times, names, st.booleans()),
    st.builds(ev.ToolStarted, times, names, calls, st.sampled_from([BASH, TASK])),
    st.builds(ev.ToolEnded, times, names, calls, st.just(BASH)),
    steps,
    st.builds(ev.Asked, times, names, requests),
    st.builds(ev.Answered, times, names, st.sampled_from(["p", "q"])),
    st.builds(ev.TodosChanged, times, names, st.just((Todo("x"),))),
    st.builds(ev.ErrorSeen, times, names, st.just(Problem("no"))),
    st.builds(ev.ChildOpened, times, names, names),
    st.builds(ev.Polled, times, st.just(ROOT), st.dictionaries(names, st.none() | retries)),
)
members = st.builds(Member, st.booleans(), st.just({}), st.none() | retries)
replies = st.builds(Reply, st.sampled_from(["done", "cut off", "interrupted", "aborted", "failed", "unfinished"]))
snapshots = st.builds(
    Snapshot,
    st.fixed_dictionaries({ROOT: members}, optional={CHILD: members}),
    st.lists(requests, max_size=2).map(tuple),
    st.just({}),
    prompts=st.integers(0, 3),
    reply=st.none() | replies,
    growth=st.integers(0, 5),
)


def forget_times(watch: Watch) -> Watch:
    """The state without the times of activity, the number of prompts, and errors that no snapshot contains."""
    times = replace(watch.times, active_at=0, idle_at=0, asked_at=0, heard_at=0)
    return replace(watch, times=times, shells=None, sent=0, problem=None if watch.last_read.reply else watch.problem)


@given(st.lists(events, max_size=30), st.data(), snapshots)
def test_a_snapshot_repairs_lost_doubled_and_reordered_events(
    heard: list[Event], data: st.DataObject, snapshot: Snapshot
) -> None:
    mangled = [one for one in heard for _ in range(data.draw(st.integers(0, 2)))]
    random.Random(data.draw(st.integers())).shuffle(mangled)
    read = ev.SnapshotTaken(200, ROOT, snapshot)
    straight, bent = observe(see(*heard), read), observe(see(*mangled), read)
    if snapshot.reply is None:
        bent = replace(bent, problem=straight.problem)
    assert forget_times(straight) == forget_times(bent)


@given(st.lists(events, max_size=30), st.lists(events, max_size=3))
def test_events_that_come_twice_in_a_row_change_nothing(heard: list[Event], last: list[Event]) -> None:
    counted = (ev.Sent,)
    once = see(*heard, *last)
    twice = see(*heard, *(event for event in last for _ in range(1 if isinstance(event, counted) else 2)))
    assert once == twice


@given(st.lists(events, max_size=30), snapshots, st.booleans())
def test_no_state_waits_for_ever(heard: list[Event], snapshot: Snapshot, is_mute: bool) -> None:
    """After any events, and with any snapshots from then on, the session ends within a bounded number of steps."""
    limits, watch, now = Limits(60, 90, ends_at=400), see(*heard), 100.0
    for _ in range(20_000):
        decision = decide(watch, now, limits)
        match decision:
            case Over() | End():
                return
            case Wait(until):
                assert now < until <= limits.ends_at
                now = until
            case _:
                watch = observe(watch, carry_out(decision, now, snapshot, is_mute=is_mute))
                now += 0.05
    raise AssertionError(f"{watch} at {now}")


def carry_out(decision: Decision, now: float, snapshot: Snapshot, *, is_mute: bool) -> Event:
    """The event that follows `decision`; a mute server only shows that it is alive."""
    match decision:
        case Answer(asked):
            return ev.Answered(now, ROOT, asked[0].id)
        case Read() | AwaitServer():
            return ev.SnapshotTaken(now, ROOT, Snapshot({ROOT: ev.IDLE}) if is_mute else snapshot)
        case SampleShells():
            return ev.ShellsSampled(now, ROOT, None)
        case _:
            busy = {name: member.retry for name, member in snapshot.members.items() if member.is_busy}
            return ev.Polled(now, ROOT, {} if is_mute else busy)
