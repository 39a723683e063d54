"""What a live worktree contains is read with its uncommitted files, merged in pairs, and leaves nothing behind."""

import os
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest
from merge_fixtures import MergeFixture, task_text

from tasks_lib.errors import GitError
from tasks_lib.git.commits.isolated_git import IsolatedGit
from tasks_lib.git.inspection.live_state import MOST_BYTES, LiveState, LiveStates, read_commit_stamp
from tasks_lib.git.inspection.pair_merges import PairMerger
from tasks_lib.git.objects.quarantine import Quarantine
from tasks_lib.git.worktree_admin import Worktree

TEXT = "".join(f"line {number}\n" for number in range(20))


class Observed(MergeFixture):
    """A repository with linked worktrees, and what looks at them."""

    def __init__(self, place: Path) -> None:
        files = {"src.txt": TEXT, "dir/one.txt": TEXT, "big.bin": b"\0" * 10, "tasks/a.md": task_text("a")}
        super().__init__(place / "repo", {**files, ".gitignore": "*.log\n"})
        self.place: Path = place
        self.quarantine: Quarantine = Quarantine(self.git, place / "quarantine")
        self.states: LiveStates = LiveStates(self.git, self.quarantine, self.reader.covers)
        self.merger: PairMerger = PairMerger(
            IsolatedGit(self.git, place / "isolation"), self.states.objects, self.quarantine
        )
        self.worktrees: dict[str, Worktree] = {}

    def add(self, name: str, start: str = "main") -> Path:
        path = self.place / name
        self.sh("worktree", "add", "-q", "-b", name, str(path), start)
        self.worktrees[name] = Worktree(path, self.top / ".git" / "worktrees" / name, 1, name)
        return path

    def look(self, name: str) -> LiveState:
        found = self.states.look(self.worktrees[name], self.tip())
        assert found
        return found

    def changed(self, name: str) -> list[str]:
        return sorted(self.look(name).changes)

    def merge(self, one: str, other: str) -> tuple[str, ...] | None:
        return self.merger.merge([(self.look(one).state, self.look(other).state)], self.tip())[0]

    def trace(self) -> tuple[str, str, str]:
        """Everything in the repository's object store and refs, and what git thinks of it."""
        return self.sh("count-objects", "-v"), self.sh("for-each-ref"), self.sh("fsck", "--strict", "--no-dangling")


@pytest.fixture
def repo(tmp_path: Path) -> Generator[Observed]:
    observed = Observed(tmp_path)
    observed.add("a")
    observed.add("b")
    yield observed
    observed.states.close()
    observed.close()


def edit(path: Path, line: int, text: str) -> None:
    lines = path.read_text().splitlines(keepends=True)
    lines[line] = f"{text}\n"
    path.write_text("".join(lines))


def test_every_kind_of_uncommitted_change_is_part_of_the_state(repo: Observed) -> None:
    a = repo.place / "a"
    edit(a / "src.txt", 3, "changed")
    (a / "dir/one.txt").unlink()
    (a / "new").mkdir()
    (a / "new/file.txt").write_text("new")
    (a / "noise.log").write_text("ignored")
    (a / "tasks/a.md").write_text(task_text("a", notes="mine"))
    (a / "link").symlink_to("src.txt")
    (a / "run.sh").write_text("true\n")
    (a / "run.sh").chmod(0o755)
    repo.sh("add", "src.txt", at=a)
    state = repo.look("a")
    assert sorted(state.changes) == ["dir/one.txt", "link", "new/file.txt", "run.sh", "src.txt"]
    assert not state.is_committed
    modes = {path: new.mode if new else "" for path, (_, new) in state.changes.items()}
    assert modes == {
        "dir/one.txt": "", "link": "120000", "new/file.txt": "100644", "run.sh": "100755", "src.txt": "100644",
    }  # fmt: skip
    repo.sh("add", "-A", at=a)
    repo.sh("commit", "-qm", "all", at=a)
    committed = repo.look("a")
    assert committed.is_committed
    assert committed.changes == state.changes


def test_change_that_is_taken_back_is_no_change(repo: Observed) -> None:
    a = repo.place / "a"
    edit(a / "src.txt", 3, "changed")
    repo.sh("commit", "-qam", "edit", at=a)
    (a / "src.txt").write_text(TEXT)
    assert repo.changed("a") == []


def test_conflicts_are_those_that_git_will_report(repo: Observed) -> None:
    a, b = repo.place / "a", repo.place / "b"
    edit(a / "src.txt", 3, "mine")
    edit(b / "src.txt", 15, "theirs")
    assert repo.merge("a", "b") == ()
    edit(b / "src.txt", 3, "theirs")
    assert repo.merge("a", "b") == ("src.txt",)
    repo.sh("commit", "-qam", "edit", at=a)
    assert repo.merge("a", "b") == ("src.txt",)


