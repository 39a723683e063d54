"""`coordinator doctor --audit`: checks what finished runs left in git, on this machine and in Prefect."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from flows.cli.display.output import count, print_json, say
from flows.prefect_audit import AUDITED_COMMITS, audit_with_prefect
from tasks_lib.cleanup.repository_audit import Audit, verify_again
from tasks_lib.errors import InputError
from tasks_lib.project.loading import load_project
from tasks_lib.reporting.audit_rules import Violation
from tasks_lib.reporting.run_report import ExitCode

VERIFY_LIMIT = 10


def check_options(*, is_audit: bool, is_verify: bool, is_spoke: bool, limit: int | None) -> None:
    """Raise InputError for options that need --audit, or that do not go with --spoke."""
    if not is_audit and limit is not None:
        raise InputError(["`--limit` only works with `--audit`; give that too"])
    if is_spoke and is_verify:
        raise InputError(["`--verify` does not work with `--spoke`: `verify` runs on the machine of the run"])


def audit_repository(path: Path, *, is_verify: bool, limit: int | None, as_json: bool, console: Console) -> ExitCode:
    """Print a line for each violation; returns 1 if there is any. Raises InputError for unreadable input."""
    project = load_project(path)
    found = audit_with_prefect(project, limit or AUDITED_COMMITS)
    violations, notes, verified = list(found.violations), list(found.notes), 0
    if is_verify:
        red, verified = asyncio.run(verify_again(project, found.landed, limit or VERIFY_LIMIT))
        violations += red
    if as_json:
        print_json(describe(found, violations, notes, verified))
    else:
        _print(found, violations, notes, verified, console)
    return ExitCode.BLOCKED if violations else ExitCode.COMPLETED


def _print(
    found: Audit, violations: Sequence[Violation], notes: Sequence[str], verified: int, console: Console
) -> None:
    for note in notes:
        say(console, f"note: {note}", "yellow")
    for violation in violations:
        say(console, str(violation), "bold red")
    again = f", {count(verified, 'commit')} verified again" if verified else ""
    looked = f"{count(found.commits, 'commit')} and {count(found.worktrees, 'worktree')} checked{again}"
    verdict = count(len(violations), "violation") if violations else "no violations"
    say(console, f"{verdict}: {looked}", "bold")


def describe(found: Audit, violations: Sequence[Violation], notes: Sequence[str], verified: int) -> dict[str, object]:
    """Return the result as plain values."""
    return {
        "violations": [{**asdict(one), "rule": one.rule.name.lower(), "promise": one.rule.value} for one in violations],
        "notes": list(notes),
        "commits": found.commits,
        "worktrees": found.worktrees,
        "verified": verified,
    }
