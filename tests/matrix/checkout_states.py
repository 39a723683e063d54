"""A repository with the user's state in it, and that state as one value: every byte that publishing could touch."""

import os
import re
import shutil
import subprocess
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from checker_traces import git, read_blobs, text

from tasks_lib.git.publish.local_branch import AlreadyThere, Pending, Published, publish
from tasks_lib.git.runner import Git

BASE = """
printf 'old\\n' > landed.txt; printf 'mine\\n' > mine.txt; printf 'staged\\n' > staged.txt; printf 'gone\\n' > gone.txt
printf '#!/bin/sh\\n' > run.sh; ln -s mine.txt link; printf 'file\\n' > swap; mkdir deep; printf 'a\\n' > deep/a.txt
printf 'b\\n' > deep/b.txt; printf 'x\\n' > Case.txt; printf '*.log\\nbuild/\\n.worktrees/\\n' > .gitignore
"""
HEADS = {
    "plain": "printf 'new\\n' > landed.txt; printf 'added\\n' > added.txt; mkdir folder; printf 'f\\n' > folder/new.txt;"
    "rm gone.txt; chmod +x run.sh; ln -sf landed.txt link",
    "file to folder": "rm swap; mkdir swap; printf 'inner\\n' > swap/inner.txt",
    "folder to file": "rm -r deep; printf 'deep\\n' > deep",
    "file to link": "rm swap; ln -s deep/a.txt swap",
    "ignored file": "printf 'landed log\\n' > x.log; printf 'new\\n' > landed.txt",
    "ignored folder": "mkdir build; printf 'landed\\n' > build/out.txt",
    "file like an ignored folder": "printf 'landed\\n' > build",
    "folder like an ignored file": "mkdir x.log; printf 'landed\\n' > x.log/inner.txt",
    "other case": "mv Case.txt case.txt",
}
"""The commits that land, as shell lines on top of the base; each is a branch `heads/<number>` of the template."""
MOVED = "moved"
ADMIN_PASSED_OVER = {"objects", "coordinator"}
MOVES = ("index", "ORIG_HEAD", "logs/HEAD", "refs/heads/main", "logs/refs/heads/main")
"""The files of the git directory that change when `main` moves: the ref, its reflog and HEAD's, the index."""


def make_template(top: Path) -> Path:
    """Make a repository on `main` with one commit, and a branch for each of HEADS."""
    top.mkdir()
    run = UserCheckout(top).run
    run("git init -q -b main; git config user.name Ada; git config user.email ada@example.org; git config gc.auto 0")
    run(f"{BASE} git add -A; git commit -q -m Begin; git tag start")
    for number, script in enumerate(HEADS.values()):
        run(f"git checkout -q -b heads/{number} main; {script}; git add -A -f; git commit -q -m 'Land {number}'")
    run("git checkout -q -b topic main; printf 'topic\\n' > landed.txt; git commit -q -a -m Topic")
    run("printf 'more\\n' >> landed.txt; git commit -q -a -m More; git checkout -q main")
    return top


