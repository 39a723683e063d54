"""Shows at intervals how much a running session has changed so far."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from tasks_lib.errors import GitError
from tasks_lib.git.commits.branch_state import read_shortstat
from tasks_lib.node.attempt_context import AttemptContext

UPDATE_SECONDS = 10.0
"""How often git is asked, and only if the session has been active since the last time.

While the radar looks for conflicts, it knows the changes already.
"""


@asynccontextmanager
async def updating_diffstat(context: AttemptContext) -> AsyncGenerator[None]:
    """Keep the node's `diffstat` on the board up to date while the block runs."""
    updating = asyncio.create_task(_update(context))
    try:
        yield
    finally:
        updating.cancel()
        await asyncio.gather(updating, return_exceptions=True)


async def _update(context: AttemptContext) -> None:
    seen = context.view.active_at
    while True:
        await asyncio.sleep(UPDATE_SECONDS)
        is_known = context.merge_queue.radar.is_looking or context.view.machine  # Another machine tells it by itself.
        if context.view.active_at != seen and not is_known:
            seen = context.view.active_at
            await show_changes(context)


async def show_changes(context: AttemptContext) -> None:
    """Show on the board what the worktree changes compared with the commit that the branch began at."""
    try:
        found = await context.run.git.call(read_shortstat, context.worktree.git, context.record.attempt.base)
    except GitError:
        return  # The agent may have broken its worktree; `judge_turn` reports that.
    context.run.board.show(context.task.id, diffstat=found)
