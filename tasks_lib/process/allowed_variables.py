"""Decides which environment variables reach an agent, `setup` and `verify`: an allow-list without secrets."""

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import translate
from functools import lru_cache
from posixpath import normpath

DEFAULT_NAMES = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL",
    "LANG", "LANGUAGE", "LC_*", "LOCPATH", "TZ",
    "TERM", "COLORTERM", "NO_COLOR",
    "TMPDIR", "TMP", "TEMP",
    "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CONFIG_DIRS", "XDG_DATA_DIRS",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "NIX_SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS",
    "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "PIP_CERT",
)  # fmt: skip
"""What programs need to find themselves, their files and their certificates.

Left out on purpose: proxies (their URLs contain passwords), `SSH_AUTH_SOCK` and `XDG_RUNTIME_DIR` (sockets that give
access to the user's keys), and everything else that the user should pass on explicitly.
"""

TURN_NAMES = (
    "COORDINATOR_TASK_ID", "COORDINATOR_TASK_FILE", "COORDINATOR_BRANCH", "COORDINATOR_WORKTREE", "COORDINATOR_ROLE",
    "COORDINATOR_ATTEMPT", "COORDINATOR_TURN", "COORDINATOR_SESSION", "COORDINATOR_TARGET", "COORDINATOR_SLOT",
)  # fmt: skip
"""Variables that describe a turn. Never inherited: a coordinator started inside a session is not that session."""

_NEVER = ("GIT_CONFIG_KEY_", "GIT_CONFIG_VALUE_", "PREFECT_")
_SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"


def scrub(
    environ: Mapping[str, str], allow: Sequence[str], *, git_variables: Iterable[str] = (), own_bin: str = ""
) -> dict[str, str]:
    """Return the part of `environ` that the user's programs may see: the default names, and those in `allow`.

    `allow` contains names or globs. `PREFECT_*`, `git_variables` (which point git at one repository), the settings that
    git reads from `GIT_CONFIG_KEY_*`, and the variables of a turn never pass, whatever `allow` says. `own_bin`, the
    `bin` directory of the coordinator's own virtual environment, is removed from PATH.
    """
    never = {*git_variables, *TURN_NAMES}
    is_allowed = _compile(tuple(allow)).match
    kept = {
        name: value
        for name, value in environ.items()
        if name not in never and not name.upper().startswith(_NEVER) and is_allowed(name)
    }
    if own_bin and "PATH" in kept:
        kept["PATH"] = _drop(own_bin, kept["PATH"])
    return kept


@lru_cache(maxsize=16)
def _compile(allow: tuple[str, ...]) -> re.Pattern[str]:
    """Return the default names and `allow` as one expression: a run asks for every variable at every turn."""
    return re.compile("|".join(translate(pattern) for pattern in (*DEFAULT_NAMES, *allow)))


def _drop(directory: str, search_path: str) -> str:
    # An empty entry means the current directory, so it is kept. An empty PATH would mean only the current directory.
    entries = [entry for entry in search_path.split(":") if not entry or normpath(entry) != normpath(directory)]
    return ":".join(entries) or _SYSTEM_PATH


def lead_path(environment: Mapping[str, str], directory: str) -> dict[str, str]:
    """Return `environment` with `directory` first on its PATH."""
    return {**environment, "PATH": f"{directory}:{environment.get('PATH') or _SYSTEM_PATH}"}
