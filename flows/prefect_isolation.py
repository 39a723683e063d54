"""Decides what Prefect in this process can take from where it is started: nothing that a repository or a shell holds.

Prefect reads `.env`, `prefect.toml` and `pyproject.toml` of the current directory, a profile below the home directory,
and every `PREFECT_*` variable. A repository that is a Prefect project has them for itself. So code that lets Prefect
work in this process enters `isolated` first, before Prefect is imported.
"""

import os
import sys
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path

from coordinator_start import clean, is_own
from flows.data_directory import data_dir, own_directory
from tasks_lib.process.http_clients import PROXIES, bypass_loopback, is_loopback
from tasks_lib.process.user_environment import replaced_environment

STEERING = ("PREFECT_*", "OTEL_*", "LOGFIRE_*", "UVICORN_*", "WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS")
"""Variables of Prefect, and of what it is made of."""
OUTSIDE = (*(name.upper() for name in PROXIES), "SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")
"""What is for servers on other machines: to reach one of our own it can only do harm."""
THEIRS = (
    "PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING", "PREFECT_API_TLS_INSECURE_SKIP_VERIFY",
    "PREFECT_API_SSL_CERT_FILE", "PREFECT_API_REQUEST_TIMEOUT", "PREFECT_API_ENABLE_HTTP2", "PREFECT_UI_URL",
    "PREFECT_CLIENT_*", "PREFECT_CLOUD_*",
)  # fmt: skip
"""How a server of the person's is reached, where PREFECT_API_URL names one."""
PLACES = (
    "COORDINATOR_DATA_DIR", "XDG_DATA_HOME", "SSL_CERT_FILE", "SSL_CERT_DIR", "PREFECT_API_SSL_CERT_FILE",
    "OPENCODE_CONFIG", "OPENCODE_CONFIG_DIR",
)  # fmt: skip
"""Variables that name a place, which a relative path would no longer mean elsewhere."""


def external_server_settings() -> dict[str, str]:
    """What Prefect is told so that it reaches the server that PREFECT_API_URL names, and reads no profile."""
    told = {name: value for name, value in os.environ.items() if any(fnmatchcase(name, one) for one in THEIRS)}
    return {**told, "PREFECT_HOME": str(data_dir() / "prefect")}


@contextmanager
def isolated(settings: Mapping[str, str]) -> Generator[None]:
    """Prefect may be imported and used in this block: it has `settings`, and works in a directory of coordinator's.

    `settings` are the only `PREFECT_*` variables. What programs of the person's get is as before: they are given
    `user_environment()`. Call this once relative paths of the command line are resolved.
    """
    tempfile.gettempdir()  # It is remembered; a relative TMPDIR would mean another directory later.
    places = {name: str(Path(os.environ[name]).absolute()) for name in PLACES if os.environ.get(name)}
    api = settings.get("PREFECT_API_URL", "")
    steering = (*STEERING, *(OUTSIDE if not api or is_loopback(api) else ()))
    given = {**places, **settings}
    sys.argv[0] = os.path.abspath(sys.argv[0])  # noqa: PTH100 - It stays a link, where it is one.

    def is_steering(name: str) -> bool:
        return any(fnmatchcase(name.upper(), one) for one in steering)

    sys.path[:] = clean(sys.path)
    kept = {name: value for name, value in given.items() if name not in OUTSIDE or not is_steering(name)}
    with replaced_environment(is_steering, kept), in_own_directory():
        if not is_loopback(api):
            os.environ.update(bypass_loopback(os.environ))
        yield


@contextmanager
def in_own_directory() -> Generator[None]:
    """Be in a directory of coordinator's own for as long as the block runs."""
    before = _find_here()
    os.chdir(own_directory())
    try:
        yield
    finally:
        if before:
            with suppress(OSError):
                os.chdir(before)


def remove_from_import_path(top: Path) -> None:
    """Take what lies in the repository at `top` off the import path, as a worker may have put it there.

    What this very coordinator, or its virtual environment, needs stays: it may be the repository that is worked.
    """
    inside = [entry for entry in sys.path if Path(entry).resolve().is_relative_to(top.resolve())]
    sys.path[:] = [entry for entry in clean(sys.path) if entry not in inside or is_own(entry)]


def _find_here() -> Path | None:
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None
