"""Translates opencode's events, messages and requests into session events."""

from collections.abc import Sequence
from typing import Any, cast

from tasks_lib.agents.json_values import Json, as_object, as_objects
from tasks_lib.agents.opencode.api.error_classification import is_rate_limit, read_problem
from tasks_lib.session import events as ev
from tasks_lib.session.events import Event, Request, Retry, Todo, Tool
from tasks_lib.session.outside_work import find_places
from tasks_lib.session.spending import Spent, is_countable
from tasks_lib.text import cut, fold

_TITLE = 80
_GIVEN = ("command", "filePath", "path", "pattern", "query", "url", "description", "name")
"""The key of a tool's input that is the most informative, in this order."""
_DELEGATES = ("task",)


def translate(payload: Json, at: float, model: str = "") -> tuple[Event, ...]:
    """Return what one event of the stream means, received `at`; nothing for irrelevant events."""
    properties = as_object(payload.get("properties"))
    session = str(properties.get("sessionID") or "")
    match payload.get("type"):
        case "session.status":
            return (read_status(as_object(properties.get("status")), session, at),)
        case "session.idle":
            return (ev.Idle(at, session),)
        case "session.created":
            return _read_created(as_object(properties.get("info")), at)
        case "session.error" if session:
            return (ev.ErrorSeen(at, session, read_problem(as_object(properties.get("error")), model)),)
        case "message.part.updated":
            return read_part(as_object(properties.get("part")), session, at)
        case "message.part.delta":
            return (ev.TextGrew(at, session),)
        case "todo.updated":
            return (ev.TodosChanged(at, session, read_todos(as_objects(properties.get("todos")))),)
        case _:
            return _read_request(payload, properties, at)


def _read_created(info: Json, at: float) -> tuple[Event, ...]:
    parent = info.get("parentID")
    return (ev.ChildOpened(at, str(parent), str(info.get("id"))),) if parent else ()


def _read_request(payload: Json, properties: Json, at: float) -> tuple[Event, ...]:
    session = str(properties.get("sessionID") or "")
    match payload.get("type"):
        case "permission.asked":
            return (ev.Asked(at, session, read_permission(properties)),)
        case "question.asked":
            return (ev.Asked(at, session, read_question(properties)),)
        case "permission.replied" | "question.replied" | "question.rejected":
            return (ev.Answered(at, session, str(properties.get("requestID"))),)
        case _:
            return ()


def read_status(status: Json, session: str, at: float) -> Event:
    """Return busy, idle or retrying, according to the session's status."""
    retry = read_retry(status, at)
    if retry:
        return ev.Retrying(at, session, retry)
    return ev.Idle(at, session) if status.get("type") == "idle" else ev.Busy(at, session)


def read_retry(status: Json, at: float) -> Retry | None:
    """Return the retry in a status, None for another status."""
    if status.get("type") != "retry":
        return None
    until, message = float(status.get("next") or 0) / 1000, str(status.get("message") or "")
    return Retry(until, fold(message)[:_TITLE], is_rate_limit(message, int(status.get("attempt") or 1), until - at))


def read_part(part: Json, session: str, at: float) -> tuple[Event, ...]:
    """Return what a part of an agent's message means; parts of a user's message, which have no time, are ignored."""
    match part.get("type"):
        case "step-start":
            return (ev.StepStarted(at, session),)
        case "step-finish":
            return (ev.StepEnded(at, session, str(part.get("id")), read_spent(part)),)
        case "tool":
            return (_read_tool(part, session, at),)
        case "compaction":
            return (ev.Compacted(at, session, str(part.get("id")), is_overflow=bool(part.get("overflow"))),)
        case "reasoning":
            return (ev.TextGrew(at, session, is_thinking=True),)
        case "text" if time := as_object(part.get("time")):
            text = str(part.get("text") or "")
            ended = ev.TextEnded(at, session, str(part.get("id")), text)
            return (ended,) if time.get("end") else (ev.TextGrew(at, session, is_thinking=False),)
        case _:
            return ()


def _read_tool(part: Json, session: str, at: float) -> Event:
    state, name, call = as_object(part.get("state")), str(part.get("tool")), str(part.get("id"))
    given = as_object(state.get("input"))
    tool = Tool(name, _say_given(given), has_child=name in _DELEGATES)
    match state.get("status"):
        case "running":
            return ev.ToolStarted(at, session, call, tool)
        case "completed":
            output = str(state.get("output") or "")
            error, seconds = _find_error(state, output), _read_seconds(state)
            return ev.ToolEnded(
                at, session, call, tool, _write_given(given), output, error=error, seconds=seconds,
                places=find_places(name, given),
            )  # fmt: skip
        case "error":
            error = str(state.get("error") or "")
            return ev.ToolEnded(
                at, session, call, tool, _write_given(given), error, is_failed=True, error=error or "it failed",
                seconds=_read_seconds(state),
            )  # fmt: skip
        case _:
            return ev.TextGrew(at, session, is_thinking=False)


def _find_error(state: Json, output: str) -> str:
    """Return the last line of a shell whose status is not 0, "" for every other tool that ended without an error."""
    status = as_object(state.get("metadata")).get("exit")
    if not isinstance(status, int) or status == 0:
        return ""
    lines = [line for line in output.splitlines() if line.strip()]
    return f"status {status}: {lines[-1].strip() if lines else 'no output'}"


def _read_seconds(state: Json) -> float:
    time = as_object(state.get("time"))
    begin, end = (float(time.get(name) or 0) for name in ("start", "end"))
    return max(0.0, (end - begin) / 1000) if begin and end else 0.0


def _say_given(given: Json) -> str:
    said = next((str(given[name]) for name in _GIVEN if given.get(name)), "")
    return cut(fold(said), _TITLE)


def _write_given(given: Json) -> str:
    return "\n".join(f"{name}: {value}" for name, value in given.items())


def read_spent(part: Json) -> Spent:
    """Return what one answer of a model used; tokens read from or written to a cache do not count."""
    tokens = as_object(part.get("tokens"))
    counted = (tokens.get(name) for name in ("input", "output", "reasoning"))
    cost = part.get("cost")
    return Spent(
        tokens=sum(int(number) for number in counted if is_countable(number)),
        cost=float(cost) if is_countable(cost) else 0.0,
        calls=1,
    )


def read_permission(request: Json) -> Request:
    """Return a permission request, from an event or from the list of pending ones."""
    patterns = ", ".join(str(one) for one in cast("Sequence[Any]", request.get("patterns") or ()))
    text = f"{request.get('permission')} {patterns}".strip()
    return Request(str(request.get("id")), str(request.get("sessionID")), "permission", text)


def read_question(request: Json) -> Request:
    questions = as_objects(request.get("questions"))
    text = "; ".join(str(one.get("question")) for one in questions)
    return Request(str(request.get("id")), str(request.get("sessionID")), "question", text, len(questions))


def read_todos(todos: Sequence[Json]) -> tuple[Todo, ...]:
    """Return the agent's own todo list, without what it cancelled."""
    return tuple(
        Todo(str(one.get("content")), one.get("status") == "completed", one.get("status") == "in_progress")
        for one in todos
        if one.get("status") != "cancelled"
    )