def test_rename_delete_and_additions_conflict_as_in_git(repo: Observed) -> None:
    a, b = repo.place / "a", repo.place / "b"
    repo.sh("mv", "src.txt", "moved.txt", at=a)
    edit(b / "src.txt", 3, "theirs")
    assert repo.merge("a", "b") == ()
    (a / "moved.txt").unlink()
    assert repo.merge("a", "b") == ("src.txt",)
    (b / "src.txt").write_text(TEXT)
    (a / "n.txt").write_text("1")
    (b / "n.txt").write_text("2")
    assert repo.merge("a", "b") == ("n.txt",)


def test_file_in_place_of_a_folder_and_the_other_way_round(repo: Observed) -> None:
    a, b = repo.place / "a", repo.place / "b"
    (a / "dir/one.txt").unlink()
    (a / "dir").rmdir()
    (a / "dir").write_text("a file")
    (b / "src.txt").unlink()
    (b / "src.txt").mkdir()
    (b / "src.txt/x").write_text("x")
    assert repo.changed("a") == ["dir", "dir/one.txt"]
    assert repo.changed("b") == ["src.txt", "src.txt/x"]
    (b / "dir/two.txt").write_text("two")
    conflicts = repo.merge("a", "b")
    assert conflicts
    assert any(path.startswith("dir") for path in conflicts)


def test_nothing_is_left_in_the_repository_and_the_index_is_not_touched(repo: Observed) -> None:
    a, b = repo.place / "a", repo.place / "b"
    indexes = [repo.worktrees[name].git_dir / "index" for name in "ab"]
    edit(a / "src.txt", 3, "mine")
    edit(b / "src.txt", 3, "theirs")
    before, bytes_before = repo.trace(), [path.read_bytes() for path in indexes]
    repo.merge("a", "b")
    assert "mine" in repo.merger.diff(repo.tip(), repo.look("a").state, ["src.txt"])
    assert repo.trace() == before
    assert [path.read_bytes() for path in indexes] == bytes_before
    assert not list(repo.top.glob(".git/**/*.lock"))
    assert sorted(path.name for path in (repo.place / "quarantine").iterdir()) == ["indexes", "objects"]


def test_change_within_the_same_tick_of_the_clock_as_the_index_is_seen(repo: Observed) -> None:
    """Git tells by the index's time which files it has to read; a copy with a time of its own would hide the change."""
    a = repo.place / "a"
    for setting in ("core.trustctime=false", "core.checkStat=minimal"):
        repo.sh("config", *setting.split("="))
    index = repo.worktrees["a"].git_dir / "index"
    moment = (a / "src.txt").stat().st_mtime - 1_000
    for text in ("mine", "ours"):  # As long as each other.
        (a / "src.txt").write_text(TEXT.replace("line 3", f"{text} 3"))
        os.utime(a / "src.txt", (moment, moment))
        if text == "mine":
            repo.sh("commit", "-qam", "edit", at=a)
            os.utime(index, (moment, moment))
    assert not repo.look("a").is_committed


def test_index_that_changes_is_read_again_and_one_that_is_no_file_is_an_error(repo: Observed) -> None:
    a = repo.place / "a"
    index = repo.worktrees["a"].git_dir / "index"
    assert repo.changed("a") == []
    edit(a / "src.txt", 3, "seen")
    assert repo.changed("a") == ["src.txt"]
    repo.sh("update-index", "--assume-unchanged", "src.txt", at=a)
    assert repo.changed("a") == []
    index.unlink()
    os.mkfifo(index)
    with pytest.raises(OSError, match="not a regular file"):
        repo.look("a")


def test_how_much_a_branch_changes_counts_uncommitted_and_new_files(repo: Observed) -> None:
    a = repo.place / "a"
    assert repo.states.summarize(repo.look("a")) == ""
    edit(a / "src.txt", 3, "mine")
    (a / "new.txt").write_text("one\ntwo\n")
    assert repo.states.summarize(repo.look("a")) == "2 files +3 -1"
    repo.sh("add", "-A", at=a)
    repo.sh("commit", "-qm", "all", at=a)
    assert repo.states.summarize(repo.look("a")) == "2 files +3 -1"


def test_unchanged_worktree_is_read_once_and_a_full_quarantine_is_emptied(repo: Observed) -> None:
    edit(repo.place / "a" / "src.txt", 3, "mine")
    first = repo.look("a")
    assert repo.look("a") is first
    repo.quarantine.count(1 << 40)
    again = repo.look("a")
    assert again == first
    assert again is not first
    assert repo.states.generation == 1
    edit(repo.place / "b" / "src.txt", 3, "theirs")
    assert repo.merge("a", "b") == ("src.txt",)


def test_large_unreadable_and_special_files_count_as_unchanged(repo: Observed) -> None:
    a = repo.place / "a"
    (a / "big.bin").write_bytes(b"\1" * (MOST_BYTES + 1))
    (a / "huge.bin").write_bytes(b"\1" * (MOST_BYTES + 1))
    (a / "src.txt").unlink()
    os.mkfifo(a / "src.txt")
    (a / "two\nlines").write_text("x")
    (a / '"quoted').write_text("x")
    (a / "binary").write_bytes(bytes(range(256)))
    assert repo.changed("a") == ["binary"]


