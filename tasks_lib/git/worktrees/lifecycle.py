"""Opens, pools and removes the worktrees that sessions and verification run in, each at a path of its own."""

import logging
import os
import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from tasks_lib.errors import GitError, InputError
from tasks_lib.git.commits.isolated_git import IsolatedGit
from tasks_lib.git.kept.snapshots import keep_state
from tasks_lib.git.kept.unreferenced_commits import RELEASED, keep_unreferenced
from tasks_lib.git.ref_names import commit_only
from tasks_lib.git.repository import Repository
from tasks_lib.git.repository_lock import HeldRunLock, admin_lock
from tasks_lib.git.session_record import clear_notices, remove_record
from tasks_lib.git.worktree_admin import (
    MAKING,
    Entry,
    Worktree,
    find_entry,
    is_plain,
    list_entries,
    write_slot,
)
from tasks_lib.git.worktrees.checkout_switching import CheckoutWriter, Keeping
from tasks_lib.git.worktrees.damage_repair import relink
from tasks_lib.git.worktrees.deletion import (
    POOL_NAME,
    delete_each,
    discard,
    list_trash,
    remove_empty_directories,
)
from tasks_lib.git.worktrees.nested_worktrees import NestedRemover, RemovedItem
from tasks_lib.git.worktrees.placement import (
    clear_path,
    describe_foreign_worktree,
    describe_taken,
    find_place,
    require_lock_free,
    require_root,
)
from tasks_lib.git.worktrees.repair_after_kill import drop_unfinished_files, settle
from tasks_lib.git.worktrees.slots import WorktreeSlots
from tasks_lib.git.worktrees.stale_files import remove_empty_folders_of_refs
from tasks_lib.git.worktrees.stale_git_locks import drop_entry_locks, drop_ref_locks
from tasks_lib.process.files import remove_empty_parents

__all__ = ["VERIFY", "Worktree", "Worktrees"]

VERIFY = "verify"
"""The purpose of worktrees in which the verification for landing runs."""

_log = logging.getLogger(__name__)


