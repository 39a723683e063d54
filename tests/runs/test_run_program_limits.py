"""Limits of the provider behind a program: a short wait costs nothing, a long one stops the run once."""

import pytest
from checker import Meant, check, snapshot_user_state
from run_harness import RunHarness
from test_run_blocking import NOTIFY

from tasks_lib.reporting.run_report import ExitCode

SOON = NOTIFY + "soon() { echo $(($(date +%s) + 2)); }\n"


async def test_session_continues_when_the_limit_ends_and_no_attempt_is_counted(harness: RunHarness) -> None:
    agent = SOON + (
        "if [ ! -e half.txt ]; then echo half > half.txt; "
        'notify limit "Five-hour limit reached" "$(soon)"; exit 75; fi\ngit add half.txt; work'
    )
    ids = ["a", "b", "c"]
    harness.make({task_id: {} for task_id in ids}, agent)
    before = snapshot_user_state(harness.top)
    worked = await harness.work()
    assert (worked.code, worked.retries) == (ExitCode.COMPLETED, [])
    assert harness.journal.turns() == [f"{task_id}-1-1" for task_id in ids]
    assert "Continue with your task where you left off. Your prompt was:" in harness.journal.read("a-1-1")
    assert any("a: notice (limit): Five-hour limit reached" in line for line in worked.lines)
    assert check(harness.top, before=before, meant=Meant(dict.fromkeys(ids, "completed"))) == []


async def test_limit_that_is_over_when_its_turn_ends_delays_nobody(harness: RunHarness) -> None:
    agent = SOON + (
        'if [ ! -e half.txt ]; then echo half > half.txt; end=$(soon); notify limit "Slow down" "$end"; '
        'while [ "$(date +%s)" -le "$end" ]; do :; done; exit 75; fi\ngit add half.txt; work'
    )
    harness.make({"a": {}}, agent)
    worked = await harness.work()  # With a minute's wait for a limit without an end, this would be too late.
    assert (worked.code, worked.retries) == (ExitCode.COMPLETED, [])


FAR = "4102444800"
STOPS = {
    "a limit that ends too late": (
        f'notify limit "Weekly limit" {FAR}; exit 75',
        "before 2100-01-01 00:00:00 UTC (Weekly limit)",
    ),
    "one without an end": ("exit 75", "no request before"),
    "one that comes again": (SOON + 'notify limit "Slow down" "$(soon)"; exit 75', "it has not answered since"),
    "a wrong key": ("echo starting; echo Invalid API key >&2; exit 77", "no session can succeed (Invalid API key)"),
}


@pytest.mark.parametrize("name", STOPS)
async def test_limit_that_lasts_stops_the_run_with_one_sentence_and_counts_no_attempt(
    harness: RunHarness, name: str
) -> None:
    ends, said = STOPS[name]
    agent = f"[ -e {harness.place}/well ] || {{ {NOTIFY}{ends}; }}\nwork"
    harness.make({"a": {}, "b": {}}, agent, watch={"limit_seconds": 3})
    worked = await harness.work()
    assert worked.code is ExitCode.BLOCKED
    sentences = [line for line in worked.view.messages if line.startswith("The run is stopping: ")]
    assert len(sentences) == 1
    assert said in sentences[0]
    assert (set(worked.names.values()), worked.retries) == ({"Aborted"}, [])
    (harness.place / "well").touch()
    worked = await harness.work()
    assert worked.code is ExitCode.COMPLETED
    assert harness.trailer("Attempt") == "1"
