"""Decides where the coordinator keeps what is its own on this machine, and which repositories it may work on."""

import json
import os
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

import platformdirs

from tasks_lib.errors import InputError
from tasks_lib.process.files import write_atomically
from tasks_lib.process.program_lookup import find_program
from tasks_lib.suggestions import suggest

DATA_VARIABLE = "COORDINATOR_DATA_DIR"
REGISTRY = "repositories.json"


def data_dir() -> Path:
    """The coordinator's own directory, made if need be: $COORDINATOR_DATA_DIR, else where this system keeps data."""
    chosen = os.environ.get(DATA_VARIABLE)
    path = Path(chosen).expanduser() if chosen else platformdirs.user_data_path("coordinator")
    path.mkdir(parents=True, exist_ok=True)
    return path.resolve()


def own_directory() -> Path:
    """An empty directory for processes of coordinator's to work in: programs read settings from where they start."""
    path = data_dir() / "empty"
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def list_repositories() -> Mapping[str, Path]:
    """The repositories that flows may work on, by name."""
    try:
        found = json.loads((data_dir() / REGISTRY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): Path(path) for name, path in found.items()}


def register(path: Path, former: Path | None = None) -> str:
    """Remember the repository at `path` (its top), so that a flow run may name it; returns its name.

    One that was moved here from `former` keeps its name, unless there is something at that path again.
    """
    known = dict(list_repositories())
    for name, place in known.items():
        if place == path:
            return name
    for name, place in known.items():
        if place == former and not place.exists():
            return _remember({**known, name: path}, name)
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", path.name).strip("-.") or "repository"
    name, number = stem, 2
    while name in known:
        name, number = f"{stem}-{number}", number + 1
    return _remember({**known, name: path}, name)


def _remember(known: Mapping[str, Path], name: str) -> str:
    text = json.dumps({key: str(place) for key, place in sorted(known.items())}, indent=1)
    write_atomically(data_dir() / REGISTRY, text.encode())
    return name


def find_repository(name: str) -> Path:
    """The path of a registered repository, by its name or its path.

    Raises InputError for any other: whoever may start a flow run must not be able to choose what is executed.
    """
    known = list_repositories()
    for known_name, place in known.items():
        if name in (known_name, str(place)):
            if not place.is_dir():
                how = "which is not there. If it was moved, run `coordinator init` where it is now"
                raise InputError([f'the repository "{known_name}" is registered at {place}, {how}.'])
            return place
    listed = ", ".join(known) or "none yet"
    message = f'"{name}" is no registered repository{suggest(name, known) or "."} Known: {listed}.'
    raise InputError([f"{message} Run `coordinator init` in it."])


def name_program() -> str:
    """How this command line is called from a shell here, so that what is printed can be copied and run."""
    found = find_program("coordinator")
    program = Path(sys.argv[0])
    is_found = bool(found) and program.exists() and Path(str(found)).samefile(program)
    name = "coordinator" if is_found or program.name != "coordinator" else shlex.quote(str(program.resolve()))
    chosen = os.environ.get(DATA_VARIABLE)
    return f"{DATA_VARIABLE}={shlex.quote(chosen)} {name}" if chosen else name
