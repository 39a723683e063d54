"""A run killed with git at any file that git writes in the user's checkout restores the checkout and continues."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from chaos.syscalls import is_possible
from checker_traces import Before, snapshot_user_state
from generated_graphs import run_git

from tasks_lib.git.publish.interrupted_fast_forward import Move, has_interrupted_move, remembered, repair_move
from tasks_lib.git.publish.local_branch import Pending, Published, publish
from tasks_lib.git.runner import Git

pytestmark = pytest.mark.skipif(not is_possible(), reason="ptrace is not possible here")
OLD = {"src.txt": "old\n", "gone.txt": "gone\n", "deep/a.txt": "a\n", "mine.txt": "mine\n", "staged.txt": "s\n"}
NEW = {"src.txt": "new and longer\n", "deep/a.txt": "b\n", "fresh/one.txt": "1\n", "fresh/two.txt": "2\n"}
MINE = {"mine.txt": "mine, and not committed\n", "staged.txt": "staged\n", "note.txt": "untracked\n"}
CUT = """\
import sys
from chaos.syscalls import trace
calls = []
sys.exit(7 if trace(sys.argv[2:], lambda call: calls.append(call) or len(calls) != int(sys.argv[1])) < 0 else 0)
"""
MERGE = ("git", "-c", "maintenance.auto=false", "merge", "--ff-only", "--no-overwrite-ignore")
MOVE = ("git", "update-ref", "refs/heads/main")


class Shop:
    """A checkout of main with local changes of all kinds, and a commit to move main to."""

    def __init__(self, top: Path, branch: str = "main") -> None:
        self.top = top
        self.git_dir = top / ".git"
        top.mkdir(parents=True)
        run_git(top, "init", "-q", "-b", "main")
        run_git(top, "config", "user.name", "Ada")
        run_git(top, "config", "user.email", "ada@example.org")
        self.base = self.commit(OLD)
        (top / "gone.txt").unlink()
        self.head = self.commit(NEW)
        run_git(top, "reset", "-q", "--hard", self.base)
        run_git(top, "checkout", "-q", "-B", branch)
        self.write(MINE)
        run_git(top, "add", "staged.txt")
        self.before = self.look()
        self.original = (self.git_dir / "ORIG_HEAD").read_text()

    def write(self, files: dict[str, str]) -> None:
        for name, content in files.items():
            (self.top / name).parent.mkdir(exist_ok=True)
            (self.top / name).write_text(content)

    def commit(self, files: dict[str, str]) -> str:
        self.write(files)
        run_git(self.top, "add", "-A")
        run_git(self.top, "commit", "-q", "-m", "Work")
        return run_git(self.top, "rev-parse", "HEAD")

    def look(self) -> Before:
        # Restoring files rewrites the index with the same entries but other timestamps.
        return replace(snapshot_user_state(self.top), index="")

    def list_locks(self) -> list[Path]:
        return sorted(self.git_dir.rglob("*.lock"))

    def die_in(self, cut: int, *command: str) -> bool:
        """Begin to move main as a run does, killed with git at its `cut`-th change; return False if there are fewer."""
        path = str(self.top) if command == MERGE else ""
        move = Move("refs/heads/main", self.base, self.head, str(self.git_dir), path, self.original)
        never_left = remembered(self.git_dir, move)
        never_left.__enter__()
        done = subprocess.run(
            [sys.executable, "-c", CUT, str(cut), *command, self.head],
            cwd=self.top,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parent.parent)},
            check=False,
            capture_output=True,
        )
        assert done.returncode in (0, 7), done.stderr
        # A garbage-collected generator would leave its block, which a kill does not do.
        KEPT.append(never_left)
        return done.returncode == 7


KEPT: list[object] = []


@pytest.mark.parametrize(("command", "branch"), [(MERGE, "main"), (MOVE, "elsewhere")], ids=["checked-out", "not"])
def test_a_move_that_was_cut_short_is_taken_back_and_made_again(
    tmp_path: Path, command: tuple[str, ...], branch: str
) -> None:
    cut, locks, moved = 0, 0, 0
    while True:
        cut += 1
        shop = Shop(tmp_path / str(cut), branch)
        was_cut = shop.die_in(cut, *command)
        locks += bool(shop.list_locks())
        assert "repaired" in repair_move(shop.git_dir)
        assert (shop.list_locks(), has_interrupted_move(shop.git_dir)) == ([], False)
        if run_git(shop.top, "rev-parse", "main") == shop.base:
            assert shop.look() == shop.before, f"cut at {cut}"
            assert (shop.git_dir / "ORIG_HEAD").read_text() == shop.original
        else:
            moved += 1
        assert isinstance(publish(Git(shop.top), "main", shop.head), Published) or moved
        assert {name: shop.look().dirty.get(name) for name in MINE} == {n: shop.before.dirty.get(n) for n in MINE}
        assert shop.look().staged == shop.before.staged
        assert (shop.top / "gone.txt").exists() is (branch != "main")
        if not was_cut:
            break
    assert locks >= 2
    assert cut - moved >= 3


def test_what_a_person_wrote_since_then_stays(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "repository")
    files = next(cut for cut in range(1, 60) if _has_begun(Shop(tmp_path / str(cut)), cut))
    shop.die_in(files + 3, *MERGE)
    shop.write({"src.txt": "a person's\n", "fresh/one.txt": "a person's, too\n"})
    repair_move(shop.git_dir)
    assert (shop.top / "src.txt").read_text() == "a person's\n"
    assert (shop.top / "fresh/one.txt").read_text() == "a person's, too\n"
    assert isinstance(publish(Git(shop.top), "main", shop.head), Pending)


def _has_begun(shop: Shop, cut: int) -> bool:
    """Whether git has touched a file before it is cut there."""
    shop.die_in(cut, *MERGE)
    return shop.look().dirty != shop.before.dirty


def test_nothing_is_mended_while_git_is_at_work_there(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "repository")
    shop.die_in(3, *MERGE)
    with subprocess.Popen(["git", "cat-file", "--batch"], cwd=shop.top, stdin=subprocess.PIPE) as busy:
        assert "git is running" in repair_move(shop.git_dir)
        assert has_interrupted_move(shop.git_dir)
        assert isinstance(publish(Git(shop.top), "main", shop.head), Pending)
        assert busy.stdin
        busy.stdin.close()
    assert "repaired" in repair_move(shop.git_dir)
    assert isinstance(publish(Git(shop.top), "main", shop.head), Published)
