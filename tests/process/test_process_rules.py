"""Source rules that keep a repository or a shell from influencing coordinator's own processes."""

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = [path for top in ("coordinator_start", "flows", "tasks_lib") for path in sorted((ROOT / top).rglob("*.py"))]
Find = Callable[[ast.AST], bool]


def name_of(node: ast.AST) -> str:
    """Return `a.b.c` for such an expression, else ""."""
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


@cache
def list_nodes(path: Path) -> tuple[ast.AST, ...]:
    """Return all syntax nodes of a file; the first is the module."""
    return tuple(ast.walk(ast.parse(path.read_text())))


def where(find: Find) -> set[str]:
    """Return the files that contain a syntax node for which `find` is true, relative to the checkout."""
    return {str(path.relative_to(ROOT)) for path in FILES if any(map(find, list_nodes(path)))}


def makes_a_client(node: ast.AST) -> bool:
    calls = ("Client", "AsyncClient", "HTTPTransport", "AsyncHTTPTransport", "get", "post", "put", "request", "stream")
    others = ("urllib.request.urlopen", "http.client.HTTPConnection", "requests.get", "websockets.connect")
    return isinstance(node, ast.Call) and name_of(node.func) in {*(f"httpx.{one}" for one in calls), *others}


def names_python(node: ast.AST) -> bool:
    return name_of(node) == "sys.executable"


def looks_for_a_program(node: ast.AST) -> bool:
    return name_of(node) in ("shutil.which", "os.execvp", "os.execvpe", "os.system", "os.popen")


def starts_a_bare_name(node: ast.AST) -> bool:
    """Return whether a program is started by a bare name, which the system would look up on the unfiltered PATH."""
    starts = ("run", "Popen", "call", "check_call", "check_output")
    if not isinstance(node, ast.Call) or name_of(node.func) not in {f"subprocess.{one}" for one in starts}:
        return False
    first = node.args[0] if node.args else None
    word = first.elts[0] if isinstance(first, ast.List | ast.Tuple) and first.elts else first
    return isinstance(word, ast.Constant) and isinstance(word.value, str) and "/" not in word.value


def hands_on_what_may_be_taken_out(node: ast.AST) -> bool:
    """`scrub(os.environ, …)`: while Prefect runs in this process, that is not what the user set."""
    return isinstance(node, ast.Call) and name_of(node.func) == "scrub" and name_of(node.args[0]) == "os.environ"


@pytest.mark.parametrize(
    ("find", "allowed"),
    [
        (makes_a_client, {"tasks_lib/process/http_clients.py"}),
        (looks_for_a_program, {"tasks_lib/process/program_lookup.py"}),
        (hands_on_what_may_be_taken_out, set[str]()),
        # The demo's agents are the user's programs, and run in an agent's environment.
        (starts_a_bare_name, set[str]()),
        (
            names_python,
            {
                "coordinator_start/__init__.py",
                "tasks_lib/process/python_command.py",
                "tasks_lib/project/child_environment.py",  # For the launcher, which uses its options.
                "flows/demo/agent.py",
                "flows/demo/model_decisions.py",
                "flows/demo/story.py",
            },
        ),
    ],
    ids=["clients", "look-ups", "environments", "names", "python"],
)
def test_is_done_in_one_place(find: Find, allowed: set[str]) -> None:
    assert where(find) <= allowed


def list_imports(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_prefect_is_imported_late_only_where_it_is_isolated() -> None:
    tops = {path: top_imports(path) for path in FILES}
    early = {path for path, imports in tops.items() if any(one.split(".")[0] == "prefect" for one in imports)}
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in early}
    # A module that imports one of those at its top level counts too.
    while more := {path for path, imports in tops.items() if path not in early and modules & imports}:
        early |= more
        modules |= {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in more}
    late = {path for path in FILES if path not in early and is_late(path, modules)}
    assert late
    for path in late:
        text = path.read_text()
        # A program of its own gets its environment from the coordinator that starts it.
        is_isolated = re.search(r"(with |enter_context\()(isolated|serve)\(|__name__ == .__main__.", text)
        assert is_isolated, f"{path} imports Prefect without isolating it first"


def top_imports(path: Path) -> set[str]:
    module = list_nodes(path)[0]
    assert isinstance(module, ast.Module)
    return set(list_imports(module.body))


def is_late(path: Path, modules: set[str]) -> bool:
    functions = [node for node in list_nodes(path) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    found = {one for function in functions for one in list_imports(ast.walk(function))}
    return any(one.split(".")[0] == "prefect" for one in found) or bool(found & modules)
