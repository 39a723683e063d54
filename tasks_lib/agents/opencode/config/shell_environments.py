"""Gives each shell that opencode starts exactly the environment of its session: one file per worktree."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from tasks_lib.process.files import write_atomically


class Shells:
    """The environments of shells, in `directory`; opencode's plugin rereads one whenever it starts a shell."""

    def __init__(self, directory: Path) -> None:
        self.directory: Path = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def write(self, worktree: Path, environment: Mapping[str, str]) -> None:
        """From now on shells in `worktree` have exactly `environment`; a shell being started may get the old one."""
        text = json.dumps(dict(environment))
        for path in {str(worktree), str(worktree.resolve())}:
            write_private(self.directory / name_file(path), text)


def name_file(worktree: str) -> str:
    """Return the name of the file for the absolute path `worktree`, as opencode spells it."""
    return f"{hashlib.sha256(os.fsencode(worktree)).hexdigest()}.json"


def write_private(path: Path, text: str) -> None:
    """Write `path` atomically, readable only by this user; a reader sees either the old content or the new."""
    write_atomically(path, text.encode("utf-8", "surrogateescape"), mode=0o600)
