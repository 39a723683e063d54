"""Reads the history of a repository's runs and of its nodes from Prefect's API, without importing Prefect."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from flows.data_directory import list_repositories
from flows.mark_labels import GIT_DIR, INODE
from flows.prefect_api import ask, find_ui, require_accepted_login
from flows.prefect_server import find_api
from tasks_lib.errors import InputError, StartError
from tasks_lib.git.repository import Repository

REQUEST_SECONDS = 30.0
FLOW = "run-graph"
MAX_RUNS = 200
"""How many of the newest runs are looked through; the most that a server lists at a time."""
NO_SERVER = (
    "No Prefect server is running, and the history is read from it. Start one with `coordinator up` in another "
    "terminal, or set PREFECT_API_URL to the address of yours."
)
_MARGIN = timedelta(minutes=1)
"""Task runs that a run shows may be expected a moment before its start."""


@dataclass(frozen=True, slots=True)
class RunEntry:
    """One run of a repository, or one node's part in a run: a flow run or a task run in Prefect.

    `started` is ISO 8601, "" before the start; `seconds` is how long it took, or has taken so far. `counts` are the
    states of a run's nodes, empty for a node. `attempts` are those of a node in this run, 0 for a run.
    """

    id: str
    run: str
    started: str
    seconds: float
    state: str
    message: str
    link: str
    counts: Mapping[str, int]
    attempts: int = 0


class RunHistory:
    """The history of one repository at one server."""

    def __init__(self, client: httpx.Client, api: str, repository: Repository) -> None:
        self._client = client
        self._ui = find_ui(api)
        names = [name for name, place in list_repositories().items() if place == repository.top]
        self.name: str = names[0] if names else repository.top.name
        self._filter = make_filter([*(names or [self.name]), str(repository.top)], repository.common_dir)
        self._place = (str(repository.common_dir), repository.common_dir.stat().st_ino)

    @property
    def runs_link(self) -> str:
        """Where Prefect's UI lists the repository's runs."""
        return f"{self._ui}/runs?tab=flow-runs&flow-run-search={quote(self.name)}"

    def node_link(self, node: str) -> str:
        """Where Prefect's UI lists a node's task runs."""
        return f"{self._ui}/runs?tab=task-runs&task-run-search={quote(node, safe='')}"

    def list_runs(self, limit: int) -> Sequence[RunEntry]:
        """List the newest runs, newest first."""
        return [self._read_run(run) for run in self._list_flow_runs() if self._is_ours(run)][:limit]

    def list_node_runs(self, node: str, limit: int) -> Sequence[RunEntry]:
        """List the newest task runs of a node, newest first."""
        body = {
            "flows": {"name": {"any_": [FLOW]}},
            "flow_runs": self._filter,
            "task_runs": {"name": {"any_": [node]}},
            "sort": "EXPECTED_START_TIME_DESC",
            "limit": MAX_RUNS,
        }
        others = {run["id"] for run in self._list_flow_runs() if not self._is_ours(run)}
        found = [one for one in self._post("/task_runs/filter", body) if one["flow_run_id"] not in others]
        return [
            self._make_entry(one, one["flow_run_id"], "task-run", {}, max(1, one["run_count"])) for one in found[:limit]
        ]

    def _is_ours(self, run: Mapping[str, Any]) -> bool:
        """Whether a run is of this repository, and not of one of the same name, such as on another machine."""
        labels: Mapping[str, object] = run.get("labels") or {}
        known = (labels.get(GIT_DIR), labels.get(INODE))
        return known == (None, None) or any(one == own for one, own in zip(known, self._place, strict=True))

    def _list_flow_runs(self) -> Sequence[dict[str, Any]]:
        body = {
            "flows": {"name": {"any_": [FLOW]}},
            "flow_runs": self._filter,
            "sort": "START_TIME_DESC",
            "limit": MAX_RUNS,
        }
        return self._post("/flow_runs/filter", body)

    def _read_run(self, run: dict[str, Any]) -> RunEntry:
        return self._make_entry(run, run["id"], "flow-run", self._count_nodes(run))

    def _count_nodes(self, run: dict[str, Any]) -> Mapping[str, int]:
        """Count the run's task runs by state: Prefect's history of them, in one interval as long as the run."""
        start = run["start_time"] or run["expected_start_time"]
        begin = datetime.fromisoformat(start) - _MARGIN
        end = (datetime.fromisoformat(run["end_time"]) if run["end_time"] else datetime.now(UTC)) + _MARGIN
        body = {
            "history_start": begin.isoformat(),
            "history_end": end.isoformat(),
            "history_interval_seconds": (end - begin).total_seconds(),
            "flow_runs": {"id": {"any_": [run["id"]]}},
        }
        found = self._post("/task_runs/history", body)
        return {one["state_name"]: one["count_runs"] for interval in found for one in interval["states"]}

    def _make_entry(
        self, found: dict[str, Any], run: str, kind: str, counts: Mapping[str, int], attempts: int = 0
    ) -> RunEntry:
        state: dict[str, Any] = found["state"] or {}
        return RunEntry(
            found["id"],
            run,
            found["start_time"] or "",
            round(found["estimated_run_time"], 1),
            found["state_name"] or "",
            state.get("message") or "",
            f"{self._ui}/runs/{kind}/{found['id']}",
            counts,
            attempts,
        )

    def _post(self, path: str, body: Mapping[str, object]) -> list[dict[str, Any]]:
        """Post to Prefect's API. Raises InputError if it rejects the login, StartError if it does not do it."""
        try:
            return self._client.post(path, json=body).raise_for_status().json()
        except httpx.HTTPStatusError as error:
            api, status = str(self._client.base_url), error.response.status_code
            require_accepted_login(api, status)
            how = "is it Prefect's API, and its address complete (…/api)?"
            raise StartError(f"the Prefect server at {api} answered {status}; {how}") from error
        except (httpx.HTTPError, ValueError) as error:
            said = str(error) or type(error).__name__
            raise StartError(f"the Prefect server at {self._client.base_url} does not answer: {said}") from error


def make_filter(names: Sequence[str], common_dir: Path) -> Mapping[str, object]:
    """The filter for a repository's flow runs: by name, and by the tag that earlier releases gave them."""
    tag = f"repository:{common_dir}#{common_dir.stat().st_ino:x}"
    return {"operator": "or_", "name": {"any_": list(dict.fromkeys(names))}, "tags": {"all_": [tag]}}


def open_history(repository: Repository) -> RunHistory:
    """Open the history at the user's server, or else at our own. Raises InputError if none is running."""
    api = find_api().get("PREFECT_API_URL")
    if not api:
        raise InputError([NO_SERVER])
    return RunHistory(ask(api, REQUEST_SECONDS), api, repository)
