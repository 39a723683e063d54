"""Finds what a dead run left outside of its nodes' worktrees, and ends its processes."""

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
"""Nobody writes a file of the data directory, which all coordinators share, this long."""
DAY_SECONDS = 86_400.0


def describe_takeover(left: Holder, host: str) -> str:
    """What is said when the lock of one who died is taken over on `host`."""
    if left.host and left.host != host:
        return (
            f"The lock was left by {left}, and this host is {host}. If that run is still alive, its lock is not "
            "visible from here, as on some network file systems: stop one of the two."
        )
    return f"Resuming after {left}, which exited uncleanly."


@dataclass(frozen=True, slots=True)
class _Mark:
    """A value of the mark that processes of a run carry; with `inside` only those that work there or below count."""

    value: str
    inside: Path | None = None


@dataclass(frozen=True, slots=True)
class LeftProcesses:
    """What an earlier run left running: `marked` processes, and the `groups` of which records tell, beside those."""

    marked: tuple[int, ...] = ()
    groups: tuple[int, ...] = ()


def find_processes(repository: Repository, relocation: Relocation | None = None) -> LeftProcesses:
    """What `end_processes` would end now. Nothing is changed."""
    found: list[psutil.Process] = []
    for mark in _list_marks(repository, relocation):
        inside = mark.inside
        found += (
            find_marked_inside(REPOSITORY_MARKER, mark.value, inside)
            if inside
            else find_marked(REPOSITORY_MARKER, mark.value)
        )
    marked = {process.pid for process in found}
    is_copy = relocation is not None and relocation.is_copy  # Its records name processes of the original's.
    groups = [] if is_copy else _list_groups(repository)
    beside = {group.pid for group, session in groups if set(find_group(group, session)) - marked}
    return LeftProcesses(tuple(sorted(marked)), tuple(sorted(beside)))


async def end_processes(repository: Repository, stop_seconds: float, relocation: Relocation | None = None) -> int:
    """End what an earlier run left running: what carries its mark, and the groups that its records name.

    TERM, then KILL after `stop_seconds`. `relocation` is how the repository was moved since; call it when records have
    followed. What the original of a copy has running is never meant. Returns how many marked processes and groups there
    were. Raises AgentError for what cannot be ended.
    """
    count = 0
    for mark in _list_marks(repository, relocation):
        count += await end_marked(REPOSITORY_MARKER, mark.value, stop_seconds, inside=mark.inside)
    for group, session in await asyncio.to_thread(_list_groups, repository):
        count += await end_group(group, stop_seconds, session=session)
    return count


def _list_marks(repository: Repository, relocation: Relocation | None) -> list[_Mark]:
    marks = [_Mark(str(repository.common_dir))]
    if relocation:
        # What had the old path as its mark works where the repository is now, or that path is nobody else's by now.
        is_free = not relocation.is_copy and _is_free(relocation.former, repository)
        marks.append(_Mark(str(relocation.former), None if is_free else repository.top))
    return marks


def _list_groups(repository: Repository) -> list[tuple[GroupId, str]]:
    """The groups that records name and that there are, each with the marker of its session."""
    records = (read_record(entry.admin) for entry in list_entries(repository))
    return [
        (GroupId(record.turn.pid, record.turn.pid_started), record.attempt.session)
        for record in records
        if record and _has_group(record.turn.pid)
    ]


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


def find_closed_logs(repository: Repository, graph: Graph, days: float) -> list[Path]:
    """The logs of nodes that are not open, not written to for `days`; none where that is 0."""
    open_nodes: Collection[str] = {flatten(task.id) for task in graph.tasks.values() if not task.is_completed}
    return find_old_logs(repository, open_nodes, days * DAY_SECONDS) if days else []


def find_old_states(repository: Repository, days: float) -> list[Kept]:
    """The states that were kept more than `days` ago; none where that is 0."""
    return find_old(repository, days, datetime.now(UTC)) if days else []
