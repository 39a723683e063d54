"""The commit with which a person completes a resolve task: what it changes, what it says, and what it refuses."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from merge_fixtures import MergeFixture, task_text

from tasks_lib.errors import InputError
from tasks_lib.git.compose.commit_composer import Candidate, Conflict
from tasks_lib.git.compose.recompose import recompose
from tasks_lib.taskfile.parsing import MAX_BYTES

FILE = "tasks/resolve-db-1.md"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[MergeFixture]:
    found = MergeFixture(tmp_path / "repo", {"src.txt": "1\n", FILE: task_text("resolve-db-1")})
    yield found
    found.close()


def resolve(shop: MergeFixture, guidance: str, run: str = "") -> Candidate:
    return shop.composer.compose_resolution(shop.task("resolve-db-1"), shop.tip(), guidance=guidance, run=run)


def message_of(shop: MergeFixture, commit: str) -> str:
    return shop.sh("log", "-1", "--format=%B", commit)


def test_resolution_completes_its_task_and_changes_nothing_else(shop: MergeFixture) -> None:
    found = resolve(shop, "Use the sandbox key.", "r1")
    assert [c.path for c in shop.objects.diff(shop.tip(), found.commit)] == [FILE]
    assert shop.sh("log", "-1", "--format=%P", found.commit) == shop.tip()
    wanted = task_text("resolve-db-1", status="completed").replace(
        "> To be filled on completion", "Use the sandbox key."
    )
    assert shop.show(found.commit, FILE) == wanted
    said = "resolved(resolve-db-1): Use the sandbox key.\n\nTask: resolve-db-1\nRun: r1"
    assert message_of(shop, found.commit).rstrip("\n") == said


def test_resolution_without_a_word_is_named_after_its_task(shop: MergeFixture) -> None:
    found = resolve(shop, " \n")
    assert message_of(shop, found.commit).splitlines() == [
        *("resolved(resolve-db-1): Do resolve-db-1", "", "Task: resolve-db-1")
    ]
    assert "> To be filled" in (shop.show(found.commit, FILE) or "")


def test_long_guidance_is_cut_in_the_subject_and_whole_in_the_file(shop: MergeFixture) -> None:
    guidance = "First " + "x" * 100 + "\n\n## Notes\nNot a section.\n---\nstatus: failed\n"
    found = resolve(shop, guidance)
    subject, _, body = message_of(shop, found.commit).partition("\n")
    assert len(subject) == len("resolved(resolve-db-1): ") + 72
    assert "x" * 100 in body
    text = shop.show(found.commit, FILE) or ""
    assert "x" * 100 + "\n\n### Notes\nNot a section.\n---\nstatus: failed\n" in text
    assert shop.task("resolve-db-1", found.commit).is_completed


def test_guidance_is_added_to_a_summary_that_was_written_and_is_not_said_twice(shop: MergeFixture) -> None:
    text = task_text("resolve-db-1").replace("> To be filled on completion", "Ask Ann.")
    shop.commit({FILE: text})
    assert "Ask Ann.\n\nShe agrees.\n" in (shop.show(resolve(shop, "She agrees.").commit, FILE) or "")
    assert (shop.show(resolve(shop, "Ask Ann.").commit, FILE) or "").count("Ask Ann.") == 1


def test_guidance_that_is_not_text_leaves_the_file_valid(shop: MergeFixture) -> None:
    found = resolve(shop, "half \ud83d\0\x1b[31m caf\udce9")
    assert shop.task("resolve-db-1", found.commit).is_completed
    assert "half ?[31m caf?" in (shop.show(found.commit, FILE) or "")


def test_guidance_that_makes_the_file_too_large_is_refused(shop: MergeFixture) -> None:
    with pytest.raises(InputError, match=f"{FILE}: has more than {MAX_BYTES} bytes"):
        resolve(shop, "x" * MAX_BYTES)


def test_resolution_is_made_again_on_a_base_that_moved(shop: MergeFixture) -> None:
    found = resolve(shop, "Use the sandbox key.")
    onto = shop.commit({"src.txt": "2\n"})
    again = recompose(shop.composer, found.commit, onto, "")
    assert isinstance(again, Candidate)
    assert (again.head, shop.show(again.commit, FILE)) == (onto, shop.show(found.commit, FILE))
    assert message_of(shop, again.commit) == message_of(shop, found.commit)
    other = shop.commit({FILE: task_text("resolve-db-1").replace("status: pending", "status: blocked")})
    assert isinstance(recompose(shop.composer, found.commit, other, ""), Conflict)
