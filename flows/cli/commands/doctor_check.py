"""The result of a `coordinator doctor` check: a level and one sentence, with the fix if one is needed."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

from rich.console import Console

from flows.cli.display.output import count, print_json, say
from tasks_lib.reporting.run_report import ExitCode

STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@dataclass(frozen=True, slots=True)
class Check:
    """`about` names what was checked in a word or two; `text` says what was found."""

    level: Literal["ok", "warn", "fail"]
    about: str
    text: str


def ok(about: str, text: str) -> Check:
    return Check("ok", about, text)


def warn(about: str, text: str) -> Check:
    return Check("warn", about, text)


def fail(about: str, text: str) -> Check:
    return Check("fail", about, text)


@dataclass(frozen=True, slots=True)
class Purpose:
    """What checks are made for: what `ready` says when they pass, and what to `start` after fixing what fails."""

    ready: str
    start: str


RUN = Purpose("Ready to run", "a run")


def report_checks(checks: Iterable[Check], purpose: Purpose, *, as_json: bool, console: Console) -> ExitCode:
    """Print a line for each check as it is made; returns 2 if any fails."""
    made: list[Check] = []
    for check in checks:
        made.append(check)
        if not as_json:
            say(console, f"{check.level:<4} {check.about}: {check.text}", STYLES[check.level])
    has_failed = any(check.level == "fail" for check in made)
    if as_json:
        print_json({"has_failed": has_failed, "checks": [asdict(check) for check in made]})
    else:
        say(console, _summarize(made, purpose), "bold")
    return ExitCode.BAD_INPUT if has_failed else ExitCode.COMPLETED


def _summarize(checks: list[Check], purpose: Purpose) -> str:
    failures, warnings = (sum(check.level == level for check in checks) for level in ("fail", "warn"))
    if failures:
        return f"{count(failures, 'check')} failed. Fix that before you start {purpose.start}."
    return f"{purpose.ready}, with {count(warnings, 'warning')}." if warnings else f"{purpose.ready}."
