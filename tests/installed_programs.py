"""Finds the real agents that tests drive, or says why a test cannot run."""

import os
import subprocess
from functools import cache
from pathlib import Path

import pytest


def require_working(program: Path | None, missing: str) -> Path:
    """Return `program` if it starts. If not, the test is skipped with the reason, or fails if `CI` is set.

    `missing` is the reason if there is no such program.
    """
    reason = _find_fault(program) if program and program.exists() else missing
    if program is not None and not reason:
        return program
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@cache
def _find_fault(program: Path) -> str:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    said = (done.stderr or done.stdout).strip()
    return f"{program} does not start here: {said}" if done.returncode else ""
