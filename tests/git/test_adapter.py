"""Only `tasks_lib/git` knows git: no other module builds its command lines or parses its output."""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ADAPTER = ROOT / "tasks_lib" / "git"
AGENT = ROOT / "flows" / "demo" / "agent.py"
"""A stand-in for an agent, which runs as a separate program and imports nothing from the coordinator."""
RUNNING = {"run", "text", "succeeds"}
FORMATS = ("--format=", "--pretty=", "%(refname", "%(objectname", "%(trailers", "%x00", "%x01")


def list_subcommands() -> set[str]:
    listed = subprocess.run(["git", "--list-cmds=main"], capture_output=True, text=True, check=True).stdout
    return set(listed.split())


def find_git(source: str, subcommands: set[str]) -> Iterator[tuple[int, str]]:
    """Yield each line of `source` that runs a git subcommand, and how it does."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(attr=name, value=owner) if name in RUNNING and is_git(owner):
                yield node.lineno, f"calls `{name}` of the adapter's runner"
            case ast.Call(func=ast.Attribute(attr=name), args=[ast.Constant(value=word), _, *_]) if (
                name in RUNNING and word in subcommands
            ):
                yield node.lineno, f"runs `git {word}`"
            case ast.List(elts=[first, second, *_]) | ast.Tuple(elts=[first, second, *_]) if is_program(
                first
            ) and is_argument(second, subcommands):
                yield node.lineno, "writes a command line of git"
            case ast.Constant(value=str(text)) if any(word in text for word in FORMATS):
                yield node.lineno, f"has a format of git's: {text}"
            case _:
                pass


def is_git(owner: ast.expr) -> bool:
    """Whether an expression is named `git` or constructs a `Git`."""
    match owner:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name in ("git", "_git")
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name == "Git"
        case _:
            return False


def is_program(word: ast.expr) -> bool:
    match word:
        case ast.Constant(value="git") | ast.Starred(value=ast.Name(id="GIT" | "_GIT")):
            return True
        case ast.Call(args=[ast.Constant(value="git"), *_]):
            return True
        case _:
            return False


def is_argument(word: ast.expr, subcommands: set[str]) -> bool:
    """Whether `word` can follow `git` in a command line; a constant must be a subcommand or an option."""
    return not isinstance(word, ast.Constant) or str(word.value).startswith("-") or word.value in subcommands


@pytest.mark.parametrize(
    "line",
    [
        'rows = run.git.repository.git.text("for-each-ref", "refs/heads")',
        "found = self._git.run(*words)",
        "await asyncio.to_thread(repository.git.run, *words)",
        'Git(place).succeeds("check-ignore", path)',
        'runner.run("rev-list", "--count", commit)',
        'subprocess.run([require_program("git"), "status"])',
        "command = [*GIT, command]",
        'shape = "%(refname) %(objectname)"',
    ],
)
def test_command_line_of_git_is_found(line: str) -> None:
    assert list(find_git(line, list_subcommands()))


@pytest.mark.parametrize(
    "line", ['form.word("status", Status)', "await run.git.call(read_state, worktree.git)", 'git.resolve("HEAD")']
)
def test_use_of_the_adapter_is_no_command_line(line: str) -> None:
    assert not list(find_git(line, list_subcommands()))


def test_only_the_adapter_knows_git() -> None:
    files = [
        path for name in ("tasks_lib", "flows", "coordinator_start") for path in sorted((ROOT / name).rglob("*.py"))
    ]
    outside = [path for path in files if not path.is_relative_to(ADAPTER) and path != AGENT]
    assert len(outside) > 100
    assert AGENT in files
    subcommands = list_subcommands()
    found = [
        f"{path.relative_to(ROOT)}:{number}: {what}"
        for path in outside
        for number, what in find_git(path.read_text("utf-8"), subcommands)
    ]
    assert found == []
