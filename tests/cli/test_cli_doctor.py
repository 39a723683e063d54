"""What `doctor` finds, each on a repository with that problem."""

import shutil
import socket
from pathlib import Path

import pytest
from cli_fixtures import SETTINGS, Call, UserRepository, task_text

from flows.cli.commands.doctor import list_checks
from flows.cli.commands.doctor_check import Check
from flows.cli.commands.doctor_machine import check_data_dir
from flows.cli.commands.doctor_programs import check_programs, check_tool_servers, check_verify
from flows.cli.commands.doctor_repository import (
    check_attributes,
    check_branches,
    check_case,
    check_disk,
    check_identity,
    check_ignored,
    check_shallow,
    check_signing,
    check_spokes,
)
from flows.cli.commands.program_words import find_program_word
from flows.data_directory import data_dir
from tasks_lib.agents.opencode.servers.model_catalog import ToolServer
from tasks_lib.errors import InputError
from tasks_lib.git.repository_lock import RunLock
from tasks_lib.project.loading import Project, load_project
from tasks_lib.runtime.backend_factory import ExaminedBackend


@pytest.fixture
def project(repo: UserRepository) -> Project:
    return load_project(repo.top)


def find(path: Path, about: str) -> Check:
    return next(check for check in list_checks(path) if check.about == about)


def test_repository_in_order_is_ready(repo: UserRepository, call: Call) -> None:
    done = call("doctor", cwd=repo.top)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[-1] == "Ready to run."
    assert all(line.startswith("ok   ") for line in lines[:-1])


def test_tool_servers_that_cost_time_or_give_nothing_are_a_warning() -> None:
    def tell(seconds: float, *servers: ToolServer) -> list[str]:
        checks = [*check_tool_servers(ExaminedBackend({"MCP servers": seconds}, servers))]
        assert {check.level for check in checks} <= {"warn"}
        return [check.text for check in checks]

    assert tell(0.4, ToolServer("docs")) == []
    assert tell(8.2, ToolServer("docs")) == ["the MCP servers (docs) take 8 s to start, before each first prompt"]
    how = "repair it, or set `enabled: false` for it in agent.config.mcp of coordinator.yaml"
    wait = "each session waits for it before its first prompt, 30 s here"
    assert tell(30.1, ToolServer("docs"), ToolServer("db", "timed out")) == [
        f"db gives no tools: timed out; {wait}; {how}"
    ]
    assert tell(0.1, ToolServer("db", "failed")) == [f"db gives no tools: failed; {how}"]


def test_each_thing_that_fails_is_said_with_its_fix(repo: UserRepository, call: Call) -> None:
    repo.commit({"coordinator.yaml": "agent:\n  command: [no-such-agent]\nwrapper: []\n", ".worktrees/x": "in git"})
    repo.git.run("branch", "feat")
    done = call("doctor", cwd=repo.top, environment={"PREFECT_API_URL": f"http://127.0.0.1:{find_closed_port()}/api"})
    failed = {line.split(":")[0].split()[1] for line in done.stdout.splitlines() if line.startswith("fail")}
    assert (done.returncode, failed) == (2, {"server", "worktrees", "agent", "branches"})
    assert "warn verify:" in done.stdout
    assert "4 checks failed" in done.stdout


def find_closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_place_that_is_no_repository_fails(tmp_path: Path) -> None:
    assert find(tmp_path, "repository").level == "fail"


def test_faults_at_the_head_fail_and_those_of_the_checkout_warn(repo: UserRepository) -> None:
    repo.write({"tasks/odd.md": "---\nid: odd\n---\n"})
    assert find(repo.top, "task files in the checkout").level == "warn"
    repo.commit({})
    assert find(repo.top, "task files").level == "fail"
    repo.write({"coordinator.yaml": "max_sessions: 0\n"})
    assert find(repo.top, "configuration").level == "fail"


def test_agent_and_verify_are_looked_at_before_anything_is_committed(bare_repo: UserRepository) -> None:
    bare_repo.write({"coordinator.yaml": SETTINGS, **bare_repo.tasks(task_text("one"))})
    found = {check.about: check.level for check in list_checks(bare_repo.top)}
    assert (found["head"], found["agent"], found["verify"]) == ("fail", "ok", "ok")


