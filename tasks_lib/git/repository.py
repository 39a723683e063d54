"""Opens a repository and locates its directories; raises errors that say why it cannot be used."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tasks_lib.errors import GitError, InputError
from tasks_lib.git.environment_settings import read_environment_settings
from tasks_lib.git.git_program import MINIMUM_VERSION, find_version
from tasks_lib.git.ref_names import HEADS, branch_ref
from tasks_lib.git.repository_lock import admin_lock
from tasks_lib.git.runner import Git, Layout
from tasks_lib.process.files import write_atomically

COORDINATOR_IDENTITY = {
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    for part, value in (("NAME", "Coordinator"), ("EMAIL", "coordinator@localhost"))
}
"""The environment for git that sets the author and committer when no identity is configured."""

_ROLES = ("AUTHOR", "COMMITTER")
_EXCLUDED = "/.worktrees/"

STATE_DIR = "coordinator"
"""The name of Coordinator's own directory in the directory that all worktrees share."""


class Repository:
    """A repository and its directories; `git` runs in `top`.

    `top` is the main working tree, or the git directory of a bare repository; `common_dir` is the git directory that
    all worktrees share; `state_dir` is Coordinator's own directory in it. `worktrees_dir` is `.worktrees` in the main
    working tree, or `.worktrees/<name>` next to a bare repository, since one directory may contain several. All paths
    are absolute, without symbolic links. `hash_bytes` is the length of an object id in bytes: 20, or 32 with SHA-256.
    """

    def __init__(self, top: Path, common_dir: Path, *, is_bare: bool = False, hash_bytes: int = 20) -> None:
        self.top: Path = top
        self.common_dir: Path = common_dir
        self.is_bare: bool = is_bare
        self.hash_bytes: int = hash_bytes
        self.state_dir: Path = common_dir / STATE_DIR
        self.worktrees_dir: Path = common_dir.parent / ".worktrees" / common_dir.name if is_bare else top / ".worktrees"
        # Named, since git may be set up not to discover bare repositories (`safe.bareRepository`).
        place = {"GIT_DIR": str(common_dir)} if is_bare else {}
        self.git: Git = Git(top, variables=place, layout=Layout(common_dir, "sha256" if hash_bytes == 32 else "sha1"))

    @staticmethod
    def open(path: Path) -> "Repository":
        """Open the repository that contains `path`: its top, a directory below it, or a linked worktree.

        Raises InputError if `path` is not a directory or not in a repository, if the repository has no commit, or if
        git is too old.
        """
        if not path.is_dir():
            raise InputError([f"{path} is not a directory. Name the directory of a git repository."])
        _require_version()
        git = _open_git(path)
        found = _locate(git, path)
        top, is_bare = (found.top, False) if found.top else _find_top(git, found.common_dir, is_main=found.is_main)
        hash_bytes = 32 if found.object_format == "sha256" else 20
        repository = Repository(top, found.common_dir, is_bare=is_bare, hash_bytes=hash_bytes)
        _require_usable(repository)
        return repository

    def prepare(self) -> None:
        """Create the state directory and `logs/` in it. Raises InputError if the repository is not writable."""
        try:
            (self.state_dir / "logs").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"{self.common_dir} cannot be written ({error.strerror}); a run keeps its state there"
            raise InputError([message]) from error

    def default_target(self) -> str:
        """Return the target branch to use when none is set: the one checked out in the main working tree.

        If HEAD is detached or its branch has no commit, the first of `init.defaultBranch`, `main` and `master` that
        exists. Raises InputError if none does.
        """
        named = self.git.follow("HEAD").removeprefix(HEADS)
        if named and self.branch_head(named):
            return named
        configured = self.git.run("config", "--get", "init.defaultBranch", accept=(0, 1)).text
        for branch in (configured, "main", "master"):
            if branch and self.branch_head(branch):
                return branch
        raise InputError(
            [f"{self.top} has no branch checked out, and none called main or master. Set `target` to a branch."]
        )

    def exclude_worktrees(self) -> None:
        """Make git ignore `.worktrees/` in this clone by adding it to `info/exclude`, keeping the existing lines."""
        path = self.common_dir / "info" / "exclude"
        with admin_lock(self):
            content = path.read_bytes() if path.exists() else b""
            if _EXCLUDED.encode() in content.splitlines():
                return
            path.parent.mkdir(exist_ok=True)
            gap = b"\n" if content and not content.endswith(b"\n") else b""
            write_atomically(path, content + gap + _EXCLUDED.encode() + b"\n")

    def identity(self) -> dict[str, str]:
        """Return the environment to commit with: empty if git's configuration files contain an identity.

        One that only the environment gives is returned, as agents do not get these variables. Without any, it is
        COORDINATOR_IDENTITY.
        """
        found = {role: self.git.run("var", f"GIT_{role}_IDENT", accept=(0, 1, 128)) for role in _ROLES}
        if any(said.status for said in found.values()):
            return dict(COORDINATOR_IDENTITY)
        return _write_identity({role: said.text for role, said in found.items()}) if _has_identity() else {}

    def branch_head(self, branch: str) -> str | None:
        """Return the commit at the tip of `branch`, or None if there is no such branch."""
        return self.git.resolve(branch_ref(branch))


