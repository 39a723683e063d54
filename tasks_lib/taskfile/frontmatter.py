"""Finds the front matter of a task file and edits single values in it, leaving every other byte unchanged.

Texts come from `decode`: line endings, a byte order mark and bytes that are not UTF-8 survive the round trip.
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tasks_lib.errors import Fault, InputError
from tasks_lib.model import Status
from tasks_lib.yaml_nodes import Items, Node, Scalar, Table, quote, read_yaml

_OPENING = re.compile(r"\ufeff?---[ \t]*(?:\r?\n|\Z)")
_CLOSING = re.compile(r"^---[ \t]*\r?$", re.MULTILINE)
DEPENDENCY_KEYS = ("depends_on", "dependsOn")
_UNNAMED = "task file"


class Block(NamedTuple):
    """Offsets of the YAML between the two `---` lines; `end` is -1 if the front matter is never closed."""

    start: int
    end: int


def decode(data: bytes) -> str:
    """Decode `data` into text that `encode` turns back into the same bytes."""
    return data.decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    """The bytes from which `decode` made `text`."""
    return text.encode("utf-8", "surrogateescape")


def find_block(text: str) -> Block | None:
    """Where the front matter is, or None when `text` does not start with a `---` line."""
    if not (opening := _OPENING.match(text)):
        return None
    closing = _CLOSING.search(text, opening.end())
    return Block(opening.end(), closing.start() if closing else -1)


def set_status(text: str, status: Status) -> str:
    """`text` with `status` in its front matter: replaces the value, keeping its quotes, or adds a line below the name.

    Raises InputError when the front matter cannot be read.
    """
    return _edit(text, lambda block, table: _put_status(block, table, status.value))


def set_word(text: str, key: str, word: str) -> str:
    """`text` with `word` as the value of `key`, which replaces any other.

    Raises InputError when the front matter cannot be read, or `key` has something else than a word.
    """
    return _edit(text, lambda block, table: _put_word(block, table, key, word))


def set_spawner(text: str, task_id: str) -> str:
    """`text` with a line that says that the session of `task_id` spawned the task; it has no such line yet.

    Raises InputError when the front matter cannot be read.
    """
    return set_word(text, "spawned_by", quote(task_id))


def add_dependency(text: str, task_id: str) -> str:
    """`text` with `task_id` appended to its dependencies, in the style of the existing list.

    Nothing changes if it is already listed. Raises InputError when the front matter cannot be read, or `depends_on` is
    not a list of words.
    """
    return _edit(text, lambda block, table: _put_dependency(block, table, task_id))


def _edit(text: str, change: Callable[[str, Table], str]) -> str:
    """Apply `change` to the YAML of the front matter."""
    block = find_block(text)
    if block is None or block.end < 0:
        raise InputError([Fault(_UNNAMED, 1, "has no front matter between two `---` lines; add it")])
    old = text[block.start : block.end]
    new = change(old, _read(old))
    return text[: block.start] + new + text[block.end :]


def _read(block: str) -> Table:
    table, faults = read_yaml(block, _UNNAMED, 2)
    if table is None or faults:
        raise InputError(faults)
    return table


def _find(table: Table, *names: str) -> tuple[Scalar, Node] | None:
    """The first of `names` that has a value, else the first that is given without one."""
    found = [pair for name in names for pair in table.pairs if pair[0].value == name]
    return next((pair for pair in found if not _is_null(pair[1])), found[0] if found else None)


def _is_null(node: Node) -> bool:
    return isinstance(node, Scalar) and node.tag == "null"


def _put_status(block: str, table: Table, word: str) -> str:
    return _put_word(block, table, "status", word)


def _put_word(block: str, table: Table, name: str, word: str) -> str:
    found = _find(table, name)
    if found is None:
        return _add_entry(block, table, f"{name}: {word}", ("name", "title", "id"))
    key, value = found
    if not isinstance(value, Scalar):
        raise InputError([Fault(_UNNAMED, key.line, f"{name} is not a word; write `{name}: {word}`")])
    if value.value == word:
        return block
    quotes = value.style if value.style in ("'", '"') else ""
    new = _replace(block, value, f"{quotes}{word}{quotes}")
    after = _find(_read(new), name)
    if after is None or not isinstance(after[1], Scalar) or after[1].value != word:
        raise InputError([Fault(_UNNAMED, key.line, f"{name} cannot be changed as written; write `{name}: {word}`")])
    return new


def _put_dependency(block: str, table: Table, task_id: str) -> str:
    found = _find(table, *DEPENDENCY_KEYS)
    if found is None:
        return _add_entry(block, table, f"depends_on: [{quote(task_id)}]", ("status", "name", "title", "id"))
    key, value = found
    old = _words(value)
    if old is None:
        raise InputError([Fault(_UNNAMED, key.line, f"{key.value} is not a list of ids; write `{key.value}: [id]`")])
    if task_id in old:
        return block
    new = (
        _append(block, value, quote(task_id))
        if isinstance(value, Items)
        else _replace(block, value, f"[{quote(task_id)}]")
    )
    after = _find(_read(new), key.value)
    if after is None or _words(after[1]) != [*old, task_id]:
        raise InputError(
            [Fault(_UNNAMED, key.line, f"{key.value} cannot be extended as written; write `{key.value}: [id]`")]
        )
    return new


def _words(node: Node) -> list[str] | None:
    """The words of a list, an empty list for a null, None for anything else."""
    if _is_null(node):
        return []
    if not isinstance(node, Items):
        return None
    words = [item.value for item in node.nodes if isinstance(item, Scalar)]
    return words if len(words) == len(node.nodes) else None


def _replace(block: str, node: Node, value: str) -> str:
    old = block[node.start : node.end]
    if not old:
        return f"{block[: node.start]} {value}{block[node.end :]}"
    kept = old[len(old.rstrip()) :]  # The span of a block scalar (`|`) includes its line ending.
    return block[: node.start] + value + kept + block[node.end :]


def _append(block: str, items: Items, word: str) -> str:
    if items.is_flow:
        place = items.nodes[-1].end if items.nodes else items.start + 1
        return f"{block[:place]}{', ' if items.nodes else ''}{word}{block[place:]}"
    return _insert_line(block, items.nodes[-1].end, items.start, f"- {word}")


def _add_entry(block: str, table: Table, entry: str, after: Sequence[str]) -> str:
    """Add the line `entry` below the first of the keys `after` that has a value."""
    anchor = next((pair for name in after if (pair := _find(table, name)) and not _is_null(pair[1])), None)
    if anchor is None or not isinstance(anchor[1], Scalar):
        raise InputError([Fault(_UNNAMED, 1, "has no id in its front matter; add it")])
    if table.is_flow:
        return f"{block[: anchor[1].end]}, {entry}{block[anchor[1].end :]}"
    return _insert_line(block, anchor[1].end, table.start, entry)


def _insert_line(block: str, end: int, column_of: int, line: str) -> str:
    """Insert `line` below the value that ends at `end`, with the column and the line ending of its neighbours."""
    place = end if block[end - 1] == "\n" else block.index("\n", end) + 1
    column = column_of - (block.rfind("\n", 0, column_of) + 1)
    ending = "\r\n" if block.endswith("\r\n", 0, place) else "\n"
    return f"{block[:place]}{' ' * column}{line}{ending}{block[place:]}"
