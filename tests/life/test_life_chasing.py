"""A base that moves whenever work is verified: the run comes to its end, and says what moves it."""

from pathlib import Path

from helpers import Ground, Worked
from push.pushing_ground import PushingGround

from tasks_lib.report import ExitCode

TICKER = "git -c user.name=Ticker -c user.email=t@example.org"


def tick(place: Path) -> str:
    """A line of verify that commits on the checked out branch of the repository at `place`."""
    return f"{TICKER} -C {place} commit -q --allow-empty -m tick-$(date +%s%N)"


def count_ticks(subjects: list[str]) -> int:
    return sum(subject.startswith("tick-") for subject in subjects)


def stop_ticking(ground: Ground) -> None:
    text = (ground.top / "coordinator.yaml").read_text()
    start, end = text.index("verify:"), text.index("watch:")
    ground.commit("Mend verify", {"coordinator.yaml": f"{text[:start]}verify: ['true']\n{text[end:]}"})


def see_explained(worked: Worked) -> None:
    assert '"tick-' in worked.pending
    assert "by Ticker" in worked.pending
    assert "made while verify ran" in worked.pending


async def test_verify_that_commits_on_the_target_ends_with_a_publication_pending(ground: Ground) -> None:
    ground.make({"a": {}, "b": {"depends_on": ["a"]}, "c": {}}, verify=[tick(ground.top)])
    worked = await ground.work()
    assert worked.names == dict.fromkeys("abc", "Merged")
    assert worked.code is ExitCode.COMPLETED
    see_explained(worked)
    assert count_ticks(ground.log("%s")) < 20
    stop_ticking(ground)
    again = await ground.work()
    assert (again.pending, again.started) == ("", [])
    assert all(ground.has(f"{one}.txt") for one in "abc")
    assert ground.leftovers() == []


async def test_red_verify_that_commits_on_the_target_is_not_run_for_ever(ground: Ground) -> None:
    log = ground.place / "verified"
    ground.make({"a": {}, "b": {}}, verify=[f"echo . >> {log}", tick(ground.top), "false"], land={"give_backs": 0})
    worked = await ground.work()
    assert set(worked.names.values()) <= {"Failed", "Blocked"}
    assert worked.code is ExitCode.BLOCKED
    assert len(log.read_text().split()) < 30


async def test_merge_that_is_taken_back_again_and_again_is_given_up(ground: Ground) -> None:
    """Each verify commits what conflicts with the work that it verified."""
    clash = f"echo $(date +%s%N) > {ground.top}/a.txt && git -C {ground.top} add a.txt && {tick(ground.top)}"
    agent = "git merge -q -X ours $COORDINATOR_TARGET || :; echo $(date +%s%N) > a.txt; commit Work"
    ground.make({"a": {}}, agent, verify=[f"[ -f {ground.place}/calm ] || {{ {clash}; }}"])
    worked = await ground.work()
    assert len(ground.turns()) < 12
    assert worked.pending or worked.code is ExitCode.BLOCKED


def push_tick(ground: PushingGround) -> str:
    """A line of verify that pushes a commit to the target, as a verify does that records its results."""
    return (
        f"git fetch -q {ground.url} main && "
        f"git push -q {ground.url} $({TICKER} commit-tree -p FETCH_HEAD -m tick-$(date +%s%N) 'FETCH_HEAD^{{tree}}'):"
        "refs/heads/main"
    )
