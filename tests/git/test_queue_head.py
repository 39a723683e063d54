"""The head: how it moves, what to do when the base moved, and recreated commits."""

import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from merge_fixtures import MergeFixture, task_text

from tasks_lib.errors import GitError, InputError
from tasks_lib.git.commits.landed_commits import find_landed
from tasks_lib.git.compose.commit_composer import Candidate, Conflict, NewTask
from tasks_lib.git.compose.recompose import recompose
from tasks_lib.git.publish.queue_head import FollowedBase, Head, NeedsRebuild, Rewritten, Unchanged
from tasks_lib.model import Status


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[MergeFixture]:
    files: dict[str, str | bytes | None] = {"src.txt": "one\ntwo\nthree\n"}
    tasks: dict[str, str | bytes | None] = {f"tasks/{name}.md": task_text(name) for name in ("a", "b", "c")}
    found = MergeFixture(tmp_path / "repo", {**files, **tasks})
    yield found
    found.close()


@pytest.fixture
def head(shop: MergeFixture) -> Head:
    return Head(shop.git, "main")


def land(shop: MergeFixture, head: Head, task_id: str, files: dict[str, str | bytes | None]) -> str:
    """Merge a branch of one commit onto the head and return the merge commit."""
    commit = shop.branch(f"feat/{task_id}", files)
    found = shop.composer.compose_merge(shop.landing(task_id, commit), head.current())
    assert isinstance(found, Candidate)
    assert head.advance(found.head, found.commit)
    return found.commit


def remake(shop: MergeFixture, head: Head, known: str) -> str:
    """Recreate every unpublished commit and move the head."""
    needed = head.reconcile(known)
    assert isinstance(needed, NeedsRebuild)
    onto = needed.base
    for commit in needed.commits:
        found = recompose(shop.composer, commit, onto, "d1gest")
        assert isinstance(found, Candidate), found
        onto = found.commit
    assert head.advance(needed.head, onto)
    return onto


def test_without_a_ref_the_head_is_the_base(shop: MergeFixture, head: Head) -> None:
    assert head.current() == head.base() == shop.tip()
    assert not head.is_pending()


def test_missing_target_says_what_to_do(shop: MergeFixture) -> None:
    with pytest.raises(InputError, match=r'"gone" does not exist.*`target`'):
        Head(shop.git, "gone").current()


def test_a_target_that_only_begins_alike_is_another(shop: MergeFixture) -> None:
    shop.sh("branch", "release/1")
    with pytest.raises(InputError):
        Head(shop.git, "release").base()


def test_base_that_is_a_symbolic_ref_is_seen_to_move(shop: MergeFixture) -> None:
    """The file of such a ref stays as it is when what it points to moves."""
    shop.sh("symbolic-ref", "refs/heads/alias", "refs/heads/main")
    head = Head(shop.git, "alias")
    assert head.current() == shop.tip()
    moved = shop.commit({"x": "x"})
    assert (head.current(), head.base()) == (moved, moved)


def test_own_move_is_not_read_again_and_one_by_another_hand_is(shop: MergeFixture, head: Head) -> None:
    begun = head.current()
    first, second = land_on(shop, begun), land_on(shop, begun)
    assert head.advance(begun, first)
    assert head.refs.is_as_read(begun)
    assert head.current() == first
    shop.git.run("update-ref", head.refs.queue_ref, second)
    assert head.current() == second


def test_advance_moves_the_queue_ref_and_not_the_branch(shop: MergeFixture, head: Head) -> None:
    base = shop.tip()
    commit = land(shop, head, "a", {"n": "n"})
    assert (head.current(), head.base()) == (commit, base)
    assert head.is_pending()
    assert find_landed(shop.git, commit, 10) == {"a": commit}


def test_advance_from_where_the_head_is_not_is_lost(shop: MergeFixture, head: Head) -> None:
    old = shop.tip()
    commit = land(shop, head, "a", {"n": "n"})
    other = shop.composer.compose_checked(shop.landing("b", old), old)
    assert not head.advance(old, other.commit)
    assert head.current() == commit


def test_advance_is_lost_when_the_base_moved_before_there_was_a_ref(shop: MergeFixture, head: Head) -> None:
    old = shop.tip()
    other = shop.composer.compose_checked(shop.landing("b", old), old)
    shop.commit({"x": "x"})
    assert not head.advance(old, other.commit)


def test_advance_past_a_move_by_another_hand_puts_that_back_and_is_made(shop: MergeFixture) -> None:
    told: list[str] = []
    head = Head(shop.git, "main", on_foreign_move=told.append)
    begun = head.current()
    first, second, third = (land_on(shop, one) for one in (begun, begun, begun))
    assert head.advance(begun, first)
    shop.git.run("update-ref", head.refs.queue_ref, second)
    assert head.replace(first, third)
    assert shop.git.resolve(head.refs.queue_ref) == third
    assert len(told) == 1


