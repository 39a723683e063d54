"""Publishing: the user's checkout moves only where git accepts it, and their changes are never touched."""

from collections.abc import Iterator
from pathlib import Path
from threading import Lock

import pytest
from merge_fixtures import MergeFixture, task_text

from tasks_lib.errors import InputError
from tasks_lib.git.publish.local_branch import AlreadyThere, Pending, Published, publish


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[MergeFixture]:
    files: dict[str, str | bytes | None] = {
        "landed.txt": "old\n",
        "mine.txt": "mine\n",
        "staged.txt": "staged\n",
        ".gitignore": "*.log\n",
        "tasks/a.md": task_text("a"),
    }
    found = MergeFixture(tmp_path / "repo", files)
    yield found
    found.close()


@pytest.fixture
def work(shop: MergeFixture) -> str:
    """Make a commit on top of main that changes one file and adds two."""
    return shop.branch("work", {"landed.txt": "new\n", "added.txt": "added\n"})


def test_a_checkout_is_fast_forwarded_and_what_is_dirty_elsewhere_stays(shop: MergeFixture, work: str) -> None:
    shop.write({"mine.txt": "stashed\n"})
    shop.sh("stash", "-q")
    shop.write({"staged.txt": "staged change\n"})
    shop.sh("add", "staged.txt")
    shop.write({"mine.txt": "half done\n", "staged.txt": "staged and changed\n", "untracked.txt": "u\n"})
    before = [shop.sh("stash", "list", "--format=%H"), shop.sh("diff"), shop.sh("diff", "--cached")]
    assert publish(shop.git, "main", work) == Published(work)
    assert shop.tip() == work
    assert (shop.top / "landed.txt").read_text() == "new\n"
    assert (shop.top / "added.txt").read_text() == "added\n"
    assert (shop.top / "untracked.txt").read_text() == "u\n"
    assert [shop.sh("stash", "list", "--format=%H"), shop.sh("diff"), shop.sh("diff", "--cached")] == before
    assert publish(shop.git, "main", work) == AlreadyThere()


def test_after_the_way_is_free_it_is_published(shop: MergeFixture, work: str) -> None:
    shop.write({"added.txt": "precious\n"})
    assert isinstance(publish(shop.git, "main", work), Pending)
    (shop.top / "added.txt").rename(shop.top / "kept.txt")
    assert publish(shop.git, "main", work) == Published(work)


def test_a_branch_that_is_checked_out_nowhere_is_moved_by_its_ref(shop: MergeFixture, work: str) -> None:
    shop.sh("checkout", "-q", "-b", "elsewhere")
    index = (shop.top / ".git/index").read_bytes()
    with_lock = Lock()
    assert publish(shop.git, "main", work, with_lock) == Published(work)
    assert not with_lock.locked()
    assert shop.tip("main") == work
    assert (shop.top / "landed.txt").read_text() == "old\n"
    assert (shop.top / ".git/index").read_bytes() == index


def test_a_base_that_moved_meanwhile_is_pending_and_not_lost(shop: MergeFixture, work: str) -> None:
    moved = shop.commit({"x": "x"})
    assert isinstance(publish(shop.git, "main", work), Pending)
    assert shop.tip() == moved


class _Meddler:
    """A lock whose release runs the user's commands, between the checks of `publish` and its move."""

    def __init__(self, shop: MergeFixture, *commands: tuple[str, ...]) -> None:
        self._shop: MergeFixture = shop
        self._commands: tuple[tuple[str, ...], ...] = commands

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        for command in self._commands:
            self._shop.sh(*command)


def test_a_commit_between_check_and_move_is_not_lost(shop: MergeFixture, work: str) -> None:
    found = publish(shop.git, "main", work, _Meddler(shop, ("commit", "-q", "--allow-empty", "-m", "quick")))
    assert isinstance(found, Pending)
    assert shop.sh("log", "-1", "--format=%s", "main") == "quick"


def test_a_ref_that_moves_between_check_and_move_is_not_lost(shop: MergeFixture, work: str) -> None:
    quick = shop.branch("other", {"y": "y"})
    shop.sh("checkout", "-q", "-b", "elsewhere")
    found = publish(shop.git, "main", work, _Meddler(shop, ("update-ref", "refs/heads/main", quick)))
    assert isinstance(found, Pending)
    assert shop.tip("main") == quick


def test_a_switch_between_check_and_move_moves_no_other_branch(shop: MergeFixture, work: str) -> None:
    base = shop.tip()
    found = publish(shop.git, "main", work, _Meddler(shop, ("checkout", "-q", "-b", "elsewhere")))
    assert isinstance(found, Pending)
    assert shop.tip("elsewhere") == shop.tip("main") == base


def test_missing_target_says_what_to_do(shop: MergeFixture, work: str) -> None:
    with pytest.raises(InputError, match="does not exist"):
        publish(shop.git, "gone", work)
