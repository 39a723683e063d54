"""Decides how a used worktree is switched to another commit, and which of its ignored files may stay."""

import hashlib
import os
import shutil
import threading
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from tasks_lib.errors import GitError, InputError
from tasks_lib.git.commits.isolated_git import IsolatedGit
from tasks_lib.git.kept.submodules import seed_submodules
from tasks_lib.git.ref_names import branch_ref, commit_only
from tasks_lib.git.runner import Git, Result
from tasks_lib.git.worktree_admin import Worktree
from tasks_lib.git.worktrees.deletion import make_writable
from tasks_lib.process.files import read_regular, read_stamp

PARALLEL = ("-c", "checkout.workers=0", "-c", "checkout.thresholdForParallelism=1000")
"""One worker per core, where that pays off: at a hundred files, git's own threshold, workers cost more."""
_SUBMODULE = "160000 "
_KEY_BYTES = 64 << 20
"""The most that is read of a `setup_key` file; the lock file of a large project has a few MB."""


class Keeping:
    """The rule for what a pooled worktree keeps: the paths `keep`, while the `setup_key` files are unchanged.

    Both are relative to the top of the worktree. Raises InputError for a path outside it.
    """

    def __init__(self, keep: Sequence[str], setup_key: Sequence[str]) -> None:
        if faults := [
            f"`{name}` is outside the worktree; name a path below it" for name in _find_leaving(keep, setup_key)
        ]:
            raise InputError(faults)
        self.keep: tuple[str, ...] = tuple(keep)
        self.setup_key: tuple[str, ...] = tuple(setup_key)

    def digest(self, top: Path) -> str:
        """A digest of the setup key's files as they are on disk, because that is what `setup` used."""
        digest = hashlib.sha256()
        for name in self.setup_key if self.keep else ():
            content = _read_content(top / name)
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
        return digest.hexdigest()

    def list_exclusions(self) -> list[str]:
        """Options for `git clean`; the paths are anchored, so that none can be read as an option or a negation."""
        return [word for name in self.keep for word in ("-e", f"/{name.removeprefix('./').lstrip('/')}")]


def _find_leaving(*lists: Sequence[str]) -> list[str]:
    return [name for names in lists for name in names if not name or name.startswith("/") or ".." in Path(name).parts]


def _read_content(path: Path) -> bytes:
    try:
        # An agent may have left a pipe there, and a plain read of it would never return.
        return (
            b"link " + os.fsencode(path.readlink()) if path.is_symlink() else b"file " + read_regular(path, _KEY_BYTES)
        )
    except OSError:
        return b"none"


class CheckoutSlots:
    """At most one slot of each kind per core; while a tree is being changed, only one whole tree is written.

    A change reuses a worktree, and a dependent waits for it; whole trees are the first checkouts of nodes that can
    wait.
    """

    def __init__(self, cores: int) -> None:
        self._cores: int = cores
        self._ready: threading.Condition = threading.Condition()
        self._fills: int = 0
        self._changes: int = 0
        self._waiting: int = 0

    @contextmanager
    def fill(self) -> Generator[None]:
        """A slot to write a whole tree."""
        with self._ready:
            self._ready.wait_for(lambda: self._fills < (1 if self._changes + self._waiting else self._cores))
            self._fills += 1
        try:
            yield
        finally:
            with self._ready:
                self._fills -= 1
                self._ready.notify_all()

    @contextmanager
    def change(self) -> Generator[None]:
        """A slot to change a tree into another."""
        with self._ready:
            self._waiting += 1
            self._ready.wait_for(lambda: self._changes < self._cores)
            self._waiting -= 1
            self._changes += 1
        try:
            yield
        finally:
            with self._ready:
                self._changes -= 1
                self._ready.notify_all()


