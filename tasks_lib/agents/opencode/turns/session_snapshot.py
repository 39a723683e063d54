"""Decides the state of a session tree: which sessions are busy, what was spent, and the answer to the last prompt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tasks_lib.agents.json_values import NOTHING, Json, as_object, as_objects
from tasks_lib.agents.opencode.api.error_classification import ABORTED, read_problem
from tasks_lib.agents.opencode.api.event_translation import (
    read_part,
    read_permission,
    read_question,
    read_retry,
    read_todos,
)
from tasks_lib.loop_limits import Progress
from tasks_lib.session import events as ev
from tasks_lib.session.events import Event, Member, Polled, Reply, ReplyKind, Request, Snapshot, Tool
from tasks_lib.session.turn_progress import advance

_FINISHES: Mapping[str, ReplyKind] = {"tool-calls": "interrupted", "length": "cut off"}


@dataclass(frozen=True, slots=True)
class Tree:
    """What was read: the messages of each session, oldest first, `statuses` of those that are not idle, and more.

    `updated` is when each child last changed, according to opencode.
    """

    root: str
    messages: Mapping[str, Sequence[Json]]
    statuses: Mapping[str, Json] = field(default_factory=dict[str, Json])
    permissions: Sequence[Json] = ()
    questions: Sequence[Json] = ()
    todos: Sequence[Json] = ()
    updated: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True)
class Before:
    """What a tree contained when a turn began, which does not belong to the turn."""

    messages: frozenset[str] = frozenset()
    updated: Mapping[str, int] = field(default_factory=dict[str, int])


def note_before(tree: Tree) -> Before:
    """Return what `tree` already contains."""
    return Before(frozenset(_id(one) for found in tree.messages.values() for one in found), dict(tree.updated))


def read_snapshot(tree: Tree, before: Before, at: float, model: str) -> tuple[Snapshot, tuple[Event, ...]]:
    """Return the turn as `tree` shows it, and the events in its messages, oldest first."""
    new = {name: [one for one in found if _id(one) not in before.messages] for name, found in tree.messages.items()}
    parts = [(name, part) for name, found in new.items() for one in found for part in _parts(one)]
    events = tuple(event for name, part in parts for event in read_part(part, name, at))
    progress = _read_progress(new, at)
    prompts = sum(1 for one in new[tree.root] if _info(one).get("role") == "user")
    snapshot = Snapshot(
        members={name: _read_member(name, tree, new[name], at) for name in new},
        requests=read_requests(tree.permissions, tree.questions, set(new)),
        steps={event.step: event.spent for event in events if isinstance(event, ev.StepEnded)},
        todos=read_todos(tree.todos),
        prompts=prompts,
        reply=_read_reply(new[tree.root], model),
        growth=sum(_measure(part) for _, part in parts),
        progress=progress,
    )
    return snapshot, events


def _read_progress(messages: Mapping[str, Sequence[Json]], at: float) -> Mapping[str, Progress]:
    """Return each session's progress, from all of the turn's messages; a prompt counts from when it was sent."""
    progress: Mapping[str, Progress] = {}
    for name, found in messages.items():
        for message in found:
            if _info(message).get("role") == "user" and not any(_is_opencodes(part) for part in _parts(message)):
                progress = advance(progress, ev.Sent(at, name))
            for event in (event for part in _parts(message) for event in read_part(part, name, at)):
                progress = advance(progress, event)
    return progress


def _is_opencodes(part: Json) -> bool:
    """Return whether opencode itself, rather than a user, added a part to a prompt."""
    return part.get("type") == "compaction" or bool(part.get("synthetic"))


def read_poll(statuses: Mapping[str, Json], requests: tuple[Request, ...], root: str, at: float) -> Polled:
    return Polled(at, root, {name: read_retry(status, at) for name, status in statuses.items()}, requests)


def read_requests(
    permissions: Sequence[Json], questions: Sequence[Json], names: set[str] | None
) -> tuple[Request, ...]:
    """Return the pending requests, of the sessions in `names` or of all."""
    found = [*map(read_permission, permissions), *map(read_question, questions)]
    return tuple(request for request in found if names is None or request.session in names)


def _read_member(name: str, tree: Tree, messages: Sequence[Json], at: float) -> Member:
    status = tree.statuses.get(name)
    if status is None:
        return ev.IDLE
    tools: dict[str, Tool] = {}
    # A tool that runs in an older message was interrupted with the server, and will never be reported as ended.
    newest = next((one for one in reversed(messages) if _info(one).get("role") == "assistant"), NOTHING)
    for event in (event for part in _parts(newest) for event in read_part(part, name, at)):
        if isinstance(event, ev.ToolStarted):
            tools[event.call] = event.tool
    last = _parts(newest)[-1:]
    return Member(True, tools, read_retry(status, at), bool(last) and last[0].get("type") == "reasoning")


def _read_reply(messages: Sequence[Json], model: str) -> Reply | None:
    """Return the answer to the last prompt: the last message, unless that is the prompt itself."""
    if not messages or _info(messages[-1]).get("role") != "assistant":
        return None
    info = _info(messages[-1])
    text = "\n\n".join(str(part.get("text")) for part in _parts(messages[-1]) if part.get("type") == "text").strip()
    is_completed = bool(as_object(info.get("time")).get("completed"))
    error = as_object(info.get("error"))
    if error and error.get("name") != "MessageOutputLengthError":
        kind: ReplyKind = "aborted" if error.get("name") == ABORTED else "failed"
        return Reply(kind, text, read_problem(error, _name_model(info) or model))
    return Reply(_read_finish(str(info.get("finish") or ""), is_completed, bool(error)), text)


def _read_finish(finish: str, is_completed: bool, is_too_long: bool) -> ReplyKind:
    if is_too_long:
        return "cut off"
    if not finish:
        return "aborted" if is_completed else "unfinished"
    return _FINISHES.get(finish, "failed" if finish in ("error", "content-filter") else "done")


def _name_model(info: Json) -> str:
    provider, model = info.get("providerID"), info.get("modelID")
    return f"{provider}/{model}" if provider and model else ""


def _measure(part: Json) -> int:
    state = as_object(part.get("state"))
    metadata = as_object(state.get("metadata"))
    texts = (part.get("text"), state.get("status"), state.get("output"), metadata.get("output"))
    return 1 + sum(len(text) for text in texts if isinstance(text, str))


def _info(message: Json) -> Json:
    return as_object(message.get("info"))


def _parts(message: Json) -> Sequence[Json]:
    return as_objects(message.get("parts"))


def _id(message: Json) -> str:
    return str(_info(message).get("id"))
