"""Rules for the source that a developer could break without failing a behaviour test."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_fixtures import UserRepository, task_text

TOP = Path(__file__).parents[2]
FLOWS = TOP / "flows"
CALLERS = ("run_graph.py", "run_node.py")
"""Modules that call Prefect in the middle of a run."""
BOUNDED = ("connection.call", "PrefectConnection().call")
"""What limits the time of a call, and does not raise."""
CALLS = ("write_markdown", "write_artifact", "mark_flow_run", "end_flow_run")


def calls(tree: ast.AST, *, is_bounded: bool = False) -> Iterator[tuple[str, int, bool]]:
    """Yield the name and line of each call, and whether it is within an argument of one of BOUNDED."""
    for node in ast.iter_child_nodes(tree):
        is_within = is_bounded
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            yield name, node.lineno, is_bounded
            is_within = is_bounded or name.endswith(BOUNDED)
        yield from calls(node, is_bounded=is_within)


def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def test_every_call_of_a_run_to_prefect_is_bounded_and_may_fail() -> None:
    found = {
        f"{name}:{line} {call}"
        for name in CALLERS
        for call, line, is_bounded in calls(parse(FLOWS / name))
        if (call.startswith("client.") or call in CALLS) and not is_bounded
    }
    assert found == set()


def test_signals_are_heard_in_one_place() -> None:
    heard = {"signal.signal", "add_signal_handler", "signal.set_wakeup_fd"}
    found = {
        f"{file.relative_to(FLOWS)}:{line}"
        for file in FLOWS.rglob("*.py")
        if file.name != "termination_signals.py" and "demo/" not in str(file.relative_to(FLOWS))
        for call, line, _ in calls(parse(file))
        if call in heard or call.endswith(".add_signal_handler")
    }
    assert found == set()


def test_time_limits_lose_no_cancellation() -> None:
    """Python 3.11's `wait_for` swallows one that comes with the result, after which a loop never ends."""
    found = {
        f"{file.relative_to(TOP)}:{line}"
        for package in (FLOWS, TOP / "tasks_lib")
        for file in package.rglob("*.py")
        for call, line, _ in calls(parse(file))
        if call == "asyncio.wait_for"
    }
    assert found == set()


LISTING = """
import atexit, sys
atexit.register(lambda: print(*sorted({*sys.modules}), file=sys.stderr))
sys.argv = ["coordinator", *sys.argv[1:]]
from flows.cli.main import main
main()
"""
READING = ("plan", "validate", "status", "graph", "report", "logs base")


@pytest.mark.parametrize(
    ("command", "unneeded"),
    [(command, {"prefect", "httpx", "asyncio"}) for command in READING] + [("doctor", {"prefect"})],
)
def test_commands_that_only_read_import_only_what_they_need(
    command: str, unneeded: set[str], repo: UserRepository
) -> None:
    """They read files and git, and people wait for them."""
    repo.commit(repo.tasks(task_text("base")), "Have a task")
    done = subprocess.run(
        [sys.executable, "-c", LISTING, *command.split()], cwd=repo.top, capture_output=True, text=True, check=False
    )
    imported = {*done.stderr.splitlines()[-1].split()}
    assert f"flows.cli.commands.{command.split()[0]}" in imported
    assert imported.isdisjoint(unneeded)
