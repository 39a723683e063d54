"""Completion by the shell: what TAB offers, in a real bash, and what it may import while a person waits for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMPLETE = """
eval "$(coordinator --show-completion bash)"
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_coordinator_completion coordinator
printf '%s\\n' "${COMPREPLY[@]}"
"""
LISTING = """
import atexit, sys
atexit.register(lambda: print(*sorted({*sys.modules}), file=sys.stderr))
sys.argv = ["coordinator"]
from flows.cli.main import main
main()
"""


def complete(*words: str) -> list[str]:
    """What a bash offers for the last of `words`."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", COMPLETE, "bash", *words],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("coordinator", "sta"), ["status"]),
        (("coordinator", "graph", "--for"), ["--format"]),
        (("coordinator", "graph", "--format", "d"), ["dot"]),
        (("coordinator", "spoke", "li"), ["list"]),
    ],
)
def test_bash_completes_commands_options_and_values(words: tuple[str, ...], offered: list[str]) -> None:
    assert complete(*words) == offered


def test_completion_imports_no_command(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "_COORDINATOR_COMPLETE": "complete_bash",
        "COMP_WORDS": "coordinator sta",
        "COMP_CWORD": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", LISTING], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    imported = {*done.stderr.splitlines()[-1].split()}
    assert done.stdout.split() == ["status"]
    assert imported.isdisjoint({"prefect", "git", "httpx", "asyncio", "rich", "rustworkx", "yaml"})
    assert [name for name in imported if name.startswith("flows.cli.commands.")] == ["flows.cli.commands.option_values"]
