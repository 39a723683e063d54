"""The directory from which opencode takes its configuration: pure content, and how it is written."""

import json
import stat
from pathlib import Path
from typing import Any

from tasks_lib.agents.opencode.configuration import (
    PLAN,
    check_permission,
    list_kept,
    make_configuration,
    write_configuration,
)
from tasks_lib.agents.opencode.roles import load_shipped, read_roles
from tasks_lib.settings import Settings


def configure(**agent: Any) -> dict[str, str]:
    settings = Settings.model_validate({"agent": {"backend": "opencode", **agent}})
    roles = {**load_shipped(), **read_roles({".opencode/agents/a/b.md": "---\npermission: allow\n---\nNested."})}
    return make_configuration(settings, roles, shells="/private/shells", keep=["PATH"], scratch=["/tmp/opencode/*"])


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
    assert found["lsp"] == {"y": {}}


def test_roles_are_files_whose_permissions_are_narrowed() -> None:
    files = configure()
    _, front, text = files["agent/a/b.md"].split("---\n", 2)
    permission = json.loads(front)["permission"]
    assert text == "Nested.\n"
    assert permission["*"] == "allow"
    assert list(permission)[-1] != "*"
    assert permission["external_directory"] == {"*": "deny", "/tmp/opencode/*": "allow"}
    assert json.loads(files[PLAN])["agents"]["a/b"] == permission


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
