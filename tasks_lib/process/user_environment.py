"""Keeps variables for the user's programs apart from those that may influence this process.

While Prefect runs in this process, the variables that would influence it are removed from `os.environ`. git, agents,
`setup` and `verify` are the user's programs and still get what the user set: they take it from here.
"""

import os
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager

_taken: dict[str, str] = {}


def user_environment() -> dict[str, str]:
    """Return the environment including the removed variables: the basis of what the user's programs may see."""
    return {**os.environ, **_taken}


def removed_variables() -> dict[str, str]:
    """Return what to merge over `os.environ` for a user's program that inherits it."""
    return dict(_taken)


@contextmanager
def replaced_environment(is_steering: Callable[[str], bool], settings: Mapping[str, str]) -> Generator[None]:
    """Remove steering variables from this process's environment and set `settings` for as long as the block runs."""
    before, hidden = dict(os.environ), dict(_taken)
    for name in [name for name in os.environ if is_steering(name)]:
        _taken.setdefault(name, os.environ.pop(name))
    os.environ.update(settings)
    try:
        yield
    finally:
        _taken.clear()
        _taken.update(hidden)
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
