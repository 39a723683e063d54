"""Merges and verify worktrees depend on commits alone, whatever else the repository contains."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks_lib.git.commits.isolated_git import IsolatedGit
from tasks_lib.git.commits.merge_tree import Conflict, merge_trees
from tasks_lib.git.objects.object_database import Objects
from tasks_lib.git.repository import Repository
from tasks_lib.git.runner import Git
from tasks_lib.git.worktrees.lifecycle import VERIFY, Worktree, Worktrees

UNION = "*.txt merge=union\n"
FILES = {
    "README.md": "# Example\n",
    "log.txt": "first\nlast\n",
    "run.sh": "#!/bin/sh\n",
    "src/a.py": "a = 1\n",
    "tests/test_a.py": "from src import a\n",
}


def write(repository: Repository, name: str, text: str) -> Path:
    path = repository.top / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def commit(repository: Repository, files: dict[str, str], subject: str = "Change") -> str:
    for name, text in files.items():
        write(repository, name, text)
    repository.git.run("add", "--all")
    repository.git.run("commit", "--quiet", "--message", subject)
    return repository.git.text("rev-parse", "HEAD")


def set_up(repository: Repository) -> str:
    write(repository, "run.sh", FILES["run.sh"]).chmod(0o755)
    (repository.top / "link").symlink_to("src/a.py")
    return commit(repository, FILES)


def part(repository: Repository) -> tuple[str, str]:
    """Make two commits that change the same lines of log.txt; `main` is checked out at the first."""
    base = set_up(repository)
    head = commit(repository, {"log.txt": "first\nours\nlast\n"})
    repository.git.run("checkout", "--quiet", "-b", "side", base)
    branch = commit(repository, {"log.txt": "first\ntheirs\nlast\n"})
    repository.git.run("checkout", "--quiet", "main")
    return head, branch


def merge(repository: Repository, head: str, branch: str) -> tuple[str, ...]:
    """The conflicting paths."""
    with Objects(repository.git) as objects:
        merged = merge_trees(IsolatedGit(repository.git), objects, head, branch)
    assert not isinstance(merged, Conflict)
    return merged.conflicted


# Merges.


def leave_uncommitted(repository: Repository) -> None:
    write(repository, ".gitattributes", UNION)


def stage(repository: Repository) -> None:
    write(repository, ".gitattributes", UNION)
    repository.git.run("add", ".gitattributes")


def put_into_info(repository: Repository) -> None:
    (repository.common_dir / "info").mkdir(exist_ok=True)
    (repository.common_dir / "info" / "attributes").write_text(UNION)


def name_a_file(repository: Repository) -> None:
    write(repository, "../mine", UNION)
    repository.git.run("config", "core.attributesFile", str(repository.top.parent / "mine"))


def make_it_the_default(repository: Repository) -> None:
    repository.git.run("config", "merge.default", "union")


def put_it_below(repository: Repository) -> None:
    write(repository, "src/.gitattributes", UNION)
    write(repository, "src/log.txt", "")


def replace_head(repository: Repository) -> None:
    """Replace a blob so that both sides would be the same."""
    ours, theirs = (repository.git.text("rev-parse", f"{name}:log.txt") for name in ("main", "side"))
    repository.git.run("replace", theirs, ours)


BESIDE: dict[str, Callable[[Repository], None]] = {
    "uncommitted attributes": leave_uncommitted,
    "staged attributes": stage,
    "info/attributes": put_into_info,
    "core.attributesFile": name_a_file,
    "merge.default": make_it_the_default,
    "attributes of another folder": put_it_below,
    "replace refs": replace_head,
}


@pytest.mark.parametrize("change", BESIDE.values(), ids=BESIDE.keys())
def test_nothing_beside_the_commits_resolves_a_conflict(
    repository: Repository, change: Callable[[Repository], None]
) -> None:
    head, branch = part(repository)
    change(repository)
    assert merge(repository, head, branch) == ("log.txt",)


def test_renames_are_found_whatever_a_person_prefers(repository: Repository) -> None:
    base = commit(repository, {"old.txt": "".join(f"line {n}\n" for n in range(30))})
    repository.git.run("mv", "old.txt", "new.txt")
    head = commit(repository, {})
    repository.git.run("checkout", "--quiet", "-b", "side", base)
    branch = commit(repository, {"old.txt": "".join(f"line {n}\n" for n in range(31))})
    repository.git.run("config", "merge.renames", "false")
    assert merge(repository, head, branch) == ()


def test_attributes_of_the_head_count_whatever_is_checked_out(repository: Repository) -> None:
    head, branch = part(repository)
    head = commit(repository, {".gitattributes": UNION})
    repository.git.run("checkout", "--quiet", "side")
    assert merge(repository, head, branch) == ()


def test_attributes_below_a_folder_of_the_head_count(repository: Repository) -> None:
    commit(repository, {"deep/log.txt": "first\nlast\n", "deep/.gitattributes": UNION})
    base = repository.git.text("rev-parse", "HEAD")
    head = commit(repository, {"deep/log.txt": "first\nours\nlast\n"})
    repository.git.run("checkout", "--quiet", "-b", "side", base)
    branch = commit(repository, {"deep/log.txt": "first\ntheirs\nlast\n"})
    assert merge(repository, head, branch) == ()


def test_attributes_that_only_the_branch_has_do_not_decide_its_own_merge(repository: Repository) -> None:
    head, _ = part(repository)
    repository.git.run("checkout", "--quiet", "side")
    branch = commit(repository, {".gitattributes": UNION})
    assert merge(repository, head, branch) == ("log.txt",)


def test_attributes_that_are_a_link_are_passed_over(repository: Repository) -> None:
    head, branch = part(repository)
    write(repository, "rules", UNION)
    (repository.top / ".gitattributes").symlink_to("rules")
    head = commit(repository, {})
    assert merge(repository, head, branch) == ("log.txt",)


def test_driver_that_the_head_names_and_the_person_has_runs(repository: Repository) -> None:
    head, branch = part(repository)
    head = commit(repository, {".gitattributes": "log.txt merge=ours\n"})
    assert merge(repository, head, branch) == ("log.txt",)
    repository.git.run("config", "merge.ours.driver", "true")
    assert merge(repository, head, branch) == ()


def test_copy_of_the_attributes_that_somebody_changed_is_written_again(repository: Repository, tmp_path: Path) -> None:
    head, branch = part(repository)
    head = commit(repository, {".gitattributes": "*.md text\n"})
    with Objects(repository.git) as objects:
        isolation = IsolatedGit(repository.git, tmp_path / "alone")
        for _ in range(2):
            merged = merge_trees(isolation, objects, head, branch)
            assert not isinstance(merged, Conflict)
            assert merged.conflicted == ("log.txt",)
            (copy,) = (tmp_path / "alone" / "attributes").glob("*/.gitattributes")
            copy.write_text(UNION)


def test_merge_works_in_a_shallow_and_in_a_bare_repository(repository: Repository, tmp_path: Path) -> None:
    head, branch = part(repository)
    for name, options in {"bare": ["--bare"], "shallow": ["--depth=2", "--no-single-branch"]}.items():
        place = tmp_path / name
        repository.git.run("clone", "--quiet", *options, f"file://{repository.top}", str(place))
        git = Git(place)
        with Objects(git) as objects:
            merged = merge_trees(IsolatedGit(git), objects, head, branch)
        assert not isinstance(merged, Conflict)
        assert merged.conflicted == ("log.txt",)


# Worktrees.


def read_files(place: Path) -> dict[str, bytes]:
    files = (path for path in place.rglob("*") if path.name != ".git" and (path.is_symlink() or path.is_file()))
    return {str(path.relative_to(place)): _read(path) for path in files}


def _read(path: Path) -> bytes:
    mode = b"x" if path.stat().st_mode & 0o100 and not path.is_symlink() else b"-"
    return b"-> " + bytes(path.readlink()) if path.is_symlink() else mode + path.read_bytes()


def sh(repository: Repository, lines: str) -> None:
    subprocess.run(["/bin/sh", "-ec", lines], cwd=repository.top, check=True)


SETTINGS = {
    "sparse checkout in cone mode": "git sparse-checkout set src",
    "sparse checkout by patterns": "git sparse-checkout set --no-cone '/*' '!/tests/'",
    "sparse index": "git sparse-checkout set --sparse-index src",
    "sparse by hand, for all worktrees": (
        "git config core.sparseCheckout true; mkdir -p .git/info; echo /src/ > .git/info/sparse-checkout"
    ),
    "settings for one worktree": (
        "git config extensions.worktreeConfig true; git config --worktree core.sparseCheckout true;"
        "mkdir -p .git/info; echo /src/ > .git/info/sparse-checkout"
    ),
    "line ends": "git config core.autocrlf true; git config core.eol crlf",
    "line ends by attributes of the person": "mkdir -p .git/info; echo '* text eol=crlf' > .git/info/attributes",
    "a filter by attributes of the person": (
        "mkdir -p .git/info; echo 'tests/** filter=nothing' > .git/info/attributes;"
        "git config filter.nothing.smudge 'cat > /dev/null'; git config filter.nothing.clean cat"
    ),
    "a file of attributes": ("echo '* text eol=crlf' > ../mine; git config core.attributesFile \"$(cd ..; pwd)/mine\""),
    "no symbolic links": "git config core.symlinks false",
    "no modes": "git config core.fileMode false",
    "no case": "git config core.ignoreCase true",
    "a split index": "git config core.splitIndex true",
    "many files": "git config feature.manyFiles true",
    "replaced objects": "git replace $(git rev-parse HEAD:tests/test_a.py) $(git rev-parse HEAD:README.md)",
}


@pytest.mark.parametrize("purpose", [VERIFY, "branch"])
@pytest.mark.parametrize("lines", SETTINGS.values(), ids=SETTINGS.keys())
def test_worktree_holds_what_the_commit_holds(repository: Repository, lines: str, purpose: str) -> None:
    start = set_up(repository)
    expected = read_files(repository.top) | {"later.py": b"-later\n"}
    expected = {name: data for name, data in expected.items() if not name.startswith(".git/")}
    later = commit(repository, {"later.py": "later\n"})
    sh(repository, lines)
    before = repository.git.text("ls-files", "-v"), (repository.common_dir / "config").read_bytes()
    worktrees = Worktrees(repository)
    if purpose == VERIFY:
        opened = worktrees.open_detached(start, VERIFY)
        worktrees.switch(opened, later)
    else:
        worktrees.release(worktrees.open_branch("feat/a", start))
        opened = worktrees.open_branch("feat/b", later)
    assert read_files(opened.path) == expected
    assert opened.git.text("rev-parse", "HEAD") == later
    assert (repository.git.text("ls-files", "-v"), (repository.common_dir / "config").read_bytes()) == before


def test_filter_finds_what_it_keeps_beside_the_commits_and_is_not_told_to_skip(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with Git LFS: its content is in the git directory, and an environment variable can make it skip smudging."""
    start = commit(repository, {"big.bin": "pointer\n", ".gitattributes": "*.bin filter=far\n"})
    monkeypatch.setenv("GIT_LFS_SKIP_SMUDGE", "1")
    smudge = '[ "$GIT_LFS_SKIP_SMUDGE" = 1 ] && cat || cat "$(git rev-parse --git-common-dir)/lfs/big"'
    repository.git.run("config", "filter.far.smudge", smudge)
    repository.git.run("config", "filter.far.required", "true")
    repository.git.run("config", "filter.far.clean", "echo pointer")
    (repository.common_dir / "lfs").mkdir()
    (repository.common_dir / "lfs" / "big").write_text("content\n")
    worktrees = Worktrees(repository)
    for opened in (worktrees.open_detached(start, VERIFY), worktrees.open_branch("feat/a", start)):
        assert (opened.path / "big.bin").read_text() == "content\n"


