"""The bare repository on a machine of sessions: a full copy of the shared remote, and the worktrees of its sessions."""

from collections.abc import Iterable
from pathlib import Path

from tasks_lib.errors import GitError, InputError, RemoteError
from tasks_lib.git.branches import delete_branch
from tasks_lib.git.commits.commit_search import is_contained
from tasks_lib.git.commits.isolated_git import IsolatedGit
from tasks_lib.git.kept.snapshots import keep_commit, keep_state
from tasks_lib.git.objects.object_database import Objects
from tasks_lib.git.publish.remote_branch import TRANSFER_SECONDS
from tasks_lib.git.remote_sessions.session_remote import SessionRemote
from tasks_lib.git.remote_sessions.state_application import apply_state
from tasks_lib.git.remote_sessions.state_commits import SessionState, read_state_commit
from tasks_lib.git.repository import Repository
from tasks_lib.git.runner import Git
from tasks_lib.git.session_record import read_record
from tasks_lib.git.worktrees.lifecycle import Worktree, Worktrees
from tasks_lib.git.worktrees.slots import WorktreeSlots

REMOTE = "origin"
_REFSPEC = "+refs/heads/*:refs/remotes/origin/*"


def create_session_repository(place: Path, url: str) -> None:
    """Create a copy of the repository at `url`, without a checkout, in the directory `place`, which must not exist.

    Raises RemoteError if the remote does not answer. Called again after a failure, it continues.
    """
    place.mkdir(parents=True, exist_ok=True)
    git = Git(place)
    git.run("init", "--quiet", "--bare")
    git.run("config", f"remote.{REMOTE}.url", url)
    git.run("config", f"remote.{REMOTE}.fetch", _REFSPEC)
    try:
        git.run("fetch", "--quiet", "--no-tags", REMOTE, seconds=TRANSFER_SECONDS)
    except GitError as error:
        said = error.stderr.strip().splitlines()
        raise RemoteError(f"{url} cannot be fetched: {said[-1] if said else 'git gave no reason'}") from error


def find_default_branch(place: Path) -> str:
    """Return the branch that the remote's HEAD names, "" if it names none. Raises RemoteError."""
    try:
        found = Git(place).run("ls-remote", "--symref", REMOTE, "HEAD", seconds=TRANSFER_SECONDS).text
    except GitError as error:
        raise RemoteError(f"the remote does not answer: {error.stderr.strip()}") from error
    first = found.partition("\t")[0]
    return first.removeprefix("ref: refs/heads/") if first.startswith("ref: ") else ""


class SessionRepository:
    """The repository of one registered remote on this machine; `target` is the branch that its work lands on.

    All methods block.
    """

    def __init__(self, place: Path, target: str) -> None:
        self.repository: Repository = Repository.open(place)
        self.repository.prepare()
        self.target: str = target
        self.remote: SessionRemote = SessionRemote(self.repository, REMOTE, target)
        self.slots: WorktreeSlots = WorktreeSlots(self.repository)

    def fetch_configuration(self, commit: str, name: str) -> str:
        """Fetch the target and return the text of the file `name` at `commit`, "" if it has none.

        Raises RemoteError; InputError unless `commit` is in the history of the target on the remote: what is run here
        is what has landed there, and nothing else.
        """
        tip = self.remote.remote.fetch()
        git = self.repository.git
        if not is_contained(git, commit, tip):
            how = f"push {self.target} to that remote, and run again"
            raise InputError([f"the commit {commit[:10]} is not on {self.target} of this machine's remote; {how}"])
        with Objects(git) as objects:
            entry = objects.find_entry(commit, name)
            return objects.read(entry.oid).decode("utf-8-sig", "replace") if entry and entry.is_file else ""

    def take_start(self, ref: str, commit: str) -> SessionState:
        """Fetch the state that a session starts a turn with. Raises RemoteError, GitError."""
        found = self.remote.take(ref)
        with Objects(self.repository.git) as objects:
            return read_state_commit(objects, commit if self.repository.git.resolve(commit) else found)

    def open_worktree(
        self, worktrees: Worktrees, isolation: IsolatedGit, branch: str, state: SessionState, label: str
    ) -> Worktree:
        """Open a worktree of `branch` as `state` says; what an earlier session left there is kept at a ref first."""
        self.drop_branch(worktrees, branch, label)
        worktree = worktrees.open_branch(branch, state.branch)
        apply_state(worktree, isolation, state)
        return worktree

    def keep_leftovers(self, worktrees: Worktrees) -> list[str]:
        """Keep at refs, and remove, what sessions of a killed worker left here; return a line for each of them."""
        lines: list[str] = []
        for left in worktrees.list():
            record = read_record(left.git_dir)
            branch, label = left.branch or "", record.task_id if record else left.path.name
            if branch:
                ref = self.drop_branch(worktrees, branch, label)
            else:
                ref = self._keep_and_remove(worktrees, left, label)
            lines.append(f"A session for {label} was cut short; its work here is kept at {ref or 'the remote'}.")
        return lines

    def drop_states(self, refs: Iterable[str]) -> None:
        """Delete refs of states whose fetching was cut short; they are on the remote, or of no use any more."""
        for ref in refs:
            self.repository.git.run("update-ref", "-d", ref, accept=(0, 1, 128))

    def _keep_and_remove(self, worktrees: Worktrees, left: Worktree, label: str) -> str:
        """Keep what only the worktree contains, and remove it; return the ref, "" if nothing had to be kept."""
        ref = keep_state(left, label, "", landed=self.repository.git.resolve(self.remote.remote.tracking_ref))
        worktrees.remove(left)
        return ref or ""

    def drop_branch(self, worktrees: Worktrees, branch: str, label: str) -> str:
        """Remove the worktree of `branch`, and the branch; everything that only they contain is kept at a ref.

        Returns the ref, "" if nothing had to be kept.
        """
        git, ref = self.repository.git, ""
        for left in worktrees.list():
            if left.branch == branch:
                ref = self._keep_and_remove(worktrees, left, label) or ref
        if tip := self.repository.branch_head(branch):
            holders = (ref, self.remote.remote.tracking_ref)
            if not any(is_contained(git, tip, holder) for one in holders if (holder := one and git.resolve(one))):
                ref = keep_commit(git, label, tip)
            delete_branch(self.repository, branch, tip)
        return ref

    def close_worktree(self, worktrees: Worktrees, worktree: Worktree, branch: str, pushed: str | None) -> None:
        """Remove a session's worktree and branch, which are on the remote at `pushed`; None if nobody needs them."""
        worktrees.remove(worktree)
        if tip := self.repository.branch_head(branch):
            if pushed not in (tip, None):
                keep_commit(self.repository.git, branch, tip)
            delete_branch(self.repository, branch, tip)
