"""Reads what a resolver answers about a blocker; an answer that cannot be read counts as none."""

from collections.abc import Mapping
from dataclasses import dataclass

from tasks_lib.session.blockers import find_fields
from tasks_lib.text import cut, fold

MAX_ANSWER_CHARS = 4_000
_NAMES: Mapping[str, str] = {
    "resolution": "kind", "answer kind": "kind", "kind": "kind",
    "context": "context", "answer": "context",
    "drop": "drop", "dropped": "drop", "criteria": "drop",
    "depends on": "depends", "dependency": "depends", "waits for": "depends",
    "work": "work", "agent work": "work",
    "person": "person", "decision": "person", "question": "person",
}  # fmt: skip
_KINDS: Mapping[str, str] = {
    "context": "context", "scope": "drop", "dependency": "depends", "work": "work", "person": "person",
    "agent": "work", "human": "person", "decision": "person",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class SupplyContext:
    """The repository answers the question: `text` is for the next attempt."""

    text: str


@dataclass(frozen=True, slots=True)
class NarrowScope:
    """The acceptance criteria `dropped` belong in tasks of their own; `text` says why."""

    dropped: tuple[str, ...]
    text: str = ""


@dataclass(frozen=True, slots=True)
class AddDependency:
    """Another task, `task_id`, has to land first."""

    task_id: str


@dataclass(frozen=True, slots=True)
class AgentWork:
    """An agent can remove what blocks the node; `text` says what it has to do."""

    text: str


@dataclass(frozen=True, slots=True)
class NeedsPerson:
    """Only a person can decide; `text` is what the resolver found out for them."""

    text: str


ResolverAnswer = SupplyContext | NarrowScope | AddDependency | AgentWork | NeedsPerson


def parse_answer(text: str) -> ResolverAnswer | None:
    """Read the line `Resolution: <kind>` and the field that goes with it; None if it does not say what to do.

    Without `Resolution:` the only field that was filled in decides.
    """
    fields = {name: value[:MAX_ANSWER_CHARS] for name, value in find_fields(text, _NAMES).items()}
    said = fields.pop("kind", "").casefold()
    word = next((word for word in said.replace("`", " ").replace("*", " ").split() if word.strip(".,") in _KINDS), "")
    filled = [name for name in fields if not _is_empty(fields[name])]
    name = _KINDS[word.strip(".,")] if word else (filled[0] if len(filled) == 1 and not said else "")
    value = fields.get(name, "")
    if _is_empty(value):
        return None
    match name:
        case "context":
            return SupplyContext(value)
        case "drop":
            return NarrowScope(_split(value), fields.get("context", ""))
        case "depends":
            task_id = value.split()[0].strip("`\"'.,")
            return AddDependency(task_id) if task_id else None
        case "work":
            return AgentWork(value)
        case _:
            return NeedsPerson(value)


def _is_empty(value: str) -> bool:
    return value.strip(" -.…\n").casefold() in ("", "none", "n/a", "nothing")


def _split(value: str) -> tuple[str, ...]:
    """The criteria that are named, one a line."""
    return tuple(dict.fromkeys(line.strip() for line in value.splitlines() if line.strip()))


def describe_answer(answer: ResolverAnswer) -> str:
    """What the resolver answered, in one clause."""
    match answer:
        case SupplyContext(text):
            return f"supplied context: {cut(fold(text), 120)}"
        case NarrowScope(dropped):
            return f"narrowed the scope by {len(dropped)} acceptance criteri{'on' if len(dropped) == 1 else 'a'}"
        case AddDependency(task_id):
            return f"found that {task_id} has to land first"
        case AgentWork(text):
            return f"gave work to an agent: {cut(fold(text), 120)}"
        case NeedsPerson(text):
            return f"found that a person has to decide: {cut(fold(text), 120)}"
