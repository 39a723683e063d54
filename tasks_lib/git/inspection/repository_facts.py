"""Says what a person should know of a repository before work begins: who commits in it, and how deep its history is."""

from tasks_lib.git.runner import Git


def read_author(git: Git) -> str:
    """Who commits here: name and address, as git writes them."""
    # The last two words are the time and its zone.
    return git.text("var", "GIT_AUTHOR_IDENT").rsplit(" ", 2)[0]


def is_shallow(git: Git) -> bool:
    """Whether older history was left out of the clone."""
    return git.text("rev-parse", "--is-shallow-repository") == "true"
