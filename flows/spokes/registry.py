"""The repositories that this machine runs sessions of: their remotes, and where the copies are."""

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import cast

from flows.data_directory import data_dir
from tasks_lib.errors import InputError
from tasks_lib.git.remote_sessions.session_repository import create_session_repository, find_default_branch
from tasks_lib.naming import find_branch_fault
from tasks_lib.process.files import write_atomically
from tasks_lib.spokes.machine import RegisteredRemote
from tasks_lib.spokes.workspace import FILES
from tasks_lib.suggestions import suggest

REGISTRY = "spokes.json"


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

    Raises InputError for a name or a branch that cannot be used, RemoteError if the remote does not answer.
    """
    name = name or PurePosixPath(url.replace(":", "/").rstrip("/")).name.removesuffix(".git")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise InputError([f'"{name}" cannot be the name of a repository; choose one with --name'])
    data = data or data_dir()
    known = dict(list_spoke_repositories(data))
    if name in known and known[name].url != url:
        raise InputError([f'"{name}" is registered with {known[name].url}; choose another name with --name'])
    place = data / "spokes" / f"{name}.git"
    create_session_repository(place, url)
    target = target or (known[name].target if name in known else "") or find_default_branch(place)
    if not target or find_branch_fault(target):
        raise InputError([f"{url} names no default branch; choose the one that work lands on with --target"])
    known[name] = SpokeRepository(name, url, target, data)
    _write(known, data)
    return known[name]


def remove_repository(name: str) -> None:
    """Forget a repository and delete its copy. Raises InputError if it is not registered."""
    known = dict(list_spoke_repositories())
    if name not in known:
        listed = ", ".join(known) or "none"
        raise InputError([f'"{name}" is not registered here{suggest(name, known) or f"; registered: {listed}"}'])
    place = known.pop(name).place
    _write(known, data_dir())
    shutil.rmtree(place, ignore_errors=True)


def _write(known: Mapping[str, SpokeRepository], data: Path) -> None:
    rows = {name: {"url": one.url, "target": one.target} for name, one in sorted(known.items())}
    write_atomically(data / REGISTRY, json.dumps(rows, indent=1).encode())
