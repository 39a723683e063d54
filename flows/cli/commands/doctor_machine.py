"""Checks this machine for `coordinator doctor`: Prefect, its server, and where the coordinator keeps its data."""

import os
from collections.abc import Iterator
from importlib import import_module, metadata

import httpx
from packaging.requirements import Requirement

from flows.cli.commands.doctor_check import Check, fail, ok
from flows.data_directory import data_dir
from flows.prefect_api import ask
from flows.prefect_isolation import isolated
from tasks_lib.errors import SystemFailure

DISTRIBUTION = "coordinator"
PINNED = ("prefect", "fastapi")


def check_prefect() -> Iterator[Check]:
    """Prefect can be imported, and is of a version that was tried together with its web framework."""
    wanted = {one.name: one for one in map(Requirement, metadata.requires(DISTRIBUTION) or ())}
    for name in PINNED:
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield fail(name, f"{name} is not installed; install the coordinator again")
            return
        if not wanted[name].specifier.contains(found, prereleases=True):
            needed = f"{name}{wanted[name].specifier}"
            yield fail(name, f'{name} {found} does not work here; install it with: pip install "{needed}"')
            return
    try:
        # It reads settings while it is imported; coordinator's are beside the server's data.
        with isolated({"PREFECT_HOME": str(data_dir() / "prefect")}):
            import_module("prefect")
    except Exception as error:
        yield fail("prefect", f"prefect cannot be imported ({error}); install the coordinator again")
        return
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PINNED)
    yield ok("prefect", f"{versions} work together")


def check_server() -> Check:
    """The server that PREFECT_API_URL names answers; where none is named, a run starts one of its own."""
    address = os.environ.get("PREFECT_API_URL", "")
    if not address:
        return ok("server", "PREFECT_API_URL is not set; a run starts a server of its own")
    try:
        with ask(address, 5) as client:
            answer = client.get("/health")
    except (httpx.HTTPError, httpx.InvalidURL, SystemFailure) as error:
        why = str(error) or type(error).__name__
        return fail("server", f"{address} does not answer ({why}); start that server, or unset PREFECT_API_URL")
    if not answer.is_success:
        return fail("server", f"{address} answers {answer.status_code}; it should be the address of a Prefect API")
    return ok("server", f"{address} answers")


def check_data_dir() -> Check:
    """The coordinator's own directory can be written."""
    try:
        place = data_dir()
    except OSError as error:
        return fail("data", f"the data directory cannot be made ({error}); set COORDINATOR_DATA_DIR to another")
    if not os.access(place, os.W_OK | os.X_OK):
        return fail("data", f"{place} cannot be written; make it writable, or set COORDINATOR_DATA_DIR to another")
    return ok("data", f"{place} can be written")
