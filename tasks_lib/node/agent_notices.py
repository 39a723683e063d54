"""Says aloud what agents report from their worktrees, once each, soon after they report it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from tasks_lib.git.session_record import measure_notices, read_notices
from tasks_lib.model import NoticeLevel
from tasks_lib.node.attempt_context import AttemptContext
from tasks_lib.text import cut, fold

LOOK_SECONDS = 1.0
"""How often the notices of a session at work are looked at; nothing is read unless their file has grown."""
MAX_TOLD = 50
"""How many notices of one attempt are said; an agent that reports in a loop must not drown everything else."""
MAX_CHARS = 500


@asynccontextmanager
async def relaying_notices(context: AttemptContext) -> AsyncGenerator[None]:
    """Say the notices of the node's agent while the block runs, and those that are left when it ends by itself."""
    listening = asyncio.create_task(_listen(context))
    try:
        yield
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
    await report_new_notices(context)


async def _listen(context: AttemptContext) -> None:
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        await report_new_notices(context)


async def report_new_notices(context: AttemptContext) -> None:
    """Say what was reported since the last look; what blocks is the turn's ending and is said as that."""
    git_dir, seen = context.worktree.git_dir, context.notices_bytes
    size = await context.run.git.call(measure_notices, git_dir)
    if size == seen:
        return
    # A file that became shorter is another one, and is read whole.
    notices = await context.run.git.call(read_notices, git_dir, seen if size > seen else 0)
    first = context.notices_told
    context.notices_told, context.notices_bytes = first + len(notices), size
    for number, notice in enumerate(notices, first + 1):
        if number <= MAX_TOLD and notice.level is not NoticeLevel.BLOCKING:
            context.run.board.say(f"{context.task.id}: notice ({notice.level}): {cut(fold(notice.text), MAX_CHARS)}")
        elif number == MAX_TOLD + 1:
            context.run.board.say(
                f"{context.task.id}: {MAX_TOLD} notices were shown; further notices of this attempt are not."
            )


async def skip_notices(context: AttemptContext) -> None:
    """Take what is there as said, by the run that the node is taken up from."""
    context.notices_bytes = measure_notices(context.worktree.git_dir)
    if context.notices_bytes:
        context.notices_told = len(await context.run.git.call(read_notices, context.worktree.git_dir))
