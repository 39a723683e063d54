"""Objects: reading through one child process, editing trees in memory."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from merge_fixtures import MergeFixture

from tasks_lib.errors import GitError
from tasks_lib.git.objects.object_database import Entry


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MergeFixture]:
    files: dict[str, str | bytes | None] = {"a.txt": "a\n", "d/b.txt": "b\n", "d/e/c.txt": "c\n", "run.sh": "#!\n"}
    found = MergeFixture(tmp_path_factory.mktemp("objects"), files)
    (found.top / "run.sh").chmod(0o755)
    found.sh("commit", "-qam", "make it run")
    yield found
    found.close()


def test_read_returns_the_bytes_of_a_blob_as_they_are(shop: MergeFixture) -> None:
    data = b"\x00\xff\nlines\r\nand no end"
    assert shop.objects.read(shop.objects.write_blob(data)) == data
    assert shop.objects.read(shop.objects.write_blob(b"")) == b""


def test_missing_object_is_an_error_and_the_next_read_works(shop: MergeFixture) -> None:
    with pytest.raises(GitError, match="no object"):
        shop.objects.read("1" * 40)
    with pytest.raises(GitError, match="cannot name"):
        shop.objects.read("HEAD\nHEAD")
    assert shop.objects.find_entry(shop.tip(), "a.txt") is not None


def test_find_entry_gives_mode_and_id_or_none(shop: MergeFixture) -> None:
    head = shop.tip()
    assert shop.objects.find_entry(head, "run.sh") == Entry("100755", "run.sh", shop.sh("rev-parse", "HEAD:run.sh"))
    assert shop.objects.find_entry(head, "d") == Entry("040000", "d", shop.sh("rev-parse", "HEAD:d"))
    assert shop.objects.find_entry(head, "d/none") is None
    assert shop.objects.find_entry(head, "a.txt/below") is None


def test_edit_keeps_the_mode_and_drops_empty_folders(shop: MergeFixture) -> None:
    blob = shop.objects.write_blob(b"new\n")
    tree = shop.objects.edit_tree(
        shop.tip(), {"run.sh": blob, "d/e/c.txt": None, "new/deep/x.md": blob, "none/y": None}
    )
    listed = shop.sh("ls-tree", "-r", "--format=%(objectmode) %(path)", tree).splitlines()
    assert listed == ["100644 a.txt", "100644 d/b.txt", "100644 new/deep/x.md", "100755 run.sh"]
    shop.sh("fsck", "--strict", "--no-dangling")


def test_edit_can_empty_a_tree(shop: MergeFixture) -> None:
    tree = shop.objects.edit_tree(shop.tip(), dict.fromkeys(shop.files(shop.tip())))
    assert shop.sh("ls-tree", tree) == ""


@pytest.mark.parametrize("path", ["../x", "/x", "a//b", ".git/config", "d/.GIT/x", "x/", ""])
def test_edit_refuses_a_path_that_leaves_the_tree(shop: MergeFixture, path: str) -> None:
    with pytest.raises(ValueError, match="cannot be a path"):
        shop.objects.edit_tree(shop.tip(), {path: None})


def test_a_killed_child_is_started_again(shop: MergeFixture) -> None:
    shop.objects.read_tree(shop.tip())
    child = shop.objects._helper.pid  # pyright: ignore[reportPrivateUsage]
    assert child is not None
    os.kill(child, signal.SIGKILL)
    blob = shop.objects.write_blob(b"after")
    assert shop.objects.read(blob) == b"after"
    assert shop.objects.find_entry(shop.objects.edit_tree(shop.tip(), {"z": blob}), "z") == Entry("100644", "z", blob)


def test_close_leaves_no_process_and_no_descriptor(shop: MergeFixture) -> None:
    shop.objects.close()
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    for _ in range(5):
        shop.objects.read(shop.tip())
        child = shop.objects._helper.pid  # pyright: ignore[reportPrivateUsage]
        assert child is not None
        shop.objects.close()
        assert not Path(f"/proc/{child}").exists()
    assert len(list(descriptors.iterdir())) == before


def test_many_threads_read_and_write_the_right_things(shop: MergeFixture) -> None:
    def roundtrip(number: int) -> bool:
        data = f"blob {number}\n".encode() * (number + 1)
        blob = shop.objects.write_blob(data)
        tree = shop.objects.edit_tree(shop.tip("main"), {f"t/{number}": blob})
        return (
            shop.objects.find_entry(tree, f"t/{number}") == Entry("100644", str(number), blob)
            and shop.objects.read(blob) == data
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(roundtrip, range(40)))


def test_diff_lists_what_differs_and_nothing_else(shop: MergeFixture) -> None:
    blob = shop.objects.write_blob(b"x")
    tree = shop.objects.edit_tree(shop.tip(), {"d/b.txt": None, "d/e/c.txt": blob, "d/new": blob, "a.txt": blob})
    found = {c.path: (c.old is not None, c.new is not None) for c in shop.objects.diff(shop.tip(), tree, "d")}
    assert found == {"d/b.txt": (True, False), "d/e/c.txt": (True, True), "d/new": (False, True)}


def test_a_file_in_place_of_a_folder_is_one_change(shop: MergeFixture) -> None:
    tree = shop.objects.edit_tree(shop.tip(), {"d": shop.objects.write_blob(b"x")})
    change = shop.objects.diff(shop.tip(), tree)[0]
    assert change.path == "d"
    assert change.old is not None
    assert change.old.is_tree
    assert change.new is not None
    assert change.new.is_file


_PATHS = st.lists(st.sampled_from(["a", "b", "é", "x y", "t\tb"]), min_size=1, max_size=3).map("/".join)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    first=st.dictionaries(_PATHS, st.booleans(), max_size=5), second=st.dictionaries(_PATHS, st.booleans(), max_size=5)
)
def test_edits_add_up_to_what_a_dictionary_would_hold(
    shop: MergeFixture, first: dict[str, bool], second: dict[str, bool]
) -> None:
    blob = shop.objects.write_blob(b"content")
    tree = shop.objects.edit_tree(shop.tip(), dict.fromkeys(shop.files(shop.tip())))
    expected: set[str] = set()
    for edits in (first, second):
        # A path that is also the parent directory of another in the same edit would be contradictory.
        clean = {p: put for p, put in edits.items() if not any(other.startswith(f"{p}/") for other in edits)}
        tree = shop.objects.edit_tree(tree, {path: blob if put else None for path, put in clean.items()})
        for path, put in clean.items():
            expected = {p for p in expected if p != path and not (p.startswith(f"{path}/"))}
            if put:
                expected = {p for p in expected if not path.startswith(f"{p}/")} | {path}
    assert shop.files(tree) == expected


def test_many_objects_are_read_in_order_and_a_missing_one_is_an_error(shop: MergeFixture) -> None:
    contents = [f"{number}\n".encode() * (20_000 if number % 50 == 0 else 1) for number in range(200)]
    oids = [shop.objects.write_blob(data) for data in contents]
    # More requests, and more answers, than fit into a pipe.
    assert list(shop.objects.read_each(oids * 20)) == contents * 20
    assert list(shop.objects.read_each([])) == []
    with pytest.raises(GitError, match="no object 1111"):
        list(shop.objects.read_each([oids[0], "1" * 40, oids[1]]))
    assert shop.objects.read(oids[1]) == contents[1]
