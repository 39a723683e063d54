"""Finds what a dead run left outside its nodes' worktrees, and ends its processes."""

import asyncio
import os
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from tasks_lib.git.kept.restore_and_prune import find_old
from tasks_lib.git.kept.snapshots import Kept
from tasks_lib.git.repository import Repository
from tasks_lib.git.repository_lock import Holder
from tasks_lib.git.session_record import read_record
from tasks_lib.git.worktree_admin import list_entries
from tasks_lib.git.worktrees.relinking import Relocation
from tasks_lib.git.worktrees.stale_files import find_old_logs, is_old
from tasks_lib.graph.task_graph import Graph
from tasks_lib.naming import flatten
from tasks_lib.process.files import find_unfinished
from tasks_lib.process.marked_processes import end_marked, find_marked, find_marked_inside
from tasks_lib.process.private_directories import BRIEF, find_dead, name_owner
from tasks_lib.process.process_groups import GroupId, end_group, find_group
from tasks_lib.project.child_environment import REPOSITORY_MARKER

WRITING_SECONDS = 60.0
"""Writing a file to the data directory that all coordinators share never takes this long."""
DAY_SECONDS = 86_400.0


def describe_takeover(left: Holder, host: str) -> str:
    """Return the message for taking over the lock of a dead run on `host`."""
    if left.host and left.host != host:
        return (
            f"The lock was left by {left}, and this host is {host}. If that run is still alive, its lock is not "
            "visible from here, as on some network file systems: stop one of the two."
        )
    return f"Resuming after {left}, which exited uncleanly."


@dataclass(frozen=True, slots=True)
class _Mark:
    """A value of the marker of a run's processes; with `inside`, only processes that run there or below count."""

    value: str
    inside: Path | None = None


@dataclass(frozen=True, slots=True)
class LeftProcesses:
    """What an earlier run left running: `marked` processes, and further process `groups` that records name."""

    marked: tuple[int, ...] = ()
    groups: tuple[int, ...] = ()


def find_processes(repository: Repository, relocation: Relocation | None = None) -> LeftProcesses:
    """Return what `end_processes` would end now. Changes nothing."""
    found: list[psutil.Process] = []
    for mark in _list_marks(repository, relocation):
        inside = mark.inside
        found += (
            find_marked_inside(REPOSITORY_MARKER, mark.value, inside, has_own=False)
            if inside
            else find_marked(REPOSITORY_MARKER, mark.value, has_own=False)
        )
    marked = {process.pid for process in found}
    is_copy = relocation is not None and relocation.is_copy  # A copy's records name processes of the original.
    groups = [] if is_copy else _list_groups(repository)
    beside = {group.pid for group, session in groups if set(find_group(group, session)) - marked}
    return LeftProcesses(tuple(sorted(marked)), tuple(sorted(beside)))


async def end_processes(
    repository: Repository, stop_seconds: float, relocation: Relocation | None = None, *, has_own: bool = False
) -> int:
    """End what an earlier run left running: processes with its marker, and the groups that its records name.

    With `has_own`, what this process is running is ended with it.

    Sends TERM, then KILL after `stop_seconds`. `relocation` is how the repository was moved since; call this once its
    records have been updated. The processes of a copy's original are left alone. Returns how many marked processes and
    groups there were. Raises AgentError if one cannot be ended.
    """
    count = 0
    for mark in _list_marks(repository, relocation):
        count += await end_marked(REPOSITORY_MARKER, mark.value, stop_seconds, inside=mark.inside, has_own=has_own)
    for group, session in await asyncio.to_thread(_list_groups, repository):
        count += await end_group(group, stop_seconds, session=session)
    return count


def _list_marks(repository: Repository, relocation: Relocation | None) -> list[_Mark]:
    marks = [_Mark(str(repository.common_dir))]
    if relocation:
        # A process marked with the old path counts if it runs in the new location, or if no other repository is there.
        is_free = not relocation.is_copy and _is_free(relocation.former, repository)
        marks.append(_Mark(str(relocation.former), None if is_free else repository.top))
    return marks


def _list_groups(repository: Repository) -> list[tuple[GroupId, str]]:
    """Return the existing groups that records name, each with the marker of its session."""
    records = (read_record(entry.admin) for entry in list_entries(repository))
    return [
        (GroupId(record.turn.pid, record.turn.pid_started), record.attempt.session)
        for record in records
        if record and _has_group(record.turn.pid)
    ]


def _is_free(former: Path, repository: Repository) -> bool:
    return not former.exists() or former.samefile(repository.common_dir)


def _has_group(pid: int) -> bool:
    """Return whether a process group with this number exists, no matter whose; avoids a slow scan of all processes."""
    try:
        os.killpg(pid, 0) if pid > 1 else None
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid > 1


def find_private(repository: Repository, relocation: Relocation | None = None) -> list[Path]:
    """Return the directories that dead runs of the repository left outside it; their names identify the repository."""
    owners = {name_owner(repository.common_dir)}
    if relocation and not relocation.is_copy:
        owners.add(name_owner(repository.common_dir, relocation.former))
    return sorted({path for owner in owners for path in find_dead(owner)})


def find_unattributed(data: Path | None) -> list[Path]:
    """Return what dead coordinators left in places that all repositories share; its repository is unknown.

    Any run may delete it, but it is not a fault of any one repository. `data` is the data directory.
    """
    shared = (data, data / "prefect") if data else ()
    unfinished = [path for place in shared for path in find_unfinished(place) if is_old(path, WRITING_SECONDS)]
    return [*find_dead(BRIEF), *unfinished]


def find_closed_logs(repository: Repository, graph: Graph, days: float) -> list[Path]:
    """Return logs of nodes that are not open, if not written to for `days`; none if that is 0."""
    open_nodes: Collection[str] = {flatten(task.id) for task in graph.tasks.values() if not task.is_completed}
    return find_old_logs(repository, open_nodes, days * DAY_SECONDS) if days else []


def find_old_states(repository: Repository, days: float) -> list[Kept]:
    """Return the states that were kept more than `days` ago; none if that is 0."""
    return find_old(repository, days, datetime.now(UTC)) if days else []
