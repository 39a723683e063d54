"""Prefect's SQLite database, but so that it refuses nothing as locked.

In SQLite, a transaction that reads and then writes is refused at once if another one has written in between. Prefect
begins most of them like that, and answers such a request with 503, which its UI shows as "Something went wrong": beside
six busy clients nine clicks of ten. Here each transaction that may write begins as a writer, and so waits
its turn.

Prefect also reads in a second session while a transaction is open, for instance when a work queue is paused. That one
takes over how transactions begin, and as a writer it would wait for the first one, which waits for it. So the first one
begins at once, and others inside it as readers.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from prefect.server.database.configurations import SQLITE_BEGIN_MODE, AioSqliteConfiguration
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
            await session.connection()
            token = SQLITE_BEGIN_MODE.set("DEFERRED")
            try:
                yield transaction
            finally:
                SQLITE_BEGIN_MODE.reset(token)