class Worktrees:
    """The worktrees of a repository; one instance per run, used by several threads at once.

    `keep` are ignored paths that a pooled worktree keeps while the `setup_key` files are unchanged; `copied` are paths
    that belong to the user and are never kept at a ref. At most `pool_size` idle worktrees are pooled. `lock` returns
    the context in which git's administrative files are changed; `slots` are the numbers of the repository's worktrees,
    if others give such numbers too; `say` is called with a message for each thing that was found and kept elsewhere.
    """

    def __init__(
        self,
        repository: Repository,
        *,
        keep: Sequence[str] = (),
        setup_key: Sequence[str] = (),
        copied: Sequence[str] = (),
        pool_size: int = 8,
        lock: Callable[[], AbstractContextManager[object]] | None = None,
        isolation: IsolatedGit | None = None,
        slots: WorktreeSlots | None = None,
        say: Callable[[str], None] = _log.warning,
    ) -> None:
        self.repository: Repository = repository
        self.pool_size: int = pool_size
        self._lock: Callable[[], AbstractContextManager[object]] = lock or (lambda: admin_lock(repository))
        self.say: Callable[[str], object] = say
        self._keeper: NestedRemover = NestedRemover(repository, self._lock, tuple(copied), say)
        self._checkouts: CheckoutWriter = CheckoutWriter(
            Keeping(keep, setup_key), isolation or IsolatedGit(repository.git)
        )
        self._mutex: threading.Lock = threading.Lock()
        self._idle: list[tuple[str, Worktree]] = []  # Each with its last purpose, the most recent at the end.
        self._purposes: dict[int, str] = {}
        self._slots: WorktreeSlots = slots or WorktreeSlots(repository)
        self._branches: set[str] = {entry.branch for entry in list_entries(repository) if entry.branch}

    def open_branch(self, branch: str, start: str) -> Worktree:
        """The worktree of `branch` at `.worktrees/<branch>`: resumed untouched, or created at the branch's commit.

        A branch that does not exist is created at the commit `start`. Anything in the way that is not a worktree is
        renamed to `.worktrees/.kept-…` and reported. Raises InputError if the path would leave `.worktrees` or be
        inside another worktree, if it is a worktree of the user's, or if the branch is checked out elsewhere; GitError
        if git cannot create the worktree.
        """
        place = find_place(self.repository, branch)
        if resumed := self._resume(branch, place):
            return resumed
        require_lock_free(self.repository, branch)
        with self._lock():
            self._branches.add(branch)
            clear_path(self.repository, place, self.say)
        if reused := self._reuse_idle(branch, start, place):
            return reused
        with self._checkouts.turn_to_fill():
            # A worktree may have been released while this thread waited for its turn.
            return self._reuse_idle(branch, start, place) or self._add_branch(branch, start, place)

    def reopen(
        self, worktree: Worktree, branch: str, start: str, *, is_unreadable: bool = False, label: str = ""
    ) -> Worktree:
        """Reopen the worktree of `branch` after its agent damaged it or left the branch; its files are kept.

        One that `is_unreadable` to git is created anew, and its old directory is renamed to `.worktrees/.kept-…`.
        """
        with self._lock():
            is_there = relink(self.repository, worktree) and not is_unreadable
            gone = [] if is_there else discard(self.repository, worktree.git_dir / "none", worktree.git_dir)
        if not is_there:
            self._keeper.take_out(worktree, label, with_stashes=False)
            self._free_slot(worktree.slot)
            self._delete(gone)
        return self.open_branch(branch, start)

    def open_detached(self, commit: str, purpose: str) -> Worktree:
        """A worktree at `.worktrees/.pool/<n>`, detached at `commit`.

        Ignored files of an earlier use stay only if that had the same `purpose`, so that nothing an agent left is ever
        part of a verification. For VERIFY, a worktree that an agent has used is never taken.
        """
        is_exact = purpose == VERIFY
        if idle := self._take_idle(purpose, is_only=is_exact):
            last, worktree = idle
            try:
                self._checkouts.switch(worktree, commit, may_keep=last == purpose, is_exact=is_exact)
            except GitError as error:
                _log.info("%s was not reusable, creating another: %s", worktree.path, error)
                self.remove(worktree)
            else:
                self._purposes[worktree.slot] = purpose
                return worktree
        with self._checkouts.turn_to_fill():
            slot = self._claim_slot()
            return self._add(self._pool_place(slot), slot, ["--detach"], commit_only(commit), purpose=purpose)

    def switch(self, worktree: Worktree, commit: str) -> None:
        """Move a verification worktree to another commit; ignored files stay by the same rule as in the pool."""
        self._checkouts.switch(worktree, commit, may_keep=True, is_exact=True)

    def take_out(self, worktree: Worktree, label: str = "") -> "list[RemovedItem]":
        """Keep, remove and report what was created in a worktree outside its branch; `label` is the node's id."""
        return self._keeper.take_out(worktree, label)

    def take_warnings(self) -> "list[str]":
        """Errors of filters that failed while files were written, each once; git writes those files unfiltered."""
        return self._checkouts.take_warnings()

    def release(self, worktree: Worktree) -> None:
        """Return a worktree to the pool: its record goes, its branch may be deleted, its files overwritten.

        A caller that needs the files keeps the state first. A worktree that could affect its next use is removed
        instead.
        """
        self._keeper.take_out(worktree, with_stashes=False)
        if not self._is_poolable(worktree):
            self.remove(worktree)
            return
        place = self._pool_place(worktree.slot)
        if worktree.path != place:
            try:
                self._retire(worktree, place)
            except GitError as error:
                _log.info("%s was not pooled: %s", worktree.path, error)
                self.remove(worktree)
                return
        remove_record(worktree.git_dir)
        clear_notices(worktree.git_dir)
        pooled = Worktree(place, worktree.git_dir, worktree.slot)
        with self._mutex:
            self._idle.append((self._purposes.pop(worktree.slot, "branch"), pooled))

    def remove(self, worktree: Worktree) -> None:
        """Remove a worktree with everything in it. Its branch stays."""
        self._keeper.take_out(worktree, with_stashes=False)
        with self._lock():
            gone = discard(self.repository, worktree.path, worktree.git_dir)
            remove_empty_parents(worktree.path, self.repository.worktrees_dir)
        self._free_slot(worktree.slot)
        self._delete(gone)

    def list(self) -> "list[Worktree]":
        """The existing worktrees of branches, sorted by path, without pooled and half-made ones."""
        pool = self.repository.worktrees_dir / POOL_NAME
        with self._lock():
            found = [entry for entry in list_entries(self.repository) if entry.is_linked and not entry.is_partial]
        return [self._build(entry) for entry in sorted(found, key=lambda e: e.path) if entry.path.parent != pool]

    def close(self) -> None:
        """Clean up at the end of a run: the pool, the trash and empty directories go; worktrees of branches stay."""
        with self._mutex:
            self._idle.clear()
        pool = self.repository.worktrees_dir / POOL_NAME
        with self._lock():
            for entry in list(list_entries(self.repository)):
                if entry.path.parent == pool:
                    discard(self.repository, entry.path, entry.admin)
                    self._free_slot(entry.slot or 0)
        self._delete(list_trash(self.repository))
        with self._lock():
            remove_empty_directories(self.repository, sorted(self._branches))

    def reconcile(self, held: HeldRunLock, branches: Collection[str] = ()) -> "list[str]":
        """Repair what a killed run left; return one line per action. Call this before any other method.

        `branches` are those of the graph's nodes. Raises InputError if `.worktrees` is not a directory inside the
        repository, or if everything that was in it is gone.
        """
        require_root(self.repository)
        lines = drop_ref_locks(self.repository, branches, held)
        for entry in list(list_entries(self.repository)):
            lines += drop_entry_locks(self.repository, entry) if entry.is_linked else []
        self._branches |= set(branches)
        lines += self._keeper.remove_all_nested()
        with self._lock():
            lines += drop_unfinished_files(self.repository)
            lines += settle(self.repository, held)
            remove_empty_folders_of_refs(self.repository, branches)
        self._delete(list_trash(self.repository))
        with self._lock():
            remove_empty_directories(self.repository, sorted(self._branches))
        with self._mutex:
            self._idle.clear()
            self._purposes.clear()
            self._slots.read()
        return lines

    def _resume(self, branch: str, place: Path) -> Worktree | None:
        entry = find_entry(self.repository, place)
        if entry is None:
            return None
        if not entry.is_ours:
            raise InputError([describe_foreign_worktree(entry)])
        if entry.is_partial:
            self.remove(self._build(entry))
            return None
        for line in drop_entry_locks(self.repository, entry):
            self.say(line)
        if entry.branch == branch:
            return self._build(entry, is_resumed=True)
        # An agent left its branch. Work is looked for on the branch, so keep this state and create the worktree anew.
        worktree = self._build(entry)
        ref = keep_state(worktree, branch, "", exclude=self._keeper.copied)
        keep_unreferenced(self.repository, entry.admin, branch, branch, worktree.git.resolve("HEAD") or "")
        _log.warning("%s was at %s and not on %s; its state is kept at %s", place, entry.head, branch, ref)
        self.remove(worktree)
        return None

    def _reuse_idle(self, branch: str, start: str, place: Path) -> Worktree | None:
        if not (idle := self._take_idle("branch")):
            return None
        purpose, worktree = idle
        try:
            return self._reuse(worktree, branch, start, place, may_keep=purpose == "branch")
        except GitError as error:
            _log.info("%s was not reusable, creating another: %s", worktree.path, error)
            self.remove(worktree)
            return None

    def _reuse(self, worktree: Worktree, branch: str, start: str, place: Path, *, may_keep: bool) -> Worktree:
        is_new = True
        try:
            self._checkouts.start_branch(worktree, branch, start, may_keep=may_keep)
        except GitError:
            is_new = False
            if self.repository.branch_head(branch) is None:
                raise
            self._checkouts.continue_branch(worktree, branch, may_keep=may_keep)
        with self._lock():
            place.parent.mkdir(parents=True, exist_ok=True)
            self.repository.git.run("worktree", "move", "--", str(worktree.path), str(place))
        return Worktree(place, worktree.git_dir, worktree.slot, branch, is_new_branch=is_new)

    def _add_branch(self, branch: str, start: str, place: Path) -> Worktree:
        exists = self.repository.branch_head(branch) is not None
        words = [] if exists else ["--no-track", "-b", branch]
        slot = self._claim_slot()
        try:
            made = self._add(place, slot, words, branch if exists else commit_only(start), branch=branch)
        except GitError as error:
            if "already checked out" in error.stderr or "already used by worktree" in error.stderr:
                raise InputError([describe_taken(error.stderr)]) from error
            if "invalid reference" in error.stderr:
                told = f"git mistakes refs/tags/{branch}, which is not a commit, for the branch; delete or rename it"
                raise InputError([told]) from error
            raise
        return replace(made, is_new_branch=not exists)

    def _add(
        self, place: Path, slot: int, words: Sequence[str], commit: str, *, branch: str | None = None, purpose: str = ""
    ) -> Worktree:
        try:
            with self._lock():
                place.parent.mkdir(parents=True, exist_ok=True)
                self._run_add(place, words, commit)
                entry = self._require_entry(place)
                write_slot(entry.admin, slot)
            worktree = Worktree(place, entry.admin, slot, branch)
            self._checkouts.fill(worktree)
        except BaseException:
            self._undo_add(place, slot)
            raise
        (entry.admin / "locked").unlink()
        if purpose:
            self._purposes[slot] = purpose
        return worktree

    def _run_add(self, place: Path, words: Sequence[str], commit: str) -> None:
        # Locked with coordinator's reason from git's first write on, which marks a worktree as half-made.
        options = ("--no-checkout", "--lock", "--reason", MAKING)
        self.repository.git.run("worktree", "add", "--quiet", *options, *words, "--", str(place), commit)

    def _require_entry(self, place: Path) -> Entry:
        if entry := find_entry(self.repository, place):
            return entry
        raise GitError(["worktree", "add"], 0, f"{place} was added, but git does not list it")

    def _undo_add(self, place: Path, slot: int) -> None:
        entry = find_entry(self.repository, place)
        if entry and entry.is_partial:
            self.remove(Worktree(place, entry.admin, slot))
        else:
            self._free_slot(slot)

    def _retire(self, worktree: Worktree, place: Path) -> None:
        # Only HEAD is detached, at its commit: git inspects no file, and the branch can be deleted.
        worktree.git.run("update-ref", "--no-deref", "-m", RELEASED, "HEAD", "HEAD")
        # Its commit was kept where necessary. Left here, it would be attributed to the next node, and git would walk
        # history back to it.
        (worktree.git_dir / "ORIG_HEAD").unlink(missing_ok=True)
        with self._lock():
            place.parent.mkdir(parents=True, exist_ok=True)
            self.repository.git.run("worktree", "move", "--", str(worktree.path), str(place))
            remove_empty_parents(worktree.path, self.repository.worktrees_dir)

    def _is_poolable(self, worktree: Worktree) -> bool:
        with self._mutex:
            has_room = len(self._idle) < self.pool_size
        return has_room and worktree.path.is_dir() and is_plain(worktree, self.repository.hash_bytes)

    def _take_idle(self, purpose: str, *, is_only: bool = False) -> tuple[str, Worktree] | None:
        with self._mutex:
            same = [at for at, (last, _) in enumerate(self._idle) if last == purpose]
            if not self._idle or (is_only and not same):
                return None
            return self._idle.pop(same[-1] if same else -1)

    def _pool_place(self, slot: int) -> Path:
        return self.repository.worktrees_dir / POOL_NAME / str(slot)

    def _build(self, entry: Entry, *, is_resumed: bool = False) -> Worktree:
        slot = entry.slot
        if slot is None:
            slot = self._claim_slot()
            write_slot(entry.admin, slot)
        return Worktree(entry.path, entry.admin, slot, entry.branch, is_resumed)

    def _claim_slot(self) -> int:
        # The user's own files in the pool's directory stay where they are.
        return self._slots.claim(lambda slot: not os.path.lexists(self._pool_place(slot)))

    def _free_slot(self, slot: int) -> None:
        with self._mutex:
            self._purposes.pop(slot, None)
        self._slots.free(slot)

    def _delete(self, paths: Sequence[Path]) -> None:
        for path, is_gone in zip(paths, delete_each(paths), strict=True):
            if not is_gone:
                _log.warning("%s could not be deleted; delete it manually", path)
