"""Puts away what a dead run left outside of its nodes' worktrees: processes, private directories, files, old states."""

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path

from tasks_lib.git.kept.restore_and_prune import find_old, forget
from tasks_lib.git.repository import Repository
from tasks_lib.git.repository_lock import Holder
from tasks_lib.git.session_record import read_record
from tasks_lib.git.worktree_admin import list_entries
from tasks_lib.git.worktrees.deletion import delete
from tasks_lib.git.worktrees.relinking import Relocation
from tasks_lib.git.worktrees.stale_files import find_old_logs, is_old
from tasks_lib.graph.task_graph import Graph
from tasks_lib.naming import flatten
from tasks_lib.process.files import find_unfinished
from tasks_lib.process.marked_processes import end_marked
from tasks_lib.process.private_directories import BRIEF, find_dead, name_owner
from tasks_lib.process.process_groups import GroupId, end_group
from tasks_lib.project.child_environment import REPOSITORY_MARKER
from tasks_lib.settings.schema import Settings

WRITING_SECONDS = 60.0
"""Nobody writes a file of the data directory, which all coordinators share, this long."""
DAY_SECONDS = 86_400.0


def describe_takeover(left: Holder, host: str) -> str:
    """What is said when the lock of one who died is taken over on `host`."""
    if left.host and left.host != host:
        return (
            f"The lock was left by {left}, and this is {host}. If that one is alive, its lock cannot be seen from "
            "here, as on some network file systems: end one of the two."
        )
    return f"Goes on after {left}, which ended without a word."


async def end_processes(repository: Repository, stop_seconds: float, relocation: Relocation | None = None) -> int:
    """End what an earlier run left running: what carries its mark, and the groups that its records name.

    TERM, then KILL after `stop_seconds`. `relocation` is how the repository was moved since; call it when records have
    followed. What the original of a copy has running is never meant. Returns how many marked processes and groups there
    were. Raises AgentError for what cannot be ended.
    """
    count = await end_marked(REPOSITORY_MARKER, str(repository.common_dir), stop_seconds)
    if relocation:
        # What had the old path as its mark works where the repository is now, or that path is nobody else's by now.
        is_free = not relocation.is_copy and _is_free(relocation.former, repository)
        inside = None if is_free else repository.top
        count += await end_marked(REPOSITORY_MARKER, str(relocation.former), stop_seconds, inside=inside)
    for entry in await asyncio.to_thread(lambda: list(list_entries(repository))):
        record = read_record(entry.admin)
        if record and _has_group(record.pid):
            group = GroupId(record.pid, record.pid_started)
            count += await end_group(group, stop_seconds, session=record.session)
    return count


def _is_free(former: Path, repository: Repository) -> bool:
    return not former.exists() or former.samefile(repository.common_dir)


def _has_group(pid: int) -> bool:
    """Whether there is a process group of that number at all, ours or another's; a scan of all processes is dear."""
    try:
        os.killpg(pid, 0) if pid > 1 else None
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid > 1


def find_private(repository: Repository, relocation: Relocation | None = None) -> list[Path]:
    """The directories outside of the repository that dead runs of it left, by the name that each of them carries."""
    owners = {name_owner(repository.common_dir)}
    if relocation and not relocation.is_copy:
        owners.add(name_owner(repository.common_dir, relocation.former))
    return sorted({path for owner in owners for path in find_dead(owner)})


def find_unattributed(data: Path | None) -> list[Path]:
    """What dead coordinators left where all repositories share a place; whose it was cannot be told.

    Anyone may delete it, and none may be blamed for it. `data` is the data directory.
    """
    shared = (data, data / "prefect") if data else ()
    unfinished = [path for place in shared for path in find_unfinished(place) if is_old(path, WRITING_SECONDS)]
    return [*find_dead(BRIEF), *unfinished]


def sweep(
    repository: Repository,
    graph: Graph,
    settings: Settings,
    data: Path | None,
    relocation: Relocation | None = None,
) -> list[str]:
    """Delete what nobody needs any more; say what, in a line each. Call holding the run's lock."""
    private = [*find_private(repository, relocation), *find_unattributed(data)]
    lines = [f"{path}: deleted; a run that is dead had made it" for path in private if delete(path)]
    open_nodes = {flatten(task.id) for task in graph.tasks.values() if not task.is_completed}
    if days := settings.kept_days:
        for log in find_old_logs(repository, open_nodes, days * DAY_SECONDS):
            log.unlink(missing_ok=True)
        forgotten = [one for one in find_old(repository, days, datetime.now(UTC)) if forget(repository, one)]
        if forgotten:
            lines.append(f"Forgot {len(forgotten)} states that were kept more than {days} days ago.")
    return lines
