"""The user's worktrees, directories, branches and locks stay as they are, wherever they are and whatever they are."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from run_locks import reconcile

from tasks_lib.errors import InputError
from tasks_lib.git.repository import Repository
from tasks_lib.git.repository_lock import RunLock
from tasks_lib.git.worktree_admin import MAKING, SLOT_NAME, list_entries
from tasks_lib.git.worktrees.lifecycle import Worktrees

SOURCES = Path(__file__).parents[2] / "tasks_lib"


def head_of(repository: Repository) -> str:
    found = repository.branch_head("main")
    assert found
    return found


def read_tree(*places: Path) -> dict[str, bytes]:
    """Map every file, link and directory at and below `places` to its bytes."""
    paths = [path for place in places for path in (place, *place.rglob("*"))]
    return {
        str(path): os.fsencode(path.readlink())
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else str(path.stat().st_ino if path.is_dir() else "none").encode()
        for path in paths
    }


def run_whole_life(repository: Repository, branches: tuple[str, ...] = ("feat/a", "feat/b")) -> list[str]:
    """Do everything that a run does with worktrees, with a pool; return the messages of its start."""
    with RunLock(repository.state_dir, "r") as held:
        worktrees = Worktrees(repository)
        said = worktrees.reconcile(held, branches)
        for branch in branches:
            worktrees.release(worktrees.open_branch(branch, head_of(repository)))
        worktrees.release(worktrees.open_detached(head_of(repository), "verify"))
        worktrees.close()
        return said


def add(repository: Repository, place: str, *words: str) -> Path:
    """Add a worktree as the user would, with a file of theirs in it; return its admin directory."""
    path = repository.worktrees_dir / place
    repository.git.run("worktree", "add", "--quiet", *words, "--", str(path), "main")
    (path / "mine.txt").write_text("mine\n")
    return repository.common_dir / "worktrees" / path.name


def begin(*left: str) -> Callable[[Repository], Path]:
    """A worktree that the user's git is still adding: only the files `left` of its admin directory exist."""

    def make(repository: Repository) -> Path:
        admin = add(repository, "wip", "--detach")
        place = repository.worktrees_dir / "wip"
        for path in admin.iterdir():
            if path.name not in left and path.is_file():
                path.unlink()
        (place / "mine.txt").unlink()
        (place / "README.md").unlink()
        if "locked" in left:
            (admin / "locked").write_text("initializing")
        if ".git" not in left:
            (place / ".git").unlink()
        return place

    return make


def lock(repository: Repository) -> Path:
    add(repository, "wip", "-b", "wip")
    place = repository.worktrees_dir / "wip"
    repository.git.run("worktree", "lock", "--reason", "on a stick", str(place))
    return place


def unmount(repository: Repository) -> Path:
    add(repository, "wip", "-b", "wip")
    (repository.worktrees_dir / "wip").rename(repository.top.parent / "disk")
    return repository.worktrees_dir / "wip"


def put_into_the_pool(repository: Repository) -> Path:
    add(repository, ".pool/1", "--detach")
    return repository.worktrees_dir / ".pool" / "1"


def put_beside_a_branch(repository: Repository) -> Path:
    add(repository, "feat/mine", "-b", "feat/mine")
    return repository.worktrees_dir / "feat" / "mine"


def make_directory(*names: str, text: str = "") -> Callable[[Repository], Path]:
    def make(repository: Repository) -> Path:
        place = repository.worktrees_dir.joinpath(*names)
        place.mkdir(parents=True)
        if text:
            (place / "mine.txt").write_text(text)
        return place

    return make


def make_half_of_a_name(repository: Repository) -> Path:
    """Make an entry of which git has so far created only the directory."""
    (repository.common_dir / "worktrees" / "wip").mkdir(parents=True)
    return repository.common_dir / "worktrees" / "wip"