def test_file_system_is_tried_outside_of_the_worktree_where_a_kill_would_leave_files(repository: Repository) -> None:
    start = commit(repository, FILES)
    opened = Worktrees(repository).open_branch("feat/a", start)
    before = opened.path.stat().st_mtime_ns
    assert IsolatedGit(repository.git).checking_out(opened).text("status", "--porcelain") == ""
    assert opened.path.stat().st_mtime_ns == before


def hide_by_bits(worktree: Worktree) -> None:
    worktree.git.run("update-index", "--skip-worktree", "README.md")
    worktree.git.run("update-index", "--assume-unchanged", "src/a.py")
    (worktree.path / "README.md").write_text("hidden\n")
    (worktree.path / "src/a.py").write_text("hidden\n")


def make_sparse(worktree: Worktree) -> None:
    worktree.git.run("sparse-checkout", "set", "src")


def vouch_for_other_bytes(worktree: Worktree) -> None:
    """Have a git with other settings write files and an index that claims they are unchanged."""
    worktree.git.run("-c", "core.autocrlf=true", "rm", "--quiet", "-r", "--force", ".")
    worktree.git.run("-c", "core.autocrlf=true", "reset", "--hard", "--quiet")


def swap(worktree: Worktree) -> None:
    (worktree.path / "run.sh").chmod(0o644)
    (worktree.path / "link").unlink()
    (worktree.path / "link").write_text("src/a.py")
    worktree.git.run("-c", "core.fileMode=false", "-c", "core.symlinks=false", "update-index", "-q", "--refresh")


