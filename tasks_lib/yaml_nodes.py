"""Reads YAML into nodes that know their place in the text, and refuses what a person's file has no need of.

Aliases, anchors, tags, duplicate keys, several documents and deep nesting are faults, so a file can neither grow when
it is read nor make objects. Offsets and lines are of the text as given: an edit can replace one value and no more.
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
"""libyaml's reader where PyYAML was built with it; ten times as fast as the one in Python."""

MAX_DEPTH = 32
_MAX_DIGITS = 400
"""Python reads longer numbers in base 16, and then refuses to write them."""
_UNPRINTABLE = re.compile(
    r"[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]|\r(?!\n)"
)
"""What YAML refuses, and what ends a line for YAML alone, where an edit would be put into the wrong place."""
_COLON = re.compile(r"[ \t]*:")
_PLAIN = re.compile(r"[^\W\d](?:[\w ./+-]*\w)?", re.ASCII)
_AMBIGUOUS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
_RESOLVER: Any = Resolver()
_HINTS = (
    ("mapping values are not allowed", "quote a value that holds ': '"),
    ("cannot start any token", "indent with spaces, not tabs, and quote a value that starts with @, ` or %"),
    ("could not find expected ':'", "write `key: value`, and indent the further lines of a long value"),
    ("unexpected end of stream", "close the quote that is open"),
    ("expected <block end>", "let all keys of one level start in the same column"),
    ("expected alphabetic or numeric", "quote a value that starts with * or &"),
    ("expected ',' or", "close the bracket that is open"),
)


class Scalar(NamedTuple):
    """A single value: `tag` is what YAML takes it for (`str`, `null`, `int`, `timestamp` …), `refused` if faulted."""

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
    """A mapping in the order of the text; no key stands twice."""

    pairs: "Sequence[tuple[Scalar, Node]]"
    start: int
    end: int
    line: int
    is_flow: bool


Node = Scalar | Items | Table


class _UnreadableError(Exception):
    """Nothing after `index` can be read."""

    def __init__(self, index: int, message: str) -> None:
        super().__init__(message)
        self.index: int = index


