"""A conflict between two running sessions is shown, and told once to the later one, before either has landed."""

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
from run_harness import RunHarness, reach, until

from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.git.worktrees.lifecycle import Worktree
from tasks_lib.runtime.conflict_radar import MOST_FAILURES, ConflictRadar, Member

AGENT = """
if [ $turn = 1 ] && [ $attempt = 1 ]; then
  echo "$id" > shared.txt; echo "$id" > own-$id.txt
  [ $id = a ] && commit "$id"
  tell $id; await go-$id
fi
[ $turn = 1 ] || git merge -q $COORDINATOR_TARGET || echo both > shared.txt
[ -z "$(git status --porcelain)" ] || commit "feat($id): done"
"""
SIGNALS = ("a", "b", "go-a", "go-b")
WATCH = {"watch": {"conflict_seconds": 0.5}}


def make(harness: RunHarness, agent: str = AGENT, **settings: object) -> None:
    tasks: dict[str, dict[str, object]] = {"a": {}, "b": {}}
    files = {"shared.txt": "base\n"}
    harness.make(tasks, agent, signals=SIGNALS, files=files, **{**WATCH, **settings})  # pyright: ignore[reportArgumentType]


async def begin(harness: RunHarness) -> None:
    for name in "ab":
        await harness.signals[name].wait()


def find_told(lines: Sequence[str]) -> str:
    """The node that was told, which began later."""
    (said,) = (line for line in lines if "both change" in line)
    found = re.fullmatch(r"a and b both change shared\.txt and will conflict; the session of (\w) was told\.", said)
    assert found
    return found[1]


async def test_conflict_is_shown_before_the_turns_end_and_told_once_to_the_later_session(harness: RunHarness) -> None:
    make(harness)
    shown: list[str] = []

    async def watch(opened: OpenRun) -> None:
        lines: list[str] = []
        opened.run.board.listen(lambda _, line: lines.append(line))
        await asyncio.gather(begin(harness), reach(opened, "b: will conflict with a: shared.txt"))
        shown.extend(opened.run.board.view.nodes[node].conflicts for node in "ab")
        later = find_told(lines)
        assert harness.record(f"feat/{later}").foreseen.held
        first = "b" if later == "a" else "a"
        harness.signals[f"go-{first}"].send()
        await reach(opened, f"{first}: Merged")
        harness.signals[f"go-{later}"].send()

    worked = await harness.work(during=watch)
    later = find_told(worked.lines)
    first = "b" if later == "a" else "a"
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert shown == ["b: shared.txt", "a: shared.txt"]
    assert [turn for turn in harness.journal.turns() if "From coordinator" in harness.journal.read(turn)] == [
        f"{later}-1-2"
    ]
    prompt = harness.journal.read(f"{later}-1-2")
    assert prompt.count("From coordinator, not from the user") == 1
    assert f"The other task is `{first}`: Do {first}" in prompt
    assert "Write it." in prompt
    assert f"+{first}" in prompt
    assert worked.view.nodes[later].conflicts == ""
    assert harness.leftovers() == []


async def test_nothing_is_looked_for_if_that_is_turned_off(harness: RunHarness) -> None:
    make(harness, watch={"conflict_seconds": 0})

    async def watch(opened: OpenRun) -> None:
        await begin(harness)
        harness.signals["go-a"].send()
        await reach(opened, "a: Merged")
        harness.signals["go-b"].send()

    worked = await harness.work(during=watch)
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert not [line for line in worked.lines if "conflict with" in line or "both change" in line]