SPOILED = {
    "files hidden in the index": hide_by_bits,
    "sparse": make_sparse,
    "bytes of another git": vouch_for_other_bytes,
    "modes and links": swap,
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED.keys())
@pytest.mark.parametrize("way", ["switched", "pooled"])
def test_what_a_verification_did_to_its_worktree_is_not_there_for_the_next(
    repository: Repository, spoil: Callable[[Worktree], None], way: str
) -> None:
    start = set_up(repository)
    worktrees = Worktrees(repository)
    opened = worktrees.open_detached(start, VERIFY)
    expected = read_files(opened.path)
    later = commit(repository, {"later.py": "later\n"})
    spoil(opened)
    if way == "pooled":
        worktrees.release(opened)
        opened = worktrees.open_detached(later, VERIFY)
    else:
        worktrees.switch(opened, later)
    assert read_files(opened.path) == expected | {"later.py": b"-later\n"}


def test_whole_commits_are_merged_in_one_place_and_looked_ahead_at_in_another() -> None:
    root = Path(__file__).parents[2]
    users = [
        path.name
        for folder in ("tasks_lib", "flows")
        for path in (root / folder).rglob("*.py")
        if '"merge-tree"' in path.read_text()
    ]
    assert sorted(users) == ["merge_tree.py", "pair_merges.py"]