def read_yaml(
    text: str, path: str, first_line: int = 1, *, what: str = "the front matter", loader: Any = LOADER
) -> tuple[Table | None, tuple[Fault, ...]]:
    """Read one mapping from `text`, whose first line is line `first_line` of `path`.

    The faults are all that were found. The table is None when the text could not be read to its end; an empty text
    is a table without pairs. `what` names the text in messages.
    """
    reader = _Reader(text, path, first_line, what)
    try:
        if found := _UNPRINTABLE.search(text):
            raise _UnreadableError(found.start(), f"holds the character {found.group()!a}; take it out")  # noqa: TRY301
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
    """Builds nodes from the events of one text, one level of brackets or indentation a call."""

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
        # An error at the very end is about the last line, not about the one after it.
        inside = min(index, self._last)
        self.faults.append(Fault(self._path, self._line(inside), show(message, MAX_MESSAGE)))

    def _line(self, index: int) -> int:
        """The line of `index`; events come in order, so lines are counted on from the last answer."""
        seen, line = self._seen if self._seen[0] <= index else (0, self._first_line)
        self._seen = (index, line + self._text.count("\n", seen, index))
        return self._seen[1]

    def read(self, loader: Any) -> Table | None:
        # What `yaml.parse` gives, without asking before each event whether there is one.
        self._events = iter(loader(self._text).get_event, None)
        root: Node | None = None
        for event in self._events:
            if _is(event, yaml.DocumentStartEvent):
                if root is not None:
                    raise _UnreadableError(
                        event.start_mark.index, "holds a second document; take out the `---` or `...`"
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
            raise _UnreadableError(start, f"is nested more than {MAX_DEPTH} levels deep; make it flatter")
        refusal = _find_refusal(event)
        if refusal:
            self.fault(start, refusal)
        line = self._line(start)
        if _is(event, yaml.MappingStartEvent):
            node: Node = self._table(event, depth, line)
        elif _is(event, yaml.SequenceStartEvent):
            node = self._items(event, depth, line)
        else:
            node = _scalar(event, line)
        return node if refusal is None else Scalar("", "refused", start, node.end, line)

    def _items(self, event: Any, depth: int, line: int) -> Items:
        nodes: list[Node] = []
        while not _is(inner := next(self._events), yaml.SequenceEndEvent):
            nodes.append(self._node(inner, depth + 1))
        return Items(nodes, event.start_mark.index, inner.end_mark.index, line, bool(event.flow_style))

    def _table(self, event: Any, depth: int, line: int) -> Table:
        pairs: list[tuple[Scalar, Node]] = []
        lines: dict[str, int] = {}
        while not _is(inner := next(self._events), yaml.MappingEndEvent):
            key = self._node(inner, depth + 1)
            value = self._node(next(self._events), depth + 1)
            if not isinstance(key, Scalar):
                self.fault(key.start, "a list or a mapping cannot be a key; write a word before the colon")
            elif key.tag != "refused" and key.value in lines:
                first = lines[key.value]
                self.fault(key.start, f'"{show(key.value)}" stands twice, first on line {first}; take one out')
            elif value.end == value.start and not _COLON.match(self._text, key.end):
                # There is no place where a value could be put: `? key`, or `{key}`.
                self.fault(key.start, f'"{show(key.value)}" has no colon; write `key: value`, or take it out')
            else:
                lines[key.value] = key.line
                pairs.append((key, value))
        return Table(pairs, event.start_mark.index, inner.end_mark.index, line, bool(event.flow_style))


def _is(event: Any, kind: type) -> bool:
    return isinstance(event, kind)


def _find_refusal(event: Any) -> str | None:
    if _is(event, yaml.AliasEvent):
        return f"the alias *{show(event.anchor)} is refused; write the value out, or quote it if the star is meant"
    if event.anchor is not None:
        return f"the anchor &{show(event.anchor)} is refused; take it out, or quote the value if the ampersand is meant"
    if event.tag is not None:
        tag = str(event.tag).replace("tag:yaml.org,2002:", "!!")
        return f"the tag {show(tag)} is refused; write the value without it, quoted if it is text"
    return None


def _scalar(event: Any, line: int) -> Scalar:
    if _is(event, yaml.AliasEvent):
        return Scalar("", "refused", event.start_mark.index, event.end_mark.index, line)
    tag = find_tag(event.value) if event.implicit[0] else "str"
    return Scalar(event.value, tag, event.start_mark.index, event.end_mark.index, line, event.style or "")


@lru_cache(maxsize=4096)
def find_tag(word: str) -> str:
    """What YAML 1.1 takes the unquoted `word` for: `str`, `null`, `bool`, `int`, `float`, `timestamp` …"""
    return str(_RESOLVER.resolve(yaml.ScalarNode, word, (True, False))).rpartition(":")[2]


def to_value(node: Node) -> Any:
    """The plain value of `node`: None, bool, int, float, str, list, or dict with str keys.

    Dates, numbers in base 8 or 60 and those of hundreds of digits stay text as written, because they are most often
    meant as text.
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
    """`text` as YAML on one line, in any kind of list: as it is where YAML reads it back as text, else quoted."""
    if _PLAIN.fullmatch(text) and text.casefold() not in _AMBIGUOUS and find_tag(text) == "str":
        return text
    if text.isprintable() and not _UNPRINTABLE.search(text):
        return "'" + text.replace("'", "''") + "'"
    return '"' + "".join(_escape(character) for character in text) + '"'


def _escape(character: str) -> str:
    code = ord(character)
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable() and not _UNPRINTABLE.match(character):
        return character
    if 0xD800 <= code <= 0xDFFF:
        return "\ufffd"  # Half of a surrogate pair is no character, and YAML has no way to write it.
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
