"""Reads a YAML file and the variables that override it into a model, and says how to fix each fault."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, TypeGuard, TypeVar, cast, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from tasks_lib.errors import Fault, InputError
from tasks_lib.naming import MAX_MESSAGE, show
from tasks_lib.suggestions import suggest
from tasks_lib.yaml_nodes import Items, Node, Scalar, Table, quote_items, read_yaml, to_value

Model = TypeVar("Model", bound=BaseModel)
Location = Sequence[str | int]
MAX_CHARS = 200_000
"""Maximum size of a file: a hundred times what is ever needed, and parsed in less than a second."""
_NUMBERS = ("int_", "float_", "finite_", "greater_", "less_")


class _Place(NamedTuple):
    """Where a value was given: a file and its line, or a variable and 0."""

    path: str
    line: int


class _Given(NamedTuple):
    """The given values, and the place of each."""

    values: dict[str, Any]
    places: dict[tuple[str | int, ...], _Place]


def read_model(
    model: type[Model], text: str, path: str, environment: Mapping[str, str], prefix: str, reserved: frozenset[str]
) -> Model:
    """Read `text` into `model`; variables that start with `prefix` and name one of its keys override the file.

    `__` separates a section from its key, and `reserved` names are ignored. A null in the file or an empty variable
    counts as not given. Raises InputError with every fault.
    """
    if len(text) > MAX_CHARS:
        raise InputError([Fault(path, 0, f"has {len(text)} characters; the limit is {MAX_CHARS}, so shorten it")])
    table, found = read_yaml(text, path, 1, what="the file")
    faults = list(found)
    given = _Given({}, {})
    if table is not None:
        given = _Given(_collect(table, (), path, given.places), given.places)
    for name in sorted(environment):
        if name.startswith(prefix) and name == name.upper() and name not in reserved:
            faults += _overlay(model, given, name, name[len(prefix) :].casefold().split("__"), environment[name])
    try:
        result = model.model_validate(given.values, by_alias=True, by_name=False)
    except ValidationError as error:
        details = error.errors(include_url=False)
        places = _index_places(given)
        raise InputError({*faults, *(_explain(model, places, detail) for detail in details)}) from None
    if faults or table is None:
        raise InputError(faults)
    return result


def _collect(
    node: Node, location: tuple[str | int, ...], path: str, places: dict[tuple[str | int, ...], _Place]
) -> Any:
    """The plain value of `node`, without keys that are null; records in `places` where each value is."""
    places.setdefault(location, _Place(path, node.line))
    if isinstance(node, Items):
        # Values that were rejected when the YAML was read have been reported already.
        items = [item for item in node.nodes if not isinstance(item, Scalar) or item.tag != "refused"]
        return [_collect(item, (*location, number), path, places) for number, item in enumerate(items)]
    if not isinstance(node, Table):
        return to_value(node)
    values: dict[str, Any] = {}
    for key, value in node.pairs:
        inner = (*location, key.value)
        places[inner] = _Place(path, key.line)
        found = _collect(value, inner, path, places)
        if found is not None:
            values[key.value] = found
    return values


def _overlay(model: type[BaseModel], given: _Given, name: str, keys: Sequence[str], text: str) -> list[Fault]:
    """Override the file's value with the variable `name`, if that names a key."""
    annotation = _find_annotation(model, keys)
    if annotation is None or not text.strip():
        return []
    if any("\ud800" <= char <= "\udfff" for char in text):
        return [Fault(name, 0, "its value contains bytes that are not UTF-8; write it in UTF-8")]
    section = given.values
    for key in keys[:-1]:
        inner: Any = section.setdefault(key, {})
        if not isinstance(inner, dict):
            return []  # The file's own value is a fault and is reported as one.
        section = cast("dict[str, Any]", inner)
    for location in [known for known in given.places if known[: len(keys)] == tuple(keys)]:
        del given.places[location]
    given.places[tuple(keys)] = _Place(name, 0)
    if annotation is str or get_origin(annotation) is Literal:
        section[keys[-1]] = text
        return []
    block = "value:\n" + "".join(f" {line}\n" for line in text.splitlines())
    table, faults = read_yaml(block, name, what="its value")
    if table is not None and table.pairs:
        value = _collect(table.pairs[0][1], tuple(keys), name, given.places)
        section[keys[-1]] = value
        for location in [known for known in given.places if known[: len(keys)] == tuple(keys)]:
            given.places[location] = _Place(name, 0)
    return [Fault(name, 0, fault.message) for fault in faults]


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {info.alias or name: info for name, info in model.model_fields.items()}


def _find_annotation(model: Any, keys: Sequence[str | int]) -> Any:
    """The type of the value at `keys`, or None if there is no such key."""
    for key in keys:
        if _is_section(model):
            info = _fields(model).get(str(key))
            model = info.annotation if info else None
        elif get_origin(model) is tuple and isinstance(key, int):
            model = get_args(model)[0]
        else:
            model = _get_value_type(model) if get_origin(model) is Mapping else None
    return model


