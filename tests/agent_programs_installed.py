"""Finds the Claude Code and the Codex that tests drive."""

import os
import subprocess
from functools import cache
from pathlib import Path

import pytest

INSTALLED = Path(__file__).resolve().parent.parent / ".local" / "agents"


def find_agent_program(name: str) -> Path:
    """`claude` or `codex` in the checkout. Without it, the test is skipped with a reason, or fails if `CI` is set."""
    found, reason = _find_working_program(name)
    if found is not None:
        return found
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@cache
def _find_working_program(name: str) -> tuple[Path | None, str]:
    program = INSTALLED / "node_modules" / ".bin" / name
    if not program.exists():
        return None, f"there is no {name} in {INSTALLED}; `make agents` installs it, which needs npm"
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    if done.returncode:
        return None, f"{program} does not start here: {(done.stderr or done.stdout).strip()}"
    return program, ""
