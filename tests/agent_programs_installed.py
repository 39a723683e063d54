"""Finds the Claude Code and the Codex that tests drive."""

from pathlib import Path

from installed_programs import require_working

INSTALLED = Path(__file__).resolve().parent.parent / ".local" / "agents"


def find_agent_program(name: str) -> Path:
    """`claude` or `codex` in the checkout. Without it, the test is skipped with a reason, or fails if `CI` is set."""
    missing = f"there is no {name} in {INSTALLED}; `make agents` installs it, which needs npm"
    return require_working(INSTALLED / "node_modules" / ".bin" / name, missing)
