"""Decides what opencode's tools may do: the policy of a run, and how a role narrows it.

In opencode, the last rule whose permission and pattern match applies. A rule that says `ask` counts as a refusal here,
because no user is there to answer.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

Section = Mapping[str, str | Mapping[str, str]]
"""The value of `permission` in opencode's configuration: an action per permission, or one per pattern."""


class Rule(NamedTuple):
    """The action for a `permission` (`bash`, `edit`, `*` …) on what matches `pattern`."""

    permission: str
    pattern: str
    action: str

    @property
    def allows(self) -> bool:
        return self.action == "allow"


Rules = tuple[Rule, ...]

DEFAULT_POLICY: Rules = (
    Rule("external_directory", "*", "deny"),
    Rule("doom_loop", "*", "deny"),
    Rule("question", "*", "deny"),
    Rule("read", "*.env", "deny"),
    Rule("read", "*.env.*", "deny"),
    Rule("read", "*.env.example", "allow"),
)
"""What opencode itself would ask about; it allows everything else."""

NAMES = (
    "read", "edit", "glob", "grep", "list", "bash", "task", "external_directory", "todowrite", "todoread", "question",
    "webfetch", "websearch", "codesearch", "lsp", "doom_loop", "skill", "plan_enter", "plan_exit",
)  # fmt: skip
"""opencode's own permissions. MCP servers add others, which only globs match."""

ONE_WORD = ("doom_loop", "question", "todowrite", "webfetch", "websearch")
"""The permissions for which opencode rejects patterns."""


def flatten(section: Section) -> Rules:
    """Return the rules of `section` in opencode's order."""
    found: list[Rule] = []
    for permission, value in section.items():
        patterns = {"*": value} if isinstance(value, str) else value
        found += [Rule(permission, pattern, action) for pattern, action in patterns.items()]
    return tuple(found)


def make_policy(extra: Section, scratch: Sequence[str] = ()) -> Rules:
    """Return the defaults, then `extra` (`agent.permission`); `scratch` are patterns of directories for every agent.

    A `*` permission covers what neither names. opencode allows that anyway, and an explicit rule would also undo what
    opencode denies its own agents.
    """
    basis = [*DEFAULT_POLICY[:1], *(Rule("external_directory", place, "allow") for place in scratch)]
    basis += DEFAULT_POLICY[1:]
    rest = flatten({permission: value for permission, value in extra.items() if permission != "*"})
    general = [rule for rule in flatten({"*": extra["*"]}) if not rule.allows] if "*" in extra else []
    if general:
        basis = [rule for rule in basis if not rule.allows]
    return flatten(to_section([*general, *basis, *rest]))


def narrow(policy: Rules, role: Rules) -> Rules:
    """Return `role` restricted by `policy`: whatever either refuses is refused.

    The role's rules come first, the policy's last. An exception that the policy allows is kept if the role allows it
    too, and dropped if the role refuses it. If the role only covers a part of it, the role's refusals follow it, or the
    exception is dropped if the role makes exceptions there. Rules for `*` and other globs of permissions are applied to
    each permission by name, so that a general refusal does not undo what both allow by name.
    """
    general = [_join(*(tuple(rule for rule in side if _is_glob(rule.permission)) for side in (role, policy)))]
    named = [_join(*(_find_rules(name, side) for side in (role, policy))) for name in _list_names((*role, *policy))]
    return tuple(rule for part in (*general, *named) for rule in part)


def _list_names(rules: Rules) -> list[str]:
    """Return the permissions that any of `rules` covers, in order of appearance."""
    named = [rule.permission for rule in rules if not _is_glob(rule.permission)]
    globs = {rule.permission for rule in rules if _is_glob(rule.permission)}
    known = [name for name in NAMES if any(matches(glob, name) for glob in globs)]
    return list(dict.fromkeys([*known, *named]))


def _find_rules(name: str, rules: Rules) -> Rules:
    """Return those of `rules` that cover the permission `name`, rewritten for it alone."""
    return tuple(rule._replace(permission=name) for rule in rules if matches(rule.permission, name))


