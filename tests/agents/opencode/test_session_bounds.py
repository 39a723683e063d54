"""Providers and models that would be asked forever: each turn ends after a few requests, with a real opencode."""

import itertools
import time
from collections.abc import AsyncGenerator, Sequence
from email.utils import formatdate

import pytest
import pytest_asyncio
from session_fixtures import SessionFixture, open_lab

from flows.demo.model_script import Call, Message, Step, choose_step, find_position, read_text
from tasks_lib.agents.opencode.turns.session_adapter import Shared

pytestmark = [pytest.mark.xdist_group("opencode"), pytest.mark.asyncio(loop_scope="module")]
TOO_LONG = Step(error=400, message="prompt is too long: context_length_exceeded, the maximum is 10 tokens")
NEARLY_FULL = 99_000
"""Tokens of an answer after which opencode compacts the conversation."""
A_DAY = 86_400
FEW = 40
"""Requests. It takes 4 to 6; but opencode does not wait, and on a busy machine their events may arrive late."""


class Mood:
    """A model that writes summaries when asked, and otherwise answers with `steps`, repeating the last."""

    def __init__(self) -> None:
        self.steps: Sequence[Step] = ()
        self.answers: int = 0

    def __call__(self, messages: Sequence[Message]) -> Step:
        if not self.steps:
            return choose_step(find_position(messages), {})[0]
        if is_asked_for_a_summary(messages):
            return Step(say="A summary.")
        self.answers += 1
        return self.steps[min(self.answers, len(self.steps)) - 1]


def is_asked_for_a_summary(messages: Sequence[Message]) -> bool:
    system = " ".join(read_text(one) for one in messages if one["role"] == "system")
    return "summar" in system.casefold()[:600]


MOOD = Mood()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[SessionFixture]:
    async with open_lab(tmp_path_factory.mktemp("lab"), decide=MOOD) as opened:
        yield opened


@pytest.fixture
def mood(lab: SessionFixture) -> Mood:
    lab.model.requests.clear()
    MOOD.steps, MOOD.answers = (), 0
    return MOOD


def bash(command: str) -> Step:
    return Step(calls=(Call("bash", {"command": command, "description": "run it"}),), tokens_in=NEARLY_FULL)


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (TOO_LONG, "rejected the conversation as too long 3 times in a row"),
        (bash("echo the same"), "was compacted 3 times in a row without progress"),
        (bash("date +%s%N"), "was compacted 3 times in a row without progress"),
        (Step(say="Well.", tokens_in=NEARLY_FULL), "3 times in a row without"),
        (Step(say="Well.", finish="unknown"), "3 times in a row without calling a tool"),
        (Step(finish="unknown"), "3 times in a row without calling a tool"),
        (Step(say="Well.", finish="tool_calls"), "3 times in a row without calling a tool"),
        (Step(say="Well.", finish="length"), "answers were too long for its model"),
    ],
    ids=[
        "too long",
        "compacted",
        "compacted with news",
        "compacted without a tool",
        "unknown",
        "empty",
        "no call",
        "cut off",
    ],
)
async def test_turn_that_goes_round_without_progress_ends_after_a_few_requests(
    lab: SessionFixture, mood: Mood, step: Step, said: str
) -> None:
    mood.steps = [step]
    end = await lab.open(shared=Shared()).prompt("Do it.")
    assert (end.status, end.refusal, end.is_limited) == (1, "", False)
    assert said in end.error
    assert len(lab.model.requests) <= FEW


async def test_turn_that_is_compacted_after_every_step_and_gets_on_is_left_alone(
    lab: SessionFixture, mood: Mood
) -> None:
    mood.steps = [*(bash(f"echo {number} > progress.txt") for number in range(6)), Step(say="All of it.")]
    numbers = itertools.count()

    async def look() -> str:
        return f"another state {next(numbers)}"

    end = await lab.open(shared=Shared(), digest_worktree=look).prompt("Do it.")
    assert (end.status, end.answer) == (0, "All of it.")
    assert next(numbers) >= 6


@pytest.mark.parametrize("status", [429, 503, 529])
@pytest.mark.parametrize("is_date", [False, True], ids=["seconds", "date"])
async def test_wait_of_a_day_is_refused_at_once_with_its_date(
    lab: SessionFixture, mood: Mood, status: int, is_date: bool
) -> None:
    until = time.time() + A_DAY
    mood.steps = [
        Step(error=status, headers={"retry-after": formatdate(until, usegmt=True) if is_date else str(A_DAY)})
    ]
    end = await lab.open(shared=Shared()).prompt("Do it.")
    assert end.status == 1
    assert end.refusal == end.error
    days = {time.strftime("%Y-%m-%d", time.gmtime(at)) for at in (until, time.time() + A_DAY)}
    said = "the provider accepts no request before "
    assert end.refusal.startswith(said)
    assert end.refusal.removeprefix(said)[:10] in days
    assert " UTC (" in end.refusal
    assert len(lab.model.requests) == 1


def run(command: str) -> Step:
    return Step(calls=(Call("bash", {"command": command, "description": "run it"}),))


EDIT = {"filePath": "/nowhere/at/all.txt", "oldString": "a", "newString": "b"}


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([run("echo the same")], "the same calls again and again, with the same results"),
        ([run("echo one"), run("echo two")], "the same calls again and again, with the same results"),
        ([run(f"echo {number} > /dev/null; echo broken; exit 3") for number in range(9)], "status #: broken"),
        ([Step(calls=(Call("edit", {**EDIT, "newString": str(number)}),)) for number in range(9)], "the same error"),
    ],
    ids=["one call", "two calls", "a line that fails", "a tool that fails"],
)
async def test_turn_that_repeats_itself_is_stopped_and_says_what_was_repeated(
    lab: SessionFixture, mood: Mood, steps: Sequence[Step], said: str
) -> None:
    mood.steps = [step for _ in range(20) for step in steps]
    end = await lab.open(shared=Shared()).prompt("Do it.")
    assert (end.status, end.refusal, end.stall) == (1, "", "")
    assert end.loop == end.error
    assert said in end.loop
    assert len(lab.model.requests) <= FEW


async def test_turn_that_repeats_calls_and_changes_the_worktree_is_left_alone(lab: SessionFixture, mood: Mood) -> None:
    same = [run("echo one"), run("echo two")]
    mood.steps = [*(step for _ in range(12) for step in same), Step(say="All of it.")]
    numbers = itertools.count()

    async def look() -> str:
        return f"another state {next(numbers)}"

    end = await lab.open(shared=Shared(), digest_worktree=look).prompt("Do it.")
    assert (end.status, end.answer) == (0, "All of it.")
    assert next(numbers) >= 2
