"""Roles: shipped ones, a repository's that override them, and faults by file and line."""

from collections.abc import Mapping

import pytest

from tasks_lib.agents.backend import Need
from tasks_lib.agents.opencode.config.permissions import Rule
from tasks_lib.agents.opencode.config.roles import Role, check_role_requirements, load_shipped, read_roles
from tasks_lib.errors import InputError
from tasks_lib.settings.schema import DEFAULT_ROLE, ROLES

PLACE = ".opencode/agents/"


def read(text: str, name: str = "helper") -> Role:
    return read_roles({f"{PLACE}{name}.md": text})[name]


def faults_of(texts: Mapping[str, str]) -> list[str]:
    with pytest.raises(InputError) as caught:
        read_roles(texts)
    return [str(fault) for fault in caught.value.faults]


def test_every_role_that_a_level_has_comes_along() -> None:
    assert {DEFAULT_ROLE, "resolver", *ROLES.values()} <= load_shipped().keys()


@pytest.mark.parametrize("name", sorted(load_shipped()))
def test_each_shipped_role_says_how_to_finish_and_how_to_stop(name: str) -> None:
    role = load_shipped()[name]
    assert role.options["description"]
    assert role.where == ""
    if name == "code-reviewer":
        assert "Verdict: changes requested" in role.text.splitlines()[-1]
    elif name != "report-writer":  # Its one answer is all that is wanted of it.
        assert "# When it is done" in role.text
        assert "# Safe Exit" in role.text
        assert 'coordinator notify --level blocking "…"' in role.text


def test_the_reviewer_edits_nothing_and_who_writes_reports_runs_nothing_either() -> None:
    assert load_shipped()["code-reviewer"].permission == (Rule("edit", "*", "deny"),)
    assert load_shipped()["report-writer"].permission == (Rule("edit", "*", "deny"), Rule("bash", "*", "deny"))


def test_a_role_is_its_front_matter_and_the_text_below() -> None:
    role = read(
        "---\ndescription: helps\nmode: subagent\nmodel: some/model-1\ntemperature: 0.2\nmaxSteps: 9\n"
        "color: '#fff'\nreasoningEffort: high\n---\n\nYou help.\n\n---\nreally\n"
    )
    assert role.text == "You help.\n\n---\nreally"
    assert role.options == {
        "description": "helps",
        "mode": "subagent",
        "model": "some/model-1",
        "temperature": 0.2,
        "steps": 9,
        "reasoningEffort": "high",
    }
    assert role.model == "some/model-1"


def test_a_file_without_front_matter_is_an_instruction() -> None:
    assert read("Just do it.\n").text == "Just do it."


def test_nested_files_make_nested_names_and_other_files_none() -> None:
    texts = {".opencode/agent/a/b.md": "x", ".opencode/agents/c.md": "y", ".opencode/command/d.md": "z", "e.md": ""}
    assert sorted(read_roles(texts)) == ["a/b", "c"]


def test_permissions_are_kept_in_their_order() -> None:
    role = read("---\npermission:\n  bash:\n    '*': deny\n    'git *': allow\n  edit: ask\n---\n")
    assert role.permission == (Rule("bash", "*", "deny"), Rule("bash", "git *", "allow"), Rule("edit", "*", "ask"))


def test_one_word_of_permission_is_about_everything() -> None:
    assert read("---\npermission: deny\n---\n").permission == (Rule("*", "*", "deny"),)


def test_old_tools_refuse_and_never_allow() -> None:
    role = read("---\npermission: {webfetch: deny}\ntools: {write: false, bash: true, 'mcp_*': false}\n---\n")
    assert role.permission == (Rule("edit", "*", "deny"), Rule("mcp_*", "*", "deny"), Rule("webfetch", "*", "deny"))


def test_every_fault_of_every_file_is_named_with_its_line() -> None:
    found = faults_of(
        {
            f"{PLACE}a.md": "---\nmode: boss\npermission:\n  bash: maybe\n  edit:\n    '12': deny\n---\n",
            f"{PLACE}b.md": "---\nmodel: gpt\ntemperature: hot\nsteps: 0\ntools: all\n---\n",
            f"{PLACE}c.md": "---\ndescription: never closed\n",
            f"{PLACE}d e.md": "",
            ".opencode/agent/f.md": "",
            f"{PLACE}f.md": "",
        }
    )
    assert [fault.split(": ")[0] for fault in found] == [
        f".opencode/agents/{name}"
        for name in ("a.md:2", "a.md:4", "a.md:6", "b.md:2", "b.md:3", "b.md:4", "b.md:5", "c.md:1", "d e.md", "f.md")
    ]
    assert "write primary, subagent or all" in found[0]
    assert "write allow, ask or deny" in found[1]


def test_yaml_that_cannot_be_read_is_named_with_its_line() -> None:
    assert faults_of({f"{PLACE}a.md": "---\ndescription: a: b\n---\n"})[0].startswith(f"{PLACE}a.md:2: ")


def test_a_missing_role_is_named_with_those_there_are() -> None:
    need = Need("code-reviwer", where="coordinator.yaml: roles")
    (fault,) = check_role_requirements([need, need], ["code-reviewer", "resolver"])
    assert fault.startswith("coordinator.yaml: roles: the role code-reviwer is not available")
    assert 'Did you mean "code-reviewer"?' in fault
    assert "Available roles: code-reviewer, resolver" in fault


def test_a_role_that_a_file_disables_is_said_to_be() -> None:
    role = read("---\ndisable: true\n---\n", "resolver")
    (fault,) = check_role_requirements([Need("resolver")], ["build"], {"resolver": role})
    assert f"{PLACE}resolver.md disables it" in fault


def test_roles_that_are_there_are_no_fault() -> None:
    assert check_role_requirements([Need("build")], ["build"]) == []
