"""Prefect's record of runs is limited by age on disk: coordinator's server deletes old runs."""

import sqlite3
import uuid
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from e2e.conftest import ask_api, ask_until, start_server

from flows.prefect_server import LOOPBACK, Child, end_child
from flows.server_settings import KEPT_RUN_SECONDS

pytestmark = pytest.mark.xdist_group("prefect")


def test_server_forgets_a_run_of_long_ago_and_no_other(server: Child, tmp_path: Path) -> None:
    ages = {f"old-{uuid.uuid4()}": 1, f"young-{uuid.uuid4()}": -1}
    api = f"http://{LOOPBACK}:{server.port}/api"
    flow = ask_api(api, "flows/", {"name": "run-graph"})["id"]
    for name in ages:
        ask_api(api, "flow_runs/", {"flow_id": flow, "name": name, "state": {"type": "COMPLETED"}})
    copy_database(server, tmp_path)
    set_ages(tmp_path / "prefect.db", ages)
    child = start_server(tmp_path)
    try:
        left = ask_until(lambda: list_runs(child.port, ages), lambda names: len(names) < len(ages))
    finally:
        end_child(child)
    assert left == [name for name in ages if name.startswith("young")]


def copy_database(server: Child, home: Path) -> None:
    """Copy the database of `server`, which runs, into `home`."""
    process = server.process()
    assert process is not None
    theirs = Path(process.environ()["PREFECT_HOME"])
    home.mkdir(exist_ok=True)
    with (
        closing(sqlite3.connect(theirs / "prefect.db")) as source,
        closing(sqlite3.connect(home / "prefect.db")) as target,
    ):
        source.backup(target)


def set_ages(path: Path, ages: Mapping[str, int]) -> None:
    """Let each run of `ages` have ended so many days before the time from which they are kept."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for name, days in ages.items():
            ended = datetime.now(UTC) - timedelta(seconds=KEPT_RUN_SECONDS, days=days)
            change = (f"{ended:%Y-%m-%d %H:%M:%S.%f}", name)
            connection.execute("UPDATE flow_run SET end_time = ? WHERE name = ?", change)


def list_runs(port: int, names: Mapping[str, int]) -> list[str]:
    found = ask_api(f"http://{LOOPBACK}:{port}/api", "flow_runs/filter", {"flow_runs": {"name": {"any_": list(names)}}})
    return sorted(run["name"] for run in found)