def test_embedded_repository_and_submodule_do_not_count(repo: Observed, tmp_path: Path) -> None:
    a = repo.place / "a"
    (a / "inner").mkdir()
    repo.sh("init", "-q", at=a / "inner")
    (a / "inner/x").write_text("x")
    (a / "y").write_text("y")
    assert repo.changed("a") == ["y"]
    other = MergeFixture(tmp_path / "other", {"x": "x"})
    other.close()
    repo.sh("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(other.top), "sub", at=a)
    assert "sub" not in repo.changed("a")
    repo.sh("commit", "-qam", "sub", at=a)
    (a / "sub/x").write_text("changed")
    assert "sub" in repo.changed("a")
    assert repo.merge("a", "b") == ()


def test_filters_and_line_endings_are_those_of_git_add(repo: Observed) -> None:
    attributes = "*.up filter=upper\n*.crlf text eol=crlf\n"
    repo.sh("config", "filter.upper.clean", "tr a-z A-Z")
    repo.commit({".gitattributes": attributes, "x.up": "ABC\n", "y.crlf": "a\n"})
    path = repo.add("c")
    (path / "x.up").write_text("abd\n")
    (path / "y.crlf").write_bytes(b"a\r\nb\r\n")
    state = repo.look("c")
    assert repo.sh("cat-file", "-p", repo.sh("hash-object", "-w", "-t", "blob", str(path / "x.up"), at=path)) == "ABD"
    repo.sh("add", "-A", at=path)
    tree = repo.sh("write-tree", at=path)
    assert {name: new.oid for name, (_, new) in state.changes.items() if new} == {
        name: entry.oid for name in ("x.up", "y.crlf") if (entry := repo.objects.find_entry(tree, name))
    }


def test_union_merges_and_a_driver_of_the_repository_is_not_run(repo: Observed) -> None:
    mark = repo.place / "ran"
    repo.sh("config", "merge.mine.driver", f"touch {mark}; false")
    repo.commit({".gitattributes": "list.txt merge=union\nown.txt merge=mine\n", "list.txt": "", "own.txt": ""})
    for name in ("c", "d"):
        path = repo.add(name)
        (path / "list.txt").write_text(name)
        (path / "own.txt").write_text(name)
    assert repo.merge("c", "d") == ()
    assert not mark.exists()


def test_worktree_in_a_merge_or_rebase_is_not_looked_at(repo: Observed) -> None:
    a, b = repo.place / "a", repo.place / "b"
    for path, text in ((a, "mine"), (b, "theirs")):
        edit(path / "src.txt", 3, text)
        repo.sh("commit", "-qam", text, at=path)
    subprocess.run(["git", "merge", "b"], cwd=a, capture_output=True, check=False)
    assert repo.states.look(repo.worktrees["a"], repo.tip()) is None
    repo.sh("merge", "--abort", at=a)
    assert repo.changed("a") == ["src.txt"]


def test_broken_worktree_is_an_error_of_git_and_nothing_else(repo: Observed) -> None:
    (repo.worktrees["a"].git_dir / "index").write_bytes(b"broken")
    with pytest.raises(GitError):
        repo.look("a")
    (repo.worktrees["b"].git_dir / "HEAD").write_text("ref: refs/heads/none\n")
    assert repo.states.look(repo.worktrees["b"], repo.tip()) is None


def test_pair_that_git_cannot_merge_does_not_hide_the_others(repo: Observed) -> None:
    edit(repo.place / "a" / "src.txt", 3, "mine")
    edit(repo.place / "b" / "src.txt", 3, "theirs")
    one, other, none = repo.look("a").state, repo.look("b").state, "1" * 40
    merged = repo.merger.merge([(one, other), (one, none), (other, one)], repo.tip())
    assert merged == [("src.txt",), None, ("src.txt",)]
    assert repo.merger.merge([(none, none)] * 10, repo.tip()) == [None] * 10


def test_commit_changes_the_stamp_and_an_edit_does_not(repo: Observed) -> None:
    worktree, path = repo.worktrees["a"], repo.place / "a"
    before = read_commit_stamp(worktree)
    edit(path / "src.txt", 3, "mine")
    assert read_commit_stamp(worktree) == before
    repo.sh("commit", "-qam", "edit", at=path)
    assert read_commit_stamp(worktree) != before


def test_own_changes_are_counted_from_where_the_branch_left_the_head(repo: Observed) -> None:
    edit(repo.place / "a" / "src.txt", 3, "mine")
    repo.commit({"landed.txt": "landed"})
    assert repo.changed("a") == ["src.txt"]
    repo.sh("commit", "-qam", "edit", at=repo.place / "a")
    repo.sh("merge", "-q", "-m", "merge", "main", at=repo.place / "a")
    assert repo.changed("a") == ["src.txt"]
