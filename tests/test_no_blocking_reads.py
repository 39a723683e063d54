"""Nothing waits for a pipe's EOF: one module reads programs' output, and all programs start without a terminal."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent
READER = "tasks_lib/process/captured_output.py"
OTHERS = ("flows/demo/agent.py", "flows/database_template.py")
"""The demo's agent, which runs in a session of its own; and a module that executes SQL, and no programs."""
FILES = sorted(path for folder in ("tasks_lib", "flows") for path in (TOP / folder).rglob("*.py"))
WAITING = {"communicate", "check_output", "getoutput", "getstatusoutput"}
SHELLS = {"os.popen", "os.system"}
STARTING = {"Popen", "create_subprocess_exec", "create_subprocess_shell", "execute"}


def name_of(call: ast.Call) -> str:
    match call.func:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
        case _:
            return ""


def find_faults(text: str) -> Iterator[str]:
    """Yield calls that wait for more than the program, or start one that could find a terminal or read our stdin."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        name, given = name_of(node), {word.arg for word in node.keywords}
        if name in WAITING or ast.unparse(node.func) in SHELLS or (name == "run" and "capture_output" in given):
            yield f"{node.lineno}: {name}"
        if name in STARTING and not {"start_new_session"} <= given:
            yield f"{node.lineno}: {name} without start_new_session"
        if name in STARTING and not given & {"stdin", "istream"}:
            yield f"{node.lineno}: {name} without a standard input"


def test_nothing_waits_for_the_end_of_a_pipe_and_nothing_starts_with_our_terminal() -> None:
    files = {str(path.relative_to(TOP)): path.read_text(encoding="utf-8") for path in FILES}
    found = {name: list(find_faults(text)) for name, text in files.items() if name not in OTHERS}
    assert {name: faults for name, faults in found.items() if faults} == {}, f"use {READER}, or run_group"


def test_no_program_starts_in_a_process_that_is_about_to_exit() -> None:
    """Of flows/, only servers and workers are started, none of which a run that was told to exit begins."""
    unasked = [
        f"{path.relative_to(TOP)}::{function.name}"
        for path in FILES
        if path.is_relative_to(TOP / "tasks_lib")
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        if (calls := {name_of(node) for node in ast.walk(function) if isinstance(node, ast.Call)}) & STARTING
        if "require_start" not in calls
    ]
    assert unasked == []


@pytest.mark.parametrize(
    "line",
    [
        "subprocess.run(a, capture_output=True)",
        "process.communicate()",
        "subprocess.check_output(a)",
        "os.system(a)",
        "subprocess.Popen(a, stdin=None)",
        "asyncio.create_subprocess_exec(a, start_new_session=True)",
    ],
)
def test_what_would_wait_is_found(line: str) -> None:
    assert list(find_faults(line))
