"""Finds runs that are due but that no worker takes, and says so: in the run's log in Prefect, and in the terminal."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import httpx

DUE_SECONDS = 10.0
"""How long a run may wait before it is looked into; a worker takes a due run within a second or two."""
LATE_SECONDS = 20.0
"""After how long even a worker that Prefect shows as online counts as gone: it does so for a while after its end."""
MOST_RUNS = 20
_WARNING = 30
"""Python's number for that level, which Prefect uses too."""
LOGGER = "coordinator.up"


@dataclass(frozen=True, slots=True)
class WorkerState:
    """What `coordinator up` knows about workers here: whether it runs one, and the command that starts one."""

    has_worker: bool
    is_running: bool
    limit: int
    command: str


class WaitingRuns:
    """Tells of each waiting run once."""

    def __init__(self, client: httpx.Client, pool: str, tell: Callable[[str], None]) -> None:
        self._client = client
        self._pool = pool
        self._tell = tell
        self._told: dict[str, str] = {}

    def report(self, worker: WorkerState, now: datetime) -> None:
        """Report due runs that no worker has taken. Raises httpx.HTTPError if the server does not answer."""
        runs = self._list_due(now)
        self._told = {run["id"]: self._told[run["id"]] for run in runs if run["id"] in self._told}
        if all(run["id"] in self._told for run in runs):
            return
        for run in runs:
            waited = (now - datetime.fromisoformat(run["next_scheduled_start_time"])).total_seconds()
            reason = self._find_reason(worker, is_late=waited > LATE_SECONDS)
            if reason and self._told.get(run["id"]) != reason:
                self._told[run["id"]] = reason
                self._log(run["id"], reason, now)
                self._tell(f"The run {run['name']} is due, but waits: {reason}")

    def _list_due(self, now: datetime) -> list[Mapping[str, Any]]:
        before = (now - timedelta(seconds=DUE_SECONDS)).isoformat()
        body = {
            "work_pools": {"name": {"any_": [self._pool]}},
            "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}, "next_scheduled_start_time": {"before_": before}},
            "limit": MOST_RUNS,
        }
        found = self._ask("flow_runs/filter", body)
        return [cast("Mapping[str, Any]", run) for run in found if _is_due(run)]

    def _find_reason(self, worker: WorkerState, *, is_late: bool) -> str:
        """Why nothing takes a run; "" if a worker does, or is only busy."""
        pool = self._client.get(f"work_pools/{self._pool}").raise_for_status().json()
        if pool["is_paused"]:
            return f"the work pool {self._pool} is paused. To resume it: prefect work-pool resume {self._pool}"
        if pool.get("concurrency_limit") == 0:
            return f"the work pool {self._pool} has a limit of 0. Change it in Prefect's UI, below Work Pools"
        if worker.has_worker:
            return self._explain_own(worker)
        found = self._ask(f"work_pools/{self._pool}/workers/filter", {})
        if online := [str(one["name"]) for one in found if one["status"] == "ONLINE"]:
            shown = f"no worker took it, although {online[0]} is shown as online: it may be busy, or have been killed"
            return f"{shown}. To start another: {worker.command}" if is_late else ""
        return f"no worker is online in the work pool {self._pool}. To start one: {worker.command}"

    def _explain_own(self, worker: WorkerState) -> str:
        if not worker.is_running:
            return "the worker is not running; coordinator up restarts it, and says in its terminal why it ended"
        body = {
            "work_pools": {"name": {"any_": [self._pool]}},
            "flow_runs": {"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}},
        }
        running = self._client.post("flow_runs/count", json=body).raise_for_status().json()
        if running >= worker.limit:
            return f"{running} runs are in progress, and the worker runs at most {worker.limit} (--max-runs)"
        return ""

    def _log(self, run: str, reason: str, now: datetime) -> None:
        line = {
            "name": LOGGER,
            "level": _WARNING,
            "message": f"This run is due, but waits: {reason}",
            "timestamp": now.isoformat(),
            "flow_run_id": run,
        }
        self._client.post("logs/", json=[line]).raise_for_status()

    def _ask(self, path: str, body: Mapping[str, object]) -> list[dict[str, Any]]:
        return self._client.post(path, json=body).raise_for_status().json()


def _is_due(run: Mapping[str, Any]) -> bool:
    """Whether a worker should have taken it; not a run that waits for its next attempt, or that a person paused."""
    return run["state_name"] in ("Scheduled", "Late")


def now_utc() -> datetime:
    """The time, as Prefect records it."""
    return datetime.now(UTC)
