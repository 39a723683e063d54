"""Size rules: no long module, no long function, and no class with many public members.

A value class mirrors a record, a file or a set of choices: a frozen dataclass, an immutable pydantic model or an Enum. Its
fields are not counted, because it has as many as what it mirrors; its methods are.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
SHIPPED = ("coordinator_start", "flows", "tasks_lib")
MAX_FILE_LINES = 400
MAX_MEDIAN_FILE_LINES = 130
MAX_FUNCTION_LINES = 40
MAX_PUBLIC_MEMBERS = 15
VALUE_BASES = {"Section", "Enum", "StrEnum", "IntEnum"}
"""`Section` is the immutable pydantic model that all sections of coordinator.yaml are."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def read_sources(*folders: str) -> dict[str, str]:
    """Return the text of each Python file below `folders` by its path, relative to the checkout."""
    files = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in files}


def find_long_functions(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, Function) and (lines := (node.end_lineno or 0) - node.lineno + 1) > MAX_FUNCTION_LINES:
            yield f"{node.name} has {lines} lines"


def find_large_classes(sources: dict[str, str], *, has_inherited: bool = True) -> Iterator[str]:
    """Yield each class with too many public members, counting those that it inherits from the same sources."""
    trees = {path: ast.parse(source) for path, source in sources.items()}
    classes = [
        (path, node) for path, tree in trees.items() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
    ]
    by_name = {node.name: node for _, node in classes} if has_inherited else {}
    for path, node in classes:
        names = sorted(list_public_members(node, by_name))
        if len(names) > MAX_PUBLIC_MEMBERS:
            yield f"{path}: {node.name} has {len(names)} public members: {', '.join(names)}"


def list_public_members(node: ast.ClassDef, by_name: dict[str, ast.ClassDef]) -> set[str]:
    """Return the names of methods and, except in a value class, of attributes; those of bases in `by_name` too."""
    own = list_methods(node) if is_value_class(node) else list_methods(node) | list_attributes(node)
    public = {name for name in own if not name.startswith("_")}
    bases = [by_name[base] for base in list_bases(node) if base in by_name and base != node.name]
    return public.union(*(list_public_members(base, by_name) for base in bases))


def list_bases(node: ast.ClassDef) -> list[str]:
    names = [base.value if isinstance(base, ast.Subscript) else base for base in node.bases]
    return [ast.unparse(name).rpartition(".")[2] for name in names]


def is_value_class(node: ast.ClassDef) -> bool:
    is_frozen = any("frozen=True" in ast.unparse(one) for one in node.decorator_list)
    return is_frozen or not VALUE_BASES.isdisjoint(list_bases(node))


def list_methods(node: ast.ClassDef) -> set[str]:
    return {one.name for one in node.body if isinstance(one, Function)}


def list_attributes(node: ast.ClassDef) -> set[str]:
    """Return the names that the class body assigns or declares, and those that methods assign to `self`."""
    body = [name.id for one in node.body for name in list_targets(one) if isinstance(name, ast.Name)]
    assigned = [target for one in ast.walk(node) for target in list_targets(one)]
    return {*body, *(target.attr for target in assigned if is_of_self(target) and isinstance(target, ast.Attribute))}


def list_targets(node: ast.AST) -> list[ast.expr]:
    match node:
        case ast.Assign(targets=targets):
            return [part for one in targets for part in (one.elts if isinstance(one, ast.Tuple) else [one])]
        case ast.AnnAssign(target=target):
            return [target]
        case _:
            return []


def is_of_self(target: ast.expr) -> bool:
    match target:
        case ast.Attribute(value=ast.Name(id="self")):
            return True
        case _:
            return False


def test_modules_are_short() -> None:
    shipped = {path: len(source.splitlines()) for path, source in read_sources(*SHIPPED).items()}
    lines = shipped | {path: len(source.splitlines()) for path, source in read_sources("tests", "bench").items()}
    assert len(shipped) > 300
    assert {path: count for path, count in lines.items() if count > MAX_FILE_LINES} == {}
    assert median(count for path, count in shipped.items() if not path.endswith("__init__.py")) <= MAX_MEDIAN_FILE_LINES


def test_functions_are_short() -> None:
    sources = read_sources(*SHIPPED, "tests", "bench")
    assert [f"{path}: {found}" for path, source in sources.items() for found in find_long_functions(source)] == []


def test_classes_have_few_public_members() -> None:
    assert list(find_large_classes(read_sources(*SHIPPED))) == []
    # A harness for runs is a sample repository too, and each test uses what it needs of both.
    assert list(find_large_classes(read_sources("tests", "bench"), has_inherited=False)) == []


METHODS = "".join(f"    def m{at}(self): self.a{at} = self._b{at} = {at}\n" for at in range(8))
FIELDS = "".join(f"    f{at}: int\n" for at in range(16))


def test_methods_attributes_and_inherited_members_of_a_class_are_counted() -> None:
    base = f"class Base:\n{METHODS}"
    assert list(find_large_classes({"a.py": base})) == [
        f"a.py: Base has 16 public members: {', '.join([*(f'a{n}' for n in range(8)), *(f'm{n}' for n in range(8))])}"
    ]
    few = base.replace("self.a7 = ", "")
    assert list(find_large_classes({"a.py": few})) == []
    inheriting = "class Inheriting(a.Base):\n    def another(self): ...\n"
    assert [found.split(":")[0] for found in find_large_classes({"a.py": few, "b.py": inheriting})] == ["b.py"]


def test_only_the_methods_of_a_value_class_are_counted() -> None:
    value = f"@dataclass(frozen=True)\nclass Value:\n{FIELDS}"
    assert list(find_large_classes({"a.py": value})) == []
    assert len(list(find_large_classes({"a.py": value.replace("frozen=True", "slots=True")}))) == 1
    many = "".join(f"    def m{at}(self): ...\n" for at in range(16))
    assert len(list(find_large_classes({"a.py": value + many}))) == 1


def test_long_function_is_found() -> None:
    assert list(find_long_functions("def long():\n" + "    x = 1\n" * 40)) == ["long has 41 lines"]
    assert list(find_long_functions("async def short():\n" + "    x = 1\n" * 39)) == []
