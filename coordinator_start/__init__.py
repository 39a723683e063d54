"""Starts the command line free of modules in the current directory and of Python's own environment variables.

The package has a name that no repository uses: with `PYTHONPATH=.`, a repository could provide `flows` or any module
of the standard library. Until that is ruled out, only modules that Python has already loaded are imported here.
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
    "PYTHON_COLORS", "PYTHON_HISTORY", "PYTHON_BASIC_REPL", "PYTHON_CPU_COUNT", "PYTHON_GIL",
    # Not Python's own: make and node-gyp set the first, the official container images the others.
    "PYTHON", "PYTHON_VERSION", "PYTHON_SHA256", "PYTHON_PIP_VERSION", "PYTHON_SETUPTOOLS_VERSION",
    "PYTHON_GET_PIP_URL", "PYTHON_GET_PIP_SHA256",
})  # fmt: skip
"""Variables that affect how Python runs or what it reports, but not what is imported or what code means."""
_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 - Paths import too much.


def leave_the_current_directory() -> None:
    """Remove the current directory from the import path; restarts Python if its variables had other effects."""
    if needs_another_start(os.environ, is_ignored=bool(sys.flags.ignore_environment)):
        if sys.stdout:  # None where it was closed at the start.
            sys.stdout.flush()
        script = os.path.abspath(sys.argv[0])  # noqa: PTH100
        program = [script] if os.path.basename(script) == "coordinator" else ["-m", "flows.cli"]  # noqa: PTH119
        os.execv(sys.executable, [sys.executable, *repeat_options(), *program, *sys.argv[1:]])  # noqa: S606
    sys.path[:] = clean(sys.path)


def needs_another_start(environment: Mapping[str, str], *, is_ignored: bool) -> bool:
    """Whether a variable may have made Python import from a repository, or changed what code does.

    If PYTHONPATH is how coordinator itself is found, it has to stay.
    """
    names = {name for name, value in environment.items() if name.startswith("PYTHON") and value} - HARMLESS
    return bool(names) and not is_ignored and not list_homes(environment)


def list_homes(environment: Mapping[str, str]) -> list[str]:
    """The directories on PYTHONPATH from which coordinator itself is imported, e.g. after `pip install --target`."""
    given = environment.get("PYTHONPATH", "").split(os.pathsep)
    return [entry for entry in given if os.path.isabs(entry) and os.path.realpath(entry) == os.path.realpath(_ROOT)]  # noqa: PTH117


def repeat_options() -> list[str]:
    """Options that make Python ignore its variables and the current directory; otherwise like this process.

    Without `-s` if the user's site directory is in use, since coordinator may be installed there.
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
    """`search_path` without relative entries and the current directory, unless that is Python's or coordinator's."""
    try:
        here = os.path.realpath(os.getcwd())  # noqa: PTH109
    except OSError:
        here = ""
    kept = [entry for entry in search_path if os.path.isabs(entry)]  # noqa: PTH117
    return [entry for entry in kept if os.path.realpath(entry) != here or is_own(entry)]


def is_own(entry: str) -> bool:
    """Whether a directory on the import path contains Python's library, installed packages or coordinator."""
    library = os.path.dirname(os.__file__)  # noqa: PTH120
    own = [library, os.path.join(library, "lib-dynload"), *site.getsitepackages(), _ROOT]  # noqa: PTH118
    return os.path.realpath(entry) in map(os.path.realpath, own)
