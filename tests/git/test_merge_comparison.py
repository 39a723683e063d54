"""The files in which a merge may have dropped changes, read from real commits, and the merges made on a branch."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from merge_fixtures import MergeFixture

from tasks_lib.git.commits.isolated_git import IsolatedGit
from tasks_lib.git.inspection.merge_comparison import MAX_TEXT_BYTES, MergeReader, OwnMerge
from tasks_lib.session.dropped_hunks import Side, find_dropped

Files = Mapping[str, str | bytes | None]
TEXT = "".join(f"line {number} of a text\n" for number in range(12))
MINE, THEIRS = TEXT.replace("line 3", "mine 3"), TEXT.replace("line 3", "theirs 3")
BOTH = TEXT.replace("line 3", "mine and theirs 3")


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[MergeFixture]:
    files: dict[str, str | bytes | None] = {"src.txt": TEXT, "data.bin": b"\0\1", "tasks/a.md": "x\n"}
    found = MergeFixture(tmp_path / "repo", files)
    yield found
    found.close()


def read(shop: MergeFixture) -> MergeReader:
    return MergeReader(shop.git, shop.objects, IsolatedGit(shop.git), lambda path: path.startswith("tasks/"))


def find(shop: MergeFixture, head: Files, branch: Files, result: Files) -> list[tuple[str, Side]]:
    """What the commit `result` on main has dropped of a head and a branch that began at main."""
    sides = [shop.branch(name, files) for name, files in (("head", head), ("branch", branch), ("result", result))]
    found = find_dropped(read(shop).read(sides[0], sides[1], shop.objects.find_tree(sides[2])))
    return [(one.path, one.side) for one in found]


@pytest.mark.parametrize(
    ("head", "branch", "result", "dropped"),
    [
        ({"src.txt": THEIRS}, {"src.txt": MINE}, {"src.txt": BOTH}, []),
        ({"src.txt": THEIRS}, {"src.txt": MINE}, {"src.txt": MINE}, [("src.txt", Side.HEAD)]),
        ({"src.txt": THEIRS}, {"src.txt": None}, {"src.txt": None}, [("src.txt", Side.HEAD)]),
        ({"src.txt": None}, {"src.txt": MINE}, {"src.txt": MINE}, []),
        ({"new.txt": "one\n"}, {"new.txt": "two\n"}, {"new.txt": "one\ntwo\n"}, []),
        ({"new.txt": "one\n"}, {"new.txt": "two\n"}, {"new.txt": "one\n"}, [("new.txt", Side.BRANCH)]),
        ({"new.txt": "one\n"}, {"src.txt": MINE}, {"src.txt": MINE}, [("new.txt", Side.HEAD)]),
        ({"data.bin": b"\0\2"}, {"data.bin": b"\0\3"}, {"data.bin": b"\0\3"}, []),
        ({"data.bin": b"\0\2"}, {"src.txt": MINE}, {"src.txt": MINE}, [("data.bin", Side.HEAD)]),
        ({"tasks/a.md": "y\n"}, {"tasks/a.md": "z\n"}, {"tasks/a.md": "z\n"}, []),
        (
            {"src.txt": None, "moved.txt": THEIRS},
            {"src.txt": MINE},
            {"src.txt": None, "moved.txt": BOTH},
            [],
        ),
        (
            {"src.txt": None, "moved.txt": THEIRS},
            {"src.txt": MINE},
            {"src.txt": None, "moved.txt": THEIRS},
            [("moved.txt", Side.BRANCH)],
        ),
        (
            {"src.txt": None, "moved.txt": TEXT},
            {"src.txt": MINE},
            {"src.txt": None, "moved.txt": TEXT},
            [("moved.txt", Side.BRANCH)],
        ),
        (
            {"big.txt": "x" * (MAX_TEXT_BYTES + 1)},
            {"src.txt": MINE},
            {"src.txt": MINE},
            [("big.txt", Side.HEAD)],
        ),
    ],
)
def test_what_a_resolution_dropped_is_found_in_every_kind_of_conflict(
    shop: MergeFixture, head: Files, branch: Files, result: Files, dropped: list[tuple[str, Side]]
) -> None:
    assert find(shop, head, branch, result) == dropped


def test_result_that_git_itself_makes_is_not_compared_at_all(shop: MergeFixture) -> None:
    head, branch = shop.branch("head", {"src.txt": THEIRS}), shop.branch("branch", {"other.txt": "x\n"})
    merged = read(shop).merge(head, branch)
    assert merged
    assert read(shop).read(head, branch, merged) == ()
    assert read(shop).merge(head, shop.branch("clash", {"src.txt": MINE})) is None


def test_mode_that_a_resolution_lost_is_named(shop: MergeFixture) -> None:
    shop.sh("checkout", "-q", "-b", "head")
    shop.sh("update-index", "--chmod=+x", "src.txt")
    shop.sh("commit", "-qm", "Executable")
    head = shop.tip("head")
    shop.sh("checkout", "-qf", "main")
    branch = shop.branch("branch", {"src.txt": MINE})
    found = find_dropped(read(shop).read(head, branch, shop.objects.find_tree(branch)))
    assert [(one.path, one.side, one.added) for one in found] == [("src.txt (mode)", Side.HEAD, ("100755",))]


def test_merges_with_the_target_are_found_and_others_are_not(shop: MergeFixture) -> None:
    first = shop.branch("branch", {"own.txt": "x\n"})
    shop.branch("inner", {"inner.txt": "x\n"}, first)
    head = shop.commit({"src.txt": THEIRS})
    shop.sh("checkout", "-q", "branch")
    shop.sh("merge", "-q", "--no-ff", "inner", "-m", "Inner")
    inner = shop.tip("branch")
    shop.sh("merge", "-q", "main", "-m", "Target")
    own = shop.sh("rev-list", "main..branch").split()
    assert read(shop).list_merges(own, head) == [OwnMerge(shop.tip("branch"), head, inner)]


def test_sides_without_a_common_commit_are_not_compared(shop: MergeFixture) -> None:
    shop.sh("checkout", "-q", "--orphan", "alone")
    alone = shop.commit({"src.txt": MINE})
    assert read(shop).read(shop.tip("main"), alone, shop.objects.find_tree(alone)) == ()
