"""`prefect.yaml` of a checkout says the same as what `coordinator deploy` makes."""

from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from prefect import Flow

from flows.deployments.definitions import CLEANUP_FLOW, COMMAND, GRAPH_FLOW, POOL, TAGS
from flows.spokes.session_labels import SESSION_DEPLOYMENT, SESSION_FLOW, SESSION_POOL

DEPLOYED: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "prefect.yaml").read_text(encoding="utf-8"))


def test_its_deployments_wait_in_the_same_pool_and_start_in_the_same_way() -> None:
    for deployment in DEPLOYED["deployments"]:
        pool = SESSION_POOL if deployment["name"] == SESSION_DEPLOYMENT else POOL
        assert deployment["work_pool"] == {"name": pool, "job_variables": {"command": COMMAND}}
        assert deployment["tags"] == list(TAGS)


def test_its_entrypoints_are_the_flows_and_nothing_is_pulled() -> None:
    found: list[str] = []
    for deployment in DEPLOYED["deployments"]:
        module, _, name = deployment["entrypoint"].rpartition(".")
        flow = getattr(import_module(module), name)
        assert isinstance(flow, Flow)
        found.append(flow.name)
    assert found == [GRAPH_FLOW, SESSION_FLOW, CLEANUP_FLOW]
    assert DEPLOYED["pull"] == []
