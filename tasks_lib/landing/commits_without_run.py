"""Commits changes of task files to the head while no run is in progress, and publishes the head as a run would."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from tasks_lib.cleanup.moved_repository import require_not_moved
from tasks_lib.cleanup.remote_branches import describe_local_branch_behind
from tasks_lib.errors import GitError, InputError, RemoteError
from tasks_lib.git.commits.task_reader import TaskReader
from tasks_lib.git.compose.commit_composer import Candidate, Composer
from tasks_lib.git.objects.object_database import Objects
from tasks_lib.git.publish.local_branch import Pending, publish
from tasks_lib.git.publish.queue_head import Head, Rewritten
from tasks_lib.git.publish.remote_branch import Pushed, PushResult, Raced, Refused, Remote, Unreachable
from tasks_lib.git.repository_lock import HeldRunLock, admin_lock
from tasks_lib.git.worktrees.stale_git_locks import drop_ref_locks
from tasks_lib.project.loading import Project

MAX_MOVES = 5
"""How often to compose the commit again because something else moved the base meanwhile, here or on the remote."""
Compose = Callable[[Composer, str], Candidate]
"""Makes a commit of task files alone, on a commit. Raises InputError if there is nothing to commit there."""
_ComposeAt = Callable[[str], Candidate]


@dataclass(frozen=True, slots=True)
class CommittedChange:
    """A `commit` on the head. `pending` is why publishing it waits, "" if it is published.

    `notes` are further sentences for the user.
    """

    commit: str
    pending: str = ""
    notes: tuple[str, ...] = ()


def commit_without_run(project: Project, lock: HeldRunLock, compose: Compose) -> CommittedChange:
    """Move the head to what `compose` makes on it, and publish the head as a run would; merges nothing.

    Raises what `compose` raises, and InputError if a run has to look at the repository first.
    """
    repository = project.repository
    require_not_moved(repository)
    drop_ref_locks(repository, (), lock)
    head = project.open_head()
    if isinstance(found := head.reconcile(None), Rewritten):
        where = f"{project.base_name} no longer contains {found.known_base[:12]}, on which unpublished work is based"
        raise InputError([f"{where}; `coordinator run` says what to do about it"])
    with Objects(repository.git) as objects:
        reader = TaskReader(objects, project.tasks_dir, project.target)
        composer = Composer(repository.git, objects, reader, repository.identity())

        def compose_at(at: str) -> Candidate:
            return compose(composer, at)

        return _publish(project, head, _advance(head, compose_at), compose_at)


def _advance(head: Head, compose: _ComposeAt) -> Candidate:
    """Move the head to what `compose` makes on it."""
    for _ in range(MAX_MOVES):
        candidate = compose(head.current())
        if head.advance(candidate.head, candidate.commit):
            return candidate
    raise GitError(("update-ref", head.refs.queue_ref), 1, f"{head.refs.base_ref} keeps moving; try again")


def _publish(project: Project, head: Head, made: Candidate, compose: _ComposeAt) -> CommittedChange:
    """Publish the head, which is what was `made`, and say in the result whether and why that waits."""
    if not (remote := project.open_remote()):
        pending = _fast_forward(project, made.commit)
        head.finish()
        return CommittedChange(made.commit, pending)
    change, pending = _push(remote, head, made, compose)
    if pending:
        return replace(change, pending=pending)
    head.finish()
    is_behind = project.repository.branch_head(project.target) and _fast_forward(project, change.commit)
    notes = (describe_local_branch_behind(project, is_behind),) if is_behind else ()
    return replace(change, notes=(*change.notes, *notes))


def _fast_forward(project: Project, commit: str) -> str:
    """Move the local target branch to `commit`; return why git does not accept that, "" if it does."""
    result = publish(project.repository.git, project.target, commit, admin_lock(project.repository))
    return result.reason if isinstance(result, Pending) else ""


def _push(remote: Remote, head: Head, made: Candidate, compose: _ComposeAt) -> tuple[CommittedChange, str]:
    """Push what was `made`; return it, and why the remote does not have it, "" if it does.

    If others pushed first, it is made again on their commit. That needs nothing else that is unpublished to be verified
    again, which only a run does. Raises InputError, with the head at the base, if they have done it themselves.
    """
    candidate = made
    base = head.base()
    result = remote.push(candidate.commit, base)
    for _ in range(MAX_MOVES):
        if not isinstance(result, Raced) or candidate.head != base:
            break
        try:
            base = remote.fetch()
        except RemoteError as error:
            return CommittedChange(candidate.commit), f"{remote.name} does not answer: {error}"
        candidate = _make_again(head, candidate.commit, base, compose)
        result = remote.push(candidate.commit, base)
    missing = result.describe_missing(remote.name) if isinstance(result, Pushed) else ()
    return CommittedChange(candidate.commit, notes=tuple(missing)), _explain_wait(remote, result)


def _make_again(head: Head, old: str, base: str, compose: _ComposeAt) -> Candidate:
    """Replace the unpublished commit `old` by one on the new `base`."""
    try:
        candidate = compose(base)
    except InputError:
        head.replace(old, base)
        head.finish()
        raise
    if not head.replace(old, candidate.commit):
        raise GitError(("update-ref", head.refs.queue_ref), 1, "another process moved it; try again")
    return candidate


def _explain_wait(remote: Remote, result: PushResult) -> str:
    """Why the remote does not have what was pushed, "" if it does."""
    match result:
        case Pushed():
            return ""
        case Raced(reason):
            return f"others pushed to {remote.name} first: {reason}"
        case Refused(words):
            return f"{remote.name} refuses the push: {words}"
        case Unreachable(reason):
            return f"{remote.name} does not answer: {reason}"