async def test_conflict_that_was_given_back_is_not_told_as_one_that_is_coming(
    harness: RunHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered: dict[str, Member] = {}
    enter = ConflictRadar.enter

    def note(radar: ConflictRadar, member: Member) -> None:
        entered[member.node] = member
        enter(radar, member)

    monkeypatch.setattr(ConflictRadar, "enter", note)
    second = "[ $id$turn = b2 ] && { tell again; await resume; }\n"
    harness.make(
        {"a": {}, "b": {}}, second + AGENT, signals=(*SIGNALS, "again", "resume"), files={"shared.txt": "base\n"},
        watch={"conflict_seconds": 0},
    )  # fmt: skip

    async def watch(opened: OpenRun) -> None:
        await begin(harness)
        harness.signals["go-a"].send()
        await reach(opened, "a: Merged")
        harness.signals["go-b"].send()
        await harness.signals["again"].wait()
        assert not await entered["b"].tell(["shared.txt"], "a", "+a")
        assert entered["b"].told == 0
        harness.signals["resume"].send()

    worked = await harness.work(during=watch)
    assert worked.names == {"a": "Merged", "b": "Merged"}


@dataclass
class Broken:
    """A branch in flight that cannot be looked at, and in which something happens all the time."""

    worktree: Worktree
    node: str = "broken"
    began: float = 0.0
    is_live: bool = True
    is_listening: bool = True
    told: int = 0
    looks: int = 0

    @property
    def activity(self) -> tuple[str, str]:
        return "now", str(self.looks)

    def make_filter(self) -> Callable[[str], bool]:
        self.looks += 1
        raise RuntimeError("broken")

    def show_changes(self, summary: str) -> None:
        raise AssertionError(summary)

    async def tell(self, paths: Sequence[str], other: str, diff: str) -> bool:
        raise AssertionError((paths, other, diff))


async def test_radar_that_fails_does_not_end_the_run(harness: RunHarness, caplog: pytest.LogCaptureFixture) -> None:
    make(harness, "tell $id; await go-$id; work")
    broken = Broken(Worktree(harness.place / "none", harness.place / "none", 1))

    async def watch(opened: OpenRun) -> None:
        await begin(harness)
        opened.merge_queue.radar.enter(broken)
        await until(lambda: "no longer looked for" in caplog.text)
        for name in "ab":
            harness.signals[f"go-{name}"].send()

    worked = await harness.work(during=watch)
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert broken.looks == MOST_FAILURES
    assert harness.leftovers() == []


async def test_broken_worktree_is_passed_over(harness: RunHarness) -> None:
    spoil = "mv $admin/index $admin/away; echo broken > $admin/index; git rev-parse HEAD > $admin/logs/HEAD"
    make(harness, f"{spoil}; tell $id; await go-$id; mv $admin/away $admin/index; work")

    async def watch(opened: OpenRun) -> None:
        await begin(harness)
        radar, looked = opened.merge_queue.radar, Broken(Worktree(harness.top, harness.top / ".git", 1))
        radar.enter(looked)
        await until(lambda: looked.looks > 0)  # Then the others had their turn.
        radar.leave("broken")
        for name in "ab":
            harness.signals[f"go-{name}"].send()

    worked = await harness.work(during=watch)
    assert worked.names == {"a": "Merged", "b": "Merged"}


async def test_branch_without_a_conflict_lands_before_one_of_the_same_rank_with_one(harness: RunHarness) -> None:
    agent = (
        "if [ $turn = 1 ]; then case $id in a|b) echo $id > shared.txt; commit $id;; esac; tell $id; await go-$id; work\n"
        "else git merge -q $COORDINATOR_TARGET || echo both > shared.txt; commit both; fi"
    )
    signals = [*"abcd", *(f"go-{name}" for name in "abcd"), "verifying", "go"]
    place = harness.place / "signals"
    verify = f"echo > {place}/verifying; read -r _ < {place}/go"
    tasks: dict[str, dict[str, object]] = {name: {} for name in "abcd"}
    harness.make(tasks, agent, signals=signals, verify=[verify], files={"shared.txt": "base\n"}, **WATCH)

    async def watch(opened: OpenRun) -> None:
        waits = (harness.signals[name].wait() for name in "abcd")
        await asyncio.gather(*waits, reach(opened, "b: will conflict with a"))
        harness.signals["go-d"].send()
        await harness.signals["verifying"].wait()
        for name in "bc":
            queued = asyncio.create_task(reach(opened, f"{name}: queued"))
            await asyncio.sleep(0)
            harness.signals[f"go-{name}"].send()
            await queued
        done = asyncio.create_task(reach(opened, "b: Merged"))
        harness.signals["go"].send(20)
        await done
        harness.signals["go-a"].send()

    worked = await harness.work(during=watch)
    assert worked.names == dict.fromkeys("abcd", "Merged")
    landed = [line[0] for line in worked.lines if line.endswith(": Merged")]
    assert landed == ["d", "c", "b", "a"]


async def test_branch_that_landed_is_compared_with_those_that_began_before(harness: RunHarness) -> None:
    agent = (
        "if [ $turn = 1 ]; then tell $id; await go-$id; echo $id > shared.txt; commit $id; [ $id = a ] || await go-a\n"
        "else git merge -q $COORDINATOR_TARGET || echo both > shared.txt; commit both; fi"
    )
    make(harness, agent)

    async def watch(opened: OpenRun) -> None:
        await begin(harness)
        harness.signals["go-a"].send()
        await reach(opened, "a: Merged")
        harness.signals["go-b"].send()
        await reach(opened, "b: will conflict with a: shared.txt")
        harness.signals["go-a"].send()

    worked = await harness.work(during=watch)
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert find_told(worked.lines) == "b"
    assert "The other task is `a`" in harness.journal.read("b-1-2")
