"""Decides whether a repository was moved or copied since its last run, and relinks its worktrees to where it is now.

Git writes absolute paths in both directions: the entry names the path of its worktree, and the worktree's `.git` names
the path of its entry. In a copy both lead into the original, so any git command run in a worktree of the copy would
write there; even `git worktree repair` does, which is why it is not used. This module writes only files of this
repository: records and `gitdir` in its own git directory, and the `.git` of a worktree below its own `.worktrees`, if
that file and the entry name each other. Worktrees that the user created are left as they are.
"""

import os
import uuid
from dataclasses import dataclass
from pathlib import Path

from tasks_lib.git.repository import Repository
from tasks_lib.git.repository_lock import HeldRunLock, admin_lock
from tasks_lib.git.session_record import (
    MAX_LINK_BYTES,
    read_git_link,
    read_record,
    write_record,
)
from tasks_lib.git.worktree_admin import Entry, list_all, read_entry
from tasks_lib.git.worktrees.repair_after_kill import forget
from tasks_lib.process.files import UNFINISHED, read_regular, write_atomically
from tasks_lib.session.remote_conversation import parse_conversation

_PREFIX = "gitdir: "


@dataclass(frozen=True, slots=True)
class FormerLocation:
    """Where a repository was in its last run: its common git directory and that directory's inode, 0 if unknown."""

    common_dir: Path
    inode: int = 0


@dataclass(frozen=True, slots=True)
class Relocation:
    """A repository whose common git directory was at `former`, and is somewhere else now.

    `is_copy`: the repository at `former`, or moved away from there, still exists separately. Processes and
    conversations named in records belong to that one.
    """

    former: Path
    is_copy: bool

    def follow(self, path: Path, common_dir: Path) -> Path | None:
        """Where `path`, in the git directory or the checkout around it, is now; None if it was outside both."""
        for old, new in ((self.former, common_dir), (self.former.parent, common_dir.parent)):
            if path.is_relative_to(old):
                return new / path.relative_to(old)
        return None


def find_relocation(repository: Repository, former: FormerLocation | None) -> Relocation | None:
    """How the repository was moved or copied since `former`, which the last run recorded; None if it was not.

    Without `former`, the links of its own worktrees are used instead. Changes nothing.
    """
    former = former or _guess_former(repository)
    if former is None or former.common_dir == repository.common_dir:
        return None
    return Relocation(former.common_dir, _is_copy(repository, former))


def _is_copy(repository: Repository, former: FormerLocation) -> bool:
    is_same = former.inode in (0, repository.common_dir.stat().st_ino)
    if not former.common_dir.is_dir():
        # A move to another disk looks like a copy whose original was moved too. Both are treated as copies, so that no
        # process is ended.
        return not is_same
    if former.common_dir.samefile(repository.common_dir):
        return False  # The same directory by another path: a mount, or a symbolic link in the path.
    # Another repository may have been created at the old path.
    return former.inode in (0, former.common_dir.stat().st_ino) or not is_same


def _guess_former(repository: Repository) -> FormerLocation | None:
    for entry in list_all(repository):
        is_outside = not entry.path.is_relative_to(repository.worktrees_dir) and not entry.is_linked
        if entry.is_ours and is_outside and (place := _find_new_place(repository, entry)):
            link = _read_link(place)
            if link and link.name == entry.admin.name and link.parent.name == "worktrees":
                return FormerLocation(link.parents[1])
            if not repository.is_bare:
                above = entry.path.parents[len(place.relative_to(repository.worktrees_dir).parts)]
                return FormerLocation(above / repository.common_dir.name)
    return None


def relocate(repository: Repository, relocation: Relocation, held: HeldRunLock) -> list[str]:
    """Link the worktrees that have coordinator's record to where the repository is now; return the lines to report.

    Call before any worktree is opened or process ended. It can be killed at any moment and repeated: the last file
    written for an entry is the one that shows whether the entry is still to be linked.
    """
    count, strangers = 0, _tell_strangers(repository, relocation)
    with admin_lock(repository):
        for entry in [one for one in list_all(repository) if one.is_ours]:
            if _is_elsewhere_by_choice(repository, entry):
                continue
            has_record = _adapt_record(entry, relocation)
            is_here = _link(repository, entry, relocation)
            count += is_here and has_record
            if relocation.is_copy and not is_here:
                # It was not copied. The original has it; what was staged in it is kept here too.
                forget(repository, read_entry(entry.admin) or entry)
    linked = f"{count} worktree{'s' * (count != 1)} of open nodes"
    if relocation.is_copy:
        said = f"This repository is a copy of {relocation.former}, or was moved from another disk"
        return [f"{said}. Coordinator created its own {linked} and changed nothing in the original.", *strangers]
    said = f"This repository was moved from {relocation.former}"
    return [f"{said}. Coordinator relinked {linked}.", *strangers]


