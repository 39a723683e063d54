"""The repositories that this machine runs sessions of: their remotes, and where the copies are."""

import asyncio
import fcntl
import json
import re
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import cast

from flows.data_directory import data_dir
from tasks_lib.agents.opencode.backend import find_data
from tasks_lib.cleanup.spoke_plan import clean_up_spoke, find_unsaved
from tasks_lib.errors import InputError, RemoteError
from tasks_lib.git.remote_sessions.session_repository import create_session_repository, find_default_branch
from tasks_lib.naming import find_branch_fault
from tasks_lib.process.files import write_atomically
from tasks_lib.spokes.registered_remote import RegisteredRemote
from tasks_lib.spokes.workspace import FILES
from tasks_lib.suggestions import suggest
from tasks_lib.text import list_some

REGISTRY = "spokes.json"
SHOWN = 3
"""How many items of a long list a sentence names."""


@dataclass(frozen=True, slots=True)
class SpokeRepository:
    """A registered repository: its remote `url`, and the branch `target` that runs land on."""

    name: str
    url: str
    target: str
    data: Path

    @property
    def place(self) -> Path:
        """Its copy on this machine."""
        return self.data / "spokes" / f"{self.name}.git"

    @property
    def files(self) -> Path:
        """Where this machine keeps the files that `copy` in the configuration lists."""
        return self.data / "spokes" / FILES / self.name


def list_spoke_repositories(data: Path | None = None) -> Mapping[str, SpokeRepository]:
    """The repositories that are registered in the data directory `data`, by default this process's, by name."""
    place = data or data_dir()
    try:
        found: object = json.loads((place / REGISTRY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    rows = cast("dict[str, dict[str, str]]", found) if isinstance(found, dict) else {}
    return {name: SpokeRepository(name, row.get("url", ""), row.get("target", ""), place) for name, row in rows.items()}


def list_remotes() -> Mapping[str, RegisteredRemote]:
    """The same, as a `SpokeMachine` needs them."""
    return {name: RegisteredRemote(one.place, one.target) for name, one in list_spoke_repositories().items()}


def add_repository(url: str, name: str = "", target: str = "", data: Path | None = None) -> SpokeRepository:
    """Copy the repository at `url` and register it; doing it again fetches what is new.

    Raises InputError, with nothing left, for a name, a branch or a URL that cannot be used.
    """
    name = name or PurePosixPath(url.replace(":", "/").rstrip("/")).name.removesuffix(".git")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise InputError([f'"{name}" cannot be the name of a repository; choose one with --name'])
    data = data or data_dir()
    with _changing(data):
        known = dict(list_spoke_repositories(data))
        if name in known and known[name].url != url:
            raise InputError([f'"{name}" is registered with {known[name].url}; choose another name with --name'])
        place = data / "spokes" / f"{name}.git"
        target = target or (known[name].target if name in known else "")
        with _removing_new(place):
            target = _copy_repository(place, url, target)
        known[name] = SpokeRepository(name, url, target, data)
        _write(known, data)
    return known[name]


def clean_up_copies(data: Path) -> list[str]:
    """Clean up what killed workers left in the data directory, as `clean_up_spoke` does. Blocks.

    Waits until nothing is being registered: a copy that is being made is not registered yet, and would be deleted.
    """
    with _changing(data):
        return asyncio.run(clean_up_spoke(list_remotes(), data))


@contextmanager
def _changing(data: Path) -> Generator[None]:
    """Let one process at a time make or delete copies in the data directory `data`; others wait."""
    data.mkdir(parents=True, exist_ok=True)
    with (data / f"{REGISTRY}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _copy_repository(place: Path, url: str, target: str) -> str:
    """Copy `url` to `place`, or fetch what is new; return the branch that work lands on. Raises InputError."""
    try:
        create_session_repository(place, url)
        found = target or find_default_branch(place)
    except RemoteError as error:
        how = f"make sure that `git ls-remote {url}` works as this user, without a prompt, and run this again"
        raise InputError([f"{error}. Nothing was registered: {how}"]) from error
    if not found or find_branch_fault(found):
        raise InputError([f"{url} names no default branch; choose the one that work lands on with --target"])
    return found


@contextmanager
def _removing_new(place: Path) -> Generator[None]:
    """Remove the directory `place` if the block fails, unless it existed before."""
    is_new = not place.exists()
    try:
        yield
    except BaseException:
        if is_new:
            shutil.rmtree(place, ignore_errors=True)
        raise


def remove_repository(name: str, *, is_forced: bool = False) -> None:
    """Forget a repository, and delete its copy, its files for `copy` and its conversations.

    Raises InputError if it is not registered, or, unless `is_forced`, if work may exist nowhere else.
    """
    with _changing(data_dir()):
        _remove(name, is_forced=is_forced)


def _remove(name: str, *, is_forced: bool) -> None:
    data = data_dir()
    known = dict(list_spoke_repositories())
    if name not in known:
        listed = ", ".join(known) or "none"
        raise InputError([f'"{name}" is not registered here{suggest(name, known) or f"; registered: {listed}"}'])
    one = known.pop(name)
    if not is_forced and (unsaved := find_unsaved(one.place)):
        what = f"{one.place} has work of sessions that may be nowhere else: {list_some(unsaved, SHOWN)}"
        how = f"git -C {one.place} push origin COMMIT:refs/heads/BRANCH"
        raise InputError([f"{what}. Save what you need, for example with `{how}`, then give --force"])
    _write(known, data)
    for place in (
        one.place,
        one.place.parent / ".worktrees" / one.place.name,
        one.files,
        find_data(data, str(one.place)),
    ):
        shutil.rmtree(place, ignore_errors=True)


def _write(known: Mapping[str, SpokeRepository], data: Path) -> None:
    rows = {name: {"url": one.url, "target": one.target} for name, one in sorted(known.items())}
    write_atomically(data / REGISTRY, json.dumps(rows, indent=1).encode())
