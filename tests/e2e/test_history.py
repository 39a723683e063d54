"""`coordinator history` reads the runs of a repository, and of a node, from a real server."""

import json
from pathlib import Path
from typing import Any

import pytest
from e2e.conftest import Coordinator
from e2e.test_messages import make_gated
from e2e.test_whole_runs import find_run, make_flat, read_task_runs

pytestmark = pytest.mark.xdist_group("prefect")


def read_history(coordinator: Coordinator, *words: str | Path) -> dict[str, Any]:
    code, output = coordinator.run("history", *words, "--json")
    assert code == 0, output
    return json.loads(output)


def test_history_lists_runs_with_their_end_and_a_nodes_part_in_them(coordinator: Coordinator, tmp_path: Path) -> None:
    made = make_gated(tmp_path / "one", 3, gated=0)
    made.behave("flat-0", block_with="notify")
    other = make_flat(tmp_path / "two", 1)
    assert coordinator.run("init", other.repository)[0] == 0  # It gets the name of the directory, so ours another.
    assert coordinator.run("run", made.repository, "--only", "flat-0", "--only", "flat-1")[0] == 1
    first = find_run(made)
    code, output = coordinator.run("run", made.repository, "--only", "flat-2")
    assert (code, "Every node of this run is completed." in output) == (0, True), output
    read_task_runs(coordinator, first, 2)
    place = ("--repo", made.repository)

    found = read_history(coordinator, *place)
    node = read_history(coordinator, "flat-0", *place)
    newest = read_history(coordinator, *place, "--limit", "1")
    code, output = coordinator.run("history", *place)
    node_code, node_output = coordinator.run("history", "flat-0", *place)
    unknown = coordinator.run("history", "flat-00", *place)
    none = read_history(coordinator, "--repo", other.repository)

    ui = coordinator.api.removesuffix("/api")
    run = next(one for one in found["runs"] if one["id"] == first)
    assert (run["state"], run["counts"]["Blocked"], run["counts"]["Merged"]) == ("Failed", 1, 1)
    assert run["message"].startswith("Something is blocked or failed")
    assert run["link"] == f"{ui}/runs/flow-run/{first}"
    assert found["link"] == f"{ui}/runs?tab=flow-runs&flow-run-search=repository-2"
    assert [one["state"] for one in found["runs"]] == ["Completed", "Failed"]
    assert [one["id"] for one in newest["runs"]] == [find_run(made)]
    assert [(one["state"], one["run"], one["attempts"]) for one in node["runs"]] == [("Blocked", first, 1)]
    assert node["link"] == f"{ui}/runs?tab=task-runs&task-run-search=flat-0"
    assert code == node_code == 0, output + node_output
    assert all(word in output for word in (first, "1 Blocked", "Something is blocked", "To continue", found["link"]))
    assert "Blocked" in node_output
    assert (unknown[0], 'Did you mean "flat-0"?' in unknown[1]) == (2, True), unknown[1]
    assert none["runs"] == []


def test_runs_of_earlier_releases_are_found_by_their_tag(coordinator: Coordinator, tmp_path: Path) -> None:
    made = make_flat(tmp_path, 1)
    common = made.repository / ".git"
    flow = coordinator.ask("flows/", {"name": "run-graph"})["id"]
    tag = f"repository:{common}#{common.stat().st_ino:x}"
    body = {"flow_id": flow, "name": "former-name", "tags": [tag], "state": {"type": "COMPLETED"}}
    old = coordinator.ask("flow_runs/", body)["id"]
    found = read_history(coordinator, "--repo", made.repository)
    assert old in [one["id"] for one in found["runs"]]
