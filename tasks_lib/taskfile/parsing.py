"""Parses a task file into a task, or lists every fault in it; also exports the functions that edit task files."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from enum import StrEnum
from functools import cache, lru_cache
from typing import TypeVar

from tasks_lib.errors import Fault
from tasks_lib.model import KNOWN_LEVELS, Impact, Risk, Scope, Status, Task, is_model_name, is_role_name
from tasks_lib.naming import MAX_MESSAGE, find_hidden, find_id_fault, show
from tasks_lib.suggestions import suggest
from tasks_lib.taskfile.frontmatter import (
    DEPENDENCY_KEYS,
    add_dependency,
    decode,
    encode,
    find_block,
    set_spawner,
    set_status,
    set_word,
)
from tasks_lib.taskfile.sections import adopt_sections, get_section, set_section
from tasks_lib.text import fold_printable
from tasks_lib.yaml_nodes import Items, Node, Scalar, Table, quote, quote_items, read_yaml, to_value

__all__ = [
    "add_dependency",
    "adopt_sections",
    "decode",
    "encode",
    "get_section",
    "parse_task",
    "render_task",
    "set_section",
    "set_spawner",
    "set_status",
    "set_word",
]

_Word = TypeVar("_Word", bound=StrEnum)
MAX_BYTES = 1_000_000
"""Maximum size of a task file, because its agent's prompt contains all of it."""
MAX_FRONT_MATTER = 200_000
"""Maximum characters: enough for thousands of dependencies, and parsed in less than a second."""
MAX_NAME, MAX_WORD = 300, 200
_UTF16 = (b"\xff\xfe-\0-\0-\0", b"\xfe\xff\0-\0-\0-")
_KINDS = {"int": "a number", "float": "a number", "bool": "true or false", "timestamp": "a date"}
_NUMBER_SIGN = re.compile(r"#\w")
_LOOKALIKES = ("depends_on", "dependencies", "depends")


def parse_task(data: bytes, path: str, blob: str = "") -> tuple[Task | None, tuple[Fault, ...]]:
    """Parse one task file; `path` is relative to the repository, `blob` is git's id of `data`.

    Returns the task, which may come with warnings, and all faults in the order of their lines. The task is None if the
    file has errors. None without faults means that `data` has no front matter and so is not a task file.
    """
    task, found = sketch_task(data, path, blob)
    return (task if all(fault.is_warning for fault in found) else None), found


def sketch_task(data: bytes, path: str, blob: str = "") -> tuple[Task | None, tuple[Fault, ...]]:
    """Like `parse_task`, but returns what can be read of a faulty file, to find more faults and never to run it.

    The task is None if not even its id can be read.
    """
    if data.startswith(_UTF16):
        return None, (Fault(path, 1, "is UTF-16; save it as UTF-8"),)
    text = decode(data)
    block = find_block(text)
    if block is None:
        return None, ()
    if len(data) > MAX_BYTES:
        return None, (Fault(path, 0, f"has more than {MAX_BYTES} bytes, and all of it goes to an agent; shorten it"),)
    faults = _find_encoding_faults(data, path)
    if block.end < 0:
        return None, (*faults, Fault(path, 1, "the front matter is never closed; add a `---` line below its last key"))
    if (size := block.end - block.start) > MAX_FRONT_MATTER:
        message = f"the front matter has {size} characters; the limit is {MAX_FRONT_MATTER}, so shorten it"
        faults = (*faults, Fault(path, 1, message))
    if faults:
        return None, faults
    table, faults = read_yaml(text[block.start : block.end], path, 2)
    if table is None:
        return None, faults
    form = _Form(table, path, text[block.start : block.end])
    task = _read_task(form, blob)
    found = tuple(sorted((*faults, *form.faults), key=lambda fault: fault.line))
    return (task if task.id else None), found


def _find_encoding_faults(data: bytes, path: str) -> tuple[Fault, ...]:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return (Fault(path, line, f"the byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8"),)
    return ()


def _read_task(form: "_Form", blob: str) -> Task:
    task_id = form.id()
    dependencies = form.dependencies(task_id)
    return Task(
        id=task_id,
        name=form.name(),
        path=form.path,
        blob=blob,
        status=form.word("status", Status) or Status.PENDING,
        depends_on=tuple(dependencies),
        scope=form.word("scope", Scope),
        risk=form.word("risk", Risk),
        impact=form.word("impact", Impact),
        level=form.level(),
        priority=form.label("priority"),
        assignee=form.text("assignee"),
        tags=form.tags(),
        model=form.model(),
        role=form.role(),
        runs_on=form.text("runs_on") or "",
        spawned_by=form.spawned_by(),
        extra=form.rest(),
        lines=form.lines,
        dependency_lines=dependencies,
    )


