"""Starts the command line so that no module of the current directory, and no variable of Python's own, steers it.

Its name is one that no repository has: `flows`, and any module of the standard library, may well be found in a
repository whose person has set `PYTHONPATH=.`. Before that is dealt with, nothing is imported here but what every
Python has imported already.
"""

import os
import site
import sys
from _collections_abc import Mapping

HARMLESS = frozenset({
    "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "PYTHONHASHSEED", "PYTHONIOENCODING",
    "PYTHONUTF8", "PYTHONCOERCECLOCALE", "PYTHONFAULTHANDLER", "PYTHONNOUSERSITE", "PYTHONSAFEPATH", "PYTHONSTARTUP",
    "PYTHONHOME", "PYTHONUSERBASE", "PYTHONBREAKPOINT", "PYTHONINTMAXSTRDIGITS",
    "PYTHONPROFILEIMPORTTIME", "PYTHONTRACEMALLOC", "PYTHONASYNCIODEBUG", "PYTHONVERBOSE", "PYTHONPERFSUPPORT",
    "PYTHONMALLOC", "PYTHONMALLOCSTATS",
})  # fmt: skip
"""Variables that say how Python works and what it tells of that, not what is imported or what code means."""
_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 - Paths import too much.


def leave_the_current_directory() -> None:
    """Take the current directory off the import path; starts Python again where its variables did more than that."""
    if needs_another_start(os.environ, is_ignored=bool(sys.flags.ignore_environment)):
        if sys.stdout:  # None where it was closed at the start.
            sys.stdout.flush()
        script = os.path.abspath(sys.argv[0])  # noqa: PTH100
        program = [script] if os.path.basename(script) == "coordinator" else ["-m", "flows.cli"]  # noqa: PTH119
        os.execv(sys.executable, [sys.executable, *repeat_options(), *program, *sys.argv[1:]])  # noqa: S606
    sys.path[:] = clean(sys.path)


def needs_another_start(environment: Mapping[str, str], *, is_ignored: bool) -> bool:
    """Whether Python took something from its own variables that may lead into a repository, or change what code does.

    Where PYTHONPATH is how coordinator itself is found, it has to stay.
    """
    names = {name for name, value in environment.items() if name.startswith("PYTHON") and value} - HARMLESS
    return bool(names) and not is_ignored and not list_homes(environment)


def list_homes(environment: Mapping[str, str]) -> list[str]:
    """The directories on PYTHONPATH from which coordinator itself is imported, as after `pip install --target`."""
    given = environment.get("PYTHONPATH", "").split(os.pathsep)
    return [entry for entry in given if os.path.isabs(entry) and os.path.realpath(entry) == os.path.realpath(_ROOT)]  # noqa: PTH117


def repeat_options() -> list[str]:
    """Options for Python: nothing of its variables or of the current directory; the rest as this process has it.

    Without `-s` where the user's own site directory is in use, since coordinator may be installed there.
    """
    options = ["-EP"] if site.ENABLE_USER_SITE else ["-I"]
    if sys.dont_write_bytecode:
        options.append("-B")
    if sys.flags.utf8_mode:
        options += ["-X", "utf8"]
    if sys.pycache_prefix and os.path.isabs(sys.pycache_prefix):  # noqa: PTH117
        options += ["-X", f"pycache_prefix={sys.pycache_prefix}"]
    return options


def clean(search_path: list[str]) -> list[str]:
    """`search_path` without relative entries and without the current directory, unless that is Python's or ours."""
    try:
        here = os.path.realpath(os.getcwd())  # noqa: PTH109
    except OSError:
        here = ""
    kept = [entry for entry in search_path if os.path.isabs(entry)]  # noqa: PTH117
    return [entry for entry in kept if os.path.realpath(entry) != here or is_own(entry)]


def is_own(entry: str) -> bool:
    """Whether a directory on the import path is Python's library, or holds installed packages or coordinator."""
    library = os.path.dirname(os.__file__)  # noqa: PTH120
    own = [library, os.path.join(library, "lib-dynload"), *site.getsitepackages(), _ROOT]  # noqa: PTH118
    return os.path.realpath(entry) in map(os.path.realpath, own)
