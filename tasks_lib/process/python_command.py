"""Decides how coordinator starts a Python process: options, environment, directory.

Python and Prefect read a lot from where they are started: modules, `.env`, TOML files, proxies, profiles, variables.
None of it may come from the repository, or from the user's shell. So every module that starts Python takes its command
from `python_command` and its environment from `python_environment`, and runs it in a directory of coordinator's own.
`tests/process/test_process_rules.py` checks this.
"""

import os
import sys
from collections.abc import Mapping
from fnmatch import fnmatchcase

from coordinator_start import list_homes, repeat_options
from tasks_lib.process.program_lookup import SYSTEM_PATH, drop_relative

ALLOWED = (
    "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "LC_*", "LOCPATH", "TZ", "TZDIR",
    "TMPDIR", "TMP", "TEMP", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONUSERBASE",
)  # fmt: skip
"""What coordinator's Python processes see of the user's environment, besides PATH; paths only if absolute."""
_PATHS = frozenset({"HOME", "LOCPATH", "TZDIR", "TMPDIR", "TMP", "TEMP", "PYTHONUSERBASE"})
_SEARCHED = frozenset({"LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"})
"""An interpreter that was built with shared libraries may not start without these."""


def python_command(*arguments: str) -> list[str]:
    """Return a command that runs this interpreter with `arguments` (`-m module …`) and imports nothing from its cwd."""
    return [sys.executable, *python_options(), *arguments]


def python_options() -> list[str]:
    """Return options that keep variables and the current directory from influencing this interpreter."""
    options = repeat_options()
    # If coordinator was found through PYTHONPATH, Python needs that directory, and only that one.
    return ["-P", "-s", *options[1:]] if list_homes(os.environ) else options


def python_environment(environ: Mapping[str, str], settings: Mapping[str, str]) -> dict[str, str]:
    """Return the allowed part of `environ`, overridden by `settings`."""
    kept = {name: value for name, value in environ.items() if any(fnmatchcase(name, one) for one in ALLOWED)}
    kept = {name: value for name, value in kept.items() if name not in _PATHS or value.startswith("/")}
    for name in _SEARCHED & kept.keys():
        kept[name] = ":".join(entry for entry in kept[name].split(":") if entry.startswith("/"))
    if homes := list_homes(dict(environ)):
        kept["PYTHONPATH"] = ":".join(homes)
    return {**kept, "PATH": drop_relative(environ.get("PATH", SYSTEM_PATH)), **settings}
