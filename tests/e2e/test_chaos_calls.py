"""Killed at a call to Prefect and run again, a graph ends as it would have; `make chaos` does so at each kind of call."""

from pathlib import Path

import pytest
from chaos.cli_kill_cases import run_whole_calmly, try_call
from chaos.kill_points import list_calls

from flows.prefect_server import Child

pytestmark = pytest.mark.xdist_group("prefect")
EXPECTED = (
    "call POST /api/flow_runs/",
    "call POST /api/flow_runs/<id>/set_state",
    "call POST /api/task_runs/",
    "call POST /api/artifacts/",
    "event prefect.task-run.Merged",
    "event coordinator.node.merged",
)
SOME = "after #4: event prefect.task-run.Merged"
"""The server has the end of the last node that landed, and the coordinator never hears of that."""


def test_killed_at_a_call_to_prefect_it_ends_as_undisturbed(server: Child, tmp_path: Path) -> None:
    calm, calls, faults = run_whole_calmly(tmp_path / "calm", server.port)
    assert faults == []
    assert set(EXPECTED) <= set(calls)
    kill = next(kill for kill in list_calls(calls) if kill.about == SOME)
    verdict = try_call(tmp_path / "killed", kill, calm=calm, port=server.port)
    assert (verdict.struck, verdict.faults) == (True, ())