def land_on(shop: MergeFixture, parent: str) -> str:
    """Make a unique commit on `parent`."""
    return shop.git.text("commit-tree", "-p", parent, "-m", uuid.uuid4().hex, f"{parent}^{{tree}}")


def test_advance_that_git_cannot_make_is_an_error(shop: MergeFixture, head: Head) -> None:
    commit = land(shop, head, "a", {"n": "n"})
    lock = shop.top / ".git" / f"{head.refs.queue_ref}.lock"
    lock.touch()
    with pytest.raises(GitError, match="lock"):
        head.advance(commit, shop.tip())


@pytest.mark.parametrize("has_ref", [False, True])
def test_of_many_that_advance_at_once_one_wins(shop: MergeFixture, head: Head, has_ref: bool) -> None:
    if has_ref:
        land(shop, head, "a", {"n": "n"})
    old = head.current()
    candidates = [shop.composer.compose_checked(shop.landing("b", old, session=str(n)), old).commit for n in range(6)]
    start = threading.Barrier(len(candidates))

    def move(new: str) -> bool:
        start.wait()
        return Head(shop.git, "main").advance(old, new)

    with ThreadPoolExecutor(len(candidates)) as pool:
        won = [new for new, moved in zip(candidates, pool.map(move, candidates), strict=True) if moved]
    assert won == [head.current()]


def test_finish_deletes_the_ref_only_when_all_is_published(shop: MergeFixture, head: Head) -> None:
    commit = land(shop, head, "a", {"n": "n"})
    head.finish()
    assert head.is_pending()
    shop.sh("merge", "-q", "--ff-only", commit)
    assert not head.is_pending()
    shop.commit({"x": "x"})
    head.finish()
    assert shop.sh("for-each-ref", "refs/coordinator") == ""
    head.finish()


def test_reconcile_without_a_ref_follows_the_base(shop: MergeFixture, head: Head) -> None:
    base = shop.tip()
    assert head.reconcile(None) == FollowedBase(base)
    assert head.reconcile(base) == Unchanged(base, base)
    moved = shop.commit({"x": "x"})
    assert head.reconcile(base) == FollowedBase(moved)


def test_reconcile_leaves_a_pending_publication(shop: MergeFixture, head: Head) -> None:
    base = shop.tip()
    commit = land(shop, head, "a", {"n": "n"})
    assert head.reconcile(None) == head.reconcile(base) == Unchanged(commit, base)


def test_reconcile_follows_a_base_that_went_on_from_the_head(shop: MergeFixture, head: Head) -> None:
    commit = land(shop, head, "a", {"n": "n"})
    shop.sh("merge", "-q", "--ff-only", commit)
    moved = shop.commit({"x": "x"})
    assert head.reconcile(commit) == FollowedBase(moved)
    assert head.current() == moved
    assert shop.tip(head.refs.queue_ref) == moved


def test_reconcile_lists_what_must_be_made_again_oldest_first(shop: MergeFixture, head: Head) -> None:
    base = shop.tip()
    commits = (land(shop, head, "a", {"n": "n"}), land(shop, head, "b", {"m": "m"}))
    moved = shop.commit({"x": "x"})
    assert head.reconcile(base) == NeedsRebuild(moved, commits[1], commits)
    assert head.current() == commits[1]


@pytest.mark.parametrize("is_known", [True, False])
def test_a_rewritten_base_is_told_and_nothing_moves(shop: MergeFixture, head: Head, is_known: bool) -> None:
    base = shop.commit({"x": "x"})
    commit = land(shop, head, "a", {"n": "n"})
    shop.sh("commit", "-q", "--amend", "-m", "amended")
    assert head.reconcile(base if is_known else None) == Rewritten(shop.tip(), base)
    assert head.current() == commit


def test_a_base_that_was_reset_behind_what_was_published_is_rewritten(shop: MergeFixture, head: Head) -> None:
    base = shop.tip()
    commit = land(shop, head, "a", {"n": "n"})
    shop.sh("merge", "-q", "--ff-only", commit)
    shop.sh("reset", "-q", "--hard", base)
    assert head.reconcile(commit) == Rewritten(base, commit)