FOREIGN: dict[str, Callable[[Repository], Path]] = {
    "begun, entry alone": make_half_of_a_name,
    "begun, locked": begin("locked"),
    "begun, with its place": begin("locked", "gitdir"),
    "begun, with its link": begin("locked", "gitdir", ".git"),
    "begun, with HEAD": begin("locked", "gitdir", ".git", "HEAD", "commondir"),
    "begun, unlocked": begin("gitdir", ".git", "HEAD", "commondir"),
    "locked for a reason": lock,
    "on a disk that is not mounted": unmount,
    "in the pool's directory": put_into_the_pool,
    "beside a node's": put_beside_a_branch,
    "empty directory": make_directory("disk"),
    "empty directories": make_directory("disk", "deep"),
    "directory": make_directory("notes", text="mine\n"),
    "directory in the pool": make_directory(".pool", "1", text="mine\n"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_a_person_has_below_our_directory_stays_as_it_is(repository: Repository, name: str) -> None:
    place = FOREIGN[name](repository)
    admins = repository.common_dir / "worktrees"
    before = read_tree(place, *(admins.iterdir() if admins.is_dir() else ()))
    listed = repository.git.text("worktree", "list", "--porcelain")
    for _ in range(2):
        run_whole_life(repository)
    assert read_tree(place, *(admins.iterdir() if admins.is_dir() else ())) == before
    assert repository.git.text("worktree", "list", "--porcelain") == listed


@contextmanager
def stopped_git(repository: Repository, *words: str, cwd: Path, **variables: str) -> Generator["subprocess.Popen[str]"]:
    """Start a git command of the user's that pauses midway and continues when the block ends."""
    reader, gate = repository.top.parent / "reached", repository.top.parent / "gate"
    for fifo in (reader, gate):
        os.mkfifo(fifo)
    script = repository.top.parent / "wait.sh"
    then, once = variables.pop("then", ""), repository.top.parent / "once"
    script.write_text(
        f"#!/bin/sh\n[ -e {once} ] || {{ : > {once}; echo > {reader}; cat {gate} > /dev/null; }}\n{then}\n"
    )
    script.chmod(0o755)
    environment = {**os.environ, **{name: value.format(wait=script) for name, value in variables.items()}}
    words = tuple(word.format(wait=script) for word in words)
    process = subprocess.Popen(["git", *words], cwd=cwd, env=environment, stderr=subprocess.PIPE, text=True)
    reader.read_text()
    try:
        yield process
    finally:
        gate.write_text("")
        process.communicate(timeout=300)


def test_worktree_that_a_person_adds_while_a_run_starts_is_finished_by_their_git(repository: Repository) -> None:
    (repository.common_dir / "info").mkdir(exist_ok=True)
    (repository.common_dir / "info" / "attributes").write_text("README.md filter=slow\n")
    place = repository.worktrees_dir / "wip"
    words = ["-c", "filter.slow.smudge={wait}", "worktree", "add", "-q", "-b", "wip", str(place), "main"]
    with stopped_git(repository, *words, cwd=repository.top, then="cat") as adding:
        assert (repository.common_dir / "worktrees" / "wip" / "locked").read_text() == "initializing\n"
        assert run_whole_life(repository) == []
        assert adding.poll() is None
    assert adding.returncode == 0
    assert (place / "README.md").read_text() == "# Example\n"
    assert repository.git.text("-C", str(place), "status", "--porcelain") == ""


@pytest.mark.parametrize("state", ["whole", "begun", "missing"])
def test_persons_worktree_in_the_place_of_a_node_is_refused_by_name_and_stays(
    repository: Repository, state: str
) -> None:
    admin = add(repository, "feat/a", "-b", "feat/a")
    place = repository.worktrees_dir / "feat" / "a"
    if state == "begun":
        (admin / "locked").write_text("initializing")
        (place / ".git").unlink()
    if state == "missing":
        place.rename(repository.top.parent / "disk")
    before = read_tree(admin, place)
    worktrees = Worktrees(repository)
    reconcile(worktrees, ["feat/a"])
    with pytest.raises(InputError, match=rf"{re.escape(str(place))}.* that Coordinator did not create"):
        worktrees.open_branch("feat/a", head_of(repository))
    worktrees.close()
    assert read_tree(admin, place) == before


def test_worktree_of_another_repository_in_the_way_is_refused_and_its_link_stays(
    repository: Repository, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    repository.git.run("clone", "--quiet", str(repository.top), str(other))
    place = repository.worktrees_dir / "feat" / "a"
    subprocess.run(["git", "worktree", "add", "-q", "--detach", str(place)], cwd=other, check=True)
    before = read_tree(place, other)
    with pytest.raises(InputError, match="worktree of another repository"):
        Worktrees(repository).open_branch("feat/a", head_of(repository))
    assert read_tree(place, other) == before


def test_what_is_put_aside_is_told_with_both_names(repository: Repository) -> None:
    place = repository.worktrees_dir / "feat" / "a"
    place.mkdir(parents=True)
    (place / "mine.txt").write_text("mine\n")
    told: list[str] = []
    Worktrees(repository, say=told.append).open_branch("feat/a", head_of(repository))
    kept = repository.worktrees_dir / ".kept-feat-a-1"
    assert (kept / "mine.txt").read_text() == "mine\n"
    assert [line for line in told if str(place) in line and str(kept) in line] == told != []


@pytest.mark.parametrize("name", [SLOT_NAME, "coordinator.json", "coordinator-notices.jsonl"])
def test_entry_of_an_earlier_release_is_known_by_any_of_its_files(repository: Repository, name: str) -> None:
    admin = add(repository, "feat/a", "-b", "feat/a")
    (admin / name).write_text("1\n")
    assert [entry.path for entry in list_entries(repository)] == [repository.worktrees_dir / "feat" / "a"]
    assert Worktrees(repository).open_branch("feat/a", head_of(repository)).is_resumed


def open_node(repository: Repository) -> Path:
    return Worktrees(repository).open_branch("feat/a", head_of(repository)).path


def commit_with_an_editor(repository: Repository, place: Path) -> tuple[list[str], Path, dict[str, str], str]:
    (place / "README.md").write_text("changed by hand\n")
    admin = repository.common_dir / "worktrees" / "a"
    return ["commit", "-a", "-q"], place, {"GIT_EDITOR": "{wait}", "then": 'echo Mine > "$1"'}, f"{admin}/index.lock"


def move_a_branch_with_a_hook(repository: Repository, place: Path) -> tuple[list[str], Path, dict[str, str], str]:
    del place
    hooks = repository.top.parent / "hooks"
    hooks.mkdir()
    (hooks / "reference-transaction").symlink_to(repository.top.parent / "wait.sh")
    words = ["-c", f"core.hooksPath={hooks}", "update-ref", "refs/heads/feat/b", "main"]
    return words, repository.top, {}, f"{repository.common_dir}/refs/heads/feat/b.lock"


def delete_a_branch_with_a_hook(repository: Repository, place: Path) -> tuple[list[str], Path, dict[str, str], str]:
    repository.git.run("branch", "mine")
    words, _, variables, _ = move_a_branch_with_a_hook(repository, place)
    words = [*words[:2], "-C", str(repository.top), "branch", "-q", "-D", "mine"]
    return words, repository.top.parent, variables, f"{repository.common_dir}/packed-refs.lock"


Held = Callable[[Repository, Path], tuple[list[str], Path, dict[str, str], str]]


@pytest.mark.parametrize("hold", [commit_with_an_editor, move_a_branch_with_a_hook, delete_a_branch_with_a_hook])
def test_lock_that_a_living_git_holds_is_waited_for_and_stays_however_old(repository: Repository, hold: Held) -> None:
    place = open_node(repository)
    repository.prepare()
    # Since a run died here, a lock that runs take too may be its own.
    (repository.state_dir / "lock").write_text('{"run": "dead", "started": "2020-01-01T00:00:00+00:00"}')
    words, cwd, variables, lock = hold(repository, place)
    with stopped_git(repository, *words, cwd=cwd, **variables) as holder:
        assert Path(lock).exists(), list(repository.common_dir.rglob("*.lock"))
        os.utime(lock, (time.time() - 600, time.time() - 600))
        said = reconcile(Worktrees(repository), ["feat/a", "feat/b"])
        assert Path(lock).exists()
        assert f"{lock}: is held by process {holder.pid} (git) and stays" in said
    assert holder.returncode == 0


def test_branch_that_a_living_git_holds_is_refused_by_the_name_of_its_holder(repository: Repository) -> None:
    words, cwd, variables, lock = move_a_branch_with_a_hook(repository, repository.top)
    with stopped_git(repository, *words, cwd=cwd, **variables) as holder:
        with pytest.raises(InputError, match=rf"is held by process {holder.pid} \(git\)"):
            Worktrees(repository).open_branch("feat/b", head_of(repository))
        assert Path(lock).exists()


def test_lock_that_another_program_has_open_is_held(repository: Repository) -> None:
    place = open_node(repository)
    admin = repository.common_dir / "worktrees" / "a"
    script = f"import sys; file = open({str(admin / 'index.lock')!r}, 'w'); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as editor:
        assert editor.stdout
        editor.stdout.readline()
        os.utime(admin / "index.lock", (time.time() - 600, time.time() - 600))
        (line,) = reconcile(Worktrees(repository), ["feat/a"])
        assert f"is held by process {editor.pid}" in line
        assert (admin / "index.lock").exists()
        editor.communicate("")
    (line,) = reconcile(Worktrees(repository), ["feat/a"])
    assert "removed; the process that held it is gone" in line
    assert place.is_dir()


def test_git_in_another_worktree_does_not_hold_the_lock_of_this_one(repository: Repository) -> None:
    place = open_node(repository)
    other = Worktrees(repository).open_branch("feat/c", head_of(repository)).path
    (other / "README.md").write_text("changed\n")
    with stopped_git(repository, "commit", "-a", "-q", cwd=other, GIT_EDITOR="{wait}", then='echo Mine > "$1"'):
        lock = repository.common_dir / "worktrees" / "a" / "index.lock"
        lock.touch()
        os.utime(lock, (time.time() - 600, time.time() - 600))
        assert Worktrees(repository).open_branch("feat/a", head_of(repository)).path == place
        assert not lock.exists()


def test_locks_are_removed_in_one_module_only() -> None:
    """`interrupted_fast_forward` removes locks of a move that it recorded itself, if no git process holds them."""
    removing = re.compile(r"lock\w*(\.unlink\(|\.rename\()|(unlink|remove)\(\w*lock")
    found = {path.name for path in SOURCES.rglob("*.py") if removing.search(path.read_text())}
    assert found == {"stale_git_locks.py", "interrupted_fast_forward.py"}


def test_nothing_of_ours_prunes_collects_or_repairs_what_a_person_has() -> None:
    words = re.compile(r'"(prune|gc|repair|--auto|maintenance)"')
    assert [path.name for path in SOURCES.rglob("*.py") if words.search(path.read_text())] == []


def test_half_made_by_us_is_recognised_from_the_first_file_that_git_writes(repository: Repository) -> None:
    admin = repository.common_dir / "worktrees" / "a"
    admin.mkdir(parents=True)
    (admin / "locked").write_text(MAKING)
    assert run_whole_life(repository) == [f"{admin}: removed; an earlier run was killed while creating it"]
    assert not admin.exists()


@pytest.mark.parametrize("is_dead", [True, False], ids=["after a killed run", "after a run that ended"])
def test_entry_that_git_has_just_begun_is_removed_only_if_a_run_was_killed(
    repository: Repository, *, is_dead: bool
) -> None:
    lock = RunLock(repository.state_dir, "killed")
    lock.__enter__()
    content = (repository.state_dir / "lock").read_bytes()
    admin = make_half_of_a_name(repository)
    lock.__exit__(None, None, None)
    if is_dead:
        (repository.state_dir / "lock").write_bytes(content)  # A killed run leaves its lock file as it was.
    said = run_whole_life(repository)
    assert (f"{admin}: removed; an earlier run was killed while creating it" in said) == is_dead, said
    assert admin.exists() != is_dead


def test_git_that_we_run_ourselves_is_nobody_to_wait_for(repository: Repository) -> None:
    open_node(repository)
    lock = repository.common_dir / "refs" / "heads" / "feat" / "b.lock"
    lock.parent.mkdir(exist_ok=True)
    lock.touch()
    fifo = repository.top.parent / "fifo"
    os.mkfifo(fifo)
    with ThreadPoolExecutor(1) as pool:
        # A command of the coordinator's, like another node's, that lasts until the fifo is written to.
        ours = pool.submit(repository.git.run, "hash-object", str(fifo), accept=(0, 128))
        with fifo.open("w"):
            Worktrees(repository).open_branch("feat/b", head_of(repository))
            assert not ours.done()
        ours.result(timeout=300)


@pytest.mark.parametrize("words", [("cat-file", "--batch"), ("-c", "a.b=c", "-C", ".", "rev-list", "--stdin")])
def test_git_that_only_reads_holds_no_lock(repository: Repository, words: tuple[str, ...]) -> None:
    open_node(repository)
    lock = repository.common_dir / "refs" / "heads" / "feat" / "a.lock"
    with subprocess.Popen(["git", *words], cwd=repository.top, stdin=subprocess.PIPE):
        lock.touch()
        reconcile(Worktrees(repository), ["feat/a"])
    assert not lock.exists()


def test_branch_that_a_worktree_has_which_is_away_is_refused_with_what_helps(repository: Repository) -> None:
    place = repository.top.parent / "disk" / "mine"
    repository.git.run("worktree", "add", "--quiet", "-b", "feat/a", str(place))
    with pytest.raises(InputError, match="check out another branch there"):
        Worktrees(repository).open_branch("feat/a", head_of(repository))
    place.rename(repository.top.parent / "away")
    with pytest.raises(InputError, match=f"{place}', which does not exist now; mount it or move it back"):
        Worktrees(repository).open_branch("feat/a", head_of(repository))
    assert (repository.common_dir / "worktrees" / "mine").is_dir()
