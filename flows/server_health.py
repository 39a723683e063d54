"""Finds out whether a Prefect server answers, and says why not."""

import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import httpx

from flows.prefect_api import ask, require_accepted_login
from tasks_lib.errors import StartError
from tasks_lib.process.http_clients import make_client

START_SECONDS = 180
LOG_TAIL_LINES = 15
LOGIN_SECONDS = 30.0


class ServerError(StartError):
    """Prefect's server does not answer; if it is coordinator's own, the message contains the end of its log."""


def hint_at_path(api: str) -> str:
    """What to say of an address that does not look like that of Prefect's API; "" if it does."""
    is_usual = api.rstrip("/").endswith("/api") or "/accounts/" in api
    return "" if is_usual else f"; did you mean {api.rstrip('/')}/api"


def wait_until_healthy(api: str, child: "subprocess.Popen[bytes] | None", log: Path | None) -> None:
    """Wait until the server at `api` answers; raises ServerError if it exits, or does not answer in time."""
    deadline = time.monotonic() + (START_SECONDS if child else 10)
    why = ""
    # One client for all requests: each new one would load all certificates of the system.
    with ask(api, 5) if api == os.environ.get("PREFECT_API_URL") else make_client(api, 5) as client:
        while time.monotonic() < deadline:
            if child and child.poll() is not None:
                why = f"it exited with {child.returncode}"
                break
            try:
                answer = client.get("/health")
                if answer.is_success:
                    return
                why = f"it answered {answer.status_code}{hint_at_path(api)}"
                if not child and answer.is_client_error:
                    break  # A server that is still starting does not answer like this.
            except httpx.HTTPError as error:
                why = str(error) or type(error).__name__
            time.sleep(0.1)
    raise ServerError(f"no Prefect server at {api}: {why}.{read_tail(log)}")


def require_login(api: str) -> None:
    """Raise InputError if the user's server rejects our login; the health check does not need one."""
    with ask(api, LOGIN_SECONDS) as client, suppress(httpx.HTTPError):
        require_accepted_login(api, client.get("/admin/version").status_code)


def read_tail(log: Path | None) -> str:
    if log is None:
        return " Start it, or unset PREFECT_API_URL to let coordinator start its own."
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:]
    return "\n".join([f" Its log, {log}, ends with:", *lines])
