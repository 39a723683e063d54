"""Asks agents' programs for their version, for a person who compares machines."""

import subprocess
from collections.abc import Mapping
from pathlib import PurePath

from tasks_lib.process.captured_output import run_captured
from tasks_lib.process.private_directories import private_directory
from tasks_lib.process.program_lookup import find_program
from tasks_lib.text import cut, fold_printable

KNOWN = ("aider", "amp", "claude", "codex", "cursor-agent", "gemini", "goose", "opencode", "qwen")
"""Programs of which `--version` is known to print a version and nothing else; another could start an agent."""
_SECONDS = 60
_CHARS = 80


def find_stated_version(program: str, environment: Mapping[str, str], search_path: str) -> str:
    """Return what a known agent's `program` prints as its version, "" for others and those that fail."""
    path = find_program(program, search_path) if PurePath(program).name in KNOWN else None
    if path is None:
        return ""
    with private_directory() as directory:
        # Some create directories in these places even to print their version.
        places = {f"XDG_{kind}_HOME": str(directory) for kind in ("CACHE", "CONFIG", "DATA", "STATE")}
        try:
            done = run_captured(
                [path, "--version"], cwd=directory, environment={**environment, **places}, seconds=_SECONDS
            )
        except (OSError, subprocess.TimeoutExpired):
            return ""
    said = done.stdout.decode("utf-8", "replace").strip().partition("\n")[0]
    return cut(fold_printable(said), _CHARS) if done.status == 0 else ""
