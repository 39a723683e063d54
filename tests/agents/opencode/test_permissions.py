"""What tools may do: a policy, and roles that can narrow it but never widen it."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from permission_rules import decide, find_last
from permission_rules import matches as matches_there

from tasks_lib.agents.opencode.config.permissions import (
    DEFAULT_POLICY,
    Rule,
    Rules,
    find_pattern_fault,
    flatten,
    make_policy,
    matches,
    narrow,
    to_section,
)
from tasks_lib.agents.opencode.config.user_config import UserConfig, combine_agent, combine_general

PERMISSIONS = ("bash", "edit", "read", "external_directory", "webfetch", "*", "ba*", "e?it", "external_*")
PATTERNS = ("*", "git *", "git push*", "*.env", "docs/*", "/tmp/*", "?", "rm *", "*push")
SUBJECTS = ("git push --force", "git", "rm -r x", "a.env", "docs/a.env", "docs/a", "/tmp/x", "x", "", "no push")
NAMED = ("bash", "edit", "read", "external_directory", "webfetch", "task", "doom_loop")

rule = st.builds(
    Rule, st.sampled_from(PERMISSIONS), st.sampled_from(PATTERNS), st.sampled_from(("allow", "ask", "deny"))
)
rules = st.lists(rule, max_size=8).map(tuple)
section = st.dictionaries(
    st.sampled_from(PERMISSIONS),
    st.one_of(
        st.sampled_from(("allow", "ask", "deny")),
        st.dictionaries(st.sampled_from(PATTERNS), st.sampled_from(("allow", "ask", "deny")), min_size=1, max_size=4),
    ),
    max_size=5,
)


def refused_by(found: Rules, permission: str, subject: str) -> bool:
    last = find_last(found, permission, subject)
    return last is not None and not last.allows


def as_opencode_reads(policy: Rules, role: Rules) -> Rules:
    """Return the global section followed by the role's, as they are written to files and merged."""
    return (*flatten(to_section(policy)), *flatten(to_section(narrow(policy, role))))


@settings(max_examples=600, deadline=None)
@given(section, section)
def test_nothing_that_the_policy_or_the_role_refuses_becomes_allowed(wanted: Any, asked: Any) -> None:
    policy, role = make_policy(wanted), flatten(asked)
    both = as_opencode_reads(policy, role)
    for permission in NAMED:
        for subject in SUBJECTS:
            if refused_by(policy, permission, subject) or refused_by(role, permission, subject):
                assert decide(both, permission, subject) != "allow", (permission, subject, to_section(both))


@settings(max_examples=400, deadline=None)
@given(rules)
def test_a_section_never_allows_what_its_rules_refuse(found: Rules) -> None:
    section = flatten(to_section(found))
    for permission in NAMED:
        for subject in SUBJECTS:
            if refused_by(found, permission, subject):
                assert decide(section, permission, subject) != "allow"


@settings(deadline=None)
@given(section)
def test_a_role_that_says_nothing_gets_what_the_policy_says(wanted: Any) -> None:
    policy = make_policy(wanted)
    for permission in NAMED:
        for subject in SUBJECTS:
            assert decide(as_opencode_reads(policy, ()), permission, subject) == decide(policy, permission, subject)


@given(section)
def test_a_section_read_again_is_the_same(wanted: Any) -> None:
    once = to_section(flatten(wanted))
    assert to_section(flatten(once)) == once


def test_what_opencode_would_ask_about_is_refused() -> None:
    for permission, subject in (("external_directory", "/etc/x"), ("doom_loop", "bash"), ("question", "*")):
        assert decide(DEFAULT_POLICY, permission, subject) == "deny"
    assert decide(DEFAULT_POLICY, "read", "/w/.env") == "deny"
    assert decide(DEFAULT_POLICY, "read", "/w/.env.local") == "deny"
    assert decide(DEFAULT_POLICY, "read", "/w/.env.example") == "allow"
    assert decide(DEFAULT_POLICY, "bash", "make test") == "allow"


def test_the_configuration_can_allow_more_than_the_defaults() -> None:
    policy = make_policy({"read": "allow", "external_directory": {"/opt/data/*": "allow"}})
    assert decide(policy, "read", "/w/.env") == "allow"
    assert decide(policy, "external_directory", "/opt/data/x") == "allow"
    assert decide(policy, "external_directory", "/opt/other") == "deny"


def test_allowing_everything_does_not_undo_what_is_refused_by_name() -> None:
    policy = make_policy({"*": "allow"})
    assert "*" not in to_section(policy)
    assert decide(policy, "external_directory", "/etc/x") == "deny"


