"""Rules for the source of `flows` that a developer could break without failing a behaviour test."""

import ast
from collections.abc import Iterator
from pathlib import Path

FLOWS = Path(__file__).parents[2] / "flows"
TOLD = ("run_graph.py", "run_node.py")
"""Modules that call Prefect in the middle of a run."""
TELLERS = ("acreate_markdown_artifact", "acreate_table_artifact", "tag_flow_run", "open_for_ending")


def calls(tree: ast.AST, *, is_told: bool = False) -> Iterator[tuple[str, int, bool]]:
    """Yield the name and line of each call, and whether it is within an argument of `….tell(…)`."""
    for node in ast.iter_child_nodes(tree):
        told = is_told
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            yield name, node.lineno, is_told
            told = is_told or name.endswith(".tell")
        yield from calls(node, is_told=told)


def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def test_a_run_tells_prefect_nothing_that_is_not_bounded_and_may_not_fail() -> None:
    found = {
        f"{name}:{line} {call}"
        for name in TOLD
        for call, line, is_told in calls(parse(FLOWS / name))
        if (call.startswith("client.") or call in TELLERS) and not is_told
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
