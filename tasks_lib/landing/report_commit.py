"""Commits an after-action report to the head once its run has ended."""

from tasks_lib.git.commits.commit_messages import RUN
from tasks_lib.git.compose.commit_composer import Candidate, Composer
from tasks_lib.git.repository_lock import RunLock
from tasks_lib.landing.commits_without_run import CommittedChange, commit_without_run
from tasks_lib.naming import flatten
from tasks_lib.process.marked_processes import marked
from tasks_lib.project.child_environment import REPOSITORY_MARKER
from tasks_lib.project.loading import Project

LOCK_NAME = "report"
SHORT = 8


def name_report(folder: str, run: str, started: str) -> str:
    """The path of the report on `run`, which began at the ISO time `started`: `docs/aar/2026-03-14-1a2b3c4d.md`."""
    return f"{folder}/{started[:10] or 'run'}-{flatten(run)[:SHORT].rstrip('-.')}.md"


def commit_report(project: Project, run: str, path: str, text: str) -> CommittedChange:
    """Commit `text` at `path`, and publish that as a run would; the commit changes nothing else. Blocking.

    Raises BusyError if another run has begun, InputError if something is in the way or a run has to look at the
    repository first, and GitError.
    """
    repository = project.repository

    def compose(composer: Composer, head: str) -> Candidate:
        return composer.compose_file(path, text, head, f"Report on run {run[:SHORT]}", {RUN: run})

    with (
        RunLock(repository.state_dir, LOCK_NAME, keeps_record=True) as lock,
        marked(REPOSITORY_MARKER, str(repository.common_dir)),
    ):
        return commit_without_run(project, lock, compose)