def _has_identity() -> bool:
    """Whether the environment says who commits, by git's variables or settings."""
    named = {"EMAIL", *COORDINATOR_IDENTITY} & os.environ.keys()
    settings = (key.lower() for key, _ in read_environment_settings(os.environ))
    return bool(named) or any(key.startswith(("user.", "author.", "committer.")) for key in settings)


def _write_identity(said: Mapping[str, str]) -> dict[str, str]:
    """Return the variables for what git says of each role, `Ann <ann@example.org> 1700000000 +0000`."""
    people = {role: text.rpartition(">")[0].rpartition(" <") for role, text in said.items()}
    return {
        f"GIT_{role}_{part}": value
        for role, (name, _, address) in people.items()
        for part, value in (("NAME", name), ("EMAIL", address))
    }


def _require_version() -> None:
    try:
        version = find_version()
    except OSError as error:
        raise InputError(["git is not on PATH. Install git 2.38 or newer."]) from error
    if version < MINIMUM_VERSION:
        has, needs = (".".join(map(str, parts)) for parts in (version, MINIMUM_VERSION))
        raise InputError([f"git {has} is too old: {needs} or newer is required (merge-tree --write-tree)."])


def _explain_unusable(path: Path, error: GitError) -> str:
    lines = error.stderr.strip().splitlines()
    said = " ".join(lines[:2]).split(" To add an exception")[0].removeprefix("fatal: ").replace("\t", "").rstrip(".")
    if "dubious ownership" in error.stderr:
        # Git's last line is the command, with the directory as git expects it.
        advice = f"If you trust it: {lines[-1].strip()}"
    elif "not a git repository" in error.stderr:
        advice = "`git init` creates one."
    elif "safe.bareRepository" in error.stderr:
        advice = "It is inside another repository; if you trust it: `git config --global safe.bareRepository all`"
    else:
        advice = "Try a newer git, or repair the repository."
    return f"{path} cannot be used as a git repository: {said}. {advice}"


class _Place(NamedTuple):
    common_dir: Path
    is_main: bool
    object_format: str
    top: Path | None
    """Known only if it is the main working tree."""


def _open_git(path: Path) -> Git:
    """Return git for `path`, which names a bare repository where `safe.bareRepository` keeps git from discovering it.

    Not one inside the worktree of another repository, which is what the setting protects from: such a one may have
    come with a clone.
    """
    git = Git(path)
    if (
        (path / "HEAD").is_file()
        and (path / "objects").is_dir()
        and not any((up / ".git").exists() for up in path.resolve().parents)
    ):
        refused = git.run("rev-parse", "--git-dir", accept=(0, 128))
        if refused.status and "safe.bareRepository" in refused.stderr:
            return Git(path, variables={"GIT_DIR": str(path)})
    return git


def _locate(git: Git, path: Path) -> _Place:
    """Return where the repository of `path` is. Raises InputError if git cannot say it."""
    words = ("--show-object-format", "--git-common-dir", "--git-dir")
    absolute = ("rev-parse", "--path-format=absolute")
    found = git.run(*absolute, *words, "--show-toplevel", accept=(0, 128)).text.split("\n")
    top = found.pop() if len(found) > len(words) else ""
    if len(found) != len(words):  # Git refused, or a path has a line break in it.
        top = ""
        try:
            found = [git.text(*absolute, word) for word in words]
        except GitError as error:
            raise InputError([_explain_unusable(path, error)]) from error
    common_dir, git_dir = (Path(place).resolve() for place in found[1:])
    is_main = common_dir == git_dir
    return _Place(common_dir, is_main, found[0], Path(top).resolve() if top and is_main else None)


def _find_top(git: Git, common_dir: Path, *, is_main: bool) -> tuple[Path, bool]:
    if is_main:
        top = git.run("rev-parse", "--show-toplevel", accept=(0, 128))
        if top.status == 0:
            return Path(top.text).resolve(), False
    # With `extensions.worktreeConfig` the main worktree's settings are in a file of their own, which git knows.
    main = Git(common_dir, variables={"GIT_DIR": str(common_dir)})
    if main.text("rev-parse", "--is-bare-repository") == "true":
        return common_dir, True
    # A submodule's git directory, or one made with --separate-git-dir, records where its working tree is.
    setting = main.run("config", "--get", "core.worktree", accept=(0, 1)).text
    return (common_dir / setting).resolve() if setting else common_dir.parent, False


def _require_usable(repository: Repository) -> None:
    git, top = repository.git, repository.top
    # Not `rev-list --all`: it fails on the HEAD of a worktree that a run is adding at that moment.
    has_ref = git.text("for-each-ref", "--count=1", "--format=%(objectname)")
    if not has_ref and git.resolve("HEAD") is None:
        raise InputError([f"{top} has no commit yet. Commit something first: worktrees start from a commit."])
    # Git takes the extension from this file alone.
    is_said = b"refstorage" in (repository.common_dir / "config").read_bytes().lower()
    storage = git.run("config", "--get", "extensions.refStorage", accept=(0, 1)).text if is_said else ""
    if storage not in ("", "files"):
        raise InputError(
            [f"{top} stores its refs as {storage}. Run `git refs migrate --ref-format=files` to make it usable."]
        )
