"""How `init` prepares a repository for the coordinator."""

import json
import shutil
from pathlib import Path

import pytest
from cli_fixtures import Main, UserRepository, task_text

from flows.cli.commands.init import guess_verify
from flows.data_directory import list_repositories
from tasks_lib.errors import InputError
from tasks_lib.settings.schema import read_settings


def test_init_writes_a_configuration_and_a_task_that_are_in_order(bare_repo: UserRepository, main_here: Main) -> None:
    bare_repo.write({"Cargo.toml": "[package]\n"})
    code, output = main_here("init", str(bare_repo.top))
    assert (code, "`cargo test`" in output, "coordinator doctor" in output) == (0, True, True)
    settings = read_settings((bare_repo.top / "coordinator.yaml").read_text(), "coordinator.yaml", {})
    assert settings.verify == ("cargo test",)
    assert list_repositories() == {"repository": bare_repo.top}
    assert main_here("validate", str(bare_repo.top))[1].startswith("1 task file, 0 edges, no errors")
    bare_repo.commit({}, "Begin with the coordinator")
    found = json.loads(main_here("plan", "--json", str(bare_repo.top))[1])
    assert (found["starts_now"], found["waiting_for_person"]) == ([], ["example"])


@pytest.mark.parametrize("has_opencode", [True, False])
def test_init_offers_opencode_where_it_is_installed(
    bare_repo: UserRepository, main_here: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_opencode: bool
) -> None:
    git = shutil.which("git")
    assert git
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "git").symlink_to(git)
    if has_opencode:
        (programs / "opencode").write_text("#!/bin/sh\n")
        (programs / "opencode").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    output = main_here("init", str(bare_repo.top))[1]
    text = (bare_repo.top / "coordinator.yaml").read_text()
    agent = read_settings(text, "coordinator.yaml", {}).agent
    assert (agent.backend, agent.command) == ("opencode" if has_opencode else "command", ())
    assert "  # model: anthropic/" in text or "#   model: anthropic/" in text
    assert ("with opencode as the agent" in output, "Choose a model" in output) == (has_opencode, has_opencode)
    assert ("Set your agent's command" in output) != has_opencode


@pytest.mark.parametrize("name", ["claude", "codex"])
def test_init_chooses_the_known_program_that_is_installed(
    bare_repo: UserRepository, main_here: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    git = shutil.which("git")
    assert git
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").symlink_to(git)
    (tmp_path / "bin" / name).write_text("#!/bin/sh\n")
    (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    key = {"claude": "ANTHROPIC_API_KEY", "codex": "CODEX_API_KEY"}[name]
    monkeypatch.setenv(key, "k")
    output = main_here("init", str(bare_repo.top))[1]
    settings = read_settings((bare_repo.top / "coordinator.yaml").read_text(), "coordinator.yaml", {})
    assert (settings.agent.backend, settings.agent.preset) == ("command", name)
    assert key in settings.env.agent
    assert f"with {'Claude Code' if name == 'claude' else 'Codex'} as the agent" in output


def test_init_overwrites_nothing_and_may_be_called_again(repo: UserRepository, main_here: Main) -> None:
    before = {file: file.read_bytes() for file in repo.top.rglob("*") if file.is_file() and ".git" not in file.parts}
    for _ in range(2):
        code, output = main_here("init", str(repo.top))
        assert (code, output.count("already exists")) == (0, 2)
    after = {file: file.read_bytes() for file in repo.top.rglob("*") if file.is_file() and ".git" not in file.parts}
    assert after == before
    assert list_repositories() == {"repository": repo.top}


def test_init_uses_the_task_folder_that_taskgraph_names(bare_repo: UserRepository, main_here: Main) -> None:
    files = {".taskgraph.toml": '[project]\ntasks_dir = "plan"\n', "plan/one.md": task_text("one")}
    bare_repo.write(files)
    assert main_here("init", str(bare_repo.top))[0] == 0
    assert not (bare_repo.top / "tasks").exists()
    assert [file.name for file in (bare_repo.top / "plan").iterdir()] == ["one.md"]


def test_init_in_a_package_says_that_the_whole_repository_is_meant(
    bare_repo: UserRepository, main_here: Main, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = bare_repo.top
    bare_repo.write({"packages/x/pyproject.toml": "[project]\n"})
    monkeypatch.chdir(top)
    assert "The repository is" not in main_here("init", ".")[1]
    for name in ("coordinator.yaml", "tasks/example.md"):
        (top / name).unlink()
    (top / "tasks").rmdir()
    monkeypatch.chdir(top / "packages" / "x")
    lines = main_here("init", ".")[1].splitlines()
    assert lines[0] == f"The repository is {top}; what is written there counts for all of it."
    assert "  3. Commit them: git add ../../coordinator.yaml ../../tasks/example.md && git commit" in lines
    monkeypatch.chdir(top.parent)
    assert f"Next, in {top}:" in main_here("init", str(top))[1].splitlines()


def test_init_refuses_a_bare_repository(bare_repo: UserRepository, main_here: Main) -> None:
    bare = bare_repo.top.parent / "bare.git"
    bare_repo.git.run("clone", "-q", "--bare", str(bare_repo.top), str(bare))
    with pytest.raises(InputError, match="is a bare repository"):
        main_here("init", str(bare))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, ()),
        ({"Makefile": "build:\n\ttrue\ntest: build\n\ttrue\n", "Cargo.toml": ""}, ("make test",)),
        ({"Makefile": "test := yes\nall:\n\ttrue\n"}, ()),
        ({"pyproject.toml": "[tool.pytest.ini_options]\n"}, ("python3 -m pytest",)),
        ({"pyproject.toml": '[project]\nname = "x"\n', "tests/test_a.py": ""}, ("python3 -m unittest discover",)),
        ({"requirements-dev.txt": "pytest==8\n", "uv.lock": ""}, ("uv run pytest",)),
        ({"tox.ini": "", "conftest.py": ""}, ("tox",)),
        ({"package.json": '{"scripts": {"test": "vitest run"}}'}, ("npm test",)),
        ({"package.json": '{"scripts": {"test": "vitest"}}', "pnpm-lock.yaml": ""}, ("pnpm test",)),
        ({"package.json": '{"scripts": {"test": "echo \\"Error: no test specified\\" && exit 1"}}'}, ()),
        ({"package.json": "{"}, ()),
        ({"go.mod": "", "package.json": '{"scripts": {"test": "jest"}}'}, ("npm test", "go test ./...")),
    ],
)
def test_verify_is_guessed_from_the_files_there(
    bare_repo: UserRepository, files: dict[str, str], expected: tuple[str, ...]
) -> None:
    bare_repo.write(files)
    assert guess_verify(bare_repo.top) == expected


def test_program_of_a_guess_that_is_not_installed_is_named(
    bare_repo: UserRepository, main_here: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git = shutil.which("git")
    assert git
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").symlink_to(git)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    bare_repo.write({"tox.ini": ""})
    assert "There is no `tox` on your PATH" in main_here("init", str(bare_repo.top))[1]
