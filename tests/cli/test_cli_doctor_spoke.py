"""What `doctor --spoke` finds on a machine of sessions, each with that fault; e2e/test_spoke_doctor.py has the server's."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_fixtures import Call, UserRepository, task_text

from flows.cli.commands.doctor_check import Check
from flows.cli.commands.doctor_spoke import list_spoke_checks
from flows.cli.commands.doctor_spoke_machine import judge_disk
from flows.spokes.registry import SpokeRepository, add_repository
from tasks_lib.errors import InputError
from tasks_lib.git.runner import Git

SETTINGS: Mapping[str, Any] = {"agent": {"command": ["sh", "agent.sh"]}, "spokes": {"remote": "origin"}}
Register = Callable[..., SpokeRepository]


@pytest.fixture
def remote(tmp_path: Path) -> Git:
    place = tmp_path / "shop.git"
    place.mkdir()
    git = Git(place)
    git.run("init", "--quiet", "--bare", "--initial-branch=main")
    return git


@pytest.fixture
def register(bare_repo: UserRepository, remote: Git) -> Register:
    """Commits a configuration, pushes it, and registers the remote on this machine."""

    def commit(text: str = "", **settings: Any) -> SpokeRepository:
        files = {"coordinator.yaml": text or yaml.safe_dump({**SETTINGS, **settings})}
        bare_repo.commit({**files, **bare_repo.tasks(task_text("one"))})
        bare_repo.git.run("push", "--quiet", str(remote.directory), "main")
        return add_repository(str(remote.directory))

    return commit


def find(about: str, pool: str = "") -> list[Check]:
    return [check for check in list_spoke_checks("north", pool) if check.about == about]


def list_faults(pool: str = "") -> dict[str, str]:
    """The text of each check that is not ok, by its level and what it is about; the server is another test's."""
    checks = [check for check in list_spoke_checks("north", pool) if check.about != "server"]
    return {f"{check.level} {check.about}": check.text for check in checks if check.level != "ok"}


def add_hook(remote: Git, name: str, lines: str) -> None:
    hook = remote.directory / "hooks" / name
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\n{lines}\n")
    hook.chmod(0o755)


