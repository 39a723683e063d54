"""A base that moves on every verify: the run ends, and reports what moves it."""

from pathlib import Path

import pytest
from run_harness import RunHarness, RunResult

from tasks_lib.git.repository import Repository
from tasks_lib.landing.moving_base import MovingBaseLimit
from tasks_lib.reporting.run_report import ExitCode

TICKER = "git -c user.name=Ticker -c user.email=t@example.org"


def tick(place: Path) -> str:
    """A verify line that commits to the checked-out branch of the repository at `place`."""
    return f"{TICKER} -C {place} commit -q --allow-empty -m tick-$(date +%s%N)"


def count_ticks(subjects: list[str]) -> int:
    return sum(subject.startswith("tick-") for subject in subjects)


def stop_ticking(harness: RunHarness) -> None:
    text = (harness.top / "coordinator.yaml").read_text()
    start, end = text.index("verify:"), text.index("watch:")
    harness.commit("Mend verify", {"coordinator.yaml": f"{text[:start]}verify: ['true']\n{text[end:]}"})


def see_explained(worked: RunResult) -> None:
    assert '"tick-' in worked.pending
    assert "by Ticker" in worked.pending
    assert "made while verify ran" in worked.pending


async def test_verify_that_commits_on_the_target_ends_with_a_publication_pending(harness: RunHarness) -> None:
    harness.make({"a": {}, "b": {"depends_on": ["a"]}, "c": {}}, verify=[tick(harness.top)])
    worked = await harness.work()
    assert worked.names == dict.fromkeys("abc", "Merged")
    assert worked.code is ExitCode.COMPLETED
    see_explained(worked)
    assert count_ticks(harness.log("%s")) < 20
    stop_ticking(harness)
    again = await harness.work()
    assert (again.pending, again.started) == ("", [])
    assert all(harness.has(f"{one}.txt") for one in "abc")
    assert harness.leftovers() == []


async def test_red_verify_that_commits_on_the_target_is_not_run_for_ever(harness: RunHarness) -> None:
    log = harness.place / "verified"
    harness.make({"a": {}, "b": {}}, verify=[f"echo . >> {log}", tick(harness.top), "false"], land={"give_backs": 0})
    worked = await harness.work()
    assert set(worked.names.values()) <= {"Failed", "Blocked"}
    assert worked.code is ExitCode.BLOCKED
    assert len(log.read_text().split()) < 30


async def test_merge_that_is_taken_back_again_and_again_is_given_up(harness: RunHarness) -> None:
    """Each verify commits a change that conflicts with the work it verified."""
    clash = f"echo $(date +%s%N) > {harness.top}/a.txt && git -C {harness.top} add a.txt && {tick(harness.top)}"
    agent = "git merge -q -X ours $COORDINATOR_TARGET || :; echo $(date +%s%N) > a.txt; commit Work"
    harness.make({"a": {}}, agent, verify=[f"[ -f {harness.place}/calm ] || {{ {clash}; }}"])
    worked = await harness.work()
    assert len(harness.journal.turns()) < 12
    assert worked.pending or worked.code is ExitCode.BLOCKED


@pytest.mark.parametrize(
    "line",
    [
        "git push -q . HEAD:main",
        "git update-ref refs/heads/main $({ticker} commit-tree -p main -m tick-$(date +%s%N) main^{{tree}})",
        "git update-ref refs/coordinator/queue/main $({ticker} commit-tree -p HEAD -m tick-$(date +%s%N) HEAD^{{tree}})",
        "git update-ref refs/coordinator/queue/main HEAD~1 || git update-ref -d refs/coordinator/queue/main",
    ],
    ids=["publishes itself", "moves the ref", "moves the queue", "winds the queue back"],
)
async def test_verify_that_moves_refs_each_time_comes_to_an_end(harness: RunHarness, line: str) -> None:
    log = harness.place / "verified"
    verify = [f"echo . >> {log}", line.format(ticker=TICKER)]
    harness.make({"a": {}, "b": {"depends_on": ["a"]}}, verify=verify, land={"give_backs": 0})
    worked = await harness.work()
    assert len(log.read_text().split()) < 30
    assert set(worked.names.values()) <= {"Merged", "Blocked"}, str(worked.outcomes)
    assert count_ticks(harness.log("%s")) == 0 or "tick-" in worked.pending


def make_limit(harness: RunHarness) -> MovingBaseLimit:
    harness.make({"a": {}})
    return MovingBaseLimit(Repository.open(harness.top), "main", is_remote=False)


def test_others_who_are_quick_are_followed_for_as_long_as_work_gets_through_in_between(harness: RunHarness) -> None:
    limit = make_limit(harness)
    for number in range(20):
        before = harness.at()
        limit.count_lost_round(before, harness.commit(f"By hand {number}", {"hand.txt": f"{number}\n"}))
        if number % 2:
            limit.reset_rounds()
        assert not limit.is_reached
        assert limit.may_retry


def test_lost_rounds_end_the_chase_and_what_is_said_stays_the_same(harness: RunHarness) -> None:
    limit, said = make_limit(harness), set[str]()
    for number in range(6):
        before = harness.at()
        commit = harness.commit(f"By hand {number}", {"hand.txt": f"{number}\n"})
        limit.count_lost_round(before, commit)
        limit.count_lost_round(before, commit)
        assert limit.lost_in_a_row == number + 1
        if limit.is_reached:
            said.add(limit.explain())
    assert not limit.may_retry
    [line] = said
    assert line.startswith("main moved while work was being verified, 3 times in a row: main was moved by ")
    assert 'By hand 2" by Ada; verify takes longer than the time between these commits' in line
    assert limit.claim_last_try(1)
    assert limit.may_retry
    assert not limit.claim_last_try(1)
