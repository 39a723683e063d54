"""Puts right in Prefect what a killed coordinator left there, where no run is begun that would."""

import asyncio
from pathlib import Path

from flows.prefect_isolation import isolated
from flows.prefect_server import end_idle_server, find_api

SERVER_ENDED = "ended the Prefect server that a killed run had left"


def settle(common_dir: Path, former: Path | None = None) -> list[str]:
    """Tell Prefect which runs of the repository with this git directory are dead, then end a server nobody uses.

    `former` is where that directory was before the repository was moved. A line for each thing done. Runs that are
    alive, here or elsewhere, are left alone.
    """
    lines = tell_prefect(common_dir, former)
    return [*lines, SERVER_ENDED] if end_idle_server() else lines


def tell_prefect(common_dir: Path, former: Path | None = None) -> list[str]:
    """Tell a server that answers which flow runs of this repository are dead; without one there is nobody to tell."""
    if not (api := find_api()):
        return []
    with isolated(api):
        from flows.stale_flow_runs import OUTAGE, crash_stale

        try:
            return asyncio.run(crash_stale(common_dir, former=former))
        except OUTAGE as error:
            return [f"Prefect could not be told of runs that were killed: {error}. The next run tries again."]
