"""Finds the program that a shell line of the configuration begins with."""

import re
import shlex

PLAIN_WORD = re.compile(r"[\w./+-]+")
"""The first word of a line that names a program, and not a variable, an assignment or shell syntax."""
_SHELL_WORDS = frozenset({
    ".", ":", "break", "case", "cd", "command", "continue", "do", "done", "elif", "else", "esac", "eval", "exec",
    "exit", "export", "false", "fi", "for", "if", "in", "read", "readonly", "return", "set", "shift", "test", "then",
    "times", "trap", "true", "type", "ulimit", "umask", "unset", "until", "wait", "while",
})  # fmt: skip
"""Words that sh itself understands (POSIX.1-2017, sections 2.4, 2.14 and 2.9.1.1), so that no program is looked up."""


def find_program_word(line: str) -> str:
    """Return the program that a shell line begins with, such as `pytest` of `pytest -q && ruff check`; "" if unsure."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        return ""
    word = words[0] if words else ""
    return word if PLAIN_WORD.fullmatch(word) and word not in _SHELL_WORDS else ""
