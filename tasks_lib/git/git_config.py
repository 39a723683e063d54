"""Reads single settings from the git configuration that applies in a repository."""

from tasks_lib.git.runner import Git


def read_setting(git: Git, key: str) -> str:
    """Return the value of `key`, or "" if it is not set."""
    return git.run("config", "--get", key, accept=(0, 1)).text


def is_enabled(git: Git, key: str) -> bool:
    """Whether the setting `key` is true, in any spelling git accepts; an invalid value counts as false."""
    return git.run("config", "--type=bool", "--get", key, accept=(0, 1, 128)).text == "true"


def read_person(git: Git) -> str:
    """Return who commits here, as `name <address>`; "" if git does not know it."""
    found = git.run("var", "GIT_COMMITTER_IDENT", accept=(0, 1, 128))
    return found.text.rsplit(">", 1)[0] + ">" if found.status == 0 and ">" in found.text else ""
