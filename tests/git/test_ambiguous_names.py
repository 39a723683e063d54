"""Names that are ambiguous to git: the intended ref, commit or branch is used, and no other."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from ambiguous_names import FILES, create_ambiguous_names, list_refs

from tasks_lib.errors import InputError
from tasks_lib.git.branches import create_branch, delete_branch
from tasks_lib.git.kept.restore_and_prune import find_kept, restore
from tasks_lib.git.kept.snapshots import keep_state, list_kept
from tasks_lib.git.publish.interrupted_fast_forward import MOVING_NAME, Move, repair_move
from tasks_lib.git.publish.local_branch import Published, publish
from tasks_lib.git.repository import Repository
from tasks_lib.git.worktrees.lifecycle import Worktrees

HEAD_LIKE = ("refs/tags/HEAD", "refs/heads/HEAD", "refs/HEAD", "refs/remotes/HEAD/HEAD")


@pytest.fixture
def old(repository: Repository) -> str:
    """The first of two commits on main."""
    first = at(repository, "refs/heads/main")
    for name, text in FILES.items():
        (repository.top / name).parent.mkdir(parents=True, exist_ok=True)
        (repository.top / name).write_text(text)
    repository.git.run("add", "--all")
    repository.git.run("commit", "--quiet", "--message", "Name files like refs")
    return first


def at(repository: Repository, ref: str) -> str:
    """The commit of a full ref, read with git's own plumbing."""
    rows = repository.git.text("for-each-ref", "--format=%(objectname) %(refname)", ref).splitlines()
    return next(oid for oid, _, name in (row.partition(" ") for row in rows) if name == ref)


def commit_on(repository: Repository, parent: str, subject: str = "More") -> str:
    return repository.git.text("commit-tree", "-p", parent, "-m", subject, f"{parent}^{{tree}}")


@pytest.mark.parametrize("ref", HEAD_LIKE)
def test_checkout_is_published_to_whatever_else_is_called_head(repository: Repository, old: str, ref: str) -> None:
    repository.git.run("update-ref", ref, old)
    new = commit_on(repository, at(repository, "refs/heads/main"))
    assert publish(repository.git, "main", new) == Published(new)
    assert at(repository, "refs/heads/main") == new
    assert at(repository, ref) == old


def test_checkout_is_published_to_among_all_names_at_once(repository: Repository, old: str) -> None:
    base = at(repository, "refs/heads/main")
    new = commit_on(repository, base)
    before = create_ambiguous_names(repository.git, old, [base, new])
    assert publish(repository.git, "main", new) == Published(new)
    assert list_refs(repository.git) == before | {"refs/heads/main": new}
    assert repository.git.text("status", "--porcelain") == ""


def test_checkout_that_a_kill_left_halfway_is_put_back_beside_a_tag_called_head(
    repository: Repository, old: str
) -> None:
    base = at(repository, "refs/heads/main")
    readme = repository.git.run("hash-object", "-w", "--stdin", stdin=b"# New\n").text
    entries = repository.git.text("ls-tree", base).splitlines()
    rows = [line if "README" not in line else f"100644 blob {readme}\tREADME.md" for line in entries]
    tree = repository.git.run("mktree", stdin="\n".join(rows).encode()).text
    new = repository.git.text("commit-tree", "-p", base, "-m", "New", tree)
    repository.git.run("update-ref", "refs/tags/HEAD", old)
    (repository.top / "README.md").write_text("# New\n")
    move = Move("refs/heads/main", base, new, str(repository.common_dir), str(repository.top))
    (repository.state_dir).mkdir()
    (repository.state_dir / MOVING_NAME).write_text(json.dumps(asdict(move)))
    assert "repaired" in repair_move(repository.common_dir)
    assert (repository.top / "README.md").read_text() == "# Example\n"
    assert repository.git.text("status", "--porcelain") == ""


@pytest.mark.parametrize("other", ["refs/heads/refs/heads/gone", "refs/tags/refs/heads/gone", "refs/refs/heads/gone"])
def test_branch_that_is_gone_is_not_found_by_another_name(repository: Repository, old: str, other: str) -> None:
    repository.git.run("update-ref", other, old)
    assert repository.branch_head("gone") is None
    assert repository.git.follow("refs/heads/gone") == "refs/heads/gone"
    assert repository.branch_head("main^") is None


def test_alias_of_the_target_is_followed_whatever_else_has_its_name(repository: Repository, old: str) -> None:
    repository.git.run("symbolic-ref", "refs/heads/alias", "refs/heads/middle")
    repository.git.run("symbolic-ref", "refs/heads/middle", "refs/heads/main")
    for name in ("alias", "main"):
        repository.git.run("update-ref", f"refs/tags/refs/heads/{name}", old)
    assert repository.git.follow("refs/heads/alias") == "refs/heads/main"


def test_head_without_a_commit_is_not_a_tag_called_head(repository: Repository, old: str) -> None:
    repository.git.run("update-ref", "refs/tags/HEAD", old)
    worktree = Worktrees(repository).open_branch("feat/a", old)
    assert worktree.git.resolve("HEAD") == old
    worktree.git.run("symbolic-ref", "HEAD", "refs/heads/lost")
    assert worktree.git.resolve("HEAD") is None
    (worktree.path / "mine.txt").write_text("mine\n")
    ref = keep_state(worktree, "a", "run-1")
    assert ref
    assert old not in repository.git.text("rev-list", ref).split()


@pytest.mark.parametrize("kind", ["tags", "heads"])
def test_branch_with_a_twin_is_the_default_target(repository: Repository, old: str, kind: str) -> None:
    repository.git.run("checkout", "--quiet", "-b", "dev")
    repository.git.run("update-ref", "refs/tags/dev" if kind == "tags" else "refs/heads/heads/dev", old)
    assert repository.default_target() == "dev"


