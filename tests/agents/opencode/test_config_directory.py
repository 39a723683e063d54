"""The directory from which opencode takes its configuration: pure content, and how it is written."""

import json
import stat
from pathlib import Path
from typing import Any

from tasks_lib.agents.opencode.config.config_directory import (
    NOTHING,
    PLAN,
    check_permission,
    list_kept,
    make_configuration,
    write_configuration,
)
from tasks_lib.agents.opencode.config.roles import load_shipped, read_roles
from tasks_lib.agents.opencode.config.user_config import SEEN, UserConfig, find_sources, read_user_config
from tasks_lib.settings.schema import Settings


def configure(user_config: UserConfig | None = NOTHING, **agent: Any) -> dict[str, str]:
    settings = Settings.model_validate({"agent": {"backend": "opencode", **agent}})
    roles = {**load_shipped(), **read_roles({".opencode/agents/a/b.md": "---\npermission: allow\n---\nNested."})}
    return make_configuration(
        settings, roles, shells="/private/shells", keep=["PATH"], scratch=["/tmp/opencode/*"], user_config=user_config
    )


def main_of(files: dict[str, str]) -> dict[str, Any]:
    return json.loads(files["opencode.json"])


def test_nothing_is_shared_updated_or_recorded() -> None:
    found = main_of(configure())
    assert found["share"] == "disabled"
    assert [found[name] for name in ("autoupdate", "snapshot", "lsp", "formatter")] == [False] * 4
    assert "model" not in found


def test_one_model_is_for_all_that_name_none() -> None:
    found = main_of(configure(model="a/b", config={"small_model": "a/c"}))
    assert (found["model"], found["small_model"]) == ("a/b", "a/c")
    assert main_of(configure(model="a/b"))["small_model"] == "a/b"


def test_further_configuration_is_taken_over() -> None:
    found = main_of(configure(config={"provider": {"x": {"options": {"apiKey": "{env:X}"}}}, "lsp": {"y": {}}}))
    assert found["provider"]["x"]["options"]["apiKey"] == "{env:X}"
    assert "lsp" not in found


def test_what_could_undo_a_refusal_is_laid_beside_a_persons_own_word() -> None:
    provider: dict[str, Any] = {"x": {"options": {"apiKey": "{env:X}"}, "whitelist": ["a"]}, "y": {"name": "Y"}}
    config: dict[str, Any] = {
        "lsp": {"y": {}},
        "disabled_providers": ["z"],
        "provider": provider,
        "mcp": {"m": {"enabled": True}},
    }
    files = configure(config=config)
    assert main_of(files)["provider"] == {"x": {"options": {"apiKey": "{env:X}"}}, "y": {"name": "Y"}}
    assert main_of(files)["mcp"] == {}
    beside = json.loads(files[PLAN])["beside"]
    assert beside["provider"] == {"x": {"whitelist": ["a"]}}
    assert beside["mcp"] == {"m": {"enabled": True}}
    assert (beside["lsp"], beside["disabled_providers"]) == ({"y": {}}, ["z"])


def test_roles_are_files_whose_permissions_are_narrowed() -> None:
    files = configure()
    _, front, text = files["agent/a/b.md"].split("---\n", 2)
    assert text == "Nested.\n"
    permission = json.loads(files[PLAN])["agents"]["a/b"]
    assert permission["*"] == "allow"
    assert next(iter(permission)) == "*"
    assert permission["external_directory"] == {"*": "deny", "/tmp/opencode/*": "allow"}
    # Without the part that puts the plan over them, the files allow nothing.
    assert json.loads(front)["permission"] == main_of(files)["permission"] == {"**": "deny"}


def test_before_a_persons_own_configuration_is_known_nothing_is_allowed() -> None:
    plan = json.loads(configure(user_config=None)[PLAN])
    assert plan["seen"] == SEEN
    assert not {"permission", "agents"} & plan.keys()


def test_agents_of_a_persons_own_are_bound_by_the_policy_too() -> None:
    user_config = read_user_config(
        {"permission": {"bash": {"touch *": "deny"}}, "agents": {"scout": {"permission": {"bash": "allow"}}}}
    )
    plan = json.loads(configure(permission={"bash": {"rm *": "deny"}}, user_config=user_config)[PLAN])
    assert plan["agents"]["scout"]["bash"] == {"*": "allow", "rm *": "deny"}
    assert plan["permission"]["bash"] == {"touch *": "deny", "rm *": "deny"}
    assert plan["agents"]["a/b"]["bash"] == {"*": "allow", "touch *": "deny", "rm *": "deny"}


def test_what_is_installed_by_itself_is_there_already() -> None:
    assert "@opencode-ai/plugin" in json.loads(configure()["package-lock.json"])["packages"][""]["dependencies"]


def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    directory = tmp_path / "configuration"
    write_configuration(directory, configure())
    write_configuration(directory, configure())
    for path in [directory, *directory.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert (directory / "node_modules").is_dir()
    assert (directory / "agent" / "a" / "b.md").is_file()


def test_patterns_whose_order_would_be_lost_are_faults() -> None:
    (fault,) = check_permission({"bash": {"1": "deny"}, "edit": "deny"})
    assert fault.startswith("coordinator.yaml: agent.permission.bash has the pattern")


def test_a_shell_that_nobody_has_spoken_for_keeps_neither_keys_nor_places() -> None:
    kept = list_kept(["PATH", "HOME", "MY_KEY", "XDG_DATA_HOME", "OPENCODE_MODELS_URL"], ["MY_KEY"])
    assert kept == ["COORDINATOR_REPOSITORY", "COORDINATOR_SERVER", "HOME", "PATH"]


def test_directory_of_theirs_gives_way_and_its_main_file_counts(tmp_path: Path) -> None:
    (tmp_path / "opencode.json").write_text("{}")
    place = {"OPENCODE_CONFIG_DIR": "."}
    assert find_sources(place, tmp_path) == {"OPENCODE_CONFIG": str(tmp_path / "opencode.json")}
    assert find_sources({"OPENCODE_CONFIG": "a.json", **place}, tmp_path) == {
        "OPENCODE_CONFIG": str(tmp_path / "a.json")
    }
    assert find_sources({"OPENCODE_CONFIG_DIR": "/nowhere", "OPENCODE_PERMISSION": "{}"}, tmp_path) == {
        "OPENCODE_PERMISSION": "{}"
    }


def test_refusal_whose_place_javascript_would_change_is_widened() -> None:
    user_config = read_user_config({"permission": {"bash": {"*": "allow", "7": "deny", "8": "allow"}, "9": "deny"}})
    assert [tuple(rule) for rule in user_config.permission] == [
        ("bash", "*", "allow"),
        ("bash", "7*", "deny"),
        ("9*", "*", "deny"),
    ]


def test_what_is_of_another_shape_says_nothing() -> None:
    assert (
        read_user_config({"permission": None, "agents": {"a": None, "b": {"permission": {"bash": None}}}}).agents == {}
    )