def test_run_that_is_going_on_is_said(repo: UserRepository) -> None:
    with RunLock(repo.repository.state_dir, "r1"):
        assert find(repo.top, "run").level == "warn"


def test_missing_agent_and_verify_are_said(repo: UserRepository) -> None:
    repo.commit({"coordinator.yaml": "max_sessions: 1\n"})
    settings = load_project(repo.top).settings
    assert [check.level for check in check_programs(settings, None)] == ["fail"]
    assert check_verify(settings, None).level == "warn"


def test_further_address_that_a_push_does_not_reach_is_a_warning(repo: UserRepository, tmp_path: Path) -> None:
    hub, away = tmp_path / "hub.git", tmp_path / "away.git"
    repo.commit({"coordinator.yaml": SETTINGS + "land: {mode: push}\n"})
    repo.git.run("clone", "--quiet", "--bare", str(repo.top), str(hub))
    repo.git.run("remote", "add", "origin", str(hub))
    repo.git.run("fetch", "--quiet", "origin")
    for address in (hub, away):
        repo.git.run("remote", "set-url", "--add", "--push", "origin", str(address))
    found = find(repo.top, "remote")
    assert found.level == "warn"
    assert found.text.startswith(f"origin accepts a push from you, but not at all of its addresses: {away}: ")


def test_program_of_the_wrapper_is_looked_for(repo: UserRepository) -> None:
    repo.commit({"coordinator.yaml": SETTINGS + "wrapper: [no-such-sandbox, --]\n"})
    assert [(check.level, check.about) for check in check_programs(load_project(repo.top).settings, None)] == [
        ("fail", "wrapper")
    ]


@pytest.mark.parametrize(
    ("line", "program"),
    [
        ("pytest -q && ruff check", "pytest"),
        ("'./my tests.sh'", ""),
        ("./run-tests", "./run-tests"),
        ("A=1 pytest", ""),
        ("(cd web; npm test)", ""),
        ("cd web && npm test", ""),
        ("$RUNNER", ""),
        ("an open ' quote", ""),
        ("# nothing", ""),
        ("", ""),
    ],
)
def test_program_of_a_shell_line_is_known_only_if_it_is_plain(line: str, program: str) -> None:
    assert find_program_word(line) == program


def test_programs_that_are_not_there_are_named_and_not_called_found(repo: UserRepository) -> None:
    """One for each way in which a program can be written: a name, a path from home, a path in the repository."""
    repo.commit({"run-tests": "", "coordinator.yaml": 'agent: {command: ["~/agent"]}\nverify: [no-such, sh x, ./run-tests, ./none]\n'})  # fmt: skip
    agent, verify = find(repo.top, "agent"), find(repo.top, "verify")
    assert (agent.level, "which nothing expands" in agent.text) == ("fail", True)
    assert str(Path.home() / "agent") in agent.text
    assert (verify.level, "there is no `no-such`, `./none` (" in verify.text) == ("warn", True)
    repo.commit({"coordinator.yaml": "agent: {command: [./tools/agent]}\nverify: ['true']\n"})
    assert (find(repo.top, "agent").level, find(repo.top, "verify").level) == ("warn", "ok")
    repo.commit({"tools/agent": "", "coordinator.yaml": "agent: {command: [./tools/agent]}\nsetup: [make]\nverify: [made]\n"})  # fmt: skip
    assert (find(repo.top, "agent").level, find(repo.top, "verify").level) == ("ok", "ok")


def test_branch_in_the_way_is_named(repo: UserRepository, project: Project) -> None:
    assert check_branches(project).level == "ok"
    repo.git.run("branch", "feat/left/old")
    assert "feat/left/old" in check_branches(project).text
    repo.git.run("branch", "-m", "feat/left/old", "feat/left")
    assert check_branches(project).level == "ok"
    repo.git.run("switch", "-q", "feat/left")
    assert check_branches(project).level == "fail"