@dataclass(frozen=True, slots=True)
class State:
    """The user's entire state in one checkout and its repository.

    `files` maps each path of the working tree, ignored ones included, to its mode and bytes; `admin` does so for every
    file of the git directory except objects: index, HEAD, refs, reflogs, stash; `entries` is the index with its flags.
    """

    files: Mapping[str, tuple[str, bytes]]
    admin: Mapping[str, tuple[str, bytes]]
    entries: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class UserCheckout:
    """A repository at `top` in which the user runs shell lines."""

    top: Path

    @staticmethod
    def copy(template: Path, top: Path) -> "UserCheckout":
        shutil.copytree(template, top, symlinks=True)
        repo = UserCheckout(top)
        # The copies' inodes differ from those in the index; without a refresh, reading the state would rewrite the index.
        repo.run("git update-index -q --refresh")
        return repo

    def run(self, script: str, at: Path | None = None, accept: Collection[int] = (0,)) -> str:
        """Run a shell line as the user would; return its output."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_") or k.startswith("GIT_CONFIG_")}
        done = subprocess.run(
            ["sh", "-ec", script],
            cwd=at or self.top,
            env={**environment, "LC_ALL": "C", "GIT_EDITOR": "true"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode in accept, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout.rstrip("\n")

    def fails(self, script: str) -> None:
        """Run a shell line in which git stops with a conflict."""
        self.run(f"{script} && exit 9 || :")

    def head_of(self, name: str) -> str:
        """The commit to land, by its name in HEADS."""
        return text(self.top, "rev-parse", f"heads/{list(HEADS).index(name)}")

    def tip(self, revision: str = "main") -> str:
        return text(self.top, "rev-parse", f"{revision}^{{commit}}")

    def publish(self, head: str, target: str = "main") -> Published | Pending | AlreadyThere:
        return publish(Git(self.top), target, head)

    def read_state(self, checkout: Path | None = None) -> State:
        """Read the state of this checkout or a linked worktree without changing anything."""
        at = checkout or self.top
        if not (at / ".git").exists():
            return State({}, _read_files(at, ADMIN_PASSED_OVER), {})
        return State(_read_files(at, {".git"}), _read_files(self.top / ".git", ADMIN_PASSED_OVER), read_entries(at))


def _read_files(top: Path, passed_over: Collection[str]) -> dict[str, tuple[str, bytes]]:
    """Read every file below `top`, skipping files and directories named in `passed_over`."""
    found: dict[str, tuple[str, bytes]] = {}
    for folder, folders, names in os.walk(top):
        folders[:] = [name for name in folders if name not in passed_over]
        links = [name for name in folders if Path(folder, name).is_symlink()]
        paths = [Path(folder, name) for name in (*names, *links) if name not in passed_over]
        found |= {path.relative_to(top).as_posix(): read_one(path) for path in paths}
    return found


def read_one(path: Path) -> tuple[str, bytes]:
    """Return the file's mode as git writes it, and its bytes."""
    if path.is_symlink():
        return "120000", os.fsencode(path.readlink())
    return ("100755" if path.stat().st_mode & 0o100 else "100644"), path.read_bytes()


def read_entries(top: Path) -> dict[str, str]:
    """Map each path of the index to its flag, mode, blob and stage."""
    rows = git(top, "ls-files", "-v", "-s", "-z").decode("utf-8", "surrogateescape").split("\0")
    return {row.partition("\t")[2] + "\0" + row.partition("\t")[0][-1:]: row.partition("\t")[0] for row in rows if row}


def expect_moved(
    repo: UserCheckout, before: State, base: str, head: str, *, at: Path | None = None, kept: Collection[str] = ()
) -> None:
    """Assert that exactly the changes from `base` to `head` were made, to the byte, and nothing else.

    The files in `kept` are still the user's, although the commit changed.
    """
    after = repo.read_state(at)
    files, entries = dict(before.files), dict(before.entries)
    changes = list_changes(repo.top, base, head)
    blobs = read_blobs(repo.top, {blob for _, _, blob in changes if blob})
    for path, mode, blob in changes:
        if path not in kept:
            files.pop(path, None)
        entries.pop(f"{path}\0000", None)
        if blob:
            files.setdefault(path, (mode, blobs[blob]))
            entries[f"{path}\0000"] = f"H {mode} {blob} 0"
    assert after.files == files
    assert after.entries == entries
    assert repo.tip() == head
    expect_admin(before, after, MOVES)


def list_changes(top: Path, base: str, head: str) -> list[tuple[str, str, str]]:
    """List path, new mode and new blob ("" if deleted) of each difference between two commits."""
    fields = text(top, "diff-tree", "-r", "-z", "--no-renames", base, head).split("\0")
    pairs = [(meta.split(), path) for meta, path in zip(fields[::2], fields[1::2], strict=False)]
    return [(path, meta[1], "" if meta[1] == "000000" else meta[3]) for meta, path in pairs]


def expect_untouched(repo: UserCheckout, before: State, at: Path | None = None) -> None:
    """Assert that not one byte changed: no file, nothing staged, no ref, nothing in the git directory."""
    after = repo.read_state(at)
    assert after.files == before.files
    assert after.entries == before.entries
    expect_admin(before, after, ())


def expect_admin(before: State, after: State, moves: Collection[str]) -> None:
    """Assert that the files of the git directory are unchanged apart from `moves`."""
    names = before.admin.keys() | after.admin.keys()
    changed = {name for name in names if before.admin.get(name) != after.admin.get(name)}
    changed -= {name for name in changed if moves and name.startswith("sharedindex.")}
    unexpected = {name for name in changed if re.sub(r"^worktrees/[^/]+/", "", name) not in moves}
    assert unexpected == set()