class _Form:
    """Reads the keys of a front matter one by one and collects their faults."""

    def __init__(self, table: Table, path: str, text: str) -> None:
        self.path: str = path
        self._source: str = text
        self.faults: list[Fault] = []
        self.lines: dict[str, int] = {key.value: key.line for key, _ in table.pairs}
        self._left: dict[str, Node] = {key.value: value for key, value in table.pairs}

    def _fault(self, line: int, message: str, *, is_warning: bool = False) -> None:
        self.faults.append(Fault(self.path, line, show(message, MAX_MESSAGE), is_warning))

    def _take(self, key: str) -> Node | None:
        """The value of `key`; None if it is missing, null, or was rejected when the YAML was read."""
        node = self._left.pop(key, None)
        return None if isinstance(node, Scalar) and node.tag in ("null", "refused") else node

    def _text(self, key: str) -> str | None:
        """The value of `key` as it is written, with any characters."""
        node = self._take(key)
        return None if node is None else self._text_of(node, key, f"{key}: ")

    def text(self, key: str) -> str | None:
        """The value of `key` without surrounding white space."""
        text = self._text(key)
        return None if text is None else self._check_word(self.lines[key], key, text)

    def label(self, key: str) -> str | None:
        """Like `text`, but numbers and dates are read as text too."""
        node = self._left.get(key)
        if isinstance(node, Scalar) and node.tag not in ("null", "refused", "str"):
            self._left[key] = node._replace(tag="str")
        return self.text(key)

    def _check_word(self, line: int, what: str, text: str) -> str | None:
        """`text` without surrounding white space, if it is short enough and printable."""
        word = text.strip()
        if len(word) > MAX_WORD:
            return self._fault(line, f"{what} has {len(word)} characters; the limit is {MAX_WORD}")
        if hidden := find_hidden(word):
            return self._fault(line, f"{what} contains the invisible character {hidden!a}; remove it")
        return word

    def _text_of(self, node: Node, what: str, before: str) -> str | None:
        if not isinstance(node, Scalar):
            kind = "a list" if isinstance(node, Items) else "a mapping"
            return self._fault(node.line, f"{what} is {kind}; write a single text value")
        if node.tag == "str":
            return node.value
        kind, word = _KINDS.get(node.tag, "not text"), show(node.value)
        return self._fault(node.line, f'{what} {word} is {kind} in YAML; quote it: `{before}"{word}"`')

    def id(self) -> str:
        if "id" not in self.lines:
            stem = self.path.rpartition("/")[2].removesuffix(".md")
            self._fault(1, f"has no id; add a line such as `id: {quote(show(stem))}`")
        node = self._left.get("id")
        line = self.lines.get("id", 1)
        if node is not None and self._is_absent("id"):
            self._fault(line, "id is empty; give the task a unique id")
        task_id = self._text("id")
        if task_id is None or (fault := find_id_fault(task_id)) is None:
            return task_id or ""
        self._fault(line, f'id "{show(task_id)}" {fault}; use letters and digits, with `-`, `_`, `.` or `/` in between')
        return ""

    def name(self) -> str:
        """The value of `name`, else of `title`, on one line, because it becomes part of a commit's subject."""
        key = "title" if self._is_absent("name") else "name"
        if self._is_absent(key):
            self._fault(self.lines.get("name", 1), "has no name; add a line such as `name: Describe the task`")
        self._warn_of_comment(key)
        text = self._text(key)
        for other in ("name", "title"):
            self._left.pop(other, None)
        name = fold_printable(text or "")
        if text is not None and not name:
            self._fault(self.lines[key], f"{key} is empty; describe the task in a few words")
        if len(name) > MAX_NAME:
            message = f"{key} has {len(name)} characters; shorten it to {MAX_NAME} and put the rest in the body"
            self._fault(self.lines[key], message)
        return name

    def _warn_of_comment(self, key: str) -> None:
        """Warn if the value ends at a `#` that looks as if it belonged to it, such as that of `Close #12`."""
        node = self._left.get(key)
        rest = self._source[node.end :].partition("\n")[0].strip() if isinstance(node, Scalar) else ""
        if _NUMBER_SIGN.match(rest):
            message = f'{key} ends before "{show(rest)}", which is a comment in YAML; put the whole {key} in quotes'
            self._fault(self.lines[key], message, is_warning=True)

    def _is_absent(self, key: str) -> bool:
        node = self._left.get(key)
        return node is None or (isinstance(node, Scalar) and node.tag == "null")

    def word(self, key: str, words: type[_Word]) -> _Word | None:
        """The value of `key` as one of `words`; ignores case, and accepts `_` or a space for `-`."""
        text = self.text(key)
        if text is None:
            return None
        if isinstance(known := _map_words(words).get(text), words):
            return known
        plain = "-".join(text.casefold().replace("_", " ").replace("-", " ").split())
        with suppress(ValueError):
            return words(plain)
        values = [word.value for word in words]
        choice = f"{', '.join(values[:-1])} or {values[-1]}"
        return self._fault(self.lines[key], f'{key} "{show(text)}" is not known; use {choice}{suggest(plain, values)}')

    def level(self) -> str | None:
        text = self.text("level")
        if text is None or text.casefold() in KNOWN_LEVELS:
            return text and text.casefold()
        hint = suggest(text.casefold(), KNOWN_LEVELS)
        message = f'level "{show(text)}" is not a standard level and is used as given{hint}'
        self._fault(self.lines["level"], message, is_warning=True)
        return text

    def model(self) -> str:
        text = self.text("model")
        if text is None or is_model_name(text):
            return text or ""
        advice = "write it as `opencode models` lists it, or remove it"
        self._fault(self.lines["model"], f'model "{show(text)}" is not provider/model; {advice}')
        return ""

    def role(self) -> str:
        text = self.text("role")
        if text is None or is_role_name(text):
            return text or ""
        self._fault(self.lines["role"], f'role "{show(text)}" is not the name of a role; correct it, or remove it')
        return ""

    def spawned_by(self) -> str:
        text = self.text("spawned_by")
        if text is None or find_id_fault(text) is None:
            return text or ""
        self._fault(self.lines["spawned_by"], f'spawned_by "{show(text)}" is not the id of a task; remove it')
        return ""

    def dependencies(self, task_id: str) -> dict[str, int]:
        """Each id in `depends_on` with its line, in the order of the file."""
        given = [(key, node) for key in DEPENDENCY_KEYS if (node := self._take(key))]
        if len(given) > 1:
            lines = f"lines {self.lines['depends_on']} and {self.lines['dependsOn']}"
            self._fault(given[1][1].line, f"depends_on and dependsOn are both given ({lines}); keep one list")
        found: dict[str, int] = {}
        for key, node in given:
            for item in self._items(key, node):
                self._add_dependency(found, key, item, task_id)
        return found

    def _add_dependency(self, found: dict[str, int], key: str, item: Node, task_id: str) -> None:
        text = self._item_text(key, item)
        if text is None:
            return
        if fault := find_id_fault(text):
            self._fault(item.line, f'{key} names "{show(text)}", which is not a valid id: it {fault}. Fix or remove it')
        elif text == task_id:
            self._fault(item.line, f'{key} names the task itself, "{text}"; remove it')
        elif text in found:
            message = f'{key} names "{text}" twice, first on line {found[text]}; remove one'
            self._fault(item.line, message, is_warning=True)
        else:
            found[text] = item.line

    def _items(self, key: str, node: Node) -> Sequence[Node]:
        if isinstance(node, Items):
            return node.nodes
        text = show(node.value) if isinstance(node, Scalar) else "first-id, second-id"
        items = quote_items(", ".join(text.replace(",", " ").split()) if key in DEPENDENCY_KEYS else text)
        self._fault(node.line, f"{key} is not a list; write `{key}: [{items}]`")
        return ()

    def _item_text(self, key: str, item: Node) -> str | None:
        if not isinstance(item, Scalar):
            return self._fault(
                item.line, f"{key} contains a {'list' if isinstance(item, Items) else 'mapping'}; write one id per item"
            )
        if item.tag == "refused":
            return None
        if not item.value.strip() or item.tag == "null":
            return self._fault(item.line, f"{key} contains an empty item; remove it")
        return self._text_of(item, f"{key} item", "")

    def tags(self) -> tuple[str, ...]:
        node = self._take("tags")
        items = () if node is None else self._items("tags", node)
        found = (
            self._check_word(item.line, "tags item", item.value)
            for item in items
            if isinstance(item, Scalar) and item.tag not in ("null", "refused")
        )
        return tuple(word for word in found if word is not None)

    def rest(self) -> dict[str, object]:
        """The keys that were not read, with a warning for those that look like a list of dependencies."""
        for key in self._left:
            if _is_like_dependencies(key):
                message = f'"{show(key)}" is ignored; write `depends_on` if this task should wait for others'
                self._fault(self.lines[key], message, is_warning=True)
        return {key: to_value(node) for key, node in self._left.items()}


