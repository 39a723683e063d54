"""opencode's own way of deciding permissions, reimplemented from what the real one does."""

import re
from collections.abc import Iterable, Sequence
from functools import cache

from tasks_lib.agents.opencode.config.permissions import Rule

BUILT_IN: Sequence[Rule] = (
    Rule("*", "*", "allow"),
    Rule("doom_loop", "*", "ask"),
    Rule("external_directory", "*", "ask"),
    Rule("question", "*", "deny"),
    Rule("read", "*", "allow"),
    Rule("read", "*.env", "ask"),
    Rule("read", "*.env.*", "ask"),
    Rule("read", "*.env.example", "allow"),
)


@cache
def matches(text: str, pattern: str) -> bool:
    words = re.sub(r"[.+^${}()|\[\]\\]", lambda found: "\\" + found[0], pattern).replace("*", ".*").replace("?", ".")
    if words.endswith(" .*"):
        words = words[:-3] + "( .*)?"
    return re.fullmatch(words, text, re.DOTALL) is not None


def find_last(rules: Iterable[Rule], permission: str, subject: str) -> Rule | None:
    found = [rule for rule in rules if matches(permission, rule.permission) and matches(subject, rule.pattern)]
    return found[-1] if found else None


def decide(rules: Iterable[Rule], permission: str, subject: str) -> str:
    found = find_last([*BUILT_IN, *rules], permission, subject)
    return found.action if found else "ask"
