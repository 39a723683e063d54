"""Files are replaced atomically, only regular files are read, and empty parents are removed only up to a given top."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_lib.process.files import find_unfinished, read_regular, read_stamp, remove_empty_parents, write_atomically


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize("is_durable", [False, True])
def test_a_file_is_replaced_and_keeps_its_mode_unless_another_is_said(tmp_path: Path, is_durable: bool) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"one", is_durable=is_durable)
    assert (path.read_bytes(), mode_of(path)) == (b"one", 0o644)
    path.chmod(0o640)
    write_atomically(path, b"two", is_durable=is_durable)
    assert (path.read_bytes(), mode_of(path)) == (b"two", 0o640)
    write_atomically(path, b"three", mode=0o600, unfinished=tmp_path / ".begun-", is_durable=is_durable)
    assert (path.read_bytes(), mode_of(path)) == (b"three", 0o600)
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_replaced_leaves_nothing_unfinished(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomically(tmp_path / "folder", b"data")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_reader_of_the_old_file_goes_on_with_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with path.open("rb") as reader:
        write_atomically(path, b"new")
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new"


def test_only_what_a_kill_left_of_writing_is_unfinished(tmp_path: Path) -> None:
    for name in ("run.json", "run.json.coordinator-x1", ".coordinator-x1", "coordinator-x1"):
        (tmp_path / name).touch()
    assert find_unfinished(tmp_path) == [tmp_path / "run.json.coordinator-x1"]
    assert find_unfinished(tmp_path / "gone") == []


@given(data=st.binary(max_size=40), limit=st.integers(0, 50), start=st.integers(0, 50))
def test_the_end_of_a_regular_file_is_read_from_where_it_was_left(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, limit: int, start: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "regular"
    path.write_bytes(data)
    assert read_regular(path, limit, start) == data[max(start, len(data) - limit) :]


def count_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


STRANGE: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
    "link": lambda path: path.symlink_to("/dev/zero"),
    "nothing": lambda path: None,
}


@pytest.mark.parametrize("kind", STRANGE)
def test_what_is_not_a_regular_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    STRANGE[kind](tmp_path / "x")
    before = count_descriptors()
    with pytest.raises(OSError, match="x"):
        read_regular(tmp_path / "x", 10)
    assert count_descriptors() == before


def test_a_stamp_is_another_when_a_file_is_replaced_and_follows_a_link_only_if_told_so(tmp_path: Path) -> None:
    path, link = tmp_path / "file", tmp_path / "link"
    assert read_stamp(path) is None
    path.write_bytes(b"one")
    link.symlink_to(path)
    before = read_stamp(path), read_stamp(link), read_stamp(link, follows_links=True)
    assert before[0] == before[2] != before[1]
    write_atomically(path, b"one")
    assert read_stamp(path) == read_stamp(link, follows_links=True) != before[0]
    assert read_stamp(link) == before[1]


def test_empty_folders_go_up_to_the_top_and_no_further(tmp_path: Path) -> None:
    top = tmp_path / "above" / "top"
    (top / "kept" / "a" / "b").mkdir(parents=True)
    (top / "kept" / "file").touch()
    remove_empty_parents(top / "kept" / "a" / "b" / "gone" / "file", top)
    assert sorted(path.name for path in top.rglob("*")) == ["file", "kept"]
    (top / "kept" / "file").unlink()
    remove_empty_parents(top / "kept" / "file", top)
    assert top.is_dir()
    assert list(top.iterdir()) == []
    remove_empty_parents(tmp_path / "above" / "other" / "file", top)
    assert top.is_dir()
