"""Checks for `coordinator doctor --verify` how the lines of `verify` go on the head, as a run tries them."""

from collections.abc import Iterator
from pathlib import Path

from flows.cli.commands.doctor_check import Check, fail, ok, warn
from tasks_lib.errors import CoordinatorError
from tasks_lib.landing.head_verification import try_verify
from tasks_lib.project.loading import Project, load_project
from tasks_lib.runtime.setup_and_verify import Green, Red, describe_untested_lines
from tasks_lib.text import fold_printable

ABOUT = "verify on the head"


def check_verification(path: Path) -> Iterator[Check]:
    """Run `setup` and `verify` on the head of the repository at `path`; yields a check for each line."""
    try:
        project = load_project(path)
    except CoordinatorError:  # Other checks say what is wrong.
        yield warn(ABOUT, "was not tried; fix the errors above first")
        return
    if not project.settings.verify:
        return
    try:
        result = try_verify(project)
    except CoordinatorError as error:
        yield warn(ABOUT, f"was not tried: {error}")
        return
    yield from _describe(project, result)


def _describe(project: Project, result: Green | Red) -> Iterator[Check]:
    at, lines = f"{project.base_name} ({project.head[:10]})", project.settings.verify
    if isinstance(result, Green):
        for line in lines:
            said = next((said for idle, said in result.idle if idle == line), "")
            yield warn(ABOUT, f"`{line}` passes, but runs no test ({said})") if said else ok(ABOUT, f"`{line}` passes")
        if result.is_vacuous:
            yield warn(ABOUT, f"{describe_untested_lines(result)}; only work that adds tests lands on {at}")
        return
    failed = lines.index(result.line) if result.line in lines else 0
    for line in lines[:failed]:
        yield ok(ABOUT, f"`{line}` passes")
    last = fold_printable(result.broken or result.tail.strip().rpartition("\n")[2]) or "no output"
    failure = f"`{result.line}` {result.how} on {at}, so only work that fixes it can land: {last}"
    yield fail(ABOUT, f"{failure}. All output is in {result.log}")
    rest = lines[failed + 1 :] if result.line in lines else lines
    for line in rest:
        yield warn(ABOUT, f"`{line}` was not tried, because `{result.line}` failed")