def _get_value_type(mapping: Any) -> Any:
    """The type of the values of `mapping`, without its validators."""
    value = get_args(mapping)[1]
    return get_args(value)[0] if get_origin(value) is Annotated else value


def _is_section(annotation: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _find_field(model: Any, location: Location) -> FieldInfo | None:
    section = _find_annotation(model, location[:-1])
    return _fields(section).get(str(location[-1])) if _is_section(section) else None


def _index_places(given: _Given) -> dict[tuple[str | int, ...], _Place]:
    """The place of every given value, and for each section without a place of its own that of a value in it.

    So a fault in a section that only a variable sets names that variable.
    """
    places = dict(given.places)
    for location, place in given.places.items():
        for end in range(len(location) - 1, -1, -1):
            places.setdefault(location[:end], place)
    return places


def _explain(model: type[BaseModel], places: Mapping[tuple[str | int, ...], _Place], detail: Any) -> Fault:
    """Turn one of pydantic's errors into a fault."""
    location = tuple(part for part in detail["loc"] if part != "[key]")
    above = (location[:end] for end in range(len(location), -1, -1))
    place = next((places[one] for one in above if one in places), _Place("", 0))
    message = _describe(model, location, detail)
    if place.line == 0 and detail["type"] in ("tuple_type", "list_type"):
        message = (
            f"{_name(location)} is not a list; write it as YAML, e.g. `[{quote_items(show(str(detail['input'])))}]`"
        )
    return Fault(place.path, place.line, show(message, MAX_MESSAGE))


def _describe(model: type[BaseModel], location: Location, detail: Any) -> str:
    kind: str = detail["type"]
    value: object = detail["input"]
    label = _name(location)
    if kind == "extra_forbidden" or (kind == "literal_error" and "[key]" in detail["loc"]):
        return _describe_unknown(model, location)
    if kind == "value_error":
        return f"{label} {detail['ctx']['error']}"
    if kind == "literal_error":
        return f"{label} is {_show(value)}; {_describe_choice(_find_annotation(model, location), value)}"
    if kind.startswith(_NUMBERS):
        return f"{label} is {_show(value)}; write {_describe_range(_find_field(model, location))}"
    if kind in ("tuple_type", "list_type"):
        example = quote_items(show(str(value))) if isinstance(value, str | int | float) else "first, second"
        return f"{label} is not a list; write `{show(str(location[-1]))}: [{example}]`"
    if kind == "string_type":
        return f"{label} is {_show(value)}, not text; {_describe_text(value)}"
    if kind in ("model_type", "model_attributes_type", "mapping_type", "dict_type"):
        return f"{label} is {_show(value)}; write its keys below it, indented, one per line"
    return f"{label}: {detail['msg']}"


def _name(location: Location) -> str:
    words = [show(part) for part in location if isinstance(part, str)]
    last = location[-1] if location else ""
    item = f" item {last + 1}" if isinstance(last, int) else ""
    return ".".join(words) + item


def _show(value: object) -> str:
    if isinstance(value, str):
        return f'"{show(value)}"'
    if isinstance(value, Mapping | list | tuple):
        return "a mapping" if isinstance(value, Mapping) else "a list"
    return "empty" if value is None else str(value).lower()


def _describe_unknown(model: type[BaseModel], location: Location) -> str:
    section = _find_annotation(model, location[:-1]) or model
    known = sorted(_fields(section) if _is_section(section) else get_args(get_args(section)[0]))
    where = f" of {_name(location[:-1])}" if len(location) > 1 else ""
    hint = suggest(str(location[-1]).casefold(), known)
    return f'"{show(str(location[-1]))}" is not a known key{where}' + (hint or f"; the keys are {', '.join(known)}")


def _describe_choice(annotation: Any, value: object) -> str:
    words = [str(word) for word in get_args(annotation)]
    if len(words) == 1:
        return f'this version supports only "{words[0]}"'
    return f"use {', '.join(words[:-1])} or {words[-1]}{suggest(str(value).casefold(), words)}"


def _describe_range(info: FieldInfo | None) -> str:
    metadata = info.metadata if info else []
    bounds = {
        name: bound
        for name in ("ge", "gt", "le")
        for entry in metadata
        if (bound := getattr(entry, name, None)) is not None
    }
    number = "a whole number" if info and info.annotation is int else "a number"
    if "ge" in bounds and "le" in bounds:
        return f"{number} from {bounds['ge']} to {bounds['le']}"
    return f"{number}, {bounds['ge']} or more" if "ge" in bounds else f"{number} above {bounds.get('gt', 0)}"


def _describe_text(value: object) -> str:
    if value is None:
        return "remove the item, or fill it in"
    return "write text" if isinstance(value, Mapping | list | tuple) else f'quote it: "{_show(value)}"'
