"""Killed at seeded moments and run again, a graph ends as it would have undisturbed."""

import random
import signal
from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest
from checker import Meant, check, snapshot_user_state
from checker_traces import read_lines, text
from coordinator_host import Started
from e2e.conftest import Coordinator
from generated_graphs import Made, make_repository

pytestmark = pytest.mark.xdist_group("prefect")
POLL_SECONDS = 0.005
Moment = Callable[[], bool]


def wait_for(moment: Moment, process: Started) -> bool:
    """Wait until `moment` has come or `process` has ended; whether it came first."""
    never = Event()
    while process.poll() is None:
        if moment():
            return True
        never.wait(POLL_SECONDS)
    return False


def list_moments(made: Made, rng: random.Random) -> list[Callable[[], Moment]]:
    """Moments of different kinds, each to be begun with a run: in a session, after a landing, in a half-made worktree."""
    repository, git_dir = made.repository, made.repository / ".git"

    def after_agents() -> Moment:
        seen, more = len(made.read_journal()), rng.randint(1, 4)
        return lambda: len(made.read_journal()) >= seen + more

    def after_landings() -> Moment:
        seen, more = count_merges(repository), rng.randint(1, 3)
        return lambda: count_merges(repository) >= seen + more

    def in_a_half_made_worktree() -> Moment:
        rng.random()
        seen = set((git_dir / "worktrees").glob("*"))
        return lambda: any(
            not (place / "coordinator.json").exists() for place in set((git_dir / "worktrees").glob("*")) - seen
        )

    kinds = [after_agents, after_landings, in_a_half_made_worktree, after_landings, after_agents]
    rng.shuffle(kinds)
    return kinds


def count_merges(repository: Path) -> int:
    listed = text(
        repository, "rev-list", "--count", "--all", "--glob=refs/coordinator/queue", "--merges", accept=(0, 128)
    )
    return int(listed or 0)


@pytest.mark.parametrize("seed", [11])
def test_killed_five_times_it_ends_as_if_undisturbed(coordinator: Coordinator, tmp_path: Path, seed: int) -> None:
    calm = make_repository(tmp_path / "calm", nodes=30, seed=seed, seconds=(0.1, 0.4))
    assert coordinator.run("run", calm.repository)[0] == 1
    made = make_repository(tmp_path / "killed", nodes=30, seed=seed, seconds=(0.1, 0.4))
    before = snapshot_user_state(made.repository)
    kills = 0
    for begin in list_moments(made, random.Random(seed)):
        moment = begin()
        process = coordinator.start("run", made.repository)
        if wait_for(moment, process):
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.communicate(timeout=300)

    code, output = coordinator.run("run", made.repository)

    assert (kills, code) == (5, 1), output
    assert check(made.repository, before=before, meant=Meant(made.expected, made.verify)) == []
    assert [line for line in made.read_journal() if line["event"] == "twice"] == []
    assert read_lines(made.repository) == read_lines(calm.repository)