@cache
def _map_words(words: type[StrEnum]) -> Mapping[str, StrEnum]:
    return {word.value: word for word in words}


@lru_cache(maxsize=1024)
def _is_like_dependencies(key: str) -> bool:
    return bool(get_close_matches(key.casefold().replace("-", "_"), _LOOKALIKES, n=1, cutoff=0.85))


def render_task(
    task_id: str,
    name: str,
    *,
    status: Status = Status.PENDING,
    level: str | None = None,
    assignee: str | None = None,
    depends_on: Sequence[str] = (),
    scope: str | None = None,
    body: str = "",
) -> str:
    """The text of a new task file; `body` is the markdown below its front matter, used unchanged."""
    lines = [
        "---",
        f"id: {quote(task_id)}",
        f"name: {quote(show(fold_printable(name), MAX_NAME))}",
        f"status: {status.value}",
    ]
    if level:
        lines.append(f"level: {quote(level)}")
    if assignee:
        lines.append(f"assignee: {quote(assignee)}")
    if scope:
        lines.append(f"scope: {scope}")
    if depends_on:
        lines.append(f"depends_on: [{', '.join(map(quote, depends_on))}]")
    text = "\n".join([*lines, "---", ""])
    return f"{text}\n{body.rstrip()}\n" if body.strip() else text
