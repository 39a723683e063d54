"""Checks this machine for `coordinator doctor`: Prefect, its server, and the coordinator's data directory."""

import os
import time
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import httpx
from packaging.requirements import Requirement

from flows.cli.commands.doctor_check import Check, fail, ok
from flows.cli.display.progress_table import clock
from flows.data_directory import data_dir
from flows.deployment_version import DISTRIBUTION
from flows.prefect_api import ask
from flows.prefect_server import LOOPBACK
from flows.server_health import hint_at_path
from flows.server_sharing import Child, read_kept, read_running
from flows.server_users import list_users
from tasks_lib.errors import InputError

PINNED = {"prefect": DISTRIBUTION, "fastapi": "prefect"}
"""Each package whose version matters, and the package that says which versions are supported."""


def check_prefect() -> Iterator[Check]:
    """Check that Prefect is installed, and that its version works with the installed web framework."""
    for name, source in PINNED.items():
        try:
            found = metadata.version(name)
            wanted = find_requirement(source, name)
        except metadata.PackageNotFoundError:
            yield fail(name, f"{name} is not installed; reinstall the coordinator")
            return
        if not wanted.specifier.contains(found, prereleases=True):
            needed = f"{name}{wanted.specifier}"
            yield fail(name, f'{name} {found} is not supported; install a supported version: pip install "{needed}"')
            return
    if find_spec("prefect") is None:
        yield fail("prefect", "the package prefect has no module; reinstall the coordinator")
        return
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PINNED)
    yield ok("prefect", f"{versions} are compatible")


def find_requirement(source: str, name: str) -> Requirement:
    """Which versions of the package `name` the installed package `source` supports: any, if it does not say."""
    stated = (Requirement(text) for text in metadata.requires(source) or ())
    return next((one for one in stated if one.name == name and one.marker is None), Requirement(name))


def check_server() -> Check:
    """Check that the server at PREFECT_API_URL answers; without that, a run starts its own server."""
    address = os.environ.get("PREFECT_API_URL", "")
    if not address:
        if child := read_running(data_dir() / "prefect"):
            used = describe_use(data_dir() / "prefect", child)
            return ok("server", f"coordinator's own is at http://{LOOPBACK}:{child.port}, and runs use it; {used}")
        return ok("server", "PREFECT_API_URL is not set; a run starts its own server")
    try:
        with ask(address, 5) as client:
            answer = client.get("/health")
    except (httpx.HTTPError, httpx.InvalidURL, InputError) as error:
        why = str(error) or type(error).__name__
        return fail("server", f"{address} does not answer ({why}); start that server, or unset PREFECT_API_URL")
    if not answer.is_success:
        said = f"{address} answered {answer.status_code}{hint_at_path(address)}"
        return fail("server", f"{said}; set PREFECT_API_URL to the address of a Prefect API")
    return ok("server", f"{address} answers")


def describe_use(home: Path, server: Child) -> str:
    """Say what uses coordinator's own server, or how long it stays."""
    if users := list_users(home):
        return f"now in use by {', '.join(map(str, users))}"
    left = read_kept(home, server) - time.time()
    return f"nothing uses it now, and it ends in {clock(left)}" if left > 0 else "nothing is known to use it now"


def check_data_dir() -> Check:
    """Check that the coordinator's data directory is writable."""
    try:
        place = data_dir()
    except InputError as error:
        return fail("data", str(error))
    if not os.access(place, os.W_OK | os.X_OK):
        return fail("data", f"{place} is not writable; fix that, or set COORDINATOR_DATA_DIR to another directory")
    return ok("data", f"{place} is writable")
