"""The commits that came onto a branch, and a repository's alternates, as git reports them."""

from pathlib import Path

from tasks_lib.git.commits.commit_history import list_new_commits
from tasks_lib.git.objects.alternates import find_alternates_file, read_alternates
from tasks_lib.git.repository import Repository
from tasks_lib.git.runner import Git


def commit(git: Git, subject: str, *parents: str) -> str:
    words = [word for parent in parents for word in ("-p", parent)]
    return git.text("commit-tree", *words, "-m", subject, "HEAD^{tree}")


def test_new_commits_are_those_of_the_first_parent_line_oldest_first(repository: Repository) -> None:
    git = repository.git
    root = git.text("rev-parse", "HEAD")
    one = commit(git, "One\N{LINE SEPARATOR}still one", root)
    two = commit(git, "Two", one, commit(git, "Beside", root))
    found = list_new_commits(git, root, two, 20)
    assert [each.subject for each in found] == ["One\N{LINE SEPARATOR}still one", "Two"]
    assert {each.author for each in found} == {"Ada"}
    times = git.text("log", "--no-walk=unsorted", "--format=%ct", one, two).split()
    assert [each.committed_at for each in found] == [float(each) for each in times]
    assert [two.startswith(each.id) for each in found] == [False, True]
    assert [each.subject for each in list_new_commits(git, root, two, 1)] == ["Two"]
    assert list_new_commits(git, two, two, 20) == ()
    assert list_new_commits(git, "1" * 40, two, 20) == ()


def test_alternates_are_what_git_reads_them_from(repository: Repository, tmp_path: Path) -> None:
    assert read_alternates(repository.common_dir) == frozenset()
    copy = tmp_path / "copy"
    repository.git.run("clone", "--quiet", "--shared", str(repository.top), str(copy))
    assert read_alternates(copy / ".git") == {str(repository.common_dir / "objects")}
    assert find_alternates_file(copy / ".git").is_file()
