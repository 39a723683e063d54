"""Keeps and removes what an agent created outside its branch and git stores elsewhere: nested worktrees and stashes.

Every worktree passes through here before it is moved, reused or removed: otherwise git would still list what was
inside, and commits that only such an entry references would be lost with it.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from tasks_lib.errors import GitError
from tasks_lib.git.kept.snapshots import keep_state
from tasks_lib.git.kept.stashes import Stash, find_own_stashes, take_out_stashes
from tasks_lib.git.kept.unreferenced_commits import keep_dangling, keep_unreferenced
from tasks_lib.git.repository import Repository
from tasks_lib.git.session_record import read_git_link, read_record
from tasks_lib.git.worktree_admin import Entry, Worktree, list_all, list_unrecorded
from tasks_lib.git.worktrees.deletion import delete, delete_each, discard, keep_aside
from tasks_lib.naming import show


@dataclass(frozen=True, slots=True)
class RemovedItem:
    """Something that an agent created and that was removed: `what` it was, and where its content is `kept`.

    `kept` is a ref or a directory; "" if all its content exists elsewhere. `stash` is the commit of a stash.
    """

    what: str
    label: str
    kept: str
    stash: str = ""

    def __str__(self) -> str:
        kept = f"; its content is kept at {self.kept}" if self.kept else ""
        return f"{_describe_inside(self.what, self.label)}, was removed{kept}."


@dataclass(frozen=True, slots=True)
class NestedItem:
    """Something that an agent created and that is to be removed: what it is, and its path or the commit of a stash."""

    what: str
    where: str


@dataclass(frozen=True, slots=True)
class NestedRemover:
    """Removes what agents created, under `lock`; the user's `copied` paths are not kept; `say` gets each message."""

    repository: Repository
    lock: Callable[[], AbstractContextManager[object]]
    copied: Sequence[str]
    say: Callable[[str], None]

    def take_out(self, worktree: Worktree, label: str = "", *, with_stashes: bool = True) -> list[RemovedItem]:
        """Keep and then remove every worktree that was created inside this one, and the stashes of its branch.

        Content is kept below `refs/coordinator/kept/<label>`; the label defaults to the node's id from the record, or
        to the branch. Can be repeated after a kill at any moment.
        """
        nested = find_nested(self.repository, worktree.path)
        taken = self._take_out(nested, worktree, label, with_stashes=with_stashes)
        for one in taken:
            self.say(str(one))
        return taken

    def remove_all_nested(self) -> list[str]:
        """As `take_out`, for every coordinator worktree that git lists; return one line per action."""
        lines: list[str] = []
        for owner, nested in find_all_nested(self.repository):
            worktree = Worktree(owner.path, owner.admin, owner.slot or 0, owner.branch)
            try:
                lines += [str(taken) for taken in self._take_out(nested, worktree)]
            except (GitError, OSError) as error:
                lines.append(f"Could not remove the worktrees created inside {owner.path}; they stay: {error}")
        return lines

    def _take_out(
        self, nested: Sequence[Entry], worktree: Worktree, label: str = "", *, with_stashes: bool = True
    ) -> list[RemovedItem]:
        label = label or _find_label(worktree)
        taken = [
            RemovedItem(_describe(entry, worktree.path), label, self._take_out_one(entry, label)) for entry in nested
        ]
        if not with_stashes:
            return taken
        others = _list_branches(nested)
        stashes = take_out_stashes(self.repository, self.lock, worktree.branch or "", others, label)
        return [
            *taken,
            *(RemovedItem(_describe_stash(stash), label, ref, stash.commit) for stash, ref in stashes),
        ]

    def _take_out_one(self, entry: Entry, label: str) -> str:
        entry = _find_moved(entry)
        kept = _keep(self.repository, entry, label, self.copied)
        with self.lock():
            gone = _discard(self.repository, entry)
        delete_each(gone)
        return kept


def find_nested_items(repository: Repository) -> list[NestedItem]:
    """What `NestedRemover.remove_all_nested` would remove now. Changes nothing."""
    items: list[NestedItem] = []
    for owner, nested in find_all_nested(repository):
        label = _find_label(Worktree(owner.path, owner.admin, owner.slot or 0, owner.branch))
        found = [(_describe(entry, owner.path), str(entry.path)) for entry in nested]
        stashes = find_own_stashes(repository, owner.branch or "", _list_branches(nested))
        found += [(_describe_stash(stash), stash.commit) for _, stash in stashes]
        items += [NestedItem(_describe_inside(what, label), where) for what, where in found]
    return items


