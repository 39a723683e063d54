"""Deletion removes one directory or many, whatever an agent did to them, and reports what it cannot remove."""

from pathlib import Path

import pytest

from tasks_lib.git.worktrees.deletion import DELETERS, FEW, delete_each

MANY = FEW + DELETERS + 1


def make_trees(place: Path, count: int) -> list[Path]:
    trees = [place / f"-{number} it" for number in range(count)]
    for tree in trees:
        (tree / "cache").mkdir(parents=True)
        (tree / "cache" / "file\n").write_text("x")
        (tree / "cache").chmod(0o500)
        (tree / "link").symlink_to(place.parent)
    return trees


@pytest.mark.parametrize("count", [0, 1, FEW, MANY])
def test_all_of_it_is_deleted_and_nothing_beside_it(tmp_path: Path, count: int) -> None:
    beside = tmp_path / "beside"
    beside.mkdir()
    trees = make_trees(tmp_path / "trash", count)
    plain = tmp_path / "trash.lock"
    plain.touch()
    assert delete_each([*trees, plain, tmp_path / "never"]) == [True] * (count + 2)
    assert sorted(tmp_path.rglob("*")) == [beside, *([tmp_path / "trash"] if count else [])]


def refuse(path: Path, *, ignore_errors: bool) -> None:
    """Delete nothing, as on a read-only file system."""


@pytest.mark.parametrize("count", [1, MANY])
def test_what_cannot_be_deleted_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    trees = make_trees(tmp_path / "trash", count)
    monkeypatch.setattr("shutil.rmtree", refuse)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert delete_each(trees) == [False] * count