def test_default_of_another_setting_is_a_branch_and_no_expression(repository: Repository, old: str) -> None:
    repository.git.run("config", "init.defaultBranch", "main^")
    repository.git.run("checkout", "--quiet", "--detach", old)
    assert repository.default_target() == "main"


def test_worktree_is_at_the_commit_whatever_is_called_by_its_id(repository: Repository, old: str) -> None:
    """Git prefers a tag as a branch's start point, and a branch as what to check out, over the object of that id."""
    base = at(repository, "refs/heads/main")
    more = commit_on(repository, base)
    create_ambiguous_names(repository.git, old, [base, more])
    worktrees = Worktrees(repository)
    opened = [worktrees.open_branch("feat/a", base), worktrees.open_detached(base, "verify")]
    assert [worktree.git.resolve("HEAD") for worktree in opened] == [base, base]
    assert repository.branch_head("feat/a") == base
    worktrees.switch(opened[1], more)
    assert opened[1].git.resolve("HEAD") == more
    for worktree in opened:
        worktrees.release(worktree)
    delete_branch(repository, "feat/a", base)
    again = [worktrees.open_branch("feat/b", more), worktrees.open_detached(more, "verify")]
    assert [worktree.git.resolve("HEAD") for worktree in again] == [more, more]
    assert repository.branch_head("feat/b") == more
    assert again[0].git.follow("HEAD") == "refs/heads/feat/b"


def test_branch_that_is_there_is_opened_and_not_the_tag(repository: Repository, old: str) -> None:
    base = at(repository, "refs/heads/main")
    create_ambiguous_names(repository.git, old)
    create_branch(repository, "feat/a", base)
    opened = Worktrees(repository).open_branch("feat/a", old)
    assert (opened.git.follow("HEAD"), opened.git.resolve("HEAD")) == ("refs/heads/feat/a", base)
    assert opened.git.text("status", "--porcelain") == ""


def test_tag_of_a_file_in_the_way_of_a_branch_is_named(repository: Repository, old: str) -> None:
    create_branch(repository, "feat/a", old)
    repository.git.run("update-ref", "refs/tags/feat/a", repository.git.text("rev-parse", f"{old}:README.md"))
    with pytest.raises(InputError, match="refs/tags/feat/a"):
        Worktrees(repository).open_branch("feat/a", old)


def test_branch_that_is_another_name_of_the_target_is_refused(repository: Repository, old: str) -> None:
    """A commit on it would move the target unverified."""
    repository.git.run("symbolic-ref", "refs/heads/feat/a", "refs/heads/main")
    with pytest.raises(InputError, match="symbolic-ref --delete refs/heads/feat/a"):
        Worktrees(repository).open_branch("feat/a", old)


@pytest.mark.parametrize("name", ["HEAD", "-x", "@", "refs/heads/x", "0123456789" * 4, "a..b"])
def test_kept_state_is_not_restored_to_a_name_that_means_something_else(repository: Repository, name: str) -> None:
    worktree = Worktrees(repository).open_branch("feat/a", at(repository, "refs/heads/main"))
    (worktree.path / "mine.txt").write_text("mine\n")
    keep_state(worktree, "a", "run-1")
    before = list_refs(repository.git)
    with pytest.raises(InputError, match="--to"):
        restore(repository, find_kept(repository, "a"), name)
    assert list_refs(repository.git) == before


def test_kept_state_is_found_and_restored_among_all_names(repository: Repository, old: str) -> None:
    worktree = Worktrees(repository).open_branch("feat/a", old)
    (worktree.path / "mine.txt").write_text("mine\n")
    keep_state(worktree, "a", "run-1")
    kept = list_kept(repository)[0]
    create_ambiguous_names(repository.git, old, [kept.commit])
    repository.git.run("update-ref", f"refs/tags/{kept.ref}", old)
    made = restore(repository, find_kept(repository, kept.commit[:8]), "restored/a")
    assert at(repository, "refs/heads/restored/a") == made.kept.commit == kept.commit


def test_revision_is_not_a_file_of_the_same_name(repository: Repository, old: str) -> None:
    base = at(repository, "refs/heads/main")
    (repository.top / base).write_text("a file called like a commit\n")
    for command in ("log", "rev-list", "diff-tree", "diff"):
        repository.git.run(command, base)
    assert repository.git.text("rev-list", "--count", "refs/heads/main", f"^{old}") == "1"


SOURCES = Path(__file__).parents[2] / "tasks_lib"
FORBIDDEN = {
    "--abbrev-ref": "says `heads/main` where a tag is called main; ask `follow`",
    "--symbolic-full-name": "fails where two refs have the name; ask `follow`",
    "refname:short": "says `heads/main` where a tag is called main; take %(refname)",
    "--show-current": "ask `follow`",
    '"--short", "HEAD"': "says `heads/main` where a tag is called main; ask `follow`",
    '"rev-parse", "HEAD': "is a tag called HEAD where HEAD has no commit; ask `resolve`",
    '"--detach", commit]': "takes a branch that is called by the commit's id; write `commit_only(commit)`",
}


def test_no_source_asks_git_for_what_is_ambiguous() -> None:
    """The rules are in `tasks_lib/git/ref_names.py`."""
    files = sorted(SOURCES.rglob("*.py"))
    assert SOURCES / "git" / "ref_names.py" in files
    found = [
        f"{path.name}:{number}: {word} {why}"
        for path in files
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        for word, why in FORBIDDEN.items()
        if word in line
    ]
    assert found == []
