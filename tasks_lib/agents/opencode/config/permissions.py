"""Decides what opencode's tools may do: the policy of a run, and how a role narrows it.

opencode's own rule is that of all rules whose permission and pattern match, the last one counts. A rule that says
`ask` counts as a refusal here, because nobody is there to be asked.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

Section = Mapping[str, str | Mapping[str, str]]
"""What `permission` holds in opencode's configuration: an action for a permission, or one for each pattern."""


class Rule(NamedTuple):
    """What is done about a `permission` (`bash`, `edit`, `*` …) for what matches `pattern`."""

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
"""What opencode itself would ask about; everything else it allows."""

NAMES = (
    "read", "edit", "glob", "grep", "list", "bash", "task", "external_directory", "todowrite", "todoread", "question",
    "webfetch", "websearch", "codesearch", "lsp", "doom_loop", "skill", "plan_enter", "plan_exit",
)  # fmt: skip
"""The permissions that opencode has itself. Servers of tools add others, which only globs are about."""

ONE_WORD = ("doom_loop", "question", "todowrite", "webfetch", "websearch")
"""The permissions that opencode refuses patterns for."""


def flatten(section: Section) -> Rules:
    """The rules of `section` in opencode's order."""
    found: list[Rule] = []
    for permission, value in section.items():
        patterns = {"*": value} if isinstance(value, str) else value
        found += [Rule(permission, pattern, action) for pattern, action in patterns.items()]
    return tuple(found)


def make_policy(extra: Section, scratch: Sequence[str] = ()) -> Rules:
    """The defaults with `extra` (`agent.permission`) above them; `scratch` are patterns of directories for anybody.

    `*` among the permissions is about what neither names. Allowing that is what opencode does anyway, and said aloud
    would also undo what opencode denies its own agents.
    """
    basis = [*DEFAULT_POLICY[:1], *(Rule("external_directory", place, "allow") for place in scratch)]
    basis += DEFAULT_POLICY[1:]
    rest = flatten({permission: value for permission, value in extra.items() if permission != "*"})
    general = [rule for rule in flatten({"*": extra["*"]}) if not rule.allows] if "*" in extra else []
    if general:
        basis = [rule for rule in basis if not rule.allows]
    return flatten(to_section([*general, *basis, *rest]))


def narrow(policy: Rules, role: Rules) -> Rules:
    """`role` as far as `policy` lets it: whatever either refuses is refused.

    The role's rules come first, and those of the policy have the last word. What the policy allows by way of
    exception stays where the role allows it too, and goes where the role refuses it; where the role speaks of a part
    of it, the role's refusals follow, or it goes if the role makes exceptions there. Rules for `*` and other globs of
    permissions are applied to each permission by its name, so that what is refused in general undoes nothing that
    both allow by name.
    """
    general = [_join(*(tuple(rule for rule in side if _is_glob(rule.permission)) for side in (role, policy)))]
    named = [_join(*(_find_rules(name, side) for side in (role, policy))) for name in _list_names((*role, *policy))]
    return tuple(rule for part in (*general, *named) for rule in part)


def _list_names(rules: Rules) -> list[str]:
    """The permissions that some of `rules` is about, in the order in which they come up."""
    named = [rule.permission for rule in rules if not _is_glob(rule.permission)]
    globs = {rule.permission for rule in rules if _is_glob(rule.permission)}
    known = [name for name in NAMES if any(matches(glob, name) for glob in globs)]
    return list(dict.fromkeys([*known, *named]))


def _find_rules(name: str, rules: Rules) -> Rules:
    """The rules of `rules` that are about the permission `name`, each said of it alone."""
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
    """Whether `spoken`, rules that overlap with `rule`, allow all that it is about; None for a part of it."""
    seen: set[bool] = set()
    for other in reversed(spoken):
        seen.add(other.allows)
        if covers(other.permission, rule.permission) and covers(other.pattern, rule.pattern):
            break
    else:
        seen.add(True)  # What nobody speaks of is not refused.
    return seen.pop() if len(seen) == 1 else None


@cache
def matches(pattern: str, text: str) -> bool:
    """Whether opencode takes `text` for what `pattern` is about; `git *` is about `git` alone, too."""
    words = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    words = re.sub(r"\\ \.\*$", r"( .*)?", words)
    return re.fullmatch(words, text, re.DOTALL) is not None


def covers(wide: str, narrow: str) -> bool:
    """Whether `wide` is about all that the pattern `narrow` is about; said too seldom rather than too often."""
    if wide in ("*", narrow):
        return True
    start = wide.removesuffix("*")
    return start != wide and not _is_glob(start) and narrow.startswith(start)


def _overlap(one: Rule, other: Rule) -> bool:
    """Whether both may be about the same thing; said too often rather than too seldom."""
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
    """`rules` as a mapping, in which a permission stands once: where its last rule stood.

    What would thereby come after a refusal that it came before, and undo it, is left out.
    """
    last = {rule.permission: place for place, rule in enumerate(rules)}
    groups: dict[str, dict[str, str]] = {name: {} for name in sorted(last, key=last.__getitem__)}
    for place, rule in enumerate(rules):
        passed = rules[place + 1 : last[rule.permission]]
        if rule.allows and any(_refuses_beside(other, rule) for other in passed):
            continue
        if rule.pattern == "*":  # It is about all that came before.
            groups[rule.permission].clear()
        groups[rule.permission].pop(rule.pattern, None)
        groups[rule.permission][rule.pattern] = rule.action
    return {name: _shorten(patterns) for name, patterns in groups.items() if patterns}


def _refuses_beside(other: Rule, rule: Rule) -> bool:
    return not other.allows and other.permission != rule.permission and _overlap(other, rule)


def _shorten(patterns: dict[str, str]) -> str | dict[str, str]:
    return patterns["*"] if list(patterns) == ["*"] else patterns


def find_pattern_fault(permission: str, pattern: str) -> str | None:
    """What is wrong with a `pattern` of a `permission`, if anything."""
    if permission in ONE_WORD and pattern != "*":
        return "takes no patterns; write one of allow, ask and deny after it"
    if pattern.isdigit() or pattern == "__proto__":
        # JavaScript keeps whole numbers before all other keys, so that the order, which decides, would be lost.
        return f'has the pattern "{pattern}", which cannot be kept in its place; write it as "{pattern}*"'
    return None if pattern else "has an empty pattern; write `*` for everything"
