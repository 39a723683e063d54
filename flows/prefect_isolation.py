"""Isolates Prefect in this process from the settings of the repository and the user's shell.

Prefect reads `.env`, `prefect.toml` and `pyproject.toml` in the current directory, a profile in the home directory, and
every `PREFECT_*` variable. A repository that is a Prefect project has these for its own use. So code that uses Prefect
in this process enters `isolated` before importing it.
"""

import os
import sys
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path

from coordinator_start import clean, is_own
from flows.data_directory import CACHE_VARIABLE, DATA_VARIABLE, data_dir, own_directory
from tasks_lib.process.http_clients import PROXIES, bypass_loopback, is_loopback
from tasks_lib.process.user_environment import replaced_environment

STEERING = ("PREFECT_*", "OTEL_*", "LOGFIRE_*", "UVICORN_*", "WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS")
"""Variables that configure Prefect and its libraries."""
OUTSIDE = (*(name.upper() for name in PROXIES), "SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")
"""Variables for servers on other machines; they can only break connections to a local one."""
THEIRS = (
    "PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING", "PREFECT_API_TLS_INSECURE_SKIP_VERIFY",
    "PREFECT_API_SSL_CERT_FILE", "PREFECT_API_REQUEST_TIMEOUT", "PREFECT_API_ENABLE_HTTP2", "PREFECT_UI_URL",
    "PREFECT_CLIENT_*", "PREFECT_CLOUD_*",
)  # fmt: skip
"""Variables for reaching the user's own server, if PREFECT_API_URL is set."""
PLACES = (
    "COORDINATOR_DATA_DIR", "COORDINATOR_CACHE_DIR", "XDG_DATA_HOME", "XDG_CACHE_HOME",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "PREFECT_API_SSL_CERT_FILE",
    "OPENCODE_CONFIG", "OPENCODE_CONFIG_DIR",
)  # fmt: skip
"""Variables with paths, which are made absolute because the working directory changes."""


def external_server_settings() -> dict[str, str]:
    """Settings with which Prefect reaches the server at PREFECT_API_URL, and reads no profile."""
    told = {name: value for name, value in os.environ.items() if any(fnmatchcase(name, one) for one in THEIRS)}
    return {**told, "PREFECT_HOME": str(data_dir() / "prefect")}


def absolute_places() -> dict[str, str]:
    """The variables with paths, made absolute, for this process or one that starts in another directory."""
    return {name: _make_absolute(name, os.environ[name]) for name in PLACES if os.environ.get(name)}


def _make_absolute(name: str, path: str) -> str:
    # A `~` in quotes, which the shell leaves there, means the home only in our own variables.
    if name in (DATA_VARIABLE, CACHE_VARIABLE) and path.startswith("~"):
        with suppress(RuntimeError):  # What uses the directory explains an unknown home.
            path = str(Path(path).expanduser())
        return path
    return str(Path(path).absolute())


@contextmanager
def isolated(settings: Mapping[str, str]) -> Generator[None]:
    """Allow Prefect to be imported and used in the block, with `settings` and in coordinator's own directory.

    `settings` are the only `PREFECT_*` variables. The user's programs are not affected: they get `user_environment()`.
    Call this after resolving relative paths from the command line.
    """
    tempfile.gettempdir()  # Cache it now; a relative TMPDIR would mean another directory later.
    places = absolute_places()
    api = settings.get("PREFECT_API_URL", "")
    steering = (*STEERING, *(OUTSIDE if not api or is_loopback(api) else ()))
    # Prefect's telemetry stays off, unless the user set this otherwise.
    given = {"DO_NOT_TRACK": os.environ.get("DO_NOT_TRACK") or "1", **places, **settings}
    sys.argv[0] = os.path.abspath(sys.argv[0])  # noqa: PTH100 - Keeps a symbolic link.

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
    """Change to coordinator's own directory while the block runs."""
    before = _find_here()
    os.chdir(own_directory())
    try:
        yield
    finally:
        if before:
            with suppress(OSError):
                os.chdir(before)


def remove_from_import_path(top: Path) -> None:
    """Remove entries inside the repository at `top` from the import path, where a worker may have put them.

    Entries that this coordinator or its virtual environment needs stay, as the repository may be its own.
    """
    inside = [entry for entry in sys.path if Path(entry).resolve().is_relative_to(top.resolve())]
    sys.path[:] = [entry for entry in clean(sys.path) if entry not in inside or is_own(entry)]


def _find_here() -> Path | None:
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None
