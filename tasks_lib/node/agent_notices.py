"""Shows the notices that agents write in their worktrees on the board, once each, within about a second."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from tasks_lib.git.session_record import measure_notices, read_notices
from tasks_lib.model import NoticeLevel
from tasks_lib.node.attempt_context import AttemptContext
from tasks_lib.text import cut, fold

LOOK_SECONDS = 1.0
"""How often the notices file of a running session is checked; it is read only if its size has changed."""
MAX_SHOWN = 50
"""How many notices of one attempt are shown, so that an agent that reports in a loop does not drown everything else."""
MAX_CHARS = 500


@asynccontextmanager
async def relaying_notices(context: AttemptContext) -> AsyncGenerator[None]:
    """Show the notices of the node's agent while the block runs, and the rest if it ends without an error."""
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
    """Show the notices added since the last call, except blocking ones, which are reported as the end of the turn."""
    git_dir, seen = context.worktree.git_dir, context.reports.notices_bytes
    size = await context.run.git.call(measure_notices, git_dir)
    if size == seen:
        return
    # A file that has become shorter was replaced, so it is read from its beginning.
    notices = await context.run.git.call(read_notices, git_dir, seen if size > seen else 0)
    first = context.reports.notices_shown
    context.reports.notices_shown, context.reports.notices_bytes = first + len(notices), size
    for number, notice in enumerate(notices, first + 1):
        if number <= MAX_SHOWN and notice.level is not NoticeLevel.BLOCKING:
            context.run.board.say(f"{context.task.id}: notice ({notice.level}): {cut(fold(notice.text), MAX_CHARS)}")
        elif number == MAX_SHOWN + 1:
            context.run.board.say(
                f"{context.task.id}: {MAX_SHOWN} notices were shown; further notices of this attempt are not."
            )


async def skip_notices(context: AttemptContext) -> None:
    """Treat the existing notices as shown: the earlier run that this attempt resumes has shown them."""
    context.reports.notices_bytes = measure_notices(context.worktree.git_dir)
    if context.reports.notices_bytes:
        context.reports.notices_shown = len(await context.run.git.call(read_notices, context.worktree.git_dir))
