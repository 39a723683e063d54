"""Shared by tests with the real opencode: its location, scripts for the scripted model, and the model's configuration."""

import json
import os
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from flows.demo.opencode_provider import MODEL as MODEL
from flows.demo.opencode_provider import find_installed
from flows.demo.opencode_provider import provider_config as provider_config

CHECKOUT = Path(__file__).resolve().parent.parent
INSTALLED = CHECKOUT / ".local" / "opencode"


QUICK_START = {"BUN_JSC_useDFGJIT": "0"}
"""Keeps opencode's runtime from optimising code, which does not pay off within the seconds that a test takes."""


def find_opencode() -> Path:
    """The opencode in the checkout. Without it, the test is skipped with a reason, or fails if `CI` is set."""
    found, reason = _find_working_opencode()
    if found is not None:
        return found
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@cache
def _find_working_opencode() -> tuple[Path | None, str]:
    program = find_installed(INSTALLED)
    if program is None:
        return None, f"there is no opencode in {INSTALLED}; `make opencode` installs it, which needs npm"
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    if done.returncode:
        return None, f"{program} does not start here: {(done.stderr or done.stdout).strip()}"
    return program, ""


def give_short_catalog(home: Path) -> None:
    """Put an empty list of models into `home`, where opencode looks before it uses its built-in list.

    The built-in list has thousands of models, and opencode reads it for each worktree, which is most of the work of a
    scripted session. A test's configuration names its models itself; tests/agents/opencode/server_fixtures.py keeps
    opencode's list.
    """
    catalog = home / ".cache" / "opencode" / "models.json"
    catalog.parent.mkdir(parents=True, exist_ok=True)
    catalog.write_text("{}", encoding="utf-8")


def scripted(steps: Sequence[dict[str, Any]]) -> str:
    """The block in a prompt that tells the scripted model what to do; see `flows.demo.model_script.read_step`."""
    return f"```script\n{json.dumps(list(steps))}\n```"
