"""Hides Claude Code: `claude -p` with its stream of JSON events."""

import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tasks_lib.agents.json_values import Json, as_object, as_objects
from tasks_lib.agents.presets.preset import Heard, Launch, Preset, first_line, shorten, strip_provider
from tasks_lib.session.spending import Spent, is_countable

MAX_REFUSED_TRIES = 3
"""How often it may ask again with a key that is refused."""
REFUSALS = ("authentication_failed", "billing_error", "oauth_org_not_allowed")
"""The kinds of errors that every other session would get as well."""
READ_BYTES = 1 << 20
_PERMITTED = "Bash,WebFetch,WebSearch"
_WRITING = "Edit,Write,NotebookEdit"
_TELLING = ("command", "file_path", "pattern", "url", "description")
"""The arguments of tools that say most about what they do."""


def build(launch: Launch) -> list[str]:
    """The argument list of a turn.

    Hooks and servers that a branch defines would be started without a question, so only the user's own settings are
    read. `acceptEdits` alone refuses `git commit`, and `bypassPermissions` would allow edits outside of the worktree.
    """
    words = ["claude", "-p", "--output-format", "stream-json", "--verbose"]
    words += ["--permission-mode", "acceptEdits", "--allowedTools", _PERMITTED]
    words += ["--disallowedTools", _WRITING] if launch.is_read_only else []
    words += ["--setting-sources", "user", "--strict-mcp-config"]
    words += ["--model", strip_provider(launch.model)] if launch.model else []
    conversation = launch.conversation or choose_conversation(launch)
    is_there = any(map(_has_content, _find_files(launch, conversation)))
    return [*words, "--resume" if is_there else "--session-id", conversation]


def choose_conversation(launch: Launch) -> str:
    """The id of the session's conversation, a UUID.

    After a kill the first turn comes again. What is on disk decides how: an id that is there cannot be used for a new
    conversation, and one in which nothing was said yet cannot be resumed.
    """
    name = _make_uuid(launch.session)
    while any(not _has_content(file) for file in _find_files(launch, name)):
        name = str(uuid.uuid5(uuid.NAMESPACE_OID, name))
    return name


def _make_uuid(session: str) -> str:
    try:
        return str(uuid.UUID(session))
    except ValueError:  # The session of an earlier version of coordinator.
        return str(uuid.uuid5(uuid.NAMESPACE_OID, session))


def _find_files(launch: Launch, conversation: str) -> Iterator[Path]:
    home = launch.environment.get("CLAUDE_CONFIG_DIR") or f"{launch.environment.get('HOME', '')}/.claude"
    yield from Path(home).glob(f"projects/*/{conversation}.jsonl")


def _has_content(file: Path) -> bool:
    with file.open("rb") as source:
        return b'"type":"user"' in source.read(READ_BYTES)


def read(heard: Heard, event: Json) -> tuple[Heard, str]:
    """What is known after an event, and what the log says about it."""
    match event.get("type"), event.get("subtype"):
        case "system", "init":
            return replace(heard, conversation=str(event.get("session_id", ""))), ""
        case "system", "api_retry":
            return _read_retry(heard, event)
        case "system", "permission_denied":
            return heard, f"! not permitted: {event.get('tool_name')}: {event.get('message', '')}"
        case "assistant", _:
            return _read_assistant(replace(heard, retrying=""), event)
        case "user", _:
            return replace(heard, activity=""), _show_results(event)
        case "rate_limit_event", _:
            return _read_rate_limit(heard, as_object(event.get("rate_limit_info")))
        case "result", _:
            return _read_result(heard, event)
        case _:
            return heard, ""


def _read_retry(heard: Heard, event: Json) -> tuple[Heard, str]:
    status, kind, attempt = event.get("error_status"), str(event.get("error", "")), event.get("attempt", 0)
    said = f"… asks again ({status} {kind}, attempt {attempt} of {event.get('max_retries')})"
    if kind in REFUSALS and is_countable(attempt) and attempt >= MAX_REFUSED_TRIES:
        return replace(heard, refusal=f"its provider refuses the key ({status} {kind})"), said
    if kind == "rate_limit":
        return replace(heard, retrying=f"{status} {kind}", activity="asks again: rate limited"), said
    return heard, said


