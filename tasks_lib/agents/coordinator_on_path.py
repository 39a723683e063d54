"""Puts `coordinator` onto an agent's PATH without the rest of the virtual environment."""

import os
import shlex
from pathlib import Path

from coordinator_start import list_homes
from tasks_lib.process.files import write_atomically
from tasks_lib.process.python_command import python_options

NAME = "coordinator"


def write_launcher(directory: Path, python: str) -> Path:
    """Make `directory` with nothing but an executable `coordinator`, which runs the command line with `python`.

    It imports nothing from where it is called: a worktree may have its own packages named `flows` or `tasks_lib`.
    Returns `directory`, to be put first on a PATH. `python` is the absolute path of an interpreter that has coordinator
    installed. Idempotent; a program that is being started meanwhile sees either the old file or the new one.
    """
    directory.mkdir(parents=True, exist_ok=True)
    options = shlex.join(python_options())
    homes = list_homes(os.environ)
    found = f"PYTHONPATH={shlex.quote(':'.join(homes))} " if homes else ""
    wanted = f'#!/bin/sh\n{found}exec {shlex.quote(python)} {options} -m flows.cli "$@"\n'
    path = directory / NAME
    if path.is_file() and os.access(path, os.X_OK) and path.read_text() == wanted:
        return directory
    # Next to the directory rather than in it, so that a kill in between leaves no other file on the PATH.
    write_atomically(path, wanted.encode(), mode=0o755, unfinished=directory.parent / f".{NAME}-")
    return directory
