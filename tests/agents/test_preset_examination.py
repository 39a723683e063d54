"""What is said before a run about a known program that is missing, of another version, or not logged in."""

import os
from pathlib import Path

import pytest
from agent_programs_installed import find_agent_program

from tasks_lib.agents.presets.examination import examine, find_option_fault, find_version_fault
from tasks_lib.agents.presets.known import PRESETS

BOTH = sorted(PRESETS)


def isolate(place: Path, *programs: Path) -> dict[str, str]:
    """An environment with an empty home, in which only these programs, and what they need, are found."""
    search_path = ":".join([*(str(one.parent) for one in programs), os.environ["PATH"] if programs else str(place)])
    return {"PATH": search_path, "HOME": str(place)}


@pytest.mark.parametrize("name", BOTH)
def test_a_program_that_is_missing_is_told_with_how_to_install_it(name: str, tmp_path: Path) -> None:
    preset = PRESETS[name]
    fault = examine(preset, isolate(tmp_path))
    assert fault.startswith(f"`{name}` is not on PATH")
    assert f"npm install -g {preset.package}@{preset.tried}" in fault
    assert examine(preset, isolate(tmp_path), may_be_missing=True) == ""


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("key", ["key", ""])
def test_a_program_needs_a_login_or_a_key(name: str, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preset = PRESETS[name]
    environment = isolate(tmp_path, find_agent_program(name))
    for one in preset.keys:
        monkeypatch.delenv(one, raising=False)
    if key:
        assert examine(preset, {**environment, preset.keys[0]: key}) == ""
        monkeypatch.setenv(preset.keys[0], key)
        assert examine(preset, environment).endswith(f"{preset.keys[0]} is set but not passed on: list it in env.agent")
    else:
        assert examine(preset, environment).startswith(f"{preset.title} is not logged in and has no key: run `{name} ")


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ("2.1.332 (Claude Code)", ""),
        ("2.9.0 (Claude Code)", ""),
        (
            "1.0.88 (Claude Code)",
            "Claude Code 1.0.88 is too old: this preset takes 2.1.0 up to, but not including, 3.0.0",
        ),
        ("3.0.0 (Claude Code)", "Claude Code 3.0.0 is a newer major version: this preset takes"),
        ("Usage: other", "`claude --version` prints no version (Usage: other)"),
    ],
)
def test_versions_outside_of_the_range_are_refused(said: str, fault: str) -> None:
    found = find_version_fault(PRESETS["claude"], said)
    assert found.startswith(fault)
    assert bool(found) is bool(fault)


@pytest.mark.parametrize("name", BOTH)
def test_an_option_that_the_program_no_longer_has_is_named_before_a_run(name: str, tmp_path: Path) -> None:
    preset = PRESETS[name]
    program = tmp_path / name
    version = find_agent_program(name)
    program.write_text(f'#!/bin/sh\n[ "$1" = --version ] || exec echo "  --model <MODEL>"\nexec {version} "$@"\n')
    program.chmod(0o755)
    fault = examine(preset, {**isolate(tmp_path, program), preset.keys[0]: "key"})
    assert "which this preset needs" in fault
    assert "--model" not in fault.split(", which")[0]
    assert ("--setting-sources" if name == "claude" else "--json") in fault
    assert find_option_fault(preset, "9", "prints no help") == ""


def test_a_provider_of_ones_own_needs_no_login(tmp_path: Path) -> None:
    environment = isolate(tmp_path, find_agent_program("codex"))
    (tmp_path / ".codex").mkdir()
    (tmp_path / ".codex" / "config.toml").write_text('model_provider = "local"\n')
    assert examine(PRESETS["codex"], environment) == ""
