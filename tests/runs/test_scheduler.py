"""The scheduler as users run it: what starts when, what the user stops, and what is shown for the rest."""

from collections.abc import Generator
from pathlib import Path

import pytest
from run_harness import PlainLauncher, RunHarness, Tasks, open_harness, reach, until

from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.engine.scheduler import OpenNode, list_delays
from tasks_lib.model import Failed, Skipped
from tasks_lib.reporting.run_report import ExitCode
from tasks_lib.settings.schema import RetrySettings

LONG = {"attempts": 2, "delay_seconds": 120, "max_delay_seconds": 120}
"""The next attempt would come after `HANG_SECONDS`, by which time the test has failed."""


@pytest.fixture
def harness(tmp_path: Path) -> Generator[RunHarness]:
    with open_harness(tmp_path) as made:
        yield made


async def until_waiting(launcher: PlainLauncher, node_id: str) -> None:
    """Return when an attempt at `node_id` has failed and the node is waiting for the next one."""
    await until(lambda: node_id in launcher.open and launcher.open[node_id].is_waiting)


async def test_node_starts_only_when_nothing_works_for_what_it_depends_on(harness: RunHarness) -> None:
    """The launcher asserts it; a dependent becomes ready on the head before its prerequisite's session has ended."""
    harness.make({"a": {}, "b": {"depends_on": ["a"]}, "c": {"depends_on": ["a"]}, "d": {"depends_on": ["b", "c"]}})
    worked = await harness.work()
    assert (worked.code, worked.started[0], worked.started[-1]) == (ExitCode.COMPLETED, "a", "d")


async def test_node_that_a_person_stops_between_two_attempts_makes_no_further_one(harness: RunHarness) -> None:
    harness.make({"a": {}, "b": {}}, '[ "$id" = b ] && { await go; work; exit; }; exit 3', signals=["go"], retry=LONG)

    launcher = PlainLauncher()

    async def stop(opened: OpenRun) -> None:
        await until_waiting(launcher, "a")
        assert (await opened.run.requests.abort("a")).is_done
        await reach(opened, "a: Aborted")
        harness.signals["go"].send()

    worked = await harness.work(during=stop, launcher=launcher)
    assert worked.names == {"a": "Aborted", "b": "Merged"}
    assert (worked.launcher.ended, len(worked.retries)) == (["a"], 1)
    assert "stopped on request before its next attempt" in str(worked.outcomes["a"])


async def test_run_that_is_stopped_between_two_attempts_ends_at_once_and_says_so(harness: RunHarness) -> None:
    harness.make({"a": {}, "b": {"depends_on": ["a"]}}, "exit 3", retry=LONG)

    launcher = PlainLauncher()

    async def stop(opened: OpenRun) -> None:
        await until_waiting(launcher, "a")
        opened.run.stopping.request()

    worked = await harness.work(during=stop, launcher=launcher)
    assert (worked.code, worked.names, worked.launcher.ended) == (ExitCode.INTERRUPTED, {"a": "Aborted"}, ["a"])
    assert "the run was stopped before its next attempt" in str(worked.outcomes["a"])
    assert worked.launcher.shown == {}


async def test_run_that_starts_no_more_nodes_lands_those_in_progress_with_their_retries(harness: RunHarness) -> None:
    body = 'if [ "$id" = a ] && [ ! -e part ]; then touch part; commit wip; tell begun; await go; exit 3; fi; work'
    harness.make({"a": {}, "b": {"depends_on": ["a"]}}, body, signals=["begun", "go"])

    async def drain(opened: OpenRun) -> None:
        await harness.signals["begun"].wait()
        opened.run.stopping.drain()
        harness.signals["go"].send()

    worked = await harness.work(during=drain)
    assert (worked.code, worked.names) == (ExitCode.INTERRUPTED, {"a": "Merged"})
    assert worked.launcher.shown == {}
    assert harness.leftovers() == []
    assert (await harness.work()).names == {"b": "Merged"}


async def test_run_that_starts_no_more_nodes_is_complete_if_none_is_left(harness: RunHarness) -> None:
    harness.make({"a": {}}, "tell begun; await go; work", signals=["begun", "go"])

    async def drain(opened: OpenRun) -> None:
        await harness.signals["begun"].wait()
        opened.run.stopping.drain()
        harness.signals["go"].send()

    assert (await harness.work(during=drain)).code is ExitCode.COMPLETED


async def test_what_is_not_worked_is_shown_once_with_its_reason_in_the_order_of_the_graph(harness: RunHarness) -> None:
    tasks: Tasks = {
        "a": {},
        "b": {"depends_on": ["a"]},
        "c": {"depends_on": ["b"]},
        "d": {"depends_on": ["c"]},
        "e": {},
    }
    harness.make(tasks)
    harness.set_status("a", "completed")
    harness.set_status("e", "completed")
    harness.set_status("b", "failed")
    worked = await harness.work()
    skipped = [Skipped("needs b, which has status failed")] * 2
    assert list(worked.launcher.shown.items()) == [
        ("a", None),
        ("b", Skipped("status is failed; set it to pending to run it again")),
        ("c", skipped[0]),
        ("d", skipped[1]),
    ]
    assert [node.outcome for node in worked.view.nodes.values()] == [
        "Landed",
        "Skipped",
        "Skipped",
        "Skipped",
        "Landed",
    ]
    assert worked.code is ExitCode.BLOCKED


class BrokenLauncher(PlainLauncher):
    """Raises when starting a node, raises after running one, or never runs one."""

    async def start(self, node: OpenNode) -> None:
        match node.id:
            case "breaks":
                raise RuntimeError("no such thing")
            case "forgets":
                return
            case _:
                await super().start(node)
                raise RuntimeError("too late to matter")


async def test_launcher_that_breaks_fails_its_node_and_nothing_else(harness: RunHarness) -> None:
    harness.make({"breaks": {}, "forgets": {}, "works": {}})
    worked = await harness.work(launcher=BrokenLauncher())
    assert worked.outcomes["breaks"] == Failed("its task run crashed: no such thing")
    assert worked.outcomes["forgets"] == Failed("its task run ended without an outcome")
    assert (worked.outcomes["works"].name, worked.code) == ("Merged", ExitCode.BLOCKED)


@pytest.mark.parametrize(
    ("attempts", "delays"), [(1, []), (4, [10.0, 20.0, 30.0])], ids=["one attempt", "four attempts"]
)
def test_delays_double_up_to_their_bound(attempts: int, delays: list[float]) -> None:
    assert list_delays(RetrySettings(attempts=attempts, delay_seconds=10, max_delay_seconds=30)) == delays
