"""Reads YAML into nodes that know their position in the text, and rejects features that task files do not need.

Aliases, anchors, tags, duplicate keys, multiple documents and deep nesting are faults, so a file can neither expand
when it is read nor create objects. Offsets and lines refer to the text as given, so an edit can replace one value only.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, cast

import yaml
from yaml.resolver import Resolver

from tasks_lib.errors import Fault
from tasks_lib.naming import MAX_MESSAGE, show
from tasks_lib.text import fold

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's loader if PyYAML was built with it: ten times as fast as the one in Python."""

MAX_DEPTH = 32
_MAX_DIGITS = 400
"""Python can read longer numbers in base 16, but refuses to print them."""
_UNPRINTABLE = re.compile(
    r"[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]|\r(?!\n)"
)
"""Characters that YAML rejects, and line breaks that only YAML knows, which would misplace an edit."""
_COLON = re.compile(r"[ \t]*:")
_PLAIN = re.compile(r"[^\W\d](?:[\w ./+-]*\w)?", re.ASCII)
_WORD = re.compile(r"[\w./@+-]+")
_AMBIGUOUS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
_RESOLVER: Any = Resolver()
_HINTS = (
    ("mapping values are not allowed", "quote a value that contains ': '"),
    ("cannot start any token", "indent with spaces, not tabs, and quote a value that starts with @, ` or %"),
    ("could not find expected ':'", "write `key: value`, and indent the continuation lines of a long value"),
    ("unexpected end of stream", "close the open quote"),
    ("expected <block end>", "start all keys of one level in the same column"),
    ("expected alphabetic or numeric", "quote a value that starts with * or &"),
    ("expected ',' or", "close the open bracket"),
)


class Scalar(NamedTuple):
    """A single value; `tag` is its YAML type (`str`, `null`, `int`, `timestamp` …), or `refused` if it is a fault."""

    value: str
    tag: str
    start: int
    end: int
    line: int
    style: str = ""


class Items(NamedTuple):
    """A list; `start` is its bracket or its first dash."""

    nodes: "Sequence[Node]"
    start: int
    end: int
    line: int
    is_flow: bool


class Table(NamedTuple):
    """A mapping in the order of the text, without duplicate keys."""

    pairs: "Sequence[tuple[Scalar, Node]]"
    start: int
    end: int
    line: int
    is_flow: bool


Node = Scalar | Items | Table


class _UnreadableError(Exception):
    """The text cannot be read beyond `index`."""

    def __init__(self, index: int, message: str) -> None:
        super().__init__(message)
        self.index: int = index


def read_yaml(
    text: str, path: str, first_line: int = 1, *, what: str = "the front matter", loader: Any = LOADER
) -> tuple[Table | None, tuple[Fault, ...]]:
    """Read one mapping from `text`, whose first line is line `first_line` of `path`.

    Returns the table and every fault. The table is None if the text could not be read to its end; an empty text gives
    a table without pairs. `what` names the text in messages.
    """
    reader = _Reader(text, path, first_line, what)
    try:
        if found := _UNPRINTABLE.search(text):
            raise _UnreadableError(found.start(), f"contains the character {found.group()!a}; remove it")  # noqa: TRY301
        return reader.read(loader), tuple(reader.faults)
    except _UnreadableError as error:
        reader.fault(error.index, f"{what} {error}")
    except yaml.MarkedYAMLError as error:
        mark = cast("Any", error.problem_mark or error.context_mark)
        message = _explain(error.problem or "it cannot be read", error.context)
        reader.fault(mark.index if mark else 0, f"{what} is not valid YAML: {message}")
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        reader.fault(0, f"{what} is not valid YAML: {fold(str(error))}")
    return None, tuple(reader.faults)


def _explain(problem: str, context: str | None) -> str:
    hint = next((fix for words, fix in _HINTS if words in problem), "check the indentation and the quotes")
    return f"{problem}{f' ({context})' if context else ''}; {hint}"


