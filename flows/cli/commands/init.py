"""`coordinator init`: creates a starter configuration and an example task, and registers the repository."""

import json
import os
import re
import shlex
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console

from flows.cli.commands.program_words import find_program_word
from flows.cli.commands.repository_snapshot import read_leniently
from flows.cli.display.output import say
from flows.data_directory import register
from tasks_lib.agents.presets.known import PRESETS
from tasks_lib.cleanup.moved_repository import find_former_top, find_move
from tasks_lib.errors import InputError
from tasks_lib.git.repository import Repository
from tasks_lib.process.program_lookup import find_program
from tasks_lib.project.loading import CONFIGURATION
from tasks_lib.reporting.run_report import ExitCode
from tasks_lib.settings.schema import starter_settings

EXAMPLE = "example.md"
EXAMPLE_TASK = """\
---
# A task is a markdown file with these keys above its text. The file can have any name; the id names the branch.
id: example
name: Say what this task is for
status: pending
# Ids of the tasks that must be completed before this one starts.
depends_on: []
# How much it touches: single, narrow, moderate, broad or system.
scope: narrow
# How likely it is to go wrong: trivial, low, medium, high or critical. From high on, a reviewer checks the branch.
risk: low
# planning, decomposition, implementation, review, research or architecture; it determines the agent's role.
level: implementation
# Agents do not work on a task that is assigned to a human. Remove this line to let an agent run it.
assignee: human
---

## Description
What needs to be done, and why. The agent reads this whole file.

## Acceptance Criteria
- [ ] Something that can be checked.

## References
- Paths of files that the agent should read first.
"""
NO_TEST = "no test specified"
"""Part of the placeholder `test` script that `npm init` writes."""


def init_repository(path: Path, console: Console) -> ExitCode:
    """Create what is missing, register the repository, and print the next steps; nothing is overwritten.

    Raises InputError if `path` is not in a repository with a checkout.
    """
    repository = Repository.open(path)
    if repository.is_bare:
        raise InputError([f"{repository.top} is a bare repository without a checkout; run this in a clone of it"])
    if (here := Path.cwd()) != repository.top:
        say(console, f"The repository is {repository.top}; what is written there counts for all of it.")
    found = find_agent()
    wrote = [*_write_settings(repository.top, console, found)]
    tasks_dir = read_leniently(repository).tasks_dir
    wrote += _write_example(repository.top, tasks_dir, console)
    name = register(repository.top, find_former_top(repository, find_move(repository)))
    say(console, f'Registered as "{name}"; flow runs in Prefect use this name.')
    names = wrote or [CONFIGURATION, tasks_dir]
    is_inside = here.is_relative_to(repository.top)
    say(console, "\nNext:" if is_inside else f"\nNext, in {repository.top}:")
    if is_inside:
        names = [os.path.relpath(repository.top / name, here) for name in names]
    _say_next(names, tasks_dir, console, found if CONFIGURATION in wrote else "")
    return ExitCode.COMPLETED


def find_agent() -> str:
    """Return the agent that is installed: `opencode` or the name of a preset, "" if none is."""
    return next((name for name in ("opencode", *PRESETS) if find_program(name)), "")


def _write_settings(top: Path, console: Console, agent: str) -> list[str]:
    file = top / CONFIGURATION
    if file.exists() or file.is_symlink():
        say(console, f"{CONFIGURATION} already exists; it was not changed.")
        return []
    verify = guess_verify(top)
    preset = PRESETS.get(agent)
    keys = [name for name in preset.keys if os.environ.get(name)] if preset else []
    text = starter_settings(verify, has_opencode=agent == "opencode", preset=preset.name if preset else "", keys=keys)
    write_new(file, text)
    title = preset.title if preset else agent
    say(console, f"Wrote {CONFIGURATION}{f', with {title} as the agent' if title else ''}.")
    if verify:
        lines = ", ".join(f"`{line}`" for line in verify)
        say(
            console,
            f"  verify was guessed from the files here: {lines}. Change it if your tests run differently.",
        )
        words = [word for line in verify if (word := find_program_word(line))]
        for program in dict.fromkeys(words):
            if find_program(program) is None:
                say(console, f"  There is no `{program}` on your PATH; install it, or change verify.", "yellow")
    else:
        say(console, "  No test command could be guessed; add yours under verify.", "yellow")
    return [CONFIGURATION]


