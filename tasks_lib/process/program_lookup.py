"""Decides which file the name of a program means: the current directory is never searched, whatever PATH says.

An empty or relative entry of PATH depends on where a program is started. In a worktree it would mean files that an
agent wrote: its own `git`, or its own `bwrap` in place of the sandbox around it.
"""

import os
import shutil

from tasks_lib.errors import SystemFailure

SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"


def drop_relative(search_path: str) -> str:
    """Return `search_path` without its empty and relative entries; the system's PATH if nothing is left."""
    return ":".join(entry for entry in search_path.split(":") if entry.startswith("/")) or SYSTEM_PATH


def own_path() -> str:
    """Return the PATH for programs that coordinator itself relies on, such as git."""
    return drop_relative(os.environ.get("PATH", SYSTEM_PATH))


def find_program(name: str, search_path: str | None = None) -> str | None:
    """Return the file that `name` means in the absolute entries of `search_path`, by default this process's PATH.

    A name with a slash is used as a path.
    """
    return shutil.which(name, path=own_path() if search_path is None else drop_relative(search_path))


def require_program(name: str) -> str:
    """Return the file that `name` means. Raises SystemFailure if there is none."""
    found = find_program(name)
    if found is None:
        raise SystemFailure(f"`{name}` is not on PATH ({own_path()}): install it, or correct PATH")
    return found