def _join(first: Rules, last: Rules) -> Rules:
    tail: list[Rule] = []
    refusals: list[Rule] = []
    for rule in last:
        if rule.allows:
            spoken = [other for other in first if _overlap(rule, other)]
            verdict = _judge(spoken, rule)
            if verdict is False or (verdict is None and _has_exceptions(spoken)):
                continue
            if verdict is None:
                refusals += [other for other in spoken if not other.allows and other not in refusals]
        tail.append(rule)
    return (*first, *tail, *refusals)


def _judge(spoken: Sequence[Rule], rule: Rule) -> bool | None:
    """Return whether `spoken`, rules that overlap with `rule`, allow everything it covers; None if only a part."""
    seen: set[bool] = set()
    for other in reversed(spoken):
        seen.add(other.allows)
        if covers(other.permission, rule.permission) and covers(other.pattern, rule.pattern):
            break
    else:
        seen.add(True)  # What no rule covers is allowed.
    return seen.pop() if len(seen) == 1 else None


@cache
def matches(pattern: str, text: str) -> bool:
    """Return whether opencode matches `text` with `pattern`; `git *` matches `git` alone too."""
    words = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    words = re.sub(r"\\ \.\*$", r"( .*)?", words)
    return re.fullmatch(words, text, re.DOTALL) is not None


def covers(wide: str, narrow: str) -> bool:
    """Return whether `wide` matches everything that the pattern `narrow` matches; False if in doubt."""
    if wide in ("*", narrow):
        return True
    start = wide.removesuffix("*")
    return start != wide and not _is_glob(start) and narrow.startswith(start)


def _overlap(one: Rule, other: Rule) -> bool:
    """Return whether both may match the same thing; True if in doubt."""
    return _may_meet(one.permission, other.permission) and _may_meet(one.pattern, other.pattern)


def _may_meet(one: str, other: str) -> bool:
    if not _is_glob(one) and not _is_glob(other):
        return one == other
    starts = sorted((re.split(r"[*?]", word)[0].rstrip(" ") for word in (one, other)), key=len)
    return starts[1].startswith(starts[0])


def _is_glob(word: str) -> bool:
    return any(mark in word for mark in "*?")


def _has_exceptions(rules: Iterable[Rule]) -> bool:
    has_refused = False
    for rule in rules:
        if rule.allows and has_refused:
            return True
        has_refused = has_refused or not rule.allows
    return False


def to_section(rules: Sequence[Rule]) -> dict[str, str | dict[str, str]]:
    """Return `rules` as a mapping, in which a permission appears once: where its last rule was.

    A rule that would thereby move behind a refusal, and undo it, is dropped.
    """
    last = {rule.permission: place for place, rule in enumerate(rules)}
    groups: dict[str, dict[str, str]] = {name: {} for name in sorted(last, key=last.__getitem__)}
    for place, rule in enumerate(rules):
        passed = rules[place + 1 : last[rule.permission]]
        if rule.allows and any(_refuses_beside(other, rule) for other in passed):
            continue
        if rule.pattern == "*":  # It overrides everything before it.
            groups[rule.permission].clear()
        groups[rule.permission].pop(rule.pattern, None)
        groups[rule.permission][rule.pattern] = rule.action
    return {name: _shorten(patterns) for name, patterns in groups.items() if patterns}


def _refuses_beside(other: Rule, rule: Rule) -> bool:
    return not other.allows and other.permission != rule.permission and _overlap(other, rule)


def _shorten(patterns: dict[str, str]) -> str | dict[str, str]:
    return patterns["*"] if list(patterns) == ["*"] else patterns


def find_pattern_fault(permission: str, pattern: str) -> str | None:
    """Return what is wrong with a `pattern` of a `permission`, or None."""
    if permission in ONE_WORD and pattern != "*":
        return "does not accept patterns; write allow, ask or deny after it"
    if pattern.isdigit() or pattern == "__proto__":
        # JavaScript puts integer keys before all others, which would change the order of the rules.
        return f'has the pattern "{pattern}", whose position would be lost; write it as "{pattern}*"'
    return None if pattern else "has an empty pattern; write `*` for everything"