class CheckoutWriter:
    """Writes working trees, at most one per core at a time: more would only compete for the disk.

    Every file is written by a git that knows only the commit (`isolation`), so that the user's sparse checkout,
    line-ending settings or own attributes cannot make a worktree differ from its commit.
    """

    def __init__(self, keeping: Keeping, isolation: IsolatedGit) -> None:
        self._keeping: Keeping = keeping
        self._isolation: IsolatedGit = isolation
        self._slots: CheckoutSlots = CheckoutSlots(os.cpu_count() or 1)
        self._stamps: dict[Path, object] = {}
        self._complaints: list[str] = []

    def turn_to_fill(self) -> AbstractContextManager[None]:
        """The context to call `fill` in; entering it waits for a slot."""
        return self._slots.fill()

    def fill(self, worktree: Worktree) -> None:
        """Write every file of a worktree that was created with `--no-checkout`."""
        forget_sparse_settings(worktree)
        commit = worktree.git.resolve("HEAD") or ""
        self._hear(self._isolation.checking_out(worktree).run(*PARALLEL, "read-tree", "--reset", "-u", commit))
        seed_submodules(worktree, worktree.git_dir.parent.parent, commit)
        self._stamp(worktree)

    def switch(self, worktree: Worktree, commit: str, *, may_keep: bool, is_exact: bool = False) -> None:
        """Detach at `commit` and clean; with `is_exact`, trust nothing that other commands wrote to the index."""
        self._change(worktree, commit, may_keep=may_keep, is_exact=is_exact)

    def start_branch(self, worktree: Worktree, branch: str, start: str, *, may_keep: bool) -> None:
        """Create `branch` at `start`, check it out and clean. Raises GitError if the branch exists."""
        # Create it, never move it: a branch created since the last check may contain work.
        worktree.git.run("branch", "--no-track", "--", branch, commit_only(start))
        self._change(worktree, start, may_keep=may_keep)
        _attach(worktree, branch)

    def continue_branch(self, worktree: Worktree, branch: str, *, may_keep: bool) -> None:
        """Check out the existing `branch` and clean. Raises GitError if it does not exist."""
        commit = worktree.git.resolve(branch_ref(branch))
        if commit is None:
            raise GitError(("checkout", branch), 1, f"there is no branch {branch}")
        self._change(worktree, commit, may_keep=may_keep)
        _attach(worktree, branch)

    def _change(self, worktree: Worktree, commit: str, *, may_keep: bool, is_exact: bool = False) -> None:
        with self._slots.change():
            before = self._keeping.digest(worktree.path)
            git = self._isolation.checking_out(worktree)
            forget_sparse_settings(worktree)
            if is_exact and self._stamps.get(worktree.git_dir) != read_stamp(
                worktree.git_dir / "index", follows_links=True
            ):
                _read_files_again(git, worktree)
            empty_submodules(worktree)
            words = ("checkout", "--quiet", "--force", "--detach", commit_only(commit), "--")
            self._hear(git.run(*PARALLEL, *words))
            is_same = may_keep and before == self._keeping.digest(worktree.path)
            self._clean(worktree, self._keeping.list_exclusions() if is_same else [])
            seed_submodules(worktree, worktree.git_dir.parent.parent, commit)
            self._stamp(worktree)

    def take_warnings(self) -> list[str]:
        """Errors of failed filters that are not `required`, each returned once."""
        taken, self._complaints = self._complaints, []
        return taken

    def _hear(self, result: Result) -> None:
        for line in result.stderr.splitlines():
            if line.startswith("error: external filter"):
                said = line.removeprefix("error: ")
                self._complaints.append(
                    f"Git wrote files to worktrees without their filter: {said}. Fix it and run again."
                )

    def _stamp(self, worktree: Worktree) -> None:
        self._stamps[worktree.git_dir] = _read_index_stamp(worktree)

    def _clean(self, worktree: Worktree, exclusions: Sequence[str]) -> None:
        # Forced twice, because git otherwise skips a clone that an agent made inside the worktree.
        command = ("clean", "-ffdxq", *exclusions)
        try:
            worktree.git.run(*command)
        except GitError:
            make_writable(worktree.path)
            worktree.git.run(*command)


def forget_sparse_settings(worktree: Worktree) -> None:
    """Remove what makes a worktree sparse: `git worktree add` copies it from the user's checkout, which keeps it."""
    (worktree.git_dir / "config.worktree").unlink(missing_ok=True)
    (worktree.git_dir / "info" / "sparse-checkout").unlink(missing_ok=True)
    with suppress(OSError):
        (worktree.git_dir / "info").rmdir()


def empty_submodules(worktree: Worktree) -> None:
    """Empty submodules, as in a new worktree: a populated one stays at its commit when the superproject changes."""
    if not (worktree.path / ".gitmodules").exists():
        return
    for row in worktree.git.text("ls-files", "--stage", "-z").split("\0"):
        about, _, path = row.partition("\t")
        place = worktree.path / path
        if about.startswith(_SUBMODULE) and place.is_dir() and not place.is_symlink():
            make_writable(place)
            shutil.rmtree(place)
            place.mkdir()


def _read_index_stamp(worktree: Worktree) -> object:
    """The stamp of the index file; a different value means that something wrote it."""
    return read_stamp(worktree.git_dir / "index", follows_links=True)


def _attach(worktree: Worktree, branch: str) -> None:
    worktree.git.run("symbolic-ref", "-m", f"coordinator: check out {branch}", "HEAD", f"refs/heads/{branch}")


def _read_files_again(git: Git, worktree: Worktree) -> None:
    """Compare every file by content: an index can hide files, or vouch for bytes that another git command wrote."""
    (worktree.git_dir / "index").unlink(missing_ok=True)
    git.run("read-tree", "HEAD")
    git.run("update-index", "-q", "--refresh", accept=(0, 1))