def _read_assistant(heard: Heard, event: Json) -> tuple[Heard, str]:
    message = as_object(event.get("message"))
    lines: list[str] = []
    for block in as_objects(message.get("content")):
        if block.get("type") == "text" and str(block.get("text", "")).strip():
            lines.append(str(block["text"]).strip())
            if not event.get("parent_tool_use_id"):
                heard = replace(heard, answer=str(block["text"]).strip())
        elif block.get("type") == "tool_use":
            activity = _describe_tool(str(block.get("name", "")), as_object(block.get("input")))
            heard = replace(heard, activity=first_line(activity))
            lines.append(f"> {shorten(activity)}")
    heard = _count_answer(heard, str(message.get("id", "")), as_object(message.get("usage")))
    kind, text = str(event.get("error") or ""), first_line("\n".join(lines))
    if kind in REFUSALS:
        heard = replace(heard, refusal=text or kind)
    elif kind == "rate_limit":
        heard = replace(heard, limit=text or kind)
    return heard, "\n".join(lines)


def _count_answer(heard: Heard, name: str, usage: Json) -> Heard:
    """Count an answer of the model once; its output is not known before the end of the turn."""
    if name in heard.counted:
        return heard
    spent = Spent(tokens=_add(usage, "input_tokens", "cache_creation_input_tokens"), calls=1)
    return replace(heard, spent=heard.spent + spent, counted=heard.counted | {name})


def _describe_tool(name: str, given: Json) -> str:
    said = next((str(given[key]) for key in _TELLING if given.get(key)), "")
    return f"{name}: {said.strip()}" if said else name


def _show_results(event: Json) -> str:
    shown: list[str] = []
    for block in as_objects(as_object(event.get("message")).get("content")):
        if block.get("type") == "tool_result":
            content = block.get("content")
            parts = [str(part.get("text", "")) for part in as_objects(content)]
            shown.append(shorten(content if isinstance(content, str) else "\n".join(parts)))
    return "\n".join(one for one in shown if one)


def _read_rate_limit(heard: Heard, info: Json) -> tuple[Heard, str]:
    if info.get("status") != "rejected":
        return heard, ""
    until, kind = info.get("resetsAt"), str(info.get("rateLimitType") or "rate limit").replace("_", " ")
    moment = float(until) if is_countable(until) else 0.0
    return replace(heard, limit=f"{kind} reached", limit_until=moment), f"! {kind} reached"


def _read_result(heard: Heard, event: Json) -> tuple[Heard, str]:
    """The end of a turn, or of a part of it: what was spent since the last one replaces what was guessed."""
    used = as_object(event.get("model_usage_since_last_result") or event.get("modelUsage"))
    models = [as_object(one) for one in used.values()]
    tokens = sum(_add(one, "inputTokens", "cacheCreationInputTokens", "outputTokens") for one in models)
    cost = sum(float(value) for one in models if is_countable(value := one.get("costUSD")))
    denied = [_describe_denial(one) for one in as_objects(event.get("permission_denials"))]
    text, status = str(event.get("result") or "").strip(), event.get("api_error_status")
    spent = Spent(tokens=tokens, cost=cost, calls=heard.spent.calls)
    heard = replace(heard, activity="", retrying="", spent=spent, denied=(*heard.denied, *denied))
    if not event.get("is_error"):
        return replace(heard, answer=text or heard.answer, error="", limit="", refusal=""), ""
    errors = event.get("errors")
    said = first_line(text) or (first_line(str(errors)) if errors else str(event.get("subtype", "")))
    heard = replace(heard, error=said)
    if status == 429:
        heard = replace(heard, limit=heard.limit or said)
    elif status in (401, 403):
        heard = replace(heard, refusal=said)
    return heard, f"! {said}"


def _describe_denial(denial: Json) -> str:
    return first_line(_describe_tool(str(denial.get("tool_name", "")), as_object(denial.get("tool_input"))))


def _add(counts: Json, *names: str) -> int:
    return sum(int(value) for name in names if is_countable(value := counts.get(name)))


CLAUDE = Preset(
    name="claude",
    title="Claude Code",
    package="@anthropic-ai/claude-code",
    tried="2.1.332",
    oldest="2.1.0",
    keys=("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"),
    login=("auth", "status"),
    login_advice="run `claude auth login`, or list the variable with its key in env.agent, e.g. ANTHROPIC_API_KEY",
    build=build,
    read=read,
    choose_conversation=choose_conversation,
    attach=lambda conversation: ["claude", "--resume", conversation],
    passed_on=("CLAUDE_CONFIG_DIR", "ANTHROPIC_BASE_URL"),
    # A program that replaces itself during a run would be another one than was checked.
    settings={"DISABLE_AUTOUPDATER": "1"},
)
