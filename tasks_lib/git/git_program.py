"""Queries the git on PATH: its version, and the environment variables that select a repository."""

import os
from functools import cache
from pathlib import Path

from tasks_lib.errors import GitError
from tasks_lib.process.captured_output import run_captured
from tasks_lib.process.files import Stamp, read_stamp
from tasks_lib.process.program_lookup import own_path, require_program

MINIMUM_VERSION = (2, 38)
"""`merge-tree --write-tree` was added in git 2.38."""
_FURTHER_VARIABLES = (
    *("GIT_NAMESPACE", "GIT_CEILING_DIRECTORIES", "GIT_QUARANTINE_PATH", "GIT_ATTR_SOURCE", "GIT_REFLOG_ACTION"),
    *("GIT_LITERAL_PATHSPECS", "GIT_GLOB_PATHSPECS", "GIT_NOGLOB_PATHSPECS", "GIT_ICASE_PATHSPECS"),
)
"""Not in `rev-parse --local-env-vars`, but inherited from a git hook they would change or break our commands."""


def find_version() -> tuple[int, ...]:
    """Return the version of the git on PATH, such as (2, 39, 5)."""
    program = require_program("git")
    return _read_version(program, read_stamp(Path(program), follows_links=True))


@cache
def _read_version(_program: str, _stamp: Stamp | None) -> tuple[int, ...]:
    return tuple(int(part) for part in _ask_plainly("version").split()[2].split(".") if part.isdigit())


@cache
def local_variables() -> tuple[str, ...]:
    """Return the names of environment variables that tie git to one repository.

    When inherited, they redirect even `git -C`.
    """
    return (*_ask_plainly("rev-parse", "--local-env-vars").split(), *_FURTHER_VARIABLES)


def _ask_plainly(*arguments: str) -> str:
    """Return git's output with all GIT_* variables removed: inherited ones can make even `git version` fail.

    Raises GitError on a non-zero exit status.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment["PATH"] = own_path()
    done = run_captured([require_program("git"), *arguments], environment=environment)
    if done.status:
        raise GitError(arguments, done.status, done.stderr.decode("utf-8", "replace"))
    return done.stdout.decode()
