"""The one place that says how a Python process of coordinator's is started: options, environment, directory.

Python and Prefect take much from where they are started: modules, `.env`, TOML files, proxies, profiles, variables.
None of it may come from the repository that is worked, or from the shell of the person who works it. So whatever starts
Python takes its command from `python_command` and its environment from `python_environment`, and names a directory of
coordinator's own. `tests/process/test_process_rules.py` finds who does not.
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
"""What a Python process of coordinator's sees of the person's environment, beside PATH; paths only if absolute."""
_PATHS = frozenset({"HOME", "LOCPATH", "TZDIR", "TMPDIR", "TMP", "TEMP", "PYTHONUSERBASE"})
_SEARCHED = frozenset({"LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"})
"""An interpreter that was built with shared libraries may not start without these."""


def python_command(*arguments: str) -> list[str]:
    """This interpreter with `arguments` (`-m module …`), which imports nothing from where it is started."""
    return [sys.executable, *python_options(), *arguments]


def python_options() -> list[str]:
    """Options for this interpreter, so that neither its variables nor the current directory steer it."""
    options = repeat_options()
    # Where coordinator was found by PYTHONPATH, Python has to be told of that directory, and of it alone.
    return ["-P", "-s", *options[1:]] if list_homes(os.environ) else options


def python_environment(environ: Mapping[str, str], settings: Mapping[str, str]) -> dict[str, str]:
    """The allowed part of `environ` with `settings` over it."""
    kept = {name: value for name, value in environ.items() if any(fnmatchcase(name, one) for one in ALLOWED)}
    kept = {name: value for name, value in kept.items() if name not in _PATHS or value.startswith("/")}
    for name in _SEARCHED & kept.keys():
        kept[name] = ":".join(entry for entry in kept[name].split(":") if entry.startswith("/"))
    if homes := list_homes(dict(environ)):
        kept["PYTHONPATH"] = ":".join(homes)
    return {**kept, "PATH": drop_relative(environ.get("PATH", SYSTEM_PATH)), **settings}
