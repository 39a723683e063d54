"""Finds what must not land in the commits that a branch adds: lost history, others' work, huge or unusual files."""

import posixpath
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks_lib.git.commits.branch_state import read_line
from tasks_lib.git.commits.commit import read_commit
from tasks_lib.git.commits.merge_tree import is_ancestor
from tasks_lib.git.kept.unreferenced_commits import RELEASED
from tasks_lib.git.objects.object_database import Change, Entry, Objects
from tasks_lib.git.runner import Git
from tasks_lib.naming import SOME, show, show_some
from tasks_lib.process.files import read_regular
from tasks_lib.session.turn_ending import Finding

LINK_MODE, SUBMODULE_MODE = "120000", "160000"
MAX_READ_BYTES = 1 << 20
MAX_READ_FILES = 2_000
"""Files beyond these limits are not searched for conflict markers: no one resolves conflicts in them manually."""
MAX_COMMITS = 10_000
MAX_LOG_BYTES = 8 << 20
_MEBIBYTE = 1 << 20
_MAKING = ("commit", "rebase", "cherry-pick", "revert", "am")
"""How a reflog message begins for a commit that git created, and did not only move to."""


@dataclass(frozen=True, slots=True)
class Range:
    """What a branch adds: from `fork`, the head's commit that it started from ("" for none), to its own `commit`.

    `head` is the head now.
    """

    fork: str
    head: str
    commit: str


def is_history_kept(git: Git, objects: Objects, fork: str, commit: str) -> bool:
    """Whether the branch at `commit` still contains `fork`, the commit that it started from."""
    return read_line(objects, fork, commit).is_plain or is_ancestor(git, fork, commit)


def describe_lost_history(fork: str, branch: str) -> Finding:
    return Finding(
        f"{branch} no longer contains {fork[:10]}, the commit that it started from: its history was rewritten",
        f"Commit your own changes anew on top of {fork[:10]}, with `git reset --soft {fork}` if your files are "
        "as they should be, and leave the commits before it unchanged.",
    )


def list_own_commits(git: Git, objects: Objects, span: Range) -> tuple[str, ...]:
    """The commits that the branch adds to the head, at most `MAX_COMMITS`."""
    line = read_line(objects, span.fork, span.commit)
    if line.is_plain:
        return line.commits
    landed = [f"^{commit}" for commit in (span.head, span.fork) if commit]
    return tuple(git.text("rev-list", f"--max-count={MAX_COMMITS}", span.commit, *landed, "--").split())


def find_foreign_commits(
    git: Git, own: Collection[str], head: str, others: Mapping[str, str], git_dir: Path
) -> Iterator[Finding]:
    """Commits of `others` (branches of open nodes, with their commits) that were not made in the worktree `git_dir`."""
    tips = sorted({tip for tip in others.values() if tip != head})
    if not tips or not own:
        return
    listed = git.text("rev-list", f"--max-count={MAX_COMMITS}", *tips, f"^{head}", "--").split()
    shared = set(listed) & set(own)
    made = list_made(git_dir) if shared else None
    # Without the worktree's reflog no one knows who made a commit, but the tip of another branch is surely its own.
    taken = shared - made if made is not None else shared if shared & set(tips) else set[str]()
    if not taken:
        return
    first = next(commit for commit in own if commit in taken)
    names = [name for name, tip in sorted(others.items()) if is_ancestor(git, first, tip)]
    yield Finding(
        f"it contains {len(taken)} commits of {', '.join(names[:SOME])}, which has not landed ({first[:10]})",
        "Work of another task lands with that task. Take those commits out of your branch (`git rebase --onto`); if "
        "you cannot do without them, do a Safe Exit and say which task yours should depend on.",
    )


def list_committed(git_dir: Path) -> set[str]:
    """The commits that `git commit`, not a rebase or cherry-pick, made in a worktree, from the reflog of its HEAD."""
    return {oid for oid, said in _read_log(git_dir) or () if said.startswith(("commit:", "commit (initial):"))}


def _read_log(git_dir: Path) -> list[tuple[str, str]] | None:
    """The reflog of HEAD, oldest first, as pairs of commit and message; None if there is no reflog."""
    try:
        lines = read_regular(git_dir / "logs" / "HEAD", MAX_LOG_BYTES).decode("utf-8", "replace").splitlines()
    except OSError:
        return None
    parts = (line.partition("\t") for line in lines)
    rows = [(ids.split(" ")[1], message) for ids, _, message in parts if ids.count(" ") > 0]
    # A pooled worktree may have belonged to another node before.
    starts = [number for number, (_, message) in enumerate(rows) if message.startswith(RELEASED)]
    return rows[starts[-1] + 1 :] if starts else rows


def list_made(git_dir: Path) -> set[str] | None:
    """The commits that were made in a worktree, from the reflog of its HEAD; None if there is no reflog."""
    rows = _read_log(git_dir)
    made: set[str] = set()
    for oid, message in rows or ():
        is_taken = "fast-forward" in message[:40] or message.startswith(("rebase (start)", "rebase (finish)"))
        if "Merge made" in message or (message.startswith(_MAKING) and not is_taken):
            made.add(oid)
    return made if rows else None


