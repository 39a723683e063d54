"""Reading task files at a commit."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from merge_fixtures import MergeFixture, task_text

from tasks_lib.errors import InputError
from tasks_lib.git.commits.task_reader import TaskReader


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[MergeFixture]:
    files: dict[str, str | bytes | None] = {
        "tasks/b.md": task_text("b"),
        "tasks/sub/a.md": task_text("sub/a"),
        "tasks/README.md": "# No task\n",
        "tasks/notes.txt": "---\nid: x\n---\n",
        "other/c.md": task_text("c"),
    }
    found = MergeFixture(tmp_path / "repo", files)
    yield found
    found.close()


def test_reading_finds_task_files_recursively_and_sorted(shop: MergeFixture) -> None:
    reading = shop.reader.read(shop.tip())
    assert [task.path for task in reading.tasks] == ["tasks/b.md", "tasks/sub/a.md"]
    assert reading.tasks[0].blob == shop.sh("rev-parse", "HEAD:tasks/b.md")
    assert reading.faults == ()


def test_only_changed_files_are_parsed_again(shop: MergeFixture) -> None:
    first = shop.reader.read(shop.tip())
    head = shop.commit({"tasks/b.md": task_text("b", status="completed")})
    second = shop.reader.read(head)
    assert second.tasks[0].is_completed
    assert second.tasks[1] is first.tasks[1]
    assert shop.reader.read(head) is second


def test_faults_come_with_the_tasks_that_are_right(shop: MergeFixture) -> None:
    head = shop.commit({"tasks/broken.md": "---\nname: no id\n---\n"})
    reading = shop.reader.read(head)
    assert [task.id for task in reading.tasks] == ["b", "sub/a"]
    assert [fault.path for fault in reading.faults] == ["tasks/broken.md"]


def test_links_and_odd_names_are_passed_over_with_a_warning(shop: MergeFixture) -> None:
    (shop.top / "tasks/link.md").symlink_to("b.md")
    Path(os.fsdecode(os.fsencode(shop.top) + b"/tasks/caf\xe9.md")).write_text(task_text("cafe"))
    reading = shop.reader.read(shop.commit({}))
    assert [task.id for task in reading.tasks] == ["b", "sub/a"]
    assert all(fault.is_warning for fault in reading.faults)
    assert [fault.path for fault in reading.faults] == ["tasks/caf\\xe9.md", "tasks/link.md"]


def test_missing_folder_names_branch_folder_and_fix(shop: MergeFixture) -> None:
    reader = TaskReader(shop.objects, "nowhere", "main")
    with pytest.raises(InputError, match=r'"main".*no folder "nowhere".*tasks_dir'):
        reader.read(shop.tip())


def test_the_top_itself_can_be_the_folder(shop: MergeFixture) -> None:
    reading = TaskReader(shop.objects, ".", "main").read(shop.tip())
    assert [task.id for task in reading.tasks] == ["c", "b", "sub/a"]


def test_text_is_that_of_the_commit_and_none_where_there_is_no_file(shop: MergeFixture) -> None:
    old = shop.tip()
    shop.commit({"tasks/b.md": "now this"})
    assert shop.reader.text(old, "tasks/b.md") == task_text("b")
    assert shop.reader.text(shop.tip(), "tasks/b.md") == "now this"
    assert shop.reader.text(old, "tasks/none.md") is None
    assert shop.reader.text(old, "tasks") is None
