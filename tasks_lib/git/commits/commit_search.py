"""Finds and counts commits by their messages, the paths they change and the history that contains them."""

from collections.abc import Collection, Iterable

from tasks_lib.git.commits.commit import Commit, read_commits
from tasks_lib.git.commits.merge_tree import is_ancestor
from tasks_lib.git.runner import Git


def find_last_by_subject(git: Git, head: str, start: str) -> Commit | None:
    """Find the newest commit in the first-parent history of `head` with a message line that starts with `start`."""
    pattern = f"--grep=^{_escape_regex(start)}"
    found = git.text("log", "-n1", "--first-parent", "--basic-regexp", pattern, "--format=%H", head)
    return read_commits(git, [found])[0] if found else None


def count_by_subject_since(git: Git, head: str, start: str, end: str) -> int:
    """Count the first-parent commits of `head` whose subject starts with `start`, since the last one with `end`."""
    patterns = (f"--grep=^{_escape_regex(text)}" for text in (start, end))
    found = git.text("log", "--first-parent", "--basic-regexp", *patterns, "--format=%s", head)
    count = 0
    for subject in found.splitlines():
        if subject.startswith(end):
            break
        count += subject.startswith(start)
    return count


def _escape_regex(text: str) -> str:
    """Escape `text` as a POSIX basic regular expression that matches it literally."""
    return "".join(f"\\{c}" if c in ".[]*^$\\" else c for c in text)


def find_by_text(git: Git, text: str, tips: Collection[str], ref_globs: Iterable[str]) -> set[str]:
    """Find the commits whose message contains `text`, in the history of `tips` or of refs that match a pattern.

    A pattern without a wildcard matches every ref below it.
    """
    globs = (f"--glob={pattern}" for pattern in ref_globs)
    found = git.text("log", "--format=%H", "--fixed-strings", f"--grep={text}", *globs, *sorted(tips), "--")
    return set(found.split())


def list_changing(git: Git, without: str, head: str, path: str) -> tuple[str, ...]:
    """List the commits in `head` but not in `without` that changed `path`, newest first."""
    return tuple(git.text("rev-list", head, f"^{without}", "--", path).split()) if head != without else ()


def exclude_contained(git: Git, commits: Collection[str], tip: str) -> set[str]:
    """Return those of `commits` that are not in the history of `tip`."""
    return set(git.text("rev-list", "--no-walk", *commits, f"^{tip}", "--").split()) if commits else set[str]()


def count_commits(git: Git, tip: str, *without: str, is_first_parent: bool = False) -> int:
    """Count the commits in `tip` but not in any of `without`; with `is_first_parent`, only its first-parent history.

    All arguments are ids or full refs.
    """
    line = ("--first-parent",) if is_first_parent else ()
    return int(git.text("rev-list", "--count", *line, tip, *(f"^{one}" for one in without)))


def is_contained(git: Git, commit: str, tip: str) -> bool:
    """Whether the history of `tip` contains `commit`; False if `commit` does not exist here."""
    return git.resolve(commit) is not None and is_ancestor(git, commit, tip)


def draw_history(git: Git, ref: str) -> str:
    """Return `git log --graph --oneline` of a full ref: a line for each commit."""
    return git.text("log", "--graph", "--oneline", ref, "--")
