"""Cleans up in Prefect after a killed coordinator, for commands that do not start a run."""

import asyncio
from pathlib import Path

from flows.data_directory import data_dir
from flows.importing import importing
from flows.prefect_isolation import isolated
from flows.prefect_server import end_idle_server, find_api
from flows.server_users import list_users
from tasks_lib.git.repository import STATE_DIR
from tasks_lib.runtime.status_board import VIEW_NAME, read_view

SERVER_ENDED = "ended the Prefect server left by a killed run"


def settle(common_dir: Path, former: Path | None = None) -> list[str]:
    """End dead runs of the repository with this git directory in Prefect, then end an unused server.

    `former` is where that directory was before the repository was moved. Returns a line for each action. Live runs,
    here or elsewhere, are not touched.
    """
    list_users(data_dir() / "prefect")  # Removes what killed users have left.
    lines = tell_prefect(common_dir, former)
    return [*lines, SERVER_ENDED] if end_idle_server() else lines


def tell_prefect(common_dir: Path, former: Path | None = None) -> list[str]:
    """End dead flow runs of this repository in Prefect, if its server answers."""
    if not (api := find_api()):
        return []
    last = read_view(common_dir / STATE_DIR / VIEW_NAME)
    with isolated(api):
        with importing():
            from flows.stale_flow_runs import OUTAGE, end_stale

        try:
            return asyncio.run(end_stale(common_dir, former=former, last=last))
        except OUTAGE as error:
            return [f"Could not report killed runs to Prefect: {error}. The next run will try again."]
