"""The history of runs that an earlier release left in Prefect's database is there after an update."""

import gzip
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from e2e.conftest import ask_api
from e2e.test_record_retention import set_ages

from flows.prefect_server import serve

pytestmark = pytest.mark.xdist_group("prefect")
OLD = Path(__file__).parents[1] / "compatibility" / "prefect-3.8.8"
"""Its README says what is in it, and how it was made."""


def restore(home: Path) -> None:
    """Put the old database where our server keeps its own. The run is young, since runs of long ago are deleted."""
    home.mkdir(parents=True)
    (home / "prefect.db").write_bytes(gzip.decompress((OLD / "prefect.db.gz").read_bytes()))
    shutil.copy(OLD / "memo_store.toml", home)
    set_ages(home / "prefect.db", {"shop": -1})


def read_history(api: str) -> tuple[Mapping[str, Any], Mapping[str, str], Mapping[str, str]]:
    """The only flow run, the state of each task run, and the data of each artifact by its key."""
    (run,) = ask_api(api, "flow_runs/filter", {"flows": {"name": {"any_": ["run-graph"]}}})
    of_run = {"flow_runs": {"id": {"any_": [run["id"]]}}}
    tasks = ask_api(api, "task_runs/filter", of_run)
    artifacts = ask_api(api, "artifacts/filter", of_run)
    states = {one["name"]: f"{one['state']['type']} {one['state']['name']}" for one in tasks}
    return run, states, {one["key"]: one["data"] for one in artifacts}


def test_history_of_a_release_with_prefect_3_8_8_is_there_after_the_update(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COORDINATOR_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    restore(tmp_path / "prefect")

    with serve() as server:
        run, states, artifacts = read_history(server.api)

    assert (run["name"], run["state"]["type"], run["parameters"]["options"]["repository"]) == ("shop", "FAILED", "shop")
    assert run["state"]["message"].startswith("Something is blocked or failed")
    assert states == {
        "schema": "COMPLETED Merged",
        "api": "COMPLETED Merged",
        "decide": "FAILED Blocked",
        "prices": "CANCELLED Skipped",
    }
    assert "a person has to choose the currency" in artifacts["coordinator-report"]
    assert [row["node"] for row in json.loads(artifacts["coordinator-sessions"])] == ["schema", "decide", "api"]