def _tell_strangers(repository: Repository, relocation: Relocation) -> list[str]:
    """What the user should know about their own worktrees that came along; those are left as they are."""
    lines: list[str] = []
    for entry in list_all(repository):
        place = None if entry.is_ours else _find_new_place(repository, entry)
        if place is None or place == entry.path or not place.is_dir() or not _is_of(place, entry, relocation):
            continue
        if relocation.is_copy:
            lines.append(f"{place} still belongs to {relocation.former}: git commands in it change that repository.")
        else:
            lines.append(f"{place} is no longer linked to the repository; run `git worktree repair {place}`.")
    return lines


def _is_elsewhere_by_choice(repository: Repository, entry: Entry) -> bool:
    """Whether the user moved the worktree out of coordinator's directory in a way that git knows."""
    return entry.is_linked and not entry.path.is_relative_to(repository.worktrees_dir)


def _adapt_record(entry: Entry, relocation: Relocation) -> bool:
    """Remove the conversation from the record, since it refers to the old path; False if there is no record.

    One on another machine does not refer to it, and stays. In a copy, the record also gets a new session, and no longer
    names a process or a conversation of the original's.
    """
    record = read_record(entry.admin)
    if record is None:
        return False
    is_kept = not relocation.is_copy and parse_conversation(record.turn.conversation)
    adapted = record if is_kept else record.change(turn=record.turn.with_conversation(""))
    if relocation.is_copy:
        attempt = adapted.attempt.with_session(str(uuid.uuid4()))
        adapted = adapted.change(attempt=attempt, turn=adapted.turn.with_process(0, 0.0))
    write_record(entry.admin, adapted)
    return True


def _link(repository: Repository, entry: Entry, relocation: Relocation) -> bool:
    """Link an entry and its worktree to each other; False if the worktree is not here."""
    if entry.is_linked:
        return True  # With relative paths, as newer versions of git write on request.
    place = _find_new_place(repository, entry)
    if place is None or not place.is_relative_to(repository.worktrees_dir):
        return False
    if not relocation.is_copy:
        _bring_along(entry, place, relocation)
    is_here = _is_of(place, entry, relocation)
    if is_here:
        for left in place.glob(f".git{UNFINISHED}*"):
            left.unlink()
        write_atomically(place / ".git", os.fsencode(f"{_PREFIX}{entry.admin}\n"))
    # Written even if it is not here: the entry is then of a worktree that is gone, not of another repository's.
    write_atomically(entry.admin / "gitdir", os.fsencode(f"{place / '.git'}\n"))
    return is_here


def _find_new_place(repository: Repository, entry: Entry) -> Path | None:
    """Where the worktree of an entry belongs now: the same path below this repository's `.worktrees`."""
    if entry.path.is_relative_to(repository.worktrees_dir):
        return entry.path
    name, parts = repository.worktrees_dir.name, entry.path.parts
    if not repository.is_bare:
        below = _after(parts, name)
        return repository.worktrees_dir.joinpath(*below) if below else None
    below = _after(parts, repository.worktrees_dir.parent.name)
    return repository.worktrees_dir.joinpath(*below[1:]) if len(below) > 1 else None


def _after(parts: tuple[str, ...], name: str) -> tuple[str, ...]:
    last = max((at for at, part in enumerate(parts) if part == name), default=len(parts))
    return parts[last + 1 :]


def _bring_along(entry: Entry, place: Path, relocation: Relocation) -> None:
    """Move the worktree of a bare repository: it is beside the repository, so it does not move with it."""
    is_left = not os.path.lexists(place) and not relocation.former.exists()
    if is_left and _is_of(entry.path, entry, relocation):
        place.parent.mkdir(parents=True, exist_ok=True)
        entry.path.rename(place)


def _is_of(place: Path, entry: Entry, relocation: Relocation) -> bool:
    """Whether the `.git` of the directory at `place` names this entry, at its current or its former path."""
    if place.is_symlink() or not place.is_dir() or place.resolve() != place:
        return False
    former = relocation.former / "worktrees" / entry.admin.name
    return read_git_link(place) == entry.admin or _read_link(place) in (former, entry.admin)


def _read_link(place: Path) -> Path | None:
    """The path in the `.git` of a worktree, unresolved: its target may belong to another repository, or be gone."""
    try:
        words = os.fsdecode(read_regular(place / ".git", MAX_LINK_BYTES)).rstrip("\n")
    except OSError:
        return None
    return Path(words.removeprefix(_PREFIX)) if words.startswith(_PREFIX) else None
