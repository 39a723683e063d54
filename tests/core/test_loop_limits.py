"""Limits on loops: a session without progress is ended, a working one is not."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest

from tasks_lib.loop_limits import MAX_IN_A_ROW
from tasks_lib.session import events as ev
from tasks_lib.session.events import Event, Member, Retry, Snapshot, Tool
from tasks_lib.session.next_action import CheckWorktree, Decision, End, Limits, Wait, decide, name_moment
from tasks_lib.session.spending import Spent
from tasks_lib.session.state import Watch, begin, observe
from tasks_lib.session.turn_progress import advance

ROOT, CHILD = "root", "child"
LIMITS = Limits(stall_seconds=600, tool_seconds=3600, ends_at=7200, limit_seconds=900)
BASH = Tool("bash")


class Story:
    """The events of a turn, one per second; the worktree is checked whenever that is due."""

    def __init__(self, session: str = ROOT) -> None:
        self.session: str = session
        self.work: str = "as it was"
        self.now: float = 1.0
        self.watch: Watch = observe(observe(begin(ROOT, 0), ev.Sent(1, ROOT)), ev.Busy(1, session))
        self.ended: End | None = None

    def hear(self, *heard: Event) -> "Story":
        for event in heard:
            self.watch = observe(self.watch, event)
            self.now += 1
            decision = self.decide()
            if isinstance(decision, CheckWorktree):
                self.watch = observe(self.watch, ev.WorktreeChecked(self.now, decision.session, self.work))
                decision = self.decide()
            if isinstance(decision, End):
                self.ended = self.ended or decision
        return self

    def decide(self) -> Decision:
        return decide(self.watch, self.now, LIMITS)

    def step(self, *calls: tuple[str, str]) -> "Story":
        """One answer of the model, with the input and output of its tools."""
        self.hear(ev.StepStarted(self.now, self.session))
        for given, result in calls:
            call = f"call {self.now}"
            self.hear(ev.ToolStarted(self.now, self.session, call, BASH))
            self.hear(ev.ToolEnded(self.now, self.session, call, BASH, given, result))
        return self.hear(ev.StepEnded(self.now, self.session, f"step {self.now}", Spent(calls=1)))

    def compact(self, *, is_overflow: bool = False) -> "Story":
        self.hear(ev.Compacted(self.now, self.session, f"part {self.now}", is_overflow))
        return self.step()


def repeat(do: Callable[[int], object], times: int = 20) -> None:
    for number in range(times):
        do(number)


@pytest.mark.parametrize("session", [ROOT, CHILD])
def test_conversation_that_is_refused_as_too_long_again_and_again_is_ended(session: str) -> None:
    story = Story(session)
    repeat(lambda _: story.compact(is_overflow=True), MAX_IN_A_ROW - 1)
    assert story.ended is None
    story.compact(is_overflow=True)
    assert story.ended
    assert story.ended.kind == "no progress"
    assert "too long 3 times in a row" in story.ended.sentence


@pytest.mark.parametrize("is_same", [True, False])
def test_session_that_is_compacted_after_every_step_is_ended(is_same: bool) -> None:
    story = Story()
    repeat(lambda number: story.step(("echo", "x" if is_same else str(number))).compact(), MAX_IN_A_ROW)
    assert story.ended
    assert "nothing new in the worktree" in story.ended.sentence


def test_session_that_is_compacted_after_every_step_but_writes_each_time_continues() -> None:
    story = Story()

    def write(number: int) -> None:
        story.work = f"with file {number}"
        story.step(("write", "done")).compact()

    repeat(write)
    assert story.ended is None
    repeat(lambda _: story.step(("write", "done")).compact(), MAX_IN_A_ROW)
    assert story.ended


def test_session_that_reads_a_lot_between_compactions_continues() -> None:
    story = Story()
    repeat(lambda number: story.step(("read", f"a{number}")).step(("read", f"b{number}")).compact())
    assert story.ended is None


def test_repeated_results_between_compactions_are_not_progress() -> None:
    story = Story()
    repeat(lambda _: story.step(("read", "a")).step(("read", "b")).step(("read", "c")).compact(), 5)
    assert story.ended


def test_compactions_far_apart_do_not_end_a_long_turn() -> None:
    story = Story()

    def work(number: int) -> None:
        repeat(lambda step: story.step(("make", f"{number} {step}")), 30)
        story.compact()

    repeat(work)
    assert story.ended is None


def test_model_that_answers_without_calling_a_tool_or_ending_is_ended() -> None:
    story = Story().step(("echo", "1")).step().step()
    assert story.ended is None
    story.step()
    assert story.ended
    assert "3 times in a row without calling a tool" in story.ended.sentence


def test_answers_to_messages_of_the_user_do_not_count() -> None:
    story = Story()
    repeat(lambda _: story.step().hear(ev.Sent(story.now, ROOT)))
    assert story.ended is None


def test_long_silence_of_a_thinking_model_does_not_count() -> None:
    story = Story().hear(*(ev.TextGrew(at, ROOT, is_thinking=True) for at in range(2, 5_000)))
    assert story.ended is None


def test_progress_counts_the_same_after_a_snapshot() -> None:
    story = Story()
    repeat(lambda _: story.step(("echo", "x")).compact(), MAX_IN_A_ROW - 1)
    progress = dict(story.watch.progress.sessions)
    assert progress[ROOT].compactions == MAX_IN_A_ROW - 1
    read = Snapshot({ROOT: Member(is_busy=True)}, progress=progress, steps=dict(story.watch.usage.steps))
    story.hear(ev.SnapshotTaken(story.now, ROOT, read)).step(("echo", "x")).compact()
    assert story.ended


def test_events_that_arrive_twice_count_once() -> None:
    part = ev.Compacted(2, ROOT, "p")
    step = ev.StepEnded(3, ROOT, "s", Spent())
    once, twice = fold([part, step]), fold([part, part, step, step])
    assert once.progress == twice.progress


def fold(events: Iterable[Event]) -> Watch:
    watch = begin(ROOT, 0)
    for event in events:
        watch = observe(watch, event)
    return watch


def test_prompts_reset_only_the_count_of_answers() -> None:
    known = advance({}, ev.Compacted(1, ROOT, "p"))
    assert advance(known, ev.Sent(2, ROOT)) == known


# The wait for a provider.


def limited(*waits: tuple[float, float]) -> Decision:
    """The decision after retries; each pair is when one arrives and when it is due."""
    events = [ev.Retrying(at, ROOT, Retry(until, "Slow down", is_rate_limit=True)) for at, until in waits]
    watch = fold([ev.Sent(1, ROOT), ev.Busy(1, ROOT), *events])
    return decide(watch, waits[-1][0], LIMITS)


def test_wait_within_the_limit_is_allowed() -> None:
    assert isinstance(limited((3, 800)), Wait)


def test_wait_beyond_the_limit_names_date_time_and_zone() -> None:
    found = limited((3, 86_403))
    assert isinstance(found, End)
    assert found.kind == "limit"
    assert found.sentence.startswith("the provider accepts no request before 1970-01-02 00:00:03 UTC (Slow down)")
    assert "watch.limit_seconds only allows a wait of 900 seconds" in found.sentence


def test_short_waits_without_an_answer_in_between_add_up() -> None:
    assert isinstance(limited((3, 600), (601, 890)), Wait)
    found = limited((3, 600), (601, 1_000))
    assert isinstance(found, End)
    assert found.kind == "limit"


def test_an_answer_in_between_restarts_the_wait() -> None:
    watch = fold(
        [
            ev.Sent(1, ROOT),
            ev.Retrying(3, ROOT, Retry(600, is_rate_limit=True)),
            ev.StepStarted(601, ROOT),
            ev.StepEnded(602, ROOT, "s", Spent()),
            ev.Retrying(603, ROOT, Retry(1_200, is_rate_limit=True)),
        ]
    )
    assert isinstance(decide(watch, 603, LIMITS), Wait)


def test_a_wait_that_only_a_poll_reports_is_bounded_too() -> None:
    polled = ev.Polled(20, ROOT, {ROOT: Retry(90_000, is_rate_limit=True)})
    found = decide(fold([ev.Sent(1, ROOT), ev.Busy(2, ROOT), polled]), 20, LIMITS)
    assert isinstance(found, End)
    assert found.kind == "limit"


@pytest.mark.parametrize("at", [-1.0, 0.0, 1e12, 1e300, float("inf")])
def test_any_time_that_a_provider_names_can_be_shown(at: float) -> None:
    assert name_moment(at).endswith(" UTC")


SUSPENDING = replace(LIMITS, suspend_seconds=60)
WAITING = ev.Retrying(3, ROOT, Retry(100, "Slow down", is_rate_limit=True))
RUNNING_TOOL = ev.ToolStarted(4, ROOT, "call", Tool("bash"))


@pytest.mark.parametrize(
    ("events", "is_suspended"),
    [
        ([WAITING], True),
        ([ev.Retrying(3, ROOT, Retry(60, "Slow down", is_rate_limit=True))], False),
        ([ev.Retrying(3, ROOT, Retry(100, "Out of order"))], False),
        ([WAITING, RUNNING_TOOL], False),
        ([WAITING, ev.ChildOpened(4, ROOT, "child"), ev.Busy(4, "child")], False),
        ([ev.ToolStarted(2, ROOT, "call", Tool("task", has_child=True)), replace(WAITING, session="child")], True),
    ],
)
def test_session_is_suspended_while_nothing_in_it_can_continue(events: list[Event], is_suspended: bool) -> None:
    found = decide(fold([ev.Sent(1, ROOT), ev.Busy(1, ROOT), *events]), 5, SUSPENDING)
    assert (isinstance(found, End) and found.kind == "suspended") is is_suspended
