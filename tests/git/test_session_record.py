"""Records and notices survive kills and invalid bytes, and are found from inside a worktree."""

import json
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_lib.git.repository import Repository
from tasks_lib.git.session_record import (
    append_notice,
    clear_notices,
    read_git_link,
    read_notices,
    read_record,
    remove_record,
    write_record,
)
from tasks_lib.model import AttemptEnd, Notice, NoticeLevel, RecordStage, Stage
from tasks_lib.session.attempt_record import AttemptIdentity, Record, TurnRecord
from tasks_lib.session.spending import Spent

RECORDS = Path(__file__).parents[1] / "compatibility" / "records"
texts = st.text(st.characters(exclude_categories=["Cs"]))
numbers = st.integers(-(1 << 53) + 1, (1 << 53) - 1)
UNCOUNTABLE = ("NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 400, "true", '"7"', "[]", "null")


@given(
    st.builds(
        Record,
        task_id=texts,
        branch=texts,
        stage=st.sampled_from([None, *Stage, *AttemptEnd]),
        attempt=st.builds(AttemptIdentity, numbers, session=texts),
        turn=st.builds(TurnRecord, numbers, messages=st.lists(texts).map(tuple)),
        notes=st.lists(texts).map(tuple),
    )
)
def test_record_reads_back_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, record: Record) -> None:
    git_dir = tmp_path_factory.mktemp("git-dir")
    write_record(git_dir, record)
    assert read_record(git_dir) == record


def test_unknown_keys_are_ignored_and_missing_ones_have_defaults(tmp_path: Path) -> None:
    (tmp_path / "coordinator.json").write_text('{"task_id": "a", "branch": "feat/a", "pid_started": 3, "later": [1]}')
    assert read_record(tmp_path) == Record("a", "feat/a", turn=TurnRecord(pid_started=3.0))


@pytest.mark.parametrize("path", sorted(RECORDS.glob("**/coordinator.json")), ids=lambda path: path.parent.name)
def test_record_of_a_release_is_written_back_byte_for_byte(tmp_path: Path, path: Path) -> None:
    record = read_record(path.parent)
    assert record
    write_record(tmp_path, record)
    assert (tmp_path / "coordinator.json").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("stage", [None, *Stage, *AttemptEnd])
def test_stage_is_written_as_the_text_that_it_always_was(tmp_path: Path, stage: RecordStage | None) -> None:
    record = Record("a", "feat/a", stage=stage)
    write_record(tmp_path, record)
    assert json.loads((tmp_path / "coordinator.json").read_text())["stage"] == (stage or "")
    assert read_record(tmp_path) == record


def test_unknown_stage_reads_as_none(tmp_path: Path) -> None:
    (tmp_path / "coordinator.json").write_text('{"task_id": "a", "branch": "feat/a", "stage": "later"}')
    assert read_record(tmp_path) == Record("a", "feat/a")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        '{"task_id": "a"}',
        '{"task_id": 1, "branch": "b"}',
        '{"task_id": "a", "branch": "b", "turn": true}',
        '{"task_id": "a", "branch": "b", "notes": [1]}',
        '{"task_id": "a", "branch": "b", "notes": "x"}',
        '{"task_id": "a", "branch": "b", "stage": null}',
        '{"task_id": "a", "branch": "b", "stage": 1}',
        *(f'{{"task_id": "a", "branch": "b", "pid": {number}}}' for number in UNCOUNTABLE),
        *(f'{{"task_id": "a", "branch": "b", "pid_started": {number}}}' for number in UNCOUNTABLE),
    ],
)
def test_broken_record_reads_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "coordinator.json").write_text(content)
    assert read_record(tmp_path) is None


@pytest.mark.parametrize("number", UNCOUNTABLE)
def test_spending_that_is_no_number_to_count_with_is_nothing(tmp_path: Path, number: str) -> None:
    spent = f'{{"tokens": {number}, "cost": {number}, "turns": 2, "seconds": {number}}}'
    (tmp_path / "coordinator.json").write_text(f'{{"task_id": "a", "branch": "feat/a", "spent": {spent}}}')
    record = read_record(tmp_path)
    assert record
    assert record.spending.node == Spent(turns=2)


def test_removed_record_leaves_nothing_behind(tmp_path: Path) -> None:
    write_record(tmp_path, Record("a", "feat/a"))
    (tmp_path / "coordinator.json.coordinator-torn").write_text("left by a kill")
    remove_record(tmp_path)
    remove_record(tmp_path)
    assert read_record(tmp_path) is None
    assert not list(tmp_path.iterdir())


def test_notices_of_many_writers_all_arrive_whole(tmp_path: Path) -> None:
    def write(writer: int) -> None:
        for turn in range(20):
            append_notice(tmp_path, Notice(NoticeLevel.INFO, f"{writer} " + "x" * 5000, turn))

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    notices = read_notices(tmp_path)
    assert len(notices) == 160
    assert {len(notice.text) for notice in notices} == {5002}


@given(cut=st.integers(min_value=0), later=texts)
def test_torn_line_is_passed_over_and_the_next_is_read(
    tmp_path_factory: pytest.TempPathFactory, cut: int, later: str
) -> None:
    git_dir = tmp_path_factory.mktemp("git-dir")
    first, torn, last = (Notice(NoticeLevel.WARNING, text, 1) for text in ("one", "two", later))
    append_notice(git_dir, first)
    path = git_dir / "coordinator-notices.jsonl"
    size = path.stat().st_size
    append_notice(git_dir, torn)
    # The last two bytes are the brace and the newline; without the brace, the line is torn.
    with path.open("r+b") as file:
        file.truncate(size + cut % (path.stat().st_size - size - 1))
    append_notice(git_dir, last)
    assert read_notices(git_dir) == (first, last)


def test_foreign_lines_among_notices_are_passed_over(tmp_path: Path) -> None:
    lines = [
        "7",
        "[]",
        '{"level": "loud", "text": "x"}',
        '{"level": "info"}',
        json.dumps({"level": "info", "text": "y"}),
    ]
    (tmp_path / "coordinator-notices.jsonl").write_bytes("\n".join(lines).encode() + b"\n\xff\n")
    assert read_notices(tmp_path) == (Notice(NoticeLevel.INFO, "y"),)
    clear_notices(tmp_path)
    clear_notices(tmp_path)
    assert read_notices(tmp_path) == ()


def test_git_dir_of_a_worktree_is_found_by_its_link(repository: Repository, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    repository.git.run("worktree", "add", "--quiet", "--detach", str(linked))
    assert read_git_link(linked) == repository.common_dir / "worktrees" / "linked"
    assert read_git_link(repository.top) == repository.common_dir
    assert read_git_link(tmp_path) is None
