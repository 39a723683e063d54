"""The coordinator's data directory on this machine, and the repositories that flows may use."""

import json
import os
import re
import shlex
import sys
from collections.abc import Mapping
from errno import ENOENT
from pathlib import Path

import platformdirs

from tasks_lib.errors import InputError
from tasks_lib.process.files import write_atomically
from tasks_lib.process.program_lookup import find_program
from tasks_lib.suggestions import suggest

DATA_VARIABLE = "COORDINATOR_DATA_DIR"
CACHE_VARIABLE = "COORDINATOR_CACHE_DIR"
REGISTRY = "repositories.json"


def data_dir() -> Path:
    """The coordinator's data directory, created if missing: $COORDINATOR_DATA_DIR, else this system's default.

    Raises InputError if it cannot be created.
    """
    chosen = os.environ.get(DATA_VARIABLE)
    try:
        path = Path(chosen).expanduser() if chosen else platformdirs.user_data_path("coordinator")
    except RuntimeError as error:  # A container's user may have neither HOME nor an entry in the list of users.
        how = f"Set {DATA_VARIABLE} to a directory that the user who runs coordinator can write, or set HOME."
        raise InputError([f"the data directory is below a home directory that is not known: {error}. {how}"]) from error
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        how = f"Create it for the user who runs coordinator, or set {DATA_VARIABLE} to another directory."
        raise InputError([f"{path}: the data directory cannot be created: {error.strerror}. {how}"]) from error
    return path.resolve()


def ensure_home() -> None:
    """Give this process a home if it has none, as in a container whose user is in no list: Prefect needs one to start.

    It is below the data directory, and only if that is named: otherwise the commands that need it say so.
    """
    if os.environ.get("HOME") or not os.environ.get(DATA_VARIABLE):
        return
    try:
        Path.home()
    except RuntimeError:
        home = data_dir() / "home"
        home.mkdir(mode=0o700, exist_ok=True)
        os.environ["HOME"] = str(home)


def cache_dir() -> Path:
    """The directory of what all data directories share and can be made again, created if missing.

    It is $COORDINATOR_CACHE_DIR, else this system's default. Raises OSError if it cannot be created.
    """
    chosen = os.environ.get(CACHE_VARIABLE)
    try:
        path = Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("coordinator")
    except RuntimeError as error:
        raise FileNotFoundError(ENOENT, str(error)) from error
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path.absolute()


def own_directory() -> Path:
    """An empty working directory for coordinator's processes: programs read settings from where they start."""
    path = data_dir() / "empty"
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def list_repositories() -> Mapping[str, Path]:
    """The repositories that flows may use, by name."""
    try:
        found = json.loads((data_dir() / REGISTRY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): Path(path) for name, path in found.items()}


def register(path: Path, former: Path | None = None) -> str:
    """Register the repository at `path` (its top) for flow runs, and return its name.

    One that was moved here from `former` keeps its name, unless something exists at that path again.
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


def find_name(path: Path) -> str:
    """The name of the repository at `path` (its top), whether or not it is registered."""
    known = (name for name, place in list_repositories().items() if place == path)
    return next(known, path.name)


def _remember(known: Mapping[str, Path], name: str) -> str:
    text = json.dumps({key: str(place) for key, place in sorted(known.items())}, indent=1)
    write_atomically(data_dir() / REGISTRY, text.encode())
    return name


def find_repository(name: str) -> Path:
    """Find a registered repository by its name or path.

    Raises InputError for any other: starting a flow run must not allow choosing what is executed.
    """
    known = list_repositories()
    for known_name, place in known.items():
        if name in (known_name, str(place)):
            if not place.is_dir():
                how = "which does not exist. If it was moved, run `coordinator init` at its new path"
                raise InputError([f'the repository "{known_name}" is registered at {place}, {how}.'])
            return place
    listed = ", ".join(known) or "none yet"
    message = f'"{name}" is not a registered repository{suggest(name, known) or "."} Registered: {listed}.'
    raise InputError([f"{message} To register it, run `coordinator init` in it."])


def name_program() -> str:
    """How to call this program from the current shell, so that printed commands can be copied and run."""
    found = find_program("coordinator")
    program = Path(sys.argv[0])
    is_found = bool(found) and program.exists() and Path(str(found)).samefile(program)
    name = "coordinator" if is_found or program.name != "coordinator" else shlex.quote(str(program.resolve()))
    chosen = os.environ.get(DATA_VARIABLE)
    return f"{DATA_VARIABLE}={shlex.quote(chosen)} {name}" if chosen else name
