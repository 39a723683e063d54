"""Runs blocking calls in threads, none of which is left alone when its caller is cancelled."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


async def call_to_end(call: Callable[[], T], threads: Executor | None = None) -> T:
    """Run a blocking `call` in a thread, by default one of the event loop's, and wait for its end even if cancelled.

    A thread cannot be cancelled: without this, what it does would happen beside, or after, what its caller does next.
    """
    future = asyncio.get_running_loop().run_in_executor(threads, call)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        while not future.done():
            # Keep waiting even if cancelled again: leaving now would end the git process that the thread waits for.
            with suppress(asyncio.CancelledError):
                await asyncio.wait([future])
        raise
