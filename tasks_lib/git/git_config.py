"""Reads single settings of git's configuration, as git has them in a repository."""

from tasks_lib.git.runner import Git


def read_setting(git: Git, key: str) -> str:
    """The value of `key`, "" if it is not set."""
    return git.run("config", "--get", key, accept=(0, 1)).text


def is_enabled(git: Git, key: str) -> bool:
    """Whether the setting `key` is true, in any of git's spellings; one that is none counts as false."""
    return git.run("config", "--type=bool", "--get", key, accept=(0, 1, 128)).text == "true"
