"""Runs Prefect's server in this process, as `prefect server start` does, but sooner and with a `QueuedSqlite`.

    python -m flows.server_process --port 4200

It skips Prefect's command line and, while it imports, garbage collection, which saves seconds at each start.
"""

import argparse
import gc
import os
from pathlib import Path
from typing import Any

from flows.importing import importing
from flows.unused_server import watch

NICE = 5
"""Gives agents priority over the server: on a busy machine the UI may lag, but not the run. Only its start is not nice,
as a run waits for it."""
RECORD_SECONDS = 0.2
"""How often the server stores what became of task runs. The end of a run waits for it, and Prefect's own setting takes
only whole seconds."""


def run(host: str, port: int, home: Path | None) -> None:
    """Serve API and UI until a signal, with the database and the options that Prefect's settings say.

    With `home`, the server is shared there, and ends too when nobody has used it for long enough.
    """
    with importing():
        import uvicorn
        from prefect.server.api import server as prefect_server
        from prefect.server.database.dependencies import MODELS_DEPENDENCIES
        from prefect.server.utilities.database import get_dialect
        from prefect.settings import get_current_settings

        from flows.queued_sqlite import QueuedSqlite

        settings = get_current_settings().server
        url = settings.database.connection_url
        if url and get_dialect(url.get_secret_value()).name == "sqlite":
            MODELS_DEPENDENCIES["database_config"] = QueuedSqlite(url.get_secret_value())
        record_often()
        gc.freeze()  # `create_app` collects garbage once, whether or not collection is disabled.
        app = prefect_server.create_app(final=True)
    # Prefect's services ask for the running application with each client that they make. It would be found by a hash of
    # all settings, and logging would be set up anew, which took 0.4 s of each start.
    prefect_server.create_app = lambda: app
    os.nice(NICE)
    if home:
        watch(home, port)
    uvicorn.run(
        app,
        host=host,
        port=port,
        timeout_keep_alive=settings.api.keepalive_timeout,
        log_level=settings.logging_level.lower(),
    )


def record_often() -> None:
    """Let Prefect's recorder store task runs each `RECORD_SECONDS`."""
    from prefect.server.services import task_run_recorder

    consumer: Any = task_run_recorder.consumer

    def consume(**options: object) -> object:
        return consumer(**{**options, "flush_every": RECORD_SECONDS})

    setattr(task_run_recorder, "consumer", consume)  # noqa: B010 - Its type is another.


def main() -> None:
    parser = argparse.ArgumentParser(prog="server_process", description="Run Prefect's server.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--home", type=Path, help="where coordinators share the server")
    options = parser.parse_args()
    run(options.host, options.port, options.home)


if __name__ == "__main__":
    main()
