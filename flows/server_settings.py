"""The settings with which coordinator runs Prefect's server, and with which Prefect's client reaches it."""

import os
from importlib.util import find_spec
from pathlib import Path

from flows.loopback import LOOPBACK

DATABASE_URL = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
"""The setting for a database other than the file in the server's home."""
KEPT_RUN_SECONDS = 90 * 24 * 3600
"""How long Prefect keeps its record of a run; landed work is in git."""


def server_settings(home: Path, port: int) -> dict[str, str]:
    """Settings of both server and client. Without the server's address, its UI would call another port."""
    return {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://{LOOPBACK}:{port}/api",
        "PREFECT_SERVER_API_HOST": LOOPBACK,
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # Both are of one installation. The answer to this question would be the last of all routes that the server
        # prepares, each when it is first looked through: half a second before the first agent.
        "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        # By default each task run change is a separate transaction, which is most of the server's work.
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
        # This looks through all runs that were cancelled within a day. Our runs record their nodes themselves, some
        # seconds later; every 20 seconds, the default, it was often faster, and called them Cancelled.
        "PREFECT_SERVER_SERVICES_CANCELLATION_CLEANUP_LOOP_SECONDS": "600",
        # A run of a thousand nodes takes about 50 MB; without this the database would keep every run forever.
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(KEPT_RUN_SECONDS),
        "DO_NOT_TRACK": "1",
    }


def quiet_settings() -> dict[str, str]:
    """Settings that keep Prefect's log off the console, where it would break the progress display.

    They also limit retries: Prefect's client would retry for minutes if the server is gone.
    """
    return {
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "PREFECT_CLIENT_MAX_RETRIES": "3",
        "PREFECT_API_REQUEST_TIMEOUT": "30",
    }


def find_ui_settings(home: Path, package: Path) -> dict[str, str]:
    """The setting by which the server prepares its UI in `home`, if it cannot in its own `package`.

    That is so if root has installed it, and another user runs it; the server would have no UI.
    """
    return {} if os.access(package, os.W_OK) else {"PREFECT_SERVER_UI_STATIC_DIRECTORY": str(home / "ui")}


def find_package() -> Path:
    """The directory of Prefect's server, found without importing Prefect."""
    found = find_spec("prefect")
    return Path(found.origin).parent / "server" if found and found.origin else Path()
