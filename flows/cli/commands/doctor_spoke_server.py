"""Checks Prefect's server from a machine that runs sessions, for `coordinator doctor --spoke`."""

import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from importlib import metadata
from typing import Any
from urllib.parse import quote

import httpx
from packaging.version import InvalidVersion, Version

from flows.cli.commands.doctor_check import Check, fail, ok, warn
from flows.cli.commands.spoke_names import NO_SERVER
from flows.data_directory import data_dir, name_program
from flows.deployment_version import is_other_release, own_release
from flows.prefect_api import ask, require_accepted_login
from flows.prefect_server import find_api
from flows.spokes.worker_lock import is_worker_running
from tasks_lib.errors import InputError

REQUEST_SECONDS = 10.0
CLOCK_WARN_SECONDS = 5.0
CLOCK_FAIL_SECONDS = 60.0
"""A worker that is this far behind is offered a session so late that its run gives it up."""


def check_server(pool: str, name: str) -> Iterator[Check]:
    """Check that the server answers, its version and clock, and that sessions for `name` in `pool` would start."""
    api = find_api().get("PREFECT_API_URL", "")
    if not api:
        yield fail("server", NO_SERVER)
        return
    try:
        with ask(api, REQUEST_SECONDS) as client:
            yield from _check_answers(client, api, pool, name)
    except (httpx.HTTPError, httpx.InvalidURL, InputError) as error:
        why = str(error) or type(error).__name__
        how = "start it, and the tunnel to it if there is one; PREFECT_API_URL says where it is"
        yield fail("server", f"{api} does not answer ({why}); {how}")
    except (ValueError, KeyError, TypeError) as error:
        yield fail("server", f"{api} does not answer as Prefect does ({error}); set PREFECT_API_URL to a Prefect API")


def _check_answers(client: httpx.Client, api: str, pool: str, name: str) -> Iterator[Check]:
    before = time.time()
    answer = client.get("/admin/version")
    middle = (before + time.time()) / 2
    try:
        require_accepted_login(api, answer.status_code)
    except InputError as error:
        yield fail("server", str(error))
        return
    if not answer.is_success:
        yield fail("server", f"{api} answered {answer.status_code}; set PREFECT_API_URL to a Prefect API")
        return
    yield judge_version(api, str(answer.json()), metadata.version("prefect"))
    yield judge_clock(answer.headers.get("date", ""), middle)
    yield from _check_releases(client)
    yield from _check_pool(client, pool, name)


def judge_version(api: str, theirs: str, own: str) -> Check:
    """Compare the versions of Prefect on the server and here."""
    text = f"{api} answers, with Prefect {theirs}"
    try:
        there, here = Version(theirs), Version(own)
    except InvalidVersion:
        return fail("server", f"{text}, which is not a version; set PREFECT_API_URL to a Prefect API")
    if there.major != here.major:
        return fail("server", f"{text}, which Prefect {own} here cannot use; install the same release on both")
    if there < here:
        return warn("server", f"{text}, which is older than {own} here; install the same release on both")
    return ok("server", text)


def judge_clock(said: str, now: float) -> Check:
    """Compare the server's time in the header `said` with ours, `now` in seconds since the epoch."""
    try:
        # The header has whole seconds.
        difference = now - parsedate_to_datetime(said).timestamp() - 0.5
    except (ValueError, TypeError):
        return warn("clock", "the server does not say its time, so the clocks were not compared")
    size = abs(difference)
    if size < CLOCK_WARN_SECONDS:
        return ok("clock", "the same as the server's")
    way = "ahead of" if difference > 0 else "behind"
    text = f"this machine is {size:.0f} seconds {way} the Prefect server; set the clocks of both, for example with NTP"
    if size < CLOCK_FAIL_SECONDS:
        return warn("clock", text)
    return fail("clock", f"{text}. Sessions would start late or not at all, and commits would have wrong times")


def _check_releases(client: httpx.Client) -> Iterator[Check]:
    """Compare our release with those that made coordinator's deployments on the server."""
    body = {"deployments": {"tags": {"all_": ["coordinator"]}}, "limit": 200}
    found: list[dict[str, Any]] = client.post("/deployments/filter", json=body).raise_for_status().json()
    others = sorted({str(one["version"]) for one in found if is_other_release(one.get("version"))})
    if others:
        what = (
            f"deployments on this server are of coordinator {', '.join(others)}, and this machine has {own_release()}"
        )
        yield warn("release", f"{what}; sessions of runs with another release are refused: update the older machine")


def _check_pool(client: httpx.Client, pool: str, name: str) -> Iterator[Check]:
    place = f"/work_pools/{quote(pool, safe='')}"
    made = f"`{name_program()} spoke start` makes it"
    answer = client.get(place)
    if answer.status_code == HTTPStatus.NOT_FOUND:
        yield warn("pool", f'the work pool "{pool}" does not exist yet; {made}')
        return
    found = answer.raise_for_status().json()
    if found["type"] != "process":
        yield fail("pool", f'the work pool "{pool}" is of type {found["type"]}; choose one of type process')
        return
    if found["is_paused"]:
        yield fail("pool", f'the work pool "{pool}" is paused; resume it: prefect work-pool resume {pool}')
    else:
        yield ok("pool", f'the work pool "{pool}" exists')
    answer = client.get(f"{place}/queues/{quote(name, safe='')}")
    if answer.status_code == HTTPStatus.NOT_FOUND:
        yield warn("queue", f'the work queue "{name}" does not exist yet; {made}')
    elif answer.raise_for_status().json()["is_paused"]:
        how = f"prefect work-queue resume {name} --pool {pool}"
        yield fail("queue", f'the work queue "{name}" is paused, so sessions for this machine wait; resume it: {how}')
    else:
        yield ok("queue", f'the work queue "{name}" exists')
    yield _check_worker(client.post(f"{place}/workers/filter", json={}).raise_for_status().json(), name)


def _check_worker(workers: list[dict[str, Any]], name: str) -> Check:
    is_online = any(one["name"] == name and one["status"] == "ONLINE" for one in workers)
    match is_worker_running(data_dir()), is_online:
        case True, True:
            return ok("worker", f"{name} is online")
        case True, False:
            return warn("worker", f"one runs here, but not as {name} of this work pool; give its --name and --pool")
        case False, True:
            what = f"another machine is online as {name}, or was until a minute ago"
            return warn("worker", f"{what}; give each machine its own name with `{name_program()} spoke start --name`")
        case _:
            return ok("worker", f"none runs here; start it with `{name_program()} spoke start`")
