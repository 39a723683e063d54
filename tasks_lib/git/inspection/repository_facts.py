"""Reads what the user should know of a repository before a run: who commits in it, and whether it is shallow."""

from tasks_lib.git.runner import Git


def read_author(git: Git) -> str:
    """The author of commits made here: name and address, as git writes them."""
    # The last two words are the timestamp and the time zone.
    return git.text("var", "GIT_AUTHOR_IDENT").rsplit(" ", 2)[0]


def is_shallow(git: Git) -> bool:
    """Whether this is a shallow clone, without older history."""
    return git.text("rev-parse", "--is-shallow-repository") == "true"
