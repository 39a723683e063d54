"""Decides which of the git settings that a user gives by `GIT_CONFIG_COUNT`, as CI systems do, may count."""

from collections.abc import Mapping, Sequence

from tasks_lib.text import read_count

COUNT = "GIT_CONFIG_COUNT"
_KEY, _VALUE = "GIT_CONFIG_KEY_", "GIT_CONFIG_VALUE_"
_MOST = 1000
_OF_ONE_REPOSITORY = ("core.bare", "core.worktree", "core.repositoryformatversion", "extensions.")
"""What only a repository's own configuration may say; in the environment it would break or redirect every command."""
TRUST = "safe.directory"
Setting = tuple[str, str]


def read_environment_settings(environ: Mapping[str, str]) -> list[Setting]:
    """Return the key and value of each setting in `environ`, in git's order; a key may occur more than once.

    Settings that describe one repository are left out. With a count that git would reject, there are none.
    """
    count = read_count(environ.get(COUNT, ""))
    if count is None or count > _MOST:
        return []
    names = [(f"{_KEY}{number}", f"{_VALUE}{number}") for number in range(count)]
    if any(name not in environ for pair in names for name in pair):
        return []
    found = [(environ[key], environ[value]) for key, value in names]
    return [(key, value) for key, value in found if not key.lower().startswith(_OF_ONE_REPOSITORY) and "." in key]


def write_environment_settings(settings: Sequence[Setting]) -> dict[str, str]:
    """Return git `settings` as environment variables, which override every git configuration file."""
    variables = {COUNT: str(len(settings))}
    for number, (key, value) in enumerate(settings):
        variables |= {f"{_KEY}{number}": key, f"{_VALUE}{number}": value}
    return variables
