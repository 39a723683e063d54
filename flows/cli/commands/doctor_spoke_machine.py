"""Checks disk and memory of a machine that runs sessions, for `coordinator doctor --spoke`."""

import shutil
from collections.abc import Iterator, Sequence

import psutil

from flows.cli.commands.doctor_check import Check, fail, ok, warn
from flows.cli.commands.doctor_repository import write_bytes
from flows.data_directory import data_dir
from tasks_lib.project.loading import Project
from tasks_lib.spokes.examination import measure_files

AGENT_BYTES = 400 * 10**6
"""What an agent takes at least; an idle opencode server was measured at 365 MB. Builds and tests come on top."""


def check_space(projects: Sequence[Project]) -> Iterator[Check]:
    """Check disk and memory for as many sessions of `projects` as their runs may send here at a time."""
    if not projects:
        return
    sessions = max(project.settings.spokes.sessions_each for project in projects)
    needed = sum(measure_files(project) * project.settings.spokes.sessions_each for project in projects)
    yield judge_disk(shutil.disk_usage(data_dir()).free, needed, sessions)
    yield judge_memory(psutil.virtual_memory().available, sessions)


def judge_disk(free: int, needed: int, sessions: int) -> Check:
    """Compare bytes on disk with those that the worktrees of `sessions` need."""
    text = f"{write_bytes(free)} free, {write_bytes(needed)} needed for the worktrees of {sessions} sessions"
    if free < needed:
        return fail("disk", f"{text}; free some space, or lower spokes.sessions_each")
    return ok("disk", text)


def judge_memory(available: int, sessions: int) -> Check:
    """Compare bytes of memory with what the agents of `sessions` are known to take."""
    needed = sessions * AGENT_BYTES
    text = f"{write_bytes(available)} available, {write_bytes(needed)} or more needed for {sessions} agents"
    if available < needed:
        return warn("memory", f"{text}; lower spokes.sessions_each, or use a larger machine")
    return ok("memory", text)
