"""A repository that was moved, copied or mounted elsewhere gets its worktrees back without touching another's."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from killed_process import run_in_child
from run_locks import reconcile

from tasks_lib.errors import InputError
from tasks_lib.git.publish.interrupted_fast_forward import MOVING_NAME, Move, remembered, repair_move, update_move_paths
from tasks_lib.git.repository import Repository
from tasks_lib.git.repository_lock import RunLock
from tasks_lib.git.runner import Git
from tasks_lib.git.session_record import read_record, write_record
from tasks_lib.git.worktrees.lifecycle import Worktrees
from tasks_lib.git.worktrees.relinking import FormerLocation, find_relocation, relocate
from tasks_lib.session.attempt_record import AttemptIdentity, Record, TurnRecord
from tasks_lib.session.remote_conversation import RemoteConversation, write_conversation

RECORD = Record(
    "a",
    "feat/deep/a",
    attempt=AttemptIdentity(3, session="s"),
    turn=TurnRecord(conversation="c", pid=4_000, pid_started=7.0),
    notes=("n",),
)


def open_node(repository: Repository) -> Path:
    """Make a node's worktree with a staged and an untracked file and a record, next to a pooled and a user's worktree."""
    start = repository.branch_head("main")
    assert start
    worktrees = Worktrees(repository)
    opened = worktrees.open_branch("feat/deep/a", start)
    write_record(opened.git_dir, RECORD)
    (opened.path / "staged.txt").write_text("staged\n")
    opened.git.run("add", "staged.txt")
    (opened.path / "new.txt").write_text("new\n")
    worktrees.release(worktrees.open_detached(start, "verify"))
    repository.git.run("worktree", "add", "-q", "-b", "wip", str(repository.worktrees_dir / "wip"))
    repository.prepare()
    return opened.path


def find_former(repository: Repository) -> FormerLocation:
    return FormerLocation(repository.common_dir, repository.common_dir.stat().st_ino)


def read_tree(place: Path) -> dict[str, bytes]:
    """Map every file below `place` to its mtime and bytes."""
    files = [path for path in place.rglob("*") if path.is_file()]
    return {str(path): str(path.stat().st_mtime_ns).encode() + path.read_bytes() for path in files}


def follow(top: Path, former: FormerLocation | None) -> list[str]:
    """Relocate and reconcile as the start of a run does; return the messages about the relocation."""
    repository = Repository.open(top)
    relocation = find_relocation(repository, former)
    with RunLock(repository.state_dir, "test") as held:
        lines = relocate(repository, relocation, held) if relocation else []
        Worktrees(repository).reconcile(held, ["feat/deep/a"])
    return lines


def assert_is_resumed(top: Path) -> Record:
    """Assert that the node resumes at `top` with everything it had; return its record."""
    repository = Repository.open(top)
    opened = Worktrees(repository).open_branch("feat/deep/a", "main")
    assert (opened.path, opened.is_resumed) == (repository.worktrees_dir / "feat/deep/a", True)
    assert Git(opened.path).text("status", "--porcelain").splitlines() == ["A  staged.txt", "?? new.txt"]
    Git(opened.path).run("commit", "--quiet", "--message", "Work")
    assert repository.branch_head("feat/deep/a") == Git(opened.path).resolve("HEAD")
    record = read_record(opened.git_dir)
    assert record
    assert (record.attempt.number, record.notes, record.turn.conversation) == (3, ("n",), "")
    return record


def test_a_conversation_on_another_machine_survives_a_move_but_no_copy(repository: Repository, tmp_path: Path) -> None:
    opened = open_node(repository)
    elsewhere = write_conversation(RemoteConversation("run", "north", 1, "inner"))
    write_record(
        Path(Git(opened).text("rev-parse", "--absolute-git-dir")),
        RECORD.change(turn=RECORD.turn.with_conversation(elsewhere)),
    )
    former, copy = find_former(repository), tmp_path / "copy"
    shutil.copytree(repository.top, copy, symlinks=True)
    follow(copy, former)
    assert assert_is_resumed(copy).attempt.session != "s"
    moved = move(repository.top)
    follow(moved, former)
    record = read_record(Worktrees(Repository.open(moved)).open_branch("feat/deep/a", "main").git_dir)
    assert record
    assert (record.turn.conversation, record.attempt.session) == (elsewhere, "s")


def move(top: Path) -> Path:
    return top.rename(top.parent / "r2")


def move_the_folder_above(top: Path) -> Path:
    (top.parent / "above").mkdir()
    inside = top.rename(top.parent / "above" / "r")
    return inside.parent.rename(top.parent / "other") / "r"


def move_and_begin_another_there(top: Path) -> Path:
    """Move, and put another repository with a node of the same name at the old path."""
    moved = move(top)
    Git(moved).run("clone", "--quiet", str(moved), str(top))
    open_node(Repository.open(top))
    return moved


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("go", [move, move_the_folder_above, move_and_begin_another_there])
def test_work_in_a_repository_that_was_moved_is_found_again(
    repository: Repository, go: Callable[[Path], Path], *, is_known: bool
) -> None:
    open_node(repository)
    former = find_former(repository)
    moved = go(repository.top)
    other = read_tree(repository.top)
    said = follow(moved, former if is_known else None)
    # Without its recorded former path, a moved repository cannot be told from a copy of what is there now.
    is_sure = is_known or not other
    assert ("was moved from" if is_sure else "is a copy of") in said[0]
    assert "1 worktree of open nodes" in said[0]
    record = assert_is_resumed(moved)
    assert (record.turn.pid, record.attempt.session == "s") == ((4_000, True) if is_sure else (0, False))
    assert read_tree(repository.top) == other
    assert follow(moved, find_former(Repository.open(moved))) == []


def copy_all(top: Path) -> Path:
    subprocess.run(["cp", "-a", str(top), str(top.parent / "r2")], check=True)
    return top.parent / "r2"


def copy_and_move_the_original(top: Path) -> Path:
    copied = copy_all(top)
    top.rename(top.parent / "original")
    return copied


@pytest.mark.parametrize("go", [copy_all, copy_and_move_the_original])
def test_copy_has_worktrees_of_its_own_and_never_writes_into_the_original(
    repository: Repository, go: Callable[[Path], Path]
) -> None:
    open_node(repository)
    former = find_former(repository)
    copied = go(repository.top)
    original = repository.top if repository.top.is_dir() else repository.top.parent / "original"
    before = read_tree(original)
    said = follow(copied, former)
    record = assert_is_resumed(copied)
    assert (record.turn.pid, record.attempt.session == "s") == (0, False)
    assert "is a copy of" in said[0]
    assert "still belongs to" in said[1]
    worktrees = Worktrees(Repository.open(copied))
    worktrees.remove(worktrees.open_branch("feat/deep/a", "main"))
    worktrees.close()
    assert read_tree(original) == before


def test_copy_without_worktrees_begins_them_anew_and_leaves_the_original(repository: Repository) -> None:
    open_node(repository)
    former = find_former(repository)
    copied = repository.top.parent / "r2"
    shutil.copytree(repository.top, copied, symlinks=True, ignore=shutil.ignore_patterns(".worktrees"))
    before = read_tree(repository.top)
    said = follow(copied, former)
    assert "0 worktrees" in said[0]
    opened = Worktrees(Repository.open(copied)).open_branch("feat/deep/a", "main")
    assert (opened.is_resumed, Git(opened.path).text("status", "--porcelain")) == (False, "")
    assert read_tree(repository.top) == before


def test_worktree_of_a_person_that_came_along_is_named_and_stays(repository: Repository) -> None:
    open_node(repository)
    former = find_former(repository)
    moved = move(repository.top)
    before = read_tree(moved / ".worktrees" / "wip")
    said = follow(moved, former)
    assert f"`git worktree repair {moved / '.worktrees' / 'wip'}`" in said[1]
    assert read_tree(moved / ".worktrees" / "wip") == before


@pytest.mark.parametrize("go", [move, copy_all])
def test_following_that_is_killed_between_any_two_steps_ends_the_same(
    repository: Repository, go: Callable[[Path], Path]
) -> None:
    open_node(repository)
    former = find_former(repository)
    moved = go(repository.top)
    before = read_tree(repository.top)
    backup = repository.top.parent / "backup"
    shutil.copytree(moved, backup, symlinks=True)
    total = run_in_child(lambda: follow(moved, former), None)
    for moment in range(total):
        for place in moved.iterdir():
            if place.name != ".git":
                shutil.rmtree(place) if place.is_dir() else place.unlink()
        for place in (moved / ".git").iterdir():
            shutil.rmtree(place) if place.is_dir() else place.unlink()
        shutil.copytree(backup, moved, symlinks=True, dirs_exist_ok=True)
        run_in_child(lambda: follow(moved, former), moment)
        follow(moved, former)
        assert_is_resumed(moved)
    assert read_tree(repository.top) == before


def test_bare_repository_that_was_moved_takes_its_worktrees_along(repository: Repository, tmp_path: Path) -> None:
    bare = tmp_path / "place" / "bare.git"
    repository.git.run("clone", "--quiet", "--bare", str(repository.top), str(bare))
    opened = Repository.open(bare)
    for name, value in (("user.name", "Ada"), ("user.email", "ada@example.org")):
        opened.git.run("config", name, value)
    open_node(opened)
    former = find_former(opened)
    moved = bare.rename(bare.with_name("other.git"))
    follow(moved, former)
    assert_is_resumed(moved)
    assert (tmp_path / "place" / ".worktrees" / "other.git" / "feat").is_dir()


def test_repository_by_another_path_to_the_same_directory_is_not_a_copy(repository: Repository, tmp_path: Path) -> None:
    open_node(repository)
    other = tmp_path / "mounted"
    other.mkdir()
    if subprocess.run(
        ["mount", "--bind", str(repository.top), str(other)], capture_output=True, check=False
    ).returncode:
        pytest.skip("only root may mount")
    try:
        assert "was moved from" in follow(other, find_former(repository))[0]
        record = assert_is_resumed(other)
        assert (record.turn.pid, record.attempt.session) == (4_000, "s")
    finally:
        subprocess.run(["umount", str(other)], check=True)


def test_worktree_that_a_person_moved_out_stays_where_it_is(repository: Repository, tmp_path: Path) -> None:
    place = open_node(repository)
    repository.git.run("worktree", "move", str(place), str(tmp_path / "out"))
    before = read_tree(tmp_path / "out")
    assert follow(repository.top, None) == []
    assert find_relocation(repository, None) is None
    assert read_tree(tmp_path / "out") == before


@pytest.mark.parametrize("go", [move, copy_all])
def test_checkout_that_a_kill_left_halfway_is_put_right_where_it_is_now(
    repository: Repository, go: Callable[[Path], Path]
) -> None:
    base = repository.branch_head("main")
    (repository.top / "README.md").write_text("# New\n")
    repository.git.run("commit", "--quiet", "--all", "--message", "Next")
    head = repository.branch_head("main")
    assert base
    assert head
    repository.git.run("reset", "--quiet", "--soft", base)
    repository.prepare()
    former, record = find_former(repository), repository.state_dir / MOVING_NAME
    with remembered(
        repository.common_dir, Move("refs/heads/main", base, head, str(repository.common_dir), str(repository.top))
    ):
        content = record.read_bytes()
    record.write_bytes(content)
    moved = go(repository.top)
    before = read_tree(repository.top)
    there = Repository.open(moved)
    relocation = find_relocation(there, former)
    assert relocation
    update_move_paths(there.common_dir, relocation)
    (moved / ".git" / "index.lock").touch()
    assert str(moved) in repair_move(there.common_dir)
    assert (moved / "README.md").read_text() == "# Example\n"
    assert not (moved / ".git" / "index.lock").exists()
    assert read_tree(repository.top) == before


@pytest.mark.parametrize("left", ["missing", "empty"])
def test_worktrees_on_a_disk_that_is_not_mounted_are_waited_for_and_found_again(
    repository: Repository, left: str, tmp_path: Path
) -> None:
    open_node(repository)
    disk = repository.worktrees_dir.rename(tmp_path / "disk")
    if left == "empty":
        repository.worktrees_dir.mkdir()
    before = read_tree(repository.common_dir / "worktrees")
    for _ in range(2):
        with pytest.raises(InputError, match=r"feat/deep/a.*mount that"):
            reconcile(Worktrees(repository), ["feat/deep/a"])
    assert read_tree(repository.common_dir / "worktrees") == before
    if left == "empty":
        repository.worktrees_dir.rmdir()
    disk.rename(repository.worktrees_dir)
    reconcile(Worktrees(repository), ["feat/deep/a"])
    assert Worktrees(repository).open_branch("feat/deep/a", "main").is_resumed
    assert (repository.worktrees_dir / "feat/deep/a/new.txt").read_text() == "new\n"


def test_worktrees_that_are_gone_for_good_are_forgotten_by_the_command_that_is_named(
    repository: Repository, tmp_path: Path
) -> None:
    open_node(repository)
    repository.worktrees_dir.rename(tmp_path / "gone")
    repository.git.run("worktree", "prune")
    assert reconcile(Worktrees(repository), ["feat/deep/a"]) == []
    assert not Worktrees(repository).open_branch("feat/deep/a", "main").is_resumed


def test_nothing_is_written_where_the_link_names_another_entry(repository: Repository) -> None:
    place = open_node(repository)
    former = find_former(repository)
    moved = move(repository.top)
    link = moved / place.relative_to(repository.top) / ".git"
    link.write_text("gitdir: /elsewhere/.git/worktrees/b\n")
    before = link.read_bytes()
    repository = Repository.open(moved)
    relocation = find_relocation(repository, former)
    assert relocation
    with RunLock(repository.state_dir, "test") as held:
        relocate(repository, relocation, held)
    assert link.read_bytes() == before
    assert os.path.lexists(link)


@pytest.mark.parametrize("go", [move, copy_all])
def test_links_by_relative_paths_stay_as_they_are(repository: Repository, go: Callable[[Path], Path]) -> None:
    """Newer versions of git write such links if configured to, and always read them."""
    place = open_node(repository)
    admin = repository.common_dir / "worktrees" / "a"
    former = find_former(repository)
    for file, target, start, prefix in (
        (place / ".git", admin, place, "gitdir: "),
        (admin / "gitdir", place / ".git", admin, ""),
    ):
        file.write_text(f"{prefix}{os.path.relpath(target, start)}\n")
    moved = go(repository.top)
    links = [moved / file.relative_to(repository.top) for file in (place / ".git", admin / "gitdir")]
    before = [link.read_bytes() for link in links]
    follow(moved, former)
    assert [link.read_bytes() for link in links] == before
    record = read_record(links[1].parent)
    assert record
    assert (record.turn.pid == 0) == (go is copy_all)
