"""Decides whether the configured opencode can be used: that it exists, starts, and has a tested version."""

import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tasks_lib.agents.opencode.servers.linked_places import link_others
from tasks_lib.process.captured_output import run_captured
from tasks_lib.process.private_directories import private_directory
from tasks_lib.process.program_lookup import find_program as which

DEFAULT_COMMAND = ("opencode",)
TESTED = "1.18.33"
INSTALL = f"npm install -g opencode-ai@{TESTED}"
_OLDEST = 33
"""Of 1.18; the version that the tests run with. Others may answer differently, and let agents do other things."""
_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")
_KINDS = ("CACHE", "CONFIG", "DATA", "STATE")
_SECONDS = 60
"""A first start on a cold machine reads 170 MB."""
_SEEN: dict[tuple[str | int, ...], str] = {}
"""What programs printed as their version, by their command, PATH and file: a run checks before it starts anything, and
again when it starts its first server."""


def check_program(command: Sequence[str], search_path: str, environment: Mapping[str, str] | None = None) -> str | None:
    """Return a sentence that says why `command` (without `serve`) cannot be used as opencode, or None.

    `search_path` is its PATH, `environment` what else it needs to start. Runs it, which takes a second, unless this
    process has already seen the version of this very file. A server's version is checked again when it has started.
    """
    program, *rest = command or DEFAULT_COMMAND
    path = which(program, search_path)
    if path is None:
        where = "is not an executable file" if "/" in program else f"is not on PATH ({search_path})"
        return f"`{program}` {where}: install it with `{INSTALL}`, or name it in agent.command"
    try:
        key = (path, *rest, search_path, *_identify(path))
    except OSError as error:
        return f"`{program}` cannot be read: {error}; reinstall it with `{INSTALL}`"
    if key not in _SEEN:
        said, fault = _ask_version(program, [path, *rest], {**(environment or {}), "PATH": search_path})
        if fault:
            return fault
        _SEEN[key] = said
    return check_version(_SEEN[key], f"`{program}`")


def _identify(path: str) -> tuple[int, ...]:
    """Return numbers that change when another file takes the place of the one at `path`, or its content changes."""
    found = Path(path).stat()
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _ask_version(program: str, command: Sequence[str], environment: Mapping[str, str]) -> tuple[str, str | None]:
    """Return what `command` prints as its version, or a sentence that says why it cannot be run."""
    with private_directory() as directory:
        # opencode creates directories in these places even to print its version.
        places = {f"XDG_{kind}_HOME": str(directory / kind.lower()) for kind in _KINDS}
        link_others(directory, environment, _KINDS)
        try:
            done = run_captured(
                [*command, "--version"], cwd=directory, environment={**environment, **places}, seconds=_SECONDS
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return "", f"`{program} --version` cannot be run: {error}; reinstall it with `{INSTALL}`"
    said = (done.stdout or done.stderr).decode("utf-8", "replace").strip()
    if done.status:
        return "", f"`{program} --version` exited with {done.status}: {said[-300:]}; reinstall it with `{INSTALL}`"
    return said, None


def check_version(version: str, what: str) -> str | None:
    """Return a sentence that says why `version` of `what` is not supported, or None."""
    found = _VERSION.search(version)
    if found is None:
        return f"{what} reports `{version[:80]}` as its version: is it opencode? Install it with `{INSTALL}`"
    major, minor, patch = (int(part) for part in found.groups())
    if (major, minor) == (1, 18) and patch >= _OLDEST:
        return None
    return f"{what} is opencode {found[0]}; 1.18.{_OLDEST} or a later 1.18 is required: `{INSTALL}`"


def find_program(command: Sequence[str], search_path: str) -> tuple[str, ...]:
    """Return `command`, or the default one, with its program as an absolute path if it can be found."""
    program, *rest = command or DEFAULT_COMMAND
    found = which(program, search_path)
    return (str(Path(found).absolute()) if found else program, *rest)
