"""What the audit makes of Prefect's record of a run: how the two differ, and how long a difference may be a delay."""

import math
from dataclasses import replace

import pytest
from history_writer import assert_says

from flows.prefect_audit import judge_states, seconds_since_end
from tasks_lib.model import OutcomeName
from tasks_lib.runtime.status_board import NodeView, RunView, now_text

ENDED = {"a": "Merged", "b/c": "Merged", "d": "Blocked", "r": "Checked", "e": "Skipped"}


def test_states_in_prefect_that_are_not_what_the_run_wrote_are_named() -> None:
    nodes = {one: NodeView(one, one, outcome=OutcomeName(said)) for one, said in ENDED.items()}
    view = RunView("r-1", "main", "", ended="x", exit_code=1, nodes=nodes)
    tasks = [{"name": one, "state_name": said, "state_type": "COMPLETED"} for one, said in ENDED.items()]
    assert judge_states(view, "FAILED", [{**tasks[0], "state_name": "AttemptFailed"}, *tasks]) == []
    assert_says(judge_states(view, "COMPLETED", tasks), "is COMPLETED in Prefect, but the run ended with 1")
    assert_says(judge_states(view, "FAILED", [{**tasks[0], "state_type": "RUNNING"}]), '"a" is RUNNING in Prefect')
    assert_says(
        judge_states(view, "FAILED", [{**tasks[0], "state_name": "Failed"}]), '"a" is Failed in Prefect, but Merged'
    )
    assert judge_states(replace(view, ended=""), "RUNNING", tasks) == []


@pytest.mark.parametrize("ended", ["", "yesterday", "2026-01-01T00:00:00.000"], ids=["none", "no time", "no zone"])
def test_run_without_a_readable_end_ended_infinitely_long_ago(ended: str) -> None:
    assert seconds_since_end(RunView("r1", "main", "", ended=ended)) == math.inf


def test_run_that_has_just_ended_may_still_be_recorded() -> None:
    assert 0 <= seconds_since_end(RunView("r1", "main", "", ended=now_text())) < math.inf