def _describe_inside(what: str, label: str) -> str:
    return f"{what}, created inside the worktree of {label}"


def _describe_stash(stash: Stash) -> str:
    return f'The stash "{show(stash.said)}"'


def _list_branches(entries: Iterable[Entry]) -> set[str]:
    return {entry.branch for entry in entries if entry.branch}


def _find_label(worktree: Worktree) -> str:
    record = read_record(worktree.git_dir)
    return record.task_id if record else worktree.branch or "detached"


def _describe(entry: Entry, place: Path) -> str:
    on = f" (on {entry.branch})" if entry.branch else ""
    return f"The worktree {show(str(entry.path.relative_to(place)))}{on}"


def find_nested(repository: Repository, place: Path) -> list[Entry]:
    """The entries of worktrees below `place` that are not coordinator's, deepest first."""
    return _choose_below(list_unrecorded(repository), place)


def find_all_nested(repository: Repository) -> list[tuple[Entry, list[Entry]]]:
    """Each of coordinator's entries, with those of other worktrees below it; none of those that a person has taken."""
    found = list(list_all(repository))
    return [(owner, _choose_below(found, owner.path)) for owner in found if owner.is_ours and not _is_taken(owner)]


def _is_taken(owner: Entry) -> bool:
    record = read_record(owner.admin)
    return record is not None and bool(record.taken.by)


def find_foreign(repository: Repository) -> list[Entry]:
    """The entries of the user's worktrees, neither coordinator's nor below one of its own, sorted by path."""
    if not (foreign := list_unrecorded(repository)):
        return []
    ours = {entry.path for entry in list_all(repository) if entry.is_ours}
    return sorted((one for one in foreign if ours.isdisjoint(one.path.parents)), key=lambda entry: entry.path)


def _choose_below(entries: Iterable[Entry], place: Path) -> list[Entry]:
    below = [entry for entry in entries if place in entry.path.parents and not entry.is_ours]
    return sorted(below, key=lambda entry: (-len(entry.path.parts), entry.path))


def _keep(repository: Repository, entry: Entry, label: str, copied: Sequence[str]) -> str:
    """Keep what only an entry's worktree contains; return where it is kept, "" if there was nothing to keep.

    What git cannot read is renamed to `.worktrees/.kept-…`.
    """
    git = repository.git
    if not _is_really_there(entry):
        return keep_dangling(repository, entry, label) or ""
    worktree = Worktree(entry.path, entry.admin, 0, entry.branch)
    try:
        head = worktree.git.resolve("HEAD")
        held = head if head and _is_held(repository, head) else None
        state = keep_state(worktree, label, "", landed=held, exclude=copied)
        left = keep_unreferenced(repository, entry.admin, entry.branch or "", label, head or "")
        return " and ".join(ref for ref in (state, left) if ref)
    except GitError:
        left = keep_unreferenced(repository, entry.admin, entry.branch or "", label, git.resolve(entry.head) or "")
        return f"{keep_aside(repository, entry.path)}{f' and {left}' if left else ''}"


def _is_really_there(entry: Entry) -> bool:
    """Whether the directory exists, and not through a symbolic link out of the worktree."""
    return entry.path.is_dir() and entry.path.resolve() == entry.path


def _is_held(repository: Repository, commit: str) -> bool:
    """Whether `commit` is reachable from a ref, so that it needs no other."""
    return bool(repository.git.text("for-each-ref", "--count=1", "--format=%(refname)", f"--contains={commit}"))


def _find_moved(entry: Entry) -> Entry:
    """`entry`, with the path of a sibling directory whose `.git` names it, if something moved the worktree there."""
    if entry.path.exists() or not entry.path.parent.is_dir():
        return entry
    beside = (place for place in sorted(entry.path.parent.iterdir()) if place.is_dir() and not place.is_symlink())
    return next((replace(entry, path=place) for place in beside if read_git_link(place) == entry.admin), entry)


def _discard(repository: Repository, entry: Entry) -> list[Path]:
    """Move a worktree to the trash, under the caller's admin lock; return the paths to delete."""
    # Without its link it is an ordinary folder, perhaps one that belongs to the branch.
    if not entry.is_linked or not _is_really_there(entry):
        return discard(repository, entry.admin / "none", entry.admin)
    try:
        return discard(repository, entry.path, entry.admin)
    except OSError:  # It is on another disk and cannot be renamed.
        delete(entry.path)
        return discard(repository, entry.admin / "none", entry.admin)