def find_large(objects: Objects, own: Sequence[str], commit: str, max_bytes: int) -> Iterator[Finding]:
    """Files of more than `max_bytes` in any of the commits `own`, not only in the last; their content is not read."""
    added: dict[str, tuple[str, str]] = {}
    for one in own:
        for change in _list_changes(objects, one):
            if change.new and change.new.is_file:
                added.setdefault(change.new.oid, (change.path, one))
    sizes = objects.measure(list(added))
    for oid, size in sizes.items():
        if size > max_bytes:
            path, holder = added[oid]
            still = objects.find_entry(commit, path)
            yield _describe_large(path, size, max_bytes, "" if still and still.oid == oid else holder)


def _describe_large(path: str, size: int, max_bytes: int, holder: str) -> Finding:
    removed = f"; it was removed later, but commit {holder[:10]} still contains it" if holder else ""
    limit = f"more than land.max_file_mb allows ({max_bytes // _MEBIBYTE})"
    return Finding(
        f"{show(path)} has {size / _MEBIBYTE:.0f} MiB, {limit}{removed}",
        "Removing it in another commit leaves it in the history: recreate your commits without it (`git reset "
        "--soft`, or `git rebase -i`).",
    )


def _list_changes(objects: Objects, commit: str) -> list[Change]:
    """What a commit has that none of its parents has."""
    parents = read_commit(objects, commit).parents
    if not parents:
        return [Change(path, None, entry) for path, entry in objects.walk(commit)]
    changes = _spread(objects, objects.diff(parents[0], commit))
    for parent in parents[1:]:
        changes = [change for change in changes if objects.find_entry(parent, change.path) != change.new]
    return changes


def _spread(objects: Objects, changes: Sequence[Change]) -> list[Change]:
    """`changes`, with each folder that replaced a file expanded to its files."""
    found: list[Change] = []
    for change in changes:
        if change.new and change.new.is_tree:
            below = objects.walk(change.new.oid)
            found += [Change(f"{change.path}/{path}", None, entry) for path, entry in below]
        else:
            found.append(change)
    return found


def find_unusual_entries(objects: Objects, changes: Sequence[Change], commit: str) -> Iterator[Finding]:
    """Entries among `changes`, the work of the branch as a whole, that are unlikely to be intended."""
    spread = _spread(objects, changes)
    if names := [c.path for c in spread if c.new and any(_is_forbidden(part) for part in c.path.split("/"))]:
        yield Finding(
            f"{show_some(names)}: git refuses to check out such a name", "Remove these paths from your commits."
        )
    if links := [c.path for c in spread if _is_new(c, SUBMODULE_MODE)]:
        declared = _list_submodules(objects, commit)
        if inner := [path for path in links if path not in declared]:
            yield Finding(
                f"{show_some(inner)}: a repository inside the worktree; only a link to it is committed, "
                "none of its files",
                "Remove the `.git` in it, then `git rm --cached` it and add its files; or remove it from your commits.",
            )
    if outside := [c.path for c in spread if _is_new(c, LINK_MODE) and _leads_out(objects, c)]:
        yield Finding(
            f"{show_some(outside)}: a symbolic link that points outside the repository",
            "Elsewhere it points to nothing, or to something else. If that is intended, end your turn as it is.",
            is_said_once=True,
        )
    if marked := [c.path for c in _choose_readable(objects, spread) if _adds_markers(objects, c)]:
        yield Finding(
            f"conflict markers are committed in {show_some(marked)}",
            "Resolve the conflicts and commit. If the markers are intended, end your turn as it is.",
            is_said_once=True,
        )


def _is_new(change: Change, mode: str) -> bool:
    return change.new is not None and change.new.mode == mode and (change.old is None or change.old != change.new)


def _is_forbidden(part: str) -> bool:
    return part in ("", ".", "..") or part.casefold().rstrip(" .") in (".git", "git~1")


def _list_submodules(objects: Objects, commit: str) -> set[str]:
    entry = objects.find_entry(commit, ".gitmodules")
    if entry is None or not entry.is_file:
        return set()
    lines = objects.read(entry.oid).decode("utf-8", "surrogateescape").splitlines()
    pairs = (line.partition("=") for line in lines)
    return {value.strip().strip('"') for key, _, value in pairs if key.strip() == "path"}


def _leads_out(objects: Objects, change: Change) -> bool:
    entry: Entry | None = change.new
    target = objects.read(entry.oid).decode("utf-8", "surrogateescape") if entry else ""
    place = posixpath.normpath(posixpath.join(posixpath.dirname(change.path), target))
    return target.startswith("/") or place == ".." or place.startswith("../") or place.split("/")[0] == ".git"


def _choose_readable(objects: Objects, changes: Sequence[Change]) -> list[Change]:
    files = [change for change in changes if change.new and change.new.is_file][:MAX_READ_FILES]
    sizes = objects.measure([change.new.oid for change in files if change.new])
    return [change for change in files if change.new and sizes.get(change.new.oid, 0) <= MAX_READ_BYTES]


def _adds_markers(objects: Objects, change: Change) -> bool:
    after = _count_markers(objects.read(change.new.oid)) if change.new else 0
    return after > (_count_markers(objects.read(change.old.oid)) if after and change.old and change.old.is_file else 0)


def _count_markers(data: bytes) -> int:
    """How many complete sets of conflict markers `data` has, each at the start of a line and in order."""
    if b"<<<<<<< " not in data or b"\0" in data[:8000]:
        return 0
    wanted, count = (b"<<<<<<< ", b"=======", b">>>>>>> "), 0
    at = 0
    for line in data.splitlines():
        if line.startswith(wanted[at]):
            at = (at + 1) % len(wanted)
            count += at == 0
    return count
