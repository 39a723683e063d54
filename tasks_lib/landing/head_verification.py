"""Tries `setup` and `verify` on the head while no run is in progress, in a worktree like that of a run."""

import asyncio
from pathlib import Path

from tasks_lib.cleanup.moved_repository import require_not_moved
from tasks_lib.git.repository_lock import RunLock
from tasks_lib.git.worktrees.lifecycle import VERIFY, Worktrees
from tasks_lib.process.marked_processes import marked
from tasks_lib.process.private_directories import name_owner, private_directory
from tasks_lib.project.child_environment import REPOSITORY_MARKER, ChildEnvironments
from tasks_lib.project.loading import Project
from tasks_lib.runtime.copied_files import copy_in
from tasks_lib.runtime.setup_and_verify import Green, Red, judge

PURPOSE = "doctor --verify"


def try_verify(project: Project) -> Green | Red:
    """Run the lines on the head of `project`, and remove the worktree; the log stays with those of runs. Blocking.

    Raises BusyError while a run is in progress, InputError if the repository was moved, GitError if git fails.
    """
    repository, settings = project.repository, project.settings
    require_not_moved(repository)
    repository.prepare()
    with (
        RunLock(repository.state_dir, PURPOSE, keeps_record=True),
        marked(REPOSITORY_MARKER, str(repository.common_dir)),
        private_directory(name_owner(repository.common_dir)) as private,
    ):
        repository.exclude_worktrees()
        worktrees = Worktrees(
            repository, keep=settings.keep, setup_key=settings.setup_key, copied=settings.copy_paths, pool_size=0
        )
        worktree = worktrees.open_detached(project.head, VERIFY)
        try:
            for name in settings.copy_paths:
                copy_in(repository.top / name, worktree.path, name)
            environments = ChildEnvironments(settings, repository, private)
            log = _prepare_log(repository.state_dir, project.head)
            return asyncio.run(judge(settings, lambda kind: environments.of(kind, worktree.slot), worktree.path, log))
        finally:
            worktrees.remove(worktree)
            worktrees.close()


def _prepare_log(state_dir: Path, head: str) -> Path:
    log = state_dir / "logs" / "head" / f"verify-{head[:12]}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    return log
