"""Decides what opencode's tools may do: the policy of a run, and how a role narrows it.

opencode's own rule is that of all rules whose permission and pattern match, the last one counts. A rule that says
`ask` counts as a refusal here, because nobody is there to be asked.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

Action = Literal["allow", "ask", "deny"]
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
    exception is left out where the role makes exceptions of its own, and followed by the role's refusals where it
    makes none.
    """
    tail: list[Rule] = []
    refusals: list[Rule] = []
    for rule in policy:
        spoken = [other for other in role if _overlap(rule.permission, other.permission)]
        if rule.allows and _has_exceptions(spoken):
            continue
        tail.append(rule)
        if rule.allows:
            refusals += [other for other in spoken if not other.allows and other not in refusals]
    return (*role, *tail, *refusals)


def _overlap(one: str, other: str) -> bool:
    """Whether some permission may match both; said too often rather than too seldom."""
    return one == other or any(mark in one + other for mark in "*?")


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
        groups[rule.permission].pop(rule.pattern, None)
        groups[rule.permission][rule.pattern] = rule.action
    return {name: _shorten(patterns) for name, patterns in groups.items() if patterns}


def _refuses_beside(other: Rule, rule: Rule) -> bool:
    return not other.allows and other.permission != rule.permission and _overlap(other.permission, rule.permission)


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
