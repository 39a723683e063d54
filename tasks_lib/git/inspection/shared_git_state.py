"""Reads what all worktrees of a repository share (settings, files, refs), and describes what has changed in it."""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

from tasks_lib.git.kept.snapshots import keep_commit
from tasks_lib.git.kept.stashes import STASH, list_stashes
from tasks_lib.git.ref_listing import list_refs
from tasks_lib.git.repository import Repository
from tasks_lib.git.runner import Git
from tasks_lib.git.worktrees.nested_worktrees import find_foreign
from tasks_lib.naming import show
from tasks_lib.process.files import read_regular, read_stamp
from tasks_lib.text import tell_rest

FILES = ("info/attributes", "info/exclude", "info/grafts", "objects/info/alternates", "shallow")
PLACES = ("core.bare", "core.worktree", "core.repositoryformatversion")
"""Settings that make git use another directory, or none, as the user's working tree."""
MAX_FILE_BYTES = 1 << 20
MAX_SHOWN = 8
_OWN_REFS = ("refs/coordinator/", "refs/remotes/", "refs/prefetch/")


@dataclass(frozen=True, slots=True)
class Shared:
    """The repository's own settings by key, other files by name (their bytes, or their stamp), and refs.

    `stamp` shows whether the config file has to be read again. `stashes` are the commits of the stash list.
    `worktrees` are the user's or of unknown origin: the content of HEAD by directory.
    """

    settings: Mapping[str, Sequence[str]]
    files: Mapping[str, object]
    refs: Mapping[str, str]
    stamp: object
    stashes: Sequence[str] = ()
    worktrees: Mapping[str, str] = field(default_factory=dict[str, str])


def read_shared(repository: Repository, known: Collection[str], before: Shared | None = None) -> Shared:
    """The shared state now; `known` are full refs to ignore, `before` avoids reading unchanged settings again."""
    common = repository.common_dir
    stamp = read_stamp(common / "config")
    is_same = before is not None and before.stamp == stamp
    settings = before.settings if before and is_same else read_settings(repository.git, common)
    hooks = {f"hooks/{path.name}": read_stamp(path) for path in sorted((common / "hooks").glob("*"))}
    files = {name: _read(common / name) for name in FILES}
    refs = list_refs(repository.git)
    foreign = {name: oid for name, oid in refs.items() if name not in known and not name.startswith(_OWN_REFS)}
    stashes = tuple(stash.commit for stash in list_stashes(common))
    worktrees = {str(entry.path): entry.head for entry in find_foreign(repository)}
    return Shared(settings, {**files, **hooks}, foreign, stamp, stashes, worktrees)


def drop_stashes(shared: Shared, commits: Collection[str]) -> Shared:
    """`shared` without these stashes, so that their removal, by coordinator itself, does not count as a change."""
    left = tuple(commit for commit in shared.stashes if commit not in commits)
    refs = {name: oid for name, oid in shared.refs.items() if name != STASH or oid not in commits}
    return replace(shared, stashes=left, refs={**({STASH: left[0]} if left else {}), **refs})


def read_settings(git: Git, common_dir: Path) -> dict[str, tuple[str, ...]]:
    """The settings in the repository's own config file by key; {} if git cannot read it."""
    listed = git.run("config", "--file", str(common_dir / "config"), "--list", "-z", accept=range(256)).text
    found: dict[str, tuple[str, ...]] = {}
    for entry in listed.split("\0"):
        key, _, value = entry.partition("\n")
        if key:
            found[key] = (*found.get(key, ()), value)
    return found


def describe_changes(git: Git, before: Shared, now: Shared) -> list[str]:
    """What changed, a few words each; a commit that no ref contains any more is kept at a ref of coordinator's."""
    # `git push -u` writes the upstream of a branch, and is too common to report.
    keys = {key for key in _find_other(before.settings, now.settings) if not key.startswith("branch.")}
    said = [f"{show(key)} in .git/config" for key in sorted(keys)]
    said += [f".git/{show(name)}" for name in sorted(_find_other(before.files, now.files))]
    said += [_describe_ref(git, name, before.refs, now.refs) for name in sorted(_find_other(before.refs, now.refs))]
    said += _describe_stashes(git, before, now)
    said += [_describe_worktree(git, path, before, now) for path in sorted(before.worktrees.keys() ^ now.worktrees)]
    return [one for one in (*said[:MAX_SHOWN], tell_rest(len(said), MAX_SHOWN, "and ")) if one]


def _find_other(before: Mapping[str, object], now: Mapping[str, object]) -> set[str]:
    return {key for key in before.keys() | now.keys() if before.get(key) != now.get(key)}


def _describe_ref(git: Git, name: str, before: Mapping[str, str], now: Mapping[str, str]) -> str:
    old, new = before.get(name, ""), now.get(name, "")
    if not old:
        return f"{show(name)} (created)"
    what = "moved" if new else "deleted"
    return f"{show(name)} ({what}, was {old[:12]}{_keep_if_lost(git, name.removeprefix('refs/'), old)})"


def _keep_if_lost(git: Git, label: str, oid: str) -> str:
    """Where a commit that no ref contains any more is now kept, as the end of its description; "" if one does."""
    commit = git.resolve(oid)
    # If any ref at all contains it, it is not lost.
    if not commit or git.text("for-each-ref", "--count=1", f"--contains={commit}"):
        return ""
    return f"; it is kept at {keep_commit(git, label, commit)}"


def _describe_stashes(git: Git, before: Shared, now: Shared) -> list[str]:
    """Stashes that are gone from the list, except the newest, which is a ref and is reported as one."""
    listed = {*now.stashes, before.refs.get(STASH, "")}
    gone = [commit for commit in before.stashes if commit not in listed]
    return [f"a stash ({commit[:12]}, dropped{_keep_if_lost(git, 'stash', commit)})" for commit in gone]


def _describe_worktree(git: Git, path: str, before: Shared, now: Shared) -> str:
    if path in now.worktrees:
        return f"the worktree {show(path)} (created)"
    head = before.worktrees[path]
    kept = "" if head.startswith("ref: ") else _keep_if_lost(git, f"worktree-{PurePath(path).name}", head)
    return f"the worktree {show(path)} (removed{kept})"


def _read(path: Path) -> object:
    try:
        return read_regular(path, MAX_FILE_BYTES)
    except FileNotFoundError:
        return None
    except OSError:
        return os.path.lexists(path)