def _write_example(top: Path, tasks_dir: str, console: Console) -> list[str]:
    folder = top / tasks_dir
    if folder.exists():
        say(console, f"{tasks_dir}/ already exists; no example was written.")
        return []
    folder.mkdir(parents=True)
    write_new(folder / EXAMPLE, EXAMPLE_TASK)
    say(
        console,
        f"Wrote {tasks_dir}/{EXAMPLE}. It is assigned to a human; to let an agent run it, remove `assignee`.",
    )
    return [f"{tasks_dir}/{EXAMPLE}"]


def write_new(file: Path, text: str) -> None:
    """Write a file that does not exist yet; raises InputError if it does, or cannot be written."""
    try:
        with file.open("x", encoding="utf-8") as sink:
            sink.write(text)
    except OSError as error:
        raise InputError([f"{file} cannot be written: {error.strerror}"]) from error


def _say_next(names: list[str], tasks_dir: str, console: Console, agent: str) -> None:
    preset = PRESETS.get(agent)
    choose = f"Choose a model (or leave that to {preset.title})" if preset else "Set your agent's command"
    if agent == "opencode":
        choose = "Choose a model (`opencode models` lists them)"
    steps = [
        f"{choose} under `agent` in {CONFIGURATION}, and check `verify`.",
        f"Write tasks in {tasks_dir}/, and check them: coordinator validate",
        f"Commit them: git add {shlex.join(names)} && git commit",
        "Check that everything is in place: coordinator doctor",
        "Run the graph: coordinator run",
    ]
    for number, step in enumerate(steps, 1):
        say(console, f"  {number}. {step}")


def guess_verify(top: Path) -> tuple[str, ...]:
    """The shell commands that most likely test the repository at `top`; empty if there is no clue."""
    if re.search(r"^test\s*:(?!=)", _read(top / "Makefile"), re.MULTILINE):
        return ("make test",)
    guesses = (_guess_python(top), _guess_node(top), _guess_cargo(top), _guess_go(top))
    return tuple(line for line in guesses if line)


def _guess_python(top: Path) -> str:
    project = _read(top / "pyproject.toml")
    settings: dict[str, Any] = {}
    with suppress(tomllib.TOMLDecodeError):
        settings = tomllib.loads(project)
    if (top / "tox.ini").is_file() or "tox" in settings.get("tool", {}):
        return "tox"
    texts = (project, _read(top / "setup.cfg"), *(_read(file) for file in sorted(top.glob("requirements*.txt"))))
    lead = "uv run " if (top / "uv.lock").is_file() else "poetry run " if (top / "poetry.lock").is_file() else ""
    if (top / "pytest.ini").is_file() or (top / "conftest.py").is_file() or any("pytest" in text for text in texts):
        return f"{lead}pytest" if lead else "python3 -m pytest"
    is_python = bool(project) or (top / "setup.py").is_file() or (top / "tests" / "__init__.py").is_file()
    return f"{lead or ''}python3 -m unittest discover" if is_python and any(top.glob("test*/test_*.py")) else ""


def _guess_node(top: Path) -> str:
    try:
        package: Any = json.loads(_read(top / "package.json") or "{}")
        script = str(package["scripts"]["test"])
    except (ValueError, KeyError, TypeError):
        return ""
    if not script.strip() or NO_TEST in script:
        return ""
    for lock, program in (("pnpm-lock.yaml", "pnpm"), ("yarn.lock", "yarn"), ("bun.lock", "bun run")):
        if (top / lock).is_file():
            return f"{program} test"
    return "npm test"


def _guess_cargo(top: Path) -> str:
    return "cargo test" if (top / "Cargo.toml").is_file() else ""


def _guess_go(top: Path) -> str:
    return "go test ./..." if (top / "go.mod").is_file() else ""


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
