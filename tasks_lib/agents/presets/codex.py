"""Hides Codex: `codex exec` with its stream of JSON events."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tasks_lib.agents.json_values import Json, as_object
from tasks_lib.agents.presets.preset import Heard, Launch, Preset, first_line, shorten, strip_provider
from tasks_lib.session.spending import Spent, is_countable

_STATUS = re.compile(r"\bstatus:? (\d{3})\b")
_USAGE_LIMIT = re.compile(r"usage limit|quota exceeded|insufficient_quota|rate limit", re.IGNORECASE)
_REFUSED = re.compile(r"not logged in|refresh token|missing environment variable|incorrect api key", re.IGNORECASE)
_IGNORED = re.compile(r"^Model metadata for ")


def build(launch: Launch) -> list[str]:
    """The argument list of a turn.

    Its sandbox allows commits in a linked worktree only if it knows both git directories. A login shell would make PATH
    anew, without `coordinator`. AGENTS.md is in the prompt, from the target, so it is not read from the branch.
    """
    words = ["codex", "exec", "--json", "--sandbox", "workspace-write"]
    for directory in launch.git_directories:
        words += ["--add-dir", str(directory)]
    words += ["-c", "allow_login_shell=false", "-c", "project_doc_max_bytes=0"]
    words += ["--model", strip_provider(launch.model)] if launch.model else []
    return [*words, *(["resume", launch.conversation] if launch.conversation else []), "-"]


def read(heard: Heard, event: Json) -> tuple[Heard, str]:
    """What is known after an event, and what the log says about it."""
    item = as_object(event.get("item"))
    match event.get("type"):
        case "thread.started":
            return replace(heard, conversation=str(event.get("thread_id", ""))), ""
        case "item.started":
            return _read_item(heard, item, is_over=False)
        case "item.completed":
            return _read_item(replace(heard, retrying=""), item, is_over=True)
        case "turn.completed":
            return _read_usage(heard, as_object(event.get("usage"))), ""
        case "error":
            return _read_error(heard, str(event.get("message", "")))
        case "turn.failed":
            return _read_failure(heard, str(as_object(event.get("error")).get("message", "")))
        case _:
            return heard, ""


def _read_item(heard: Heard, item: Json, *, is_over: bool) -> tuple[Heard, str]:
    kind, text = item.get("type"), str(item.get("text", "")).strip()
    if kind == "agent_message" and is_over:
        return replace(heard, answer=text or heard.answer, activity=""), text
    if kind == "reasoning":
        return heard, ""
    if kind == "error":
        message = str(item.get("message", "")).strip()
        return heard, "" if _IGNORED.search(message) else f"! {message}"
    activity = _describe(item)
    if not is_over:
        return replace(heard, activity=first_line(activity)), f"> {shorten(activity)}"
    said = shorten(str(item.get("aggregated_output") or ""))
    status = item.get("exit_code")
    said += f"\n[exit code {status}]" if status else ""
    if kind != "command_execution":  # Such an item may have had no start.
        said = f"> {activity}" if heard.activity != first_line(activity) else ""
    return replace(heard, activity=""), said.strip()


def _describe(item: Json) -> str:
    kind = str(item.get("type", "")).replace("_", " ")
    if command := item.get("command"):
        return f"shell: {command}"
    said = next((str(item[key]) for key in ("query", "tool", "changes") if item.get(key)), "")
    return f"{kind}: {first_line(said)}" if said else kind


def _read_usage(heard: Heard, usage: Json) -> Heard:
    """Codex counts the whole conversation, and cached tokens as input."""
    counts = [int(value) if is_countable(value := usage.get(f"{name}_tokens")) else 0 for name in _COUNTED]
    total = counts[0] - counts[1] + counts[2]
    spent = Spent(tokens=max(0, total - heard.total_tokens), calls=heard.spent.calls)
    return replace(heard, activity="", retrying="", error="", spent=spent, total_tokens=total)


_COUNTED = ("input", "cached_input", "output")


def _read_error(heard: Heard, message: str) -> tuple[Heard, str]:
    if "Reconnecting" in message and _says_limit(message):
        return replace(heard, retrying=first_line(message), activity="asks again: rate limited"), f"… {message}"
    return heard, f"! {message}"


def _read_failure(heard: Heard, message: str) -> tuple[Heard, str]:
    said, found = first_line(message), _STATUS.search(message)
    heard = replace(heard, error=said, activity="", retrying="")
    if _says_limit(message):
        return replace(heard, limit=said), ""
    if (found and found[1] in ("401", "403")) or _REFUSED.search(message):
        return replace(heard, refusal=said), ""
    return heard, ""


def _says_limit(message: str) -> bool:
    found = _STATUS.search(message)
    return bool((found and found[1] == "429") or _USAGE_LIMIT.search(message))


def has_own_provider(environment: Mapping[str, str]) -> bool:
    """Whether the user's configuration chooses a provider other than OpenAI, which needs no login."""
    home = environment.get("CODEX_HOME") or f"{environment.get('HOME', '')}/.codex"
    file = Path(home) / "config.toml"
    if not file.is_file():
        return False
    found = re.search(r"^\s*model_provider\s*=\s*[\"'](\S+)[\"']", file.read_text("utf-8", "replace"), re.MULTILINE)
    return bool(found and found[1] != "openai")


CODEX = Preset(
    name="codex",
    title="Codex",
    package="@openai/codex",
    tried="0.171.0",
    oldest="0.150.0",
    keys=("CODEX_API_KEY", "CODEX_ACCESS_TOKEN"),
    login=("login", "status"),
    login_advice="run `codex login`, or list CODEX_API_KEY in env.agent",
    build=build,
    read=read,
    choose_conversation=lambda launch: "",
    help_words=("exec", "--help"),
    attach=lambda conversation: ["codex", "resume", conversation],
    passed_on=("CODEX_HOME",),
    has_own_provider=has_own_provider,
)
