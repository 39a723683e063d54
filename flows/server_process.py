"""Runs Prefect's server in this process, as `prefect server start` does, but so that SQLite refuses nothing as locked.

    python -m flows.server_process --port 4200

In SQLite, a transaction that reads and then writes is refused at once if another one has written in between. Prefect
begins most of them like that, and answers such a request with 503, which its UI shows as "Something went wrong": beside
six busy clients nine clicks of ten. Here each transaction that may write begins as a writer, and so waits
its turn. Starting the server without Prefect's command line also saves two seconds.
"""

import argparse
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import uvicorn
from prefect.server.api.server import create_app
from prefect.server.database.configurations import AioSqliteConfiguration
from prefect.server.database.dependencies import MODELS_DEPENDENCIES
from prefect.server.utilities.database import get_dialect
from prefect.settings import get_current_settings
from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction


class QueuedSqlite(AioSqliteConfiguration):
    """An SQLite database whose transactions wait for one another."""

    @asynccontextmanager
    async def begin_transaction(
        self,
        session: AsyncSession,
        with_for_update: bool = False,
    ) -> AsyncGenerator[AsyncSessionTransaction]:
        """Begin a transaction as a writer, whatever Prefect asks for."""
        async with super().begin_transaction(session, with_for_update=True) as transaction:
            yield transaction


def run(host: str, port: int) -> None:
    """Serve API and UI until a signal, with the database and the options that Prefect's settings say."""
    settings = get_current_settings().server
    url = settings.database.connection_url
    if url and get_dialect(url.get_secret_value()).name == "sqlite":
        MODELS_DEPENDENCIES["database_config"] = QueuedSqlite(url.get_secret_value())
    uvicorn.run(
        create_app(final=True),
        host=host,
        port=port,
        timeout_keep_alive=settings.api.keepalive_timeout,
        log_level=settings.logging_level.lower(),
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="server_process", description="Run Prefect's server.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    run(options.host, options.port)


if __name__ == "__main__":
    main()
