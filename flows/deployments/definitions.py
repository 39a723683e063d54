"""Which deployments there are, as values: one to run any registered repository, and more for each repository."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

POOL = "coordinator"
"""The work pool whose workers run the deployments, unless another is chosen."""
GRAPH_FLOW = "run-graph"
CLEANUP_FLOW = "cleanup-repository"
ANY_REPOSITORY = "run-graph"
"""The name of the deployment that offers all registered repositories."""
TAGS = ("coordinator",)
"""The same as flow runs from the command line have."""
REQUEST_FLOWS = {
    "resolve-node": (
        "flows.request_flows.resolve_node",
        "Resolves what blocks a node, with an answer for its agent. The run in progress or the next one runs it again.",
    ),
    "land-node": (
        "flows.request_flows.land_node",
        "Lands verified work that waits for a person, or a person's own: in the run in progress, or in a new one.",
    ),
    "message-node": (
        "flows.request_flows.message_node",
        "Sends a message to the agent of a node of the run in progress.",
    ),
    "abort-node": (
        "flows.request_flows.abort_node",
        "Ends a node of the run in progress and keeps its work, while the others continue.",
    ),
}
"""The entrypoint and the description of each flow for people who have only a browser, by name."""
OWN_SLUG = "coordinator"
"""The slug of the schedule that `coordinator deploy --cron` makes; schedules with another one are a person's."""
_FIND_PYTHON = (
    'p=$(tr "\\0" "\\n" < /proc/$PPID/cmdline | head -n 1); '
    'case $p in /*) ;; */*) p=/proc/$PPID/cwd/$p ;; "") p=python ;; esac; '
    'exec "$p" -m prefect.engine'
)
COMMAND = f"sh -c '{_FIND_PYTHON}'"
"""How a worker starts a flow run: with its own Python, so that it finds coordinator wherever both are installed.

Prefect's default does that too, but starts two interpreters one after the other: three seconds more, and a cancelled
run takes twenty seconds more to end. A plain `python -m prefect.engine` needs the virtual environment to be on PATH.
The worker is the parent of the shell. Without /proc, `python` is looked up on PATH.
"""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When runs start: a cron expression, in a time zone of the IANA database such as `Europe/Berlin`."""

    cron: str
    timezone: str


@dataclass(frozen=True, slots=True)
class Deployment:
    """A deployment as coordinator makes it.

    `parameters` are given to each run. `schema` is the JSON schema of the parameters. With `is_single`, a run that
    comes while another one of this deployment is active is cancelled. With `is_shared`, the form offers all
    repositories, and those of other machines stay. `schedule` is None if none was asked for. `chosen` are the fields
    (`merging.py`) that were asked for now, and replace what a person set in Prefect's UI.
    """

    flow: str
    name: str
    entrypoint: str
    description: str
    parameters: Mapping[str, Any]
    schema: Mapping[str, Any]
    tags: tuple[str, ...] = ()
    is_single: bool = False
    is_shared: bool = False
    schedule: Schedule | None = None
    chosen: frozenset[str] = frozenset()

    @property
    def full_name(self) -> str:
        """Its name in Prefect, such as `run-graph/shop`."""
        return f"{self.flow}/{self.name}"


def name_deployment(repository: str) -> str:
    """Name the deployments of a repository: like it, unless the deployment for all repositories has that name.

    Names of registered repositories contain no space.
    """
    return f"{repository} repository" if repository == ANY_REPOSITORY else repository


def define_graph(
    repository: str, schema: Mapping[str, Any], schedule: Schedule | None = None, max_sessions: int | None = None
) -> Deployment:
    """The deployment that runs one repository, with its parameters filled in; `schema` is that of the flow."""
    options: Mapping[str, Any] = {"repository": repository, "only": [], "max_sessions": max_sessions, "dry_run": False}
    return Deployment(
        GRAPH_FLOW,
        name_deployment(repository),
        "flows.run_graph.run_graph",
        f"Runs the task graph of {repository}: agents work on the tasks that are ready, and what passes verification "
        "as merged lands. If nothing is ready, the run ends at once.",
        {"options": options},
        offer_repositories(schema, [repository]),
        TAGS,
        is_single=True,
        schedule=schedule,
        chosen=frozenset() if max_sessions is None else frozenset({"parameters.options.max_sessions"}),
    )


def define_any_graph(repositories: Sequence[str], schema: Mapping[str, Any]) -> Deployment:
    """The deployment whose form offers all `repositories`.

    It may run several at a time: a run of a repository that is in use ends by itself.
    """
    return Deployment(
        GRAPH_FLOW,
        ANY_REPOSITORY,
        "flows.run_graph.run_graph",
        "Runs the task graph of a repository that you choose from those registered with coordinator.",
        {"options": {**_choose_only(repositories), "only": [], "max_sessions": None, "dry_run": False}},
        offer_repositories(schema, repositories),
        TAGS,
        is_shared=True,
    )


def define_cleanup(repository: str, schema: Mapping[str, Any], schedule: Schedule | None = None) -> Deployment:
    """The deployment that cleans up one repository and audits it."""
    return Deployment(
        CLEANUP_FLOW,
        name_deployment(repository),
        "flows.clean_up.clean_up_repository",
        f"Cleans up after killed runs of {repository}, and audits what runs have landed and left behind. "
        "Work that has not landed is never removed.",
        {"repository": repository},
        offer_repositories(schema, [repository]),
        TAGS,
        is_single=True,
        schedule=schedule,
    )


def define_requests(repositories: Sequence[str], schemas: Mapping[str, Mapping[str, Any]]) -> list[Deployment]:
    """The deployments with which a browser is enough to resolve, message and abort nodes of all `repositories`.

    `schemas` are those of the parameters, by flow. Like the command with the same effect, each acts at once and needs
    no agent.
    """
    return [
        Deployment(
            flow, flow, entrypoint, description, _choose_only(repositories),
            offer_repositories(schemas[flow], repositories), TAGS, is_shared=True,
        )
        for flow, (entrypoint, description) in REQUEST_FLOWS.items()
    ]  # fmt: skip


def offer_also(deployment: Deployment, others: Sequence[str]) -> Deployment:
    """Let the form of a shared deployment offer the repositories `others` too."""
    names = [*list_offered(deployment.schema), *others]
    schema = offer_repositories(deployment.schema, names)
    if "options" not in deployment.parameters:
        return replace(deployment, parameters=_choose_only(names), schema=schema)
    options = {k: v for k, v in deployment.parameters["options"].items() if k != "repository"}
    return replace(deployment, parameters={"options": {**_choose_only(names), **options}}, schema=schema)


def _choose_only(repositories: Sequence[str]) -> dict[str, str]:
    """The repository, if there is one; of several, a person should choose."""
    return {"repository": repositories[0]} if len(repositories) == 1 else {}


def offer_repositories(schema: Mapping[str, Any], repositories: Sequence[str]) -> dict[str, Any]:
    """Restrict each parameter `repository` in `schema` to `repositories`, so that a form shows a choice."""
    offered: dict[str, Any] = copy.deepcopy(dict(schema))
    for properties in _list_properties(offered):
        if "repository" in properties:
            choice: dict[str, Any] = properties["repository"]
            choice.pop("default", None)
            only = _choose_only(repositories)
            choice.update(enum=list(repositories), **({"default": only["repository"]} if only else {}))
    return offered


def list_offered(schema: Mapping[str, Any]) -> list[str]:
    """The repositories to which `offer_repositories` restricted `schema`."""
    found = [p["repository"].get("enum", []) for p in _list_properties(schema) if "repository" in p]
    return [str(name) for names in found for name in names]


def _list_properties(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The properties of the parameters, and those of their models."""
    definitions: Mapping[str, Any] = schema.get("definitions", {})
    return [schema.get("properties", {}), *(model.get("properties", {}) for model in definitions.values())]
