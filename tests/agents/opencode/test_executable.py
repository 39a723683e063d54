"""Which opencode can be used: it exists, starts, and has a tested version."""

import os
from pathlib import Path

import pytest
from opencode_scripts import find_opencode

from tasks_lib.agents.opencode.servers.executable import INSTALL, TESTED, check_program, check_version, find_program

pytestmark = pytest.mark.xdist_group("opencode")
PATH = os.environ["PATH"]


def write_program(directory: Path, lines: str) -> str:
    program = directory / "opencode"
    program.write_text(f"#!/bin/sh\n{lines}\n")
    program.chmod(0o755)
    return str(program)


def test_the_real_one_can_be_used_and_leaves_no_trace(tmp_path: Path) -> None:
    own_path = f"{PATH}:{tmp_path}"  # It is a PATH that no other test has asked with.

    assert check_program([str(find_opencode())], own_path, {"HOME": str(tmp_path)}) is None
    assert list(tmp_path.iterdir()) == []


def test_one_that_is_not_there_is_named_with_the_fix(tmp_path: Path) -> None:
    fault = check_program([], str(tmp_path)) or ""
    assert fault.startswith(f"`opencode` is not on PATH ({tmp_path})")
    assert INSTALL in fault
    assert "is not an executable file" in (check_program([str(tmp_path / "no")], PATH) or "")


def test_another_version_is_named_with_the_fix(tmp_path: Path) -> None:
    fault = check_program([write_program(tmp_path, "echo 1.3.0")], PATH) or ""
    assert "1.3.0" in fault
    assert INSTALL in fault


def test_one_is_asked_again_only_when_its_file_has_changed(tmp_path: Path) -> None:
    count = tmp_path / "count"
    program = write_program(tmp_path, f"echo >> {count}; echo {TESTED}")
    assert check_program([program], PATH) is None
    assert check_program([program], PATH, {"HOME": str(tmp_path)}) is None
    assert count.read_text() == "\n"

    write_program(tmp_path, "echo 1.3.0")

    assert "1.3.0" in (check_program([program], PATH) or "")


def test_one_that_broke_is_asked_again(tmp_path: Path) -> None:
    program = write_program(tmp_path, f"[ -e {tmp_path}/cure ] && echo {TESTED}")
    assert "exited with 1" in (check_program([program], PATH) or "")

    (tmp_path / "cure").touch()

    assert check_program([program], PATH) is None


def test_one_that_breaks_tells_how(tmp_path: Path) -> None:
    fault = check_program([write_program(tmp_path, "echo no glibc >&2; exit 3")], PATH) or ""
    assert "exited with 3: no glibc" in fault


@pytest.mark.parametrize("version", [TESTED, "1.18.99", "v1.18.40"])
def test_versions_like_the_one_that_was_tried_are_taken(version: str) -> None:
    assert check_version(version, "it") is None


@pytest.mark.parametrize("version", ["1.18.32", "1.17.99", "1.19.0", "2.0.1", "0.0.0", "hello"])
def test_other_versions_are_not(version: str) -> None:
    assert INSTALL in (check_version(version, "it") or "")


def test_a_program_is_found_once_for_all(tmp_path: Path) -> None:
    program = write_program(tmp_path, "")
    assert find_program([], str(tmp_path)) == (program,)
    assert find_program(["opencode", "--x"], str(tmp_path)) == (program, "--x")


def test_one_behind_a_shim_is_found_where_the_shim_looks(tmp_path: Path) -> None:
    real = tmp_path / ".local/share/mise/installs/opencode"
    real.mkdir(parents=True)
    write_program(real, f"echo {TESTED}")
    shim = write_program(tmp_path, 'exec "${XDG_DATA_HOME:-$HOME/.local/share}/mise/installs/opencode/opencode" "$@"')
    assert check_program([shim], PATH, {"HOME": str(tmp_path)}) is None