def test_refusing_everything_leaves_what_is_allowed_by_name() -> None:
    policy = make_policy({"*": "deny", "bash": {"*": "deny", "git *": "allow"}, "read": "allow"})
    assert decide(policy, "bash", "git log") == "allow"
    assert decide(policy, "bash", "make") == "deny"
    assert decide(policy, "webfetch", "https://example.org") == "deny"


def test_places_for_anybody_are_open_and_nothing_beside_them() -> None:
    policy = make_policy({}, ["/tmp/opencode/*"])
    assert decide(policy, "external_directory", "/tmp/opencode/x") == "allow"
    assert decide(policy, "external_directory", "/tmp/x") == "deny"


def test_a_role_of_a_repository_cannot_open_what_the_policy_closes() -> None:
    role = flatten({"external_directory": "allow", "*": "allow", "question": "allow", "read": {"*.env": "allow"}})
    both = as_opencode_reads(make_policy({}), role)
    assert decide(both, "external_directory", "/etc/x") == "deny"
    assert decide(both, "question", "*") == "deny"
    assert decide(both, "read", "/w/.env") == "deny"


def test_a_role_keeps_its_own_exceptions_where_the_policy_has_no_objection() -> None:
    role = flatten({"bash": {"*": "deny", "git *": "allow"}, "edit": "deny"})
    both = as_opencode_reads(make_policy({"bash": {"git push*": "deny"}}), role)
    assert decide(both, "bash", "git log") == "allow"
    assert decide(both, "bash", "git push --force") == "deny"
    assert decide(both, "bash", "make") == "deny"
    assert decide(both, "edit", "a.py") == "deny"


def test_a_role_that_refuses_some_keeps_what_the_policy_allows_of_the_rest() -> None:
    policy = make_policy({"bash": {"*": "deny", "git *": "allow"}})
    both = as_opencode_reads(policy, flatten({"bash": {"git push*": "deny"}}))
    assert decide(both, "bash", "git log") == "allow"
    assert decide(both, "bash", "git push") == "deny"


def test_allowing_by_name_holds_where_both_refuse_the_rest() -> None:
    """The usual form of an allow-list, on both sides; one of them is a user's own configuration."""
    policy = make_policy({"*": "deny", "bash": {"*": "deny", "git *": "allow", "ls *": "allow"}, "edit": "allow"})
    role = flatten({"*": "ask", "bash": {"*": "ask", "git *": "allow", "make": "allow"}, "edit": "allow"})
    both = as_opencode_reads(policy, role)
    said = {"git log": "allow", "ls -l": "ask", "make": "deny", "rm x": "ask"}
    for line, action in said.items():
        assert (decide(both, "bash", line) == "allow") == (action == "allow"), line
    assert decide(both, "edit", "a.py") == "allow"
    assert decide(both, "webfetch", "https://example.org") != "allow"
    assert decide(both, "some_tool", "*") != "allow"


@settings(max_examples=300, deadline=None)
@given(section, section, section)
def test_nothing_that_one_of_three_refuses_becomes_allowed(wanted: Any, asked: Any, own: Any) -> None:
    policy, role, theirs = make_policy(wanted), flatten(asked), flatten(own)
    general = flatten(to_section(combine_general(policy, UserConfig(theirs))))
    both = (*general, *flatten(to_section(combine_agent(policy, role, theirs))))
    for permission in NAMED:
        for subject in SUBJECTS:
            if refused_by(policy, permission, subject) or refused_by(theirs, permission, subject):
                assert decide(general, permission, subject) != "allow", (permission, subject)
            if any(refused_by(side, permission, subject) for side in (policy, role, theirs)):
                assert decide(both, permission, subject) != "allow", (permission, subject)


@given(st.sampled_from((*PATTERNS, *PERMISSIONS)), st.sampled_from((*SUBJECTS, *NAMED)))
def test_a_pattern_means_what_it_means_to_opencode(pattern: str, text: str) -> None:
    assert matches(pattern, text) == matches_there(text, pattern)


def test_what_the_policy_asks_about_no_role_can_allow() -> None:
    both = as_opencode_reads(make_policy({"webfetch": "ask"}), flatten({"webfetch": "allow"}))
    assert decide(both, "webfetch", "https://example.org") == "ask"


def test_a_pattern_whose_place_javascript_would_change_is_refused() -> None:
    assert "whose position would be lost" in (find_pattern_fault("bash", "123") or "")
    assert find_pattern_fault("bash", "")
    assert find_pattern_fault("bash", "git *") is None


def test_patterns_that_opencode_takes_no_configuration_with_are_refused() -> None:
    assert "does not accept patterns" in (find_pattern_fault("webfetch", "https://example.org/*") or "")
    assert find_pattern_fault("webfetch", "*") is None