class _Reader:
    """Builds nodes from the events of one text; each call reads one level of nesting."""

    def __init__(self, text: str, path: str, first_line: int, what: str) -> None:
        self.faults: list[Fault] = []
        self._text: str = text
        self._last: int = len(text.rstrip("\r\n"))
        self._path: str = path
        self._what: str = what
        self._events: Iterator[Any] = iter(())
        self._first_line: int = first_line
        self._seen: tuple[int, int] = (0, first_line)

    def fault(self, index: int, message: str) -> None:
        # An error at the very end belongs to the last line, not to the one after it.
        inside = min(index, self._last)
        self.faults.append(Fault(self._path, self._line(inside), show(message, MAX_MESSAGE)))

    def _line(self, index: int) -> int:
        """The line of `index`, counted from the previous answer, because events arrive in order."""
        seen, line = self._seen if self._seen[0] <= index else (0, self._first_line)
        self._seen = (index, line + self._text.count("\n", seen, index))
        return self._seen[1]

    def read(self, loader: Any) -> Table | None:
        # Like `yaml.parse`, but without a check before each event.
        self._events = iter(loader(self._text).get_event, None)
        root: Node | None = None
        for event in self._events:
            if event.__class__ is yaml.DocumentStartEvent:
                if root is not None:
                    raise _UnreadableError(
                        event.start_mark.index, "contains a second document; remove the `---` or `...`"
                    )
                root = self._node(next(self._events), 0)
        if root is None or (isinstance(root, Scalar) and root.tag == "null"):
            return Table((), 0, 0, self._first_line, False)
        if isinstance(root, Table):
            return root
        if not isinstance(root, Scalar) or root.tag != "refused":
            self.fault(root.start, f"{self._what} is not a mapping; write lines of `key: value`")
        return None

    def _node(self, event: Any, depth: int) -> Node:
        start: int = event.start_mark.index
        if depth > MAX_DEPTH:
            raise _UnreadableError(start, f"is nested more than {MAX_DEPTH} levels deep; flatten it")
        kind: type[object] = event.__class__
        line = self._line(start)
        if kind is yaml.ScalarEvent and event.anchor is None and event.tag is None:  # Nearly all are such.
            return _scalar(event, line)
        refusal = _find_refusal(event)
        if refusal:
            self.fault(start, refusal)
        if kind is yaml.MappingStartEvent:
            node: Node = self._table(event, depth, line)
        elif kind is yaml.SequenceStartEvent:
            node = self._items(event, depth, line)
        elif kind is yaml.AliasEvent:
            node = Scalar("", "refused", start, event.end_mark.index, line)
        else:
            node = _scalar(event, line)
        return node if refusal is None else Scalar("", "refused", start, node.end, line)

    def _items(self, event: Any, depth: int, line: int) -> Items:
        nodes: list[Node] = []
        while (inner := next(self._events)).__class__ is not yaml.SequenceEndEvent:
            nodes.append(self._node(inner, depth + 1))
        return Items(nodes, event.start_mark.index, inner.end_mark.index, line, bool(event.flow_style))

    def _table(self, event: Any, depth: int, line: int) -> Table:
        pairs: list[tuple[Scalar, Node]] = []
        lines: dict[str, int] = {}
        while (inner := next(self._events)).__class__ is not yaml.MappingEndEvent:
            key = self._node(inner, depth + 1)
            value = self._node(next(self._events), depth + 1)
            if not isinstance(key, Scalar):
                self.fault(key.start, "a list or a mapping cannot be a key; write a word before the colon")
            elif key.tag != "refused" and key.value in lines:
                first = lines[key.value]
                self.fault(key.start, f'"{show(key.value)}" is given twice, first on line {first}; remove one')
            elif value.end == value.start and not _COLON.match(self._text, key.end):
                # An edit could not put a value here: `? key`, or `{key}`.
                self.fault(key.start, f'"{show(key.value)}" has no colon; write `key: value`, or remove it')
            else:
                lines[key.value] = key.line
                pairs.append((key, value))
        return Table(pairs, event.start_mark.index, inner.end_mark.index, line, bool(event.flow_style))


def _find_refusal(event: Any) -> str | None:
    if event.__class__ is yaml.AliasEvent:
        return f"the alias *{show(event.anchor)} is not allowed; write out the value, or quote it if the * is literal"
    if event.anchor is not None:
        return f"the anchor &{show(event.anchor)} is not allowed; remove it, or quote the value if the & is literal"
    if event.tag is not None:
        tag = str(event.tag).replace("tag:yaml.org,2002:", "!!")
        return f"the tag {show(tag)} is not allowed; write the value without it, in quotes if it is text"
    return None


def _scalar(event: Any, line: int) -> Scalar:
    tag = find_tag(event.value) if event.implicit[0] else "str"
    return Scalar(event.value, tag, event.start_mark.index, event.end_mark.index, line, event.style or "")


@lru_cache(maxsize=4096)
def find_tag(word: str) -> str:
    """The YAML 1.1 type of the unquoted `word`: `str`, `null`, `bool`, `int`, `float`, `timestamp` …"""
    return str(_RESOLVER.resolve(yaml.ScalarNode, word, (True, False))).rpartition(":")[2]


def to_value(node: Node) -> Any:
    """The plain value of `node`: None, bool, int, float, str, list, or dict with str keys.

    Dates, numbers in base 8 or 60 and numbers with hundreds of digits stay text, because they are usually meant as
    text.
    """
    if isinstance(node, Table):
        return {key.value: to_value(value) for key, value in node.pairs}
    if isinstance(node, Items):
        return [to_value(item) for item in node.nodes]
    return _convert(node)


def _convert(node: Scalar) -> Any:
    word = node.value.replace("_", "")
    if len(word) > _MAX_DIGITS and node.tag in ("int", "float"):
        return node.value
    try:
        match node.tag:
            case "null" | "refused":
                return None
            case "bool":
                return word.casefold() in ("yes", "true", "on")
            case "int":
                return int(word, 0)
            case "float":
                return float(word)
            case _:
                return node.value
    except ValueError:
        return node.value


def quote(text: str) -> str:
    """`text` as a one-line YAML value for any kind of list, quoted unless YAML reads it back as the same text."""
    if _PLAIN.fullmatch(text) and text.casefold() not in _AMBIGUOUS and find_tag(text) == "str":
        return text
    if text.isprintable() and not _UNPRINTABLE.search(text):
        return "'" + text.replace("'", "''") + "'"
    return '"' + "".join(_escape(character) for character in text) + '"'


def quote_items(text: str) -> str:
    """`text` as the items of a one-line YAML list: its parts between commas if each is a word, else `text` as one."""
    parts = [part.strip() for part in text.split(",")]
    return ", ".join(map(quote, parts)) if all(map(_WORD.fullmatch, parts)) else quote(text)


def _escape(character: str) -> str:
    code = ord(character)
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable() and not _UNPRINTABLE.match(character):
        return character
    if 0xD800 <= code <= 0xDFFF:
        return "\ufffd"  # YAML cannot represent a lone surrogate.
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
