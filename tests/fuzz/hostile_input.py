"""Makes hostile input from a seed: task files, configurations and everything else that people write in a repository."""

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hostile_values import ANY, BOMB, BYTES, LINES, MEANT, MERGES, PATHS, SNIPPETS, TASK_KEYS, TEXTS, USUAL
from task_file_styles import write_task_file

from tasks_lib.prompts.templates import PLACEHOLDERS, SHIPPED
from tasks_lib.settings.schema import settings_schema, starter_settings

TOP = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Case:
    """One hostile input: `files` by path, and environment variables; `seed` and `number` reproduce it.

    `reader` is what reads it: `task`, `tasks` (all of `files` together), `settings`, `taskgraph` or `prompt`.
    """

    kind: str
    reader: str
    seed: int
    number: int
    files: Mapping[str, bytes]
    environment: Mapping[str, str] = field(default_factory=dict[str, str])


def make_case(seed: int, number: int) -> Case:
    """Make case `number`; it is the same for the same `seed` on any machine."""
    rng = random.Random(f"{seed}:{number}")
    kind = rng.choices(list(KINDS), [weight for weight, _, _ in KINDS.values()])[0]
    _, reader, make = KINDS[kind]
    files, environment = make(rng)
    return Case(kind, reader, seed, number, files, environment)


_Made = tuple[dict[str, bytes], dict[str, str]]


def quote_yaml(text: str) -> str:
    """Write any `text` as a double-quoted YAML scalar; lone surrogates stay as they are."""
    escaped = "".join(
        f"\\{one}" if one in '"\\' else one if one.isprintable() or one > "\uffff" else f"\\u{ord(one):04x}"
        for one in text
    )
    return f'"{escaped}"'


def make_value(rng: random.Random) -> str:
    """A value as written in a YAML file, usually an unexpected one."""
    text = rng.choice(TEXTS)
    choice = rng.random()
    if choice < 0.4:
        return rng.choice(SNIPPETS)
    if choice < 0.6:
        return quote_yaml(text)
    if choice < 0.75:
        return text
    if choice < 0.9:
        return f"[{', '.join(quote_yaml(rng.choice(TEXTS)) for _ in range(rng.randint(0, 4)))}]"
    return f"{{{', '.join(f'{quote_yaml(rng.choice(TEXTS))}: {rng.choice(SNIPPETS)}' for _ in range(2))}}}"


def encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def read_examples(rng: random.Random) -> list[bytes]:
    """Task files as people write them."""
    return [
        *(file.read_bytes() for file in sorted((TOP / "examples/tasks").rglob("*.md"))),
        *(
            write_task_file(f"t{number}", ["a", "b/c"][: rng.randint(0, 2)], "pending", "review", rng)
            for number in range(6)
        ),
    ]


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Change parts of `data`, as by a typo, a broken disk or an attacker."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        data = rng.choice(MUTATIONS)(data, rng)
    return data


def _pick(data: bytes, rng: random.Random) -> tuple[int, int]:
    start = rng.randint(0, len(data))
    return start, rng.randint(start, min(len(data), start + rng.choice((1, 4, 40, 400))))


def _drop(data: bytes, rng: random.Random) -> bytes:
    start, end = _pick(data, rng)
    return data[:start] + data[end:]


def _repeat(data: bytes, rng: random.Random) -> bytes:
    start, end = _pick(data, rng)
    return data[:start] + data[start:end] * rng.choice((2, 3, 50, 500)) + data[end:]


def _insert(data: bytes, rng: random.Random) -> bytes:
    start, _ = _pick(data, rng)
    word = rng.choice((rng.choice(BYTES), encode(make_value(rng)), rng.randbytes(rng.randint(1, 8))))
    return data[:start] + word + data[start:]


def _flip(data: bytes, rng: random.Random) -> bytes:
    start, _ = _pick(data, rng)
    return data[:start] + bytes([rng.randrange(256)]) + data[start + 1 :]


def _revalue(data: bytes, rng: random.Random) -> bytes:
    """Replace the value of one key, or one list item."""
    places = list(re.finditer(rb"(?m)(?<=:)[^\n\r]*|(?<=- )[^\n\r]*", data))
    if not places:
        return data
    place = rng.choice(places)
    return data[: place.start()] + b" " + encode(make_value(rng)) + data[place.end() :]


