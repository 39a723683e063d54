"""Shared by tests with the real opencode: its location, scripts for the scripted model, and the model's configuration."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from installed_programs import require_working

from flows.demo.opencode_provider import MODEL as MODEL
from flows.demo.opencode_provider import find_installed
from flows.demo.opencode_provider import provider_config as provider_config

CHECKOUT = Path(__file__).resolve().parent.parent
INSTALLED = CHECKOUT / ".local" / "opencode"


QUICK_START = {
    "BUN_JSC_useDFGJIT": "0",
    "BUN_JSC_largeHeapSize": "400000000",
    "BUN_JSC_numberOfGCMarkers": "1",
    "BUN_JSC_useConcurrentGC": "0",
    "BUN_JSC_collectionTimerMaxPercentCPU": "0.00001",
    "BUN_GC_TIMER_DISABLE": "1",
}
"""Keeps opencode's runtime from optimising code, which does not pay off within the seconds that a test takes, and from
collecting garbage while there is enough memory."""
FEW_SESSIONS = {**QUICK_START, "BUN_JSC_useGC": "0"}
"""Saves half of the work of a server that is started for a few sessions, each of which takes 50 to 100 MB then."""


def find_opencode() -> Path:
    """The opencode in the checkout. Without it, the test is skipped with a reason, or fails if `CI` is set."""
    missing = f"there is no opencode in {INSTALLED}; `make opencode` installs it, which needs npm"
    return require_working(find_installed(INSTALLED), missing)


def write_quick_program(directory: Path) -> Path:
    """Write a program into `directory` that starts opencode for a few sessions, for what takes no variables from a test."""
    give_short_catalog(directory)
    settings = {**FEW_SESSIONS, "OPENCODE_MODELS_PATH": str(find_catalog(directory))}
    words = [f"{name}={value}" for name, value in settings.items()]
    program = directory / "opencode"
    program.write_text(f'#!/bin/sh\nexec env {shlex.join([*words, str(find_opencode())])} "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    return program


def find_catalog(home: Path) -> Path:
    return home / ".cache" / "opencode" / "models.json"


def give_short_catalog(home: Path) -> None:
    """Put an empty list of models into `home`, where opencode looks before it uses its built-in list.

    The built-in list has thousands of models, and opencode reads it for each worktree, which is most of the work of a
    scripted session. A test's configuration names its models itself; tests/agents/opencode/server_fixtures.py keeps
    opencode's list.
    """
    catalog = find_catalog(home)
    catalog.parent.mkdir(parents=True, exist_ok=True)
    catalog.write_text("{}", encoding="utf-8")


def scripted(steps: Sequence[dict[str, Any]]) -> str:
    """The block in a prompt that tells the scripted model what to do; see `flows.demo.model_script.read_step`."""
    return f"```script\n{json.dumps(list(steps))}\n```"