def test_a_machine_in_order_has_one_fault_without_a_server_and_leaves_nothing(
    register: Register, remote: Git, call: Call, tmp_path: Path
) -> None:
    register()
    before = remote.text("for-each-ref")
    done = call("doctor", "--spoke", "--json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "")
    found = json.loads(done.stdout)
    failed = {one["about"]: one["text"] for one in found["checks"] if one["level"] != "ok"}
    assert list(failed) == ["server"]
    assert "set PREFECT_API_URL" in failed["server"]
    abouts = {one["about"] for one in found["checks"]}
    assert abouts > {"git", "coordinator", "disk", "memory", "shop fetch", "shop push", "shop agent"}
    assert remote.text("for-each-ref") == before


def test_what_is_needed_is_printed_line_by_line_with_a_summary(register: Register, call: Call, tmp_path: Path) -> None:
    register()
    done = call("doctor", "--spoke", cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "1 check failed. Fix that before you start a spoke."


def test_a_machine_without_repositories_is_told_to_register_one() -> None:
    [found] = find("repositories")
    assert (found.level, "spoke add URL" in found.text) == ("fail", True)


def test_a_copy_that_was_deleted_can_be_made_again(register: Register) -> None:
    one = register()
    one.place.rename(one.place.with_name("moved"))
    [found] = find("shop copy")
    assert (found.level, f"spoke add {one.url}" in found.text) == ("fail", True)


def test_a_remote_that_does_not_answer_is_named(register: Register, remote: Git) -> None:
    one = register()
    remote.directory.rename(remote.directory.with_name("moved"))
    [found] = find("shop fetch")
    assert found.level == "fail"
    assert one.url in found.text
    assert f"git -C {one.place} fetch" in found.text


def test_a_registered_branch_that_the_remote_lost_is_named(register: Register, remote: Git) -> None:
    register()
    remote.run("branch", "--move", "main", "trunk")
    [found] = find("shop fetch")
    assert (found.level, "has no branch main" in found.text) == ("fail", True)


def test_a_remote_that_refuses_pushes_is_quoted(register: Register, remote: Git) -> None:
    register()
    add_hook(remote, "pre-receive", "echo 'only branches may be pushed' >&2; exit 1")
    [found] = find("shop push")
    assert found.level == "fail"
    assert "only branches may be pushed" in found.text
    assert remote.text("for-each-ref", "refs/coordinator") == ""


def test_a_remote_that_keeps_every_ref_is_found_out(register: Register, remote: Git) -> None:
    register()
    add_hook(remote, "update", "case $3 in *[1-9a-f]*) exit 0;; esac; exit 1")
    [found] = find("shop push")
    [left] = remote.text("for-each-ref", "--format=%(refname)", "refs/coordinator").splitlines()
    assert found.level == "fail"
    assert left in found.text, "what could not be deleted is named"
    assert "permit deleting refs" in found.text


def test_a_configuration_with_errors_is_reported_with_its_line(register: Register) -> None:
    register("max_sessions: 0\n")
    [found] = find("shop configuration")
    assert found.level == "fail"
    assert found.text.startswith("coordinator.yaml:1: ")


def test_what_keeps_runs_from_sending_sessions_here_is_said(register: Register) -> None:
    register(spokes={"work_pool": "fast", "repository": "store"}, target="trunk")
    found = find("shop configuration")
    assert [check.level for check in found] == ["warn", "fail", "fail", "fail"]
    words = ("names no spokes.remote", "--pool fast", "--name store", "--target trunk")
    assert [word in check.text for check, word in zip(found, words, strict=True)] == [True] * 4
    assert [check.level for check in find("shop configuration", "fast")] == ["warn", "fail", "fail"]


def test_an_agent_that_is_missing_here_is_named(register: Register) -> None:
    register(agent={"command": ["no-such-agent"]})
    faults = list_faults()
    assert list(faults) == ["fail shop agent"]
    assert "`no-such-agent` is not on PATH" in faults["fail shop agent"]


def test_the_version_of_a_known_agent_is_said(
    register: Register, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "claude"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\n[ "$*" = --version ] && echo "2.1.0 (Claude Code)"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    register(agent={"command": ["claude", "-p"]})
    [found] = find("shop agent")
    assert (found.level, found.text.endswith("its version: 2.1.0 (Claude Code)")) == ("ok", True)


def test_keys_that_are_not_set_here_are_named(register: Register, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERE", "1")
    register(env={"agent": ["SHOP_KEY", "HERE", "SHOP_*"], "setup": ["MIRROR"]})
    found = find("shop variables")
    assert [check.level for check in found] == ["warn", "warn"]
    assert "env.agent lists SHOP_KEY, which" in found[0].text
    assert "env.setup lists MIRROR, which" in found[1].text


def test_files_to_copy_that_are_not_here_are_named(register: Register) -> None:
    one = register(copy=[".env", "keys"])
    one.files.mkdir(parents=True)
    (one.files / "keys").mkdir()
    [found] = find("shop files")
    assert found.level == "warn"
    assert f"`copy` lists .env, which {one.files} does not contain" in found.text


def test_large_files_are_said_not_to_travel(register: Register, bare_repo: UserRepository) -> None:
    bare_repo.write({".gitattributes": "*.bin filter=lfs\n"})
    register()
    [found] = find("shop large files")
    assert found.level == ("warn" if shutil.which("git-lfs") else "fail")
    assert "runs_on: local" in found.text


def test_memory_that_is_too_small_for_all_sessions_is_said(register: Register) -> None:
    register(spokes={"remote": "origin", "sessions_each": 256})
    [found] = find("memory")
    assert (found.level, "for 256 agents" in found.text) == ("warn", True)


def test_a_disk_that_is_too_small_for_all_worktrees_is_said(register: Register) -> None:
    register()
    [found] = find("disk")
    assert (found.level, "for the worktrees of 4 sessions" in found.text) == ("ok", True)
    assert judge_disk(99, 100, 4).level == "fail"


def test_what_a_killed_worker_left_is_said(register: Register) -> None:
    one = register()
    assert [check.level for check in find("leftovers")] == ["ok"]
    half = one.place.with_name("half.git")
    half.mkdir()
    [found] = find("leftovers")
    assert (found.level, str(half) in found.text, "spoke cleanup" in found.text) == ("warn", True, True)


def test_options_that_do_not_go_together_are_refused(call: Call, tmp_path: Path) -> None:
    done = call("doctor", "--spoke", "--audit", cwd=tmp_path)
    assert (done.returncode, "`--spoke` and `--audit`" in done.stderr) == (2, True)
    done = call("doctor", "--name", "north", cwd=tmp_path)
    assert (done.returncode, "only work with `--spoke`" in done.stderr) == (2, True)
    with pytest.raises(InputError, match="cannot be the name of a spoke"):
        list(list_spoke_checks("a b", ""))
