"""Opens the base of a run's work: the local target branch, or a remote's, which is fetched without prompting."""

from collections.abc import Callable

from tasks_lib.errors import Fault, InputError, RemoteError
from tasks_lib.git.commits.commit_search import count_commits
from tasks_lib.git.publish.lost_branch import explain_lost_branch
from tasks_lib.git.publish.queue_head import Head
from tasks_lib.git.publish.remote_branch import Remote
from tasks_lib.git.ref_names import branch_ref
from tasks_lib.git.repository import Repository
from tasks_lib.settings.schema import Settings


def open_head(
    repository: Repository, settings: Settings, target: str, on_foreign_move: Callable[[str], None] | None = None
) -> Head:
    """Open the queue's head for `target` on the configured base; `on_foreign_move` as in `Head`."""
    return Head(repository.git, target, settings.land.base_ref(target), on_foreign_move)


def open_remote(repository: Repository, settings: Settings, target: str) -> Remote | None:
    """Return the remote that work on `target` lands on, None if nothing is pushed."""
    return None if settings.land.mode == "local" else Remote(repository, settings.land.remote, target)


def require_remote(remote: Remote, *, is_fetching: bool) -> None:
    """Check that the remote exists; with `is_fetching`, also that it has the branch, and fetch.

    Raises InputError that says what to do.
    """
    remote.require()
    if not is_fetching:
        return
    try:
        branches = remote.list_branches()
        if remote.target not in branches:
            raise InputError([explain_lost_branch(remote, branches)])
        if branch_ref(remote.target) in branches:
            ref = branch_ref(remote.target)
            how = f"rename that branch, or delete it (`git push {remote.name} --delete {branch_ref(ref)}`)"
            raise InputError([f"{remote.name} also has a branch called {ref}, so git pushes to neither; {how}"])
        remote.fetch(branches)
    except RemoteError as error:
        how = f"make sure that `git fetch {remote.name}` works without prompting, or set land.mode to local"
        raise InputError([f"{error}; {how}"]) from error


def find_unpushed(repository: Repository, settings: Settings, target: str, head: str) -> list[Fault]:
    """Return a warning if the local branch is ahead of the remote: a run that lands there does not see its commits."""
    if settings.land.mode == "local" or repository.branch_head(target) is None:
        return []
    number = count_commits(repository.git, branch_ref(target), settings.land.base_ref(target), head)
    if not number:
        return []
    ahead = f"{number} commit{'s' if number > 1 else ''} ahead of {settings.land.base_name(target)}"
    how = f"push so that nodes see them (`git push {settings.land.remote} {branch_ref(target)}`)"
    return [Fault("", 0, f"{target} is {ahead}; {how}", True)]