def test_paths_that_differ_by_case_are_named(repo: UserRepository) -> None:
    repo.commit({"Docs/a": "1", "docs/A": "2"})
    found = check_case(load_project(repo.top))
    assert (found.level, "Docs/a and docs/A" in found.text) == ("warn", True)
    repo.git.run("config", "core.ignorecase", "true")
    assert check_case(load_project(repo.top)).level == "fail"


def test_identity_signing_and_shallow_clone_are_looked_at(repo: UserRepository, tmp_path: Path) -> None:
    assert {check(repo.repository).level for check in (check_identity, check_signing, check_shallow)} == {"ok"}
    repo.git.run("config", "commit.gpgsign", "true")
    assert check_signing(repo.repository).level == "warn"
    repo.git.run("clone", "-q", "--depth=1", f"file://{repo.top}", str(tmp_path / "shallow"))
    assert check_shallow(UserRepository(tmp_path / "shallow").repository).level == "warn"


def test_place_for_worktrees_must_be_a_directory_that_git_ignores(repo: UserRepository) -> None:
    assert check_ignored(repo.repository).level == "ok"
    repo.write({".worktrees": "a file"})
    assert check_ignored(repo.repository).level == "fail"


def test_disk_is_measured_for_every_session(project: Project) -> None:
    found = check_disk(project)
    assert (found.level, "for 2 sessions" in found.text) == ("ok", True)


def test_filters_and_drivers_that_the_head_names_and_nobody_configured_are_named(repo: UserRepository) -> None:
    assert [found.level for found in check_attributes(load_project(repo.top))] == ["ok"]
    repo.commit({"deep/.gitattributes": "*.bin filter=crypt\n*.lock merge=mine\n*.md merge=union\n"})
    found = list(check_attributes(load_project(repo.top)))
    assert [one.level for one in found] == ["warn", "warn"]
    assert "filter crypt" in found[0].text
    assert "merge driver mine" in found[1].text
    repo.git.run("config", "filter.crypt.smudge", "cat")
    repo.git.run("config", "merge.mine.driver", "true")
    assert [one.level for one in check_attributes(load_project(repo.top))] == ["ok"]


def test_configuration_that_spokes_do_not_have_yet_is_named_with_the_push(repo: UserRepository, tmp_path: Path) -> None:
    assert list(check_spokes(load_project(repo.top))) == []
    remote = tmp_path / "shared.git"
    repo.git.run("clone", "--quiet", "--bare", str(repo.top), str(remote))
    repo.git.run("remote", "add", "shared", str(remote))
    text = f"{SETTINGS}spokes: {{remote: shared}}\nsetup: ['true']\n"
    repo.commit({"coordinator.yaml": text})
    [found] = check_spokes(load_project(repo.top))
    assert (found.level, "git push shared main" in found.text) == ("warn", True), found
    repo.git.run("push", "--quiet", "shared", "main")
    assert [one.level for one in check_spokes(load_project(repo.top))] == ["ok"]
    repo.commit({"tasks/more.md": task_text("more")})
    assert [one.level for one in check_spokes(load_project(repo.top))] == ["ok"]
    remote.rename(tmp_path / "gone")
    assert [one.level for one in check_spokes(load_project(repo.top))] == ["fail"]


def test_data_directory_that_cannot_be_created_is_named_with_the_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COORDINATOR_DATA_DIR", str(tmp_path / "file" / "data"))
    found = check_data_dir()
    assert (found.level, f"{tmp_path}/file/data: the data directory cannot be created" in found.text) == ("fail", True)
    with pytest.raises(InputError, match="set COORDINATOR_DATA_DIR to another"):
        data_dir()


def test_a_known_program_that_is_missing_is_said_with_how_to_install_it(
    repo: UserRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git = shutil.which("git")
    assert git
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").symlink_to(git)
    repo.commit({"coordinator.yaml": "agent: {preset: codex}\nverify: ['true']\n"})
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    found = find(repo.top, "agent")
    assert (found.level, "npm install -g @openai/codex" in found.text) == ("fail", True)