def _shuffle(data: bytes, rng: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    first, second = rng.randrange(len(lines) or 1), rng.randrange(len(lines) or 1)
    if lines:
        lines[first], lines[second] = lines[second], lines[first]
    return b"".join(lines)


def _end_lines(data: bytes, rng: random.Random) -> bytes:
    return data.replace(b"\n", rng.choice((b"\r\n", b"\r", b"\n\n", b"\xc2\x85", b" \n", b"\n\t")))


def _recode(data: bytes, rng: random.Random) -> bytes:
    return data.decode("utf-8", "replace").encode(rng.choice(("utf-16", "utf-8-sig", "utf-32", "utf-16-be")))


MUTATIONS: Sequence[Callable[[bytes, random.Random], bytes]] = (
    *[_drop, _repeat, _insert, _insert, _shuffle, _end_lines] * 2, *[_revalue] * 6, _flip, _recode,
)  # fmt: skip


def make_front_matter(rng: random.Random) -> str:
    """Lines of `key: value`, a few of them valid."""
    more = rng.sample(TASK_KEYS[3:], k=rng.randint(0, 5)) if rng.random() < 0.9 else rng.choices(TASK_KEYS, k=3)
    keys = ["id", "name", *more]
    rng.shuffle(keys)
    if rng.random() < 0.2:
        keys.pop()
    if rng.random() < 0.03:
        return rng.choice((BOMB, MERGES)) + "id: x\nname: y\n"
    indent = rng.choice(("", "", "", "  "))
    usual = rng.choice((0.7, 0.97, 1))
    lines = [_make_entry(key, rng, usual) for key in keys]
    if rng.random() < 0.05:
        return f"{{{', '.join(lines)}}}\n"
    return "".join(f"{indent}{line}\n" for line in lines)


def _make_entry(key: str, rng: random.Random, usual: float) -> str:
    value = rng.choice(USUAL.get(key, ANY)) if rng.random() < usual else make_value(rng)
    shown = key if key.isprintable() and rng.random() < 0.9 else quote_yaml(key)
    if rng.random() < 0.05:
        return f"? {shown}\n: {value}" if rng.random() < 0.7 else f"? {shown}"
    return f"{shown}:{rng.choice((' ', ' ', '   '))}{value}{rng.choice(('', '', '   # why'))}"


def make_task_text(rng: random.Random) -> str:
    """A task file from the grammar, its front matter closed or not, with a body that mixes fences and headings."""
    body = "".join(f"{line}\n" for line in rng.choices(LINES, k=rng.randint(0, 14)))
    opening = rng.choice(("---", "---", "---", "--- ", "\ufeff---"))
    text = f"{opening}\n{make_front_matter(rng)}"
    text += rng.choice((*["---\n"] * 8, "--- \t\n", "...\n", "", "---")) + body
    if rng.random() < 0.3:
        text = text.rstrip("\n")
    if rng.random() < 0.2:
        text = text.replace("\n", "\r\n")
    return text


def make_settings_text(rng: random.Random) -> str:
    """A configuration that follows the schema, with values of the right type or anything else."""
    parts = _properties(_SCHEMA).items()
    usual = rng.choice((0.3, 0.9, 1))
    return "".join(_make_property(name, part, rng, 0, usual) for name, part in parts if rng.random() < 0.2)


_SCHEMA: Mapping[str, Any] = settings_schema()


def _properties(part: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" in part:
        part = _SCHEMA["$defs"][str(part["$ref"]).rpartition("/")[2]]
    return part.get("properties", {})


def list_keys(part: Mapping[str, Any] | None = None, above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every key of the configuration: sections and the keys in them."""
    found: list[tuple[str, ...]] = []
    for name, inner in _properties(_SCHEMA if part is None else part).items():
        found += [(*above, name), *list_keys(inner, (*above, name))]
    return found


def _make_property(name: str, part: Mapping[str, Any], rng: random.Random, depth: int, usual: float) -> str:
    inner = [(key, below) for key, below in _properties(part).items() if rng.random() < 0.4]
    pad = "  " * depth
    if inner and rng.random() < usual:
        return f"{pad}{name}:\n" + "".join(_make_property(key, below, rng, depth + 1, usual) for key, below in inner)
    return f"{pad}{name}: {_make_fitting(name, part, rng) if rng.random() < usual else make_value(rng)}\n"


def _make_fitting(name: str, part: Mapping[str, Any], rng: random.Random) -> str:
    """A value of the schema's type, usually a plausible one."""
    if name in MEANT and rng.random() < 0.8:
        return rng.choice(MEANT[name])
    if "enum" in part:
        return str(rng.choice(part["enum"]))
    match part.get("type"):
        case "integer":
            return str(rng.choice((0, 1, 1, 2, 2, 10, 256, -1, 10**30)))
        case "number":
            return str(rng.choice((0, 0.5, 1, 60, 300, 300, 3600, 1e308, -1)))
        case "array":
            return f"[{', '.join(quote_yaml(rng.choice(TEXTS)) for _ in range(rng.randint(0, 3)))}]"
        case "object":
            words = rng.choices((*SHIPPED, "review", "docs", "bash", "a b", "<<"), k=rng.randint(0, 2))
            return f"{{{', '.join(f'{word}: {quote_yaml(rng.choice(TEXTS))}' for word in words)}}}"
        case _:
            return quote_yaml(rng.choice(TEXTS))


def make_variables(rng: random.Random) -> dict[str, str]:
    """`COORDINATOR_*` variables, most of them named after a key."""
    names = ["__".join(key).upper() for key in rng.choices(list_keys(), k=rng.randint(1, 4))]
    if rng.random() < 0.3:
        names.append(rng.choice(("VERIFY__X", "__", "RETRY__", "ROLES__REVIEW", "AGENT__MODELS__X", "NOBODY")))
    # Environment variables contain no NUL, and bytes that are not UTF-8 appear as lone surrogates.
    return {f"COORDINATOR_{name}": rng.choice((make_value(rng), "\udcff")).replace("\0", "") for name in names}


def make_toml(rng: random.Random) -> str:
    """A `.taskgraph.toml`."""
    value = rng.choice(
        (
            '"tasks"', "'" + rng.choice(PATHS) + "'", "9" * 5_000, "0x" + "f" * 6_000, "2024-99-99", "1979-05-27T07:32:00Z",
            "[" * 3_000, "{" * 3_000, "[1, 2]", "{a = 1}", "true", "nan", '"""', '"\\ud800"', "", "-1", '""', "[]",
        )
    )  # fmt: skip
    keys = rng.choice(("tasks_dir", "tasks_dir", '"tasks_dir"', ".".join("a" * 500), "tasks_dir\ntasks_dir", "p.x"))
    head = rng.choice(("[project]", "[project]", "[[project]]", "project = 1", "[project.x]", "", "[" * 50, "[a]\n[a]"))
    return f"{head}\n{keys} = {value}\n"


def make_prompt(rng: random.Random) -> str:
    """A prompt text with known, unknown and unclosed placeholders."""
    text = SHIPPED[rng.choice(tuple(SHIPPED))]
    words = [f"${name}" for names in PLACEHOLDERS.values() for name in names]
    odd = ("$", "$$", "${", "${}", "${id", "${id}}", "$ID", "$nobody", "${" + "a" * 2000, "${\x1b[2J}", "$é")
    for _ in range(rng.randint(0, 5)):
        place = rng.randint(0, len(text))
        text = text[:place] + rng.choice((*odd, *words, *TEXTS)) + text[place:]
    return text


def _make_mutated_task(rng: random.Random) -> _Made:
    return {"tasks/a.md": mutate(rng.choice(read_examples(rng)), rng)}, {}


def _make_written_task(rng: random.Random) -> _Made:
    data = encode(make_task_text(rng))
    return {"tasks/a.md": mutate(data, rng) if rng.random() < 0.2 else data}, {}


def _make_tasks(rng: random.Random) -> _Made:
    """Several task files with duplicate ids, missing dependencies or cycles."""
    files: dict[str, bytes] = {}
    words = [*"abcde", "A", "a/b", "a-b", "caf\xe9", "CAF\xc9", "\ufb01x", "fix", "\u0430", "a" * 150]
    words += rng.choice(((), rng.choices(TEXTS, k=3)))
    ids = rng.sample(words, k=rng.randint(2, 10))
    is_sound = rng.random() < 0.5
    for number, own in enumerate(ids):
        task_id = quote_yaml(own if is_sound else rng.choice(words))
        known = ids[:number] if is_sound else words
        needed = map(quote_yaml, rng.sample(known, k=min(len(known), rng.choice((0, 0, 1, 3)))))
        text = f"---\nid: {task_id}\nname: n\ndepends_on: [{', '.join(needed)}]\n---\n"
        files[f"tasks/{number}.md"] = encode(text) if rng.random() < 0.9 else _make_written_task(rng)[0]["tasks/a.md"]
    return files, {}


def _make_mutated_settings(rng: random.Random) -> _Made:
    texts = (
        (TOP / "examples/coordinator.yaml").read_bytes(),
        starter_settings(["make test"], ["agent", "{prompt_file}"]).encode(),
        starter_settings([], has_opencode=True).encode(),
    )
    return {"coordinator.yaml": mutate(rng.choice(texts), rng)}, {}


def _make_written_settings(rng: random.Random) -> _Made:
    text = make_settings_text(rng) if rng.random() < 0.97 else rng.choice((BOMB, MERGES))
    return {"coordinator.yaml": encode(text)}, make_variables(rng) if rng.random() < 0.2 else {}


def _make_taskgraph(rng: random.Random) -> _Made:
    return {".taskgraph.toml": mutate(encode(make_toml(rng)), rng)}, {}


def _make_one_hostile_value(rng: random.Random) -> _Made:
    key = rng.choice(list_keys())
    return {"coordinator.yaml": encode(write_key(key, make_value(rng)))}, {}


def write_key(key: Sequence[str], value: str) -> str:
    """A configuration that sets only `key`, to `value`."""
    *above, last = key
    head = "".join(f"{'  ' * depth}{name}:\n" for depth, name in enumerate(above))
    return f"{head}{'  ' * len(above)}{last}: {value}\n"


KINDS: Mapping[str, tuple[int, str, Callable[[random.Random], _Made]]] = {
    "task file, an example changed": (30, "task", _make_mutated_task),
    "task file, from the grammar": (25, "task", _make_written_task),
    "task files together": (8, "tasks", _make_tasks),
    "configuration, an example changed": (12, "settings", _make_mutated_settings),
    "configuration, from the schema": (12, "settings", _make_written_settings),
    "configuration, one hostile value": (8, "settings", _make_one_hostile_value),
    "taskgraph configuration": (2, "taskgraph", _make_taskgraph),
    "prompt": (3, "prompt", lambda rng: ({"prompts/task.md": encode(make_prompt(rng))}, {})),
}
