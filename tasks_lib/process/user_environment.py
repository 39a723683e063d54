"""Keeps what programs of the person's get apart from what may steer this process itself.

While Prefect works in this process, the variables that would steer it are taken out of `os.environ`. git, agents,
`setup` and `verify` are the person's programs all the same, and get what the person gave: they take it from here.
"""

import os
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager

_taken: dict[str, str] = {}


def user_environment() -> dict[str, str]:
    """The environment with what was taken out of it; the start of what a program of the person's may see."""
    return {**os.environ, **_taken}


def removed_variables() -> dict[str, str]:
    """What is to be laid over `os.environ` for a program of the person's that inherits it."""
    return dict(_taken)


@contextmanager
def replaced_environment(is_steering: Callable[[str], bool], settings: Mapping[str, str]) -> Generator[None]:
    """Take what is steering out of this process's environment, and put `settings` in, for as long as the block runs."""
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