def test_merges_are_made_again_on_the_moved_base(shop: MergeFixture, head: Head) -> None:
    base = shop.tip()
    first = land(shop, head, "a", {"n": "n", "tasks/a.md": task_text("a").replace("> To be", "Was\n> To be")})
    land(shop, head, "b", {"m": "m"})
    moved = shop.commit({"x": "x", "tasks/c.md": task_text("c", notes="A person's.")})
    shop.sh("branch", "-D", "-q", "feat/a")
    new = remake(shop, head, base)
    assert {"n", "m", "x"} <= shop.files(new)
    assert [shop.task(i, new).status for i in "abc"] == [Status.COMPLETED, Status.COMPLETED, Status.PENDING]
    assert "Was\n" in (shop.show(new, "tasks/a.md") or "")
    assert "A person's." in (shop.show(new, "tasks/c.md") or "")
    chain = shop.sh("rev-list", "--first-parent", f"{moved}..{new}").split()
    assert len(chain) == 2
    assert shop.sh("log", "-1", "--format=%B", chain[1]) == shop.sh("log", "-1", "--format=%B", first)
    assert shop.sh("log", "-1", "--format=%P", chain[1]).split() == [moved, shop.sh("rev-parse", f"{first}^2")]
    assert head.reconcile(moved) == Unchanged(new, moved)


def test_report_in_the_summary_survives_being_made_again(shop: MergeFixture) -> None:
    commit = shop.branch("feat/a", {"n": "n"})
    found = shop.composer.compose_merge(shop.landing("a", commit, summary="The report."), shop.tip())
    assert isinstance(found, Candidate)
    again = recompose(shop.composer, found.commit, shop.commit({"x": "x"}), verified="other")
    assert isinstance(again, Candidate)
    assert "The report." in (shop.show(again.commit, "tasks/a.md") or "")
    assert "Verified: other" in shop.sh("log", "-1", "--format=%B", again.commit)


def test_checks_and_blockers_are_applied_again(shop: MergeFixture, head: Head) -> None:
    base = shop.tip()
    checked = shop.composer.compose_checked(shop.landing("a", base, summary="Fine."), base)
    assert head.advance(base, checked.commit)
    new = NewTask("resolve-b-1", "tasks/resolve-b-1.md", task_text("resolve-b-1"))
    blocked = shop.composer.compose_blocker(
        shop.task("b"), checked.commit, reason="No key", notes="n", resolve=new, attempt=1, run="r", session="s"
    )
    assert head.advance(checked.commit, blocked.commit)
    shop.commit({"x": "x", "tasks/b.md": task_text("b").replace("Do it.", "Do it well.\n\nAnd soon.")})
    top = remake(shop, head, base)
    assert shop.task("a", top).is_completed
    assert (shop.task("b", top).status, shop.task("b", top).depends_on) == (Status.BLOCKED, ("resolve-b-1",))
    assert "Do it well." in (shop.show(top, "tasks/b.md") or "")
    assert shop.show(top, new.path) == new.text


def test_a_source_conflict_with_the_new_base_is_reported(shop: MergeFixture, head: Head) -> None:
    commit = land(shop, head, "a", {"src.txt": "one\nTWO\nthree\n"})
    moved = shop.commit({"src.txt": "one\ndos\nthree\n"}, "Spanish")
    found = recompose(shop.composer, commit, moved, "d1gest")
    assert isinstance(found, Conflict)
    assert found.paths == ("src.txt",)
    assert [line.partition(" ")[2] for line in found.head_commits] == ["Spanish"]


def test_a_check_whose_lines_changed_on_the_new_base_is_a_conflict(shop: MergeFixture) -> None:
    checked = shop.composer.compose_checked(shop.landing("a", shop.tip()), shop.tip())
    moved = shop.commit({"tasks/a.md": task_text("a", status="failed")}, "A person")
    found = recompose(shop.composer, checked.commit, moved, "d1gest")
    assert isinstance(found, Conflict)
    assert found.paths == ("tasks/a.md",)
    assert [line.partition(" ")[2] for line in found.head_commits] == ["A person"]


@pytest.mark.parametrize("message", ["By a person", "Forged\n\nTask: a\nRun: r\n"])
def test_a_commit_that_is_not_ours_is_not_made_again(shop: MergeFixture, message: str) -> None:
    base = shop.tip()
    foreign = shop.commit({"src.txt": "mine\n"}, message)
    found = recompose(shop.composer, foreign, base, "d1gest")
    assert isinstance(found, Conflict)
    assert "cannot be recreated" in found.messages[0]


def test_a_task_that_the_new_base_deleted_is_a_conflict(shop: MergeFixture, head: Head) -> None:
    commit = land(shop, head, "a", {"n": "n"})
    found = recompose(shop.composer, commit, shop.commit({"tasks/a.md": None}), "d1gest")
    assert isinstance(found, Conflict)
    assert '"a" is not on the new base' in found.messages[0]
