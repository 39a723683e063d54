"""Decides what the scripted model answers next, from the script in the prompt."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, cast

Message = Mapping[str, Any]
"""A chat message in OpenAI's format: `role`, `content`, `tool_calls`."""
FENCE = re.compile(r"^[ \t]*```script\n(.*?)\n[ \t]*```[ \t]*$", re.DOTALL | re.MULTILINE)
DONE = "done"


@dataclass(frozen=True, slots=True)
class Call:
    """A tool that the model asks for, with its arguments."""

    tool: str
    args: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Step:
    """One answer of the model, or one way of failing to give it.

    `think` comes before `say`, and both before the `calls`. With `error` the answer is that HTTP status, with
    `headers` and the text `message`. `is_cut` breaks the connection in the middle of the answer, `hangs` stops there
    until the server releases it or the client disconnects, `is_garbage` sends an invalid answer. Such a step fails
    `times` times for the same prompt and is then skipped; 0 means always. `slow` is the seconds between the pieces of
    the answer. `finish` replaces the usual finish reason ("stop" or "tool_calls"). `tokens_in` and `tokens_out` are
    the reported usage, of which `tokens_cached` were read from a cache.
    """

    say: str = ""
    think: str = ""
    calls: tuple[Call, ...] = ()
    error: int = 0
    message: str = "the script says so"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    is_cut: bool = False
    hangs: bool = False
    is_garbage: bool = False
    times: int = 0
    slow: float = 0.0
    finish: str = ""
    tokens_in: int = 100
    tokens_out: int = 20
    tokens_cached: int = 0

    @property
    def goes_wrong(self) -> bool:
        return bool(self.error or self.is_cut or self.hangs or self.is_garbage)


NAMES = {"cut": "is_cut", "hang": "hangs", "garbage": "is_garbage"}
"""Keys of a script that differ from the names of Step's fields."""


def read_step(written: Mapping[str, Any]) -> Step:
    """Read a step as written in a script.

    For example `{"say": …}`, `{"tool": …, "args": {…}}`, `{"tools": [{"tool": …}, …]}`, `{"cut": true}`,
    `{"error": 429, "headers": {…}, "times": 2}`, `{"hang": true}`, `{"garbage": true}`, and every other field of
    `Step` by its name. Raises ValueError for unknown keys.
    """
    left = {NAMES.get(key, key): value for key, value in written.items()}
    calls = [_read_call(one) for one in left.pop("tools", [])]
    if "tool" in left:
        calls.insert(0, Call(left.pop("tool"), left.pop("args", {})))
    if unknown := left.keys() - ({one.name for one in fields(Step)} - {"calls"}):
        raise ValueError(f"unknown keys in a step of the script: {', '.join(sorted(unknown))} in {written}")
    return Step(**left, calls=tuple(calls))


def _read_call(written: Mapping[str, Any]) -> Call:
    if unknown := written.keys() - {"tool", "args"}:
        raise ValueError(f"unknown keys in a tool of the script: {', '.join(sorted(unknown))} in {written}")
    return Call(written["tool"], written.get("args", {}))


@dataclass(frozen=True, slots=True)
class ScriptPosition:
    """The position in a script: the prompt that contains it, and how many answers came since."""

    prompt: str
    steps: tuple[Step, ...]
    answers: int


def find_position(messages: Sequence[Message]) -> ScriptPosition:
    """Find the last script in a chat; no steps if there is none. Raises ValueError if the script is invalid."""
    for number in range(len(messages) - 1, -1, -1):
        prompt = read_text(messages[number]) if messages[number]["role"] == "user" else ""
        if found := FENCE.search(prompt):
            since = messages[number + 1 :]
            return ScriptPosition(prompt, _read_steps(found[1]), sum(1 for one in since if one["role"] == "assistant"))
    return ScriptPosition("", (), 0)


def _read_steps(text: str) -> tuple[Step, ...]:
    written: Any = json.loads(text)
    if not isinstance(written, list):
        raise ValueError("a script is a list of steps")  # noqa: TRY004 - An error in the script, not of the caller.
    return tuple(read_step(one) for one in cast("list[Mapping[str, Any]]", written))


def read_text(message: Message) -> str:
    """The text of a message, whose content may be a list of parts."""
    content: Any = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in cast("list[Mapping[str, Any]]", content))


def choose_step(position: ScriptPosition, failures: Mapping[tuple[str, int], int]) -> tuple[Step, tuple[str, int]]:
    """Choose the step at `position`; returns it with its key in `failures`, which counts how often each step failed.

    Past the end of the script the answer is "done". A step that fails gives no answer that would be counted, so it is
    skipped once it has failed often enough.
    """
    remaining = position.answers
    for number, step in enumerate(position.steps):
        key = (position.prompt, number)
        if step.goes_wrong and step.times and failures.get(key, 0) >= step.times:
            continue
        if remaining == 0:
            return step, key
        remaining -= 1
    return Step(say=DONE), (position.prompt, len(position.steps))


def pieces_of(step: Step) -> list[dict[str, Any]]:
    """Split the answer into the pieces (`delta`) that are streamed: text by words, each call in two halves."""
    pieces: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    pieces += [{"reasoning_content": word} for word in _split(step.think)]
    pieces += [{"content": word} for word in _split(step.say)]
    for index, call in enumerate(step.calls):
        args = json.dumps(call.args)
        half = len(args) // 2
        pieces.append(_piece_of_call(index, {"name": call.tool, "arguments": args[:half]}, is_first=True))
        pieces.append(_piece_of_call(index, {"arguments": args[half:]}, is_first=False))
    return pieces


def _split(text: str, most: int = 12) -> list[str]:
    """Split a text after spaces into about `most` pieces."""
    words = re.findall(r"\S*\s*", text)
    size = max(1, -(-len(words) // most))
    return [piece for start in range(0, len(words), size) if (piece := "".join(words[start : start + size]))]


def _piece_of_call(index: int, function: dict[str, str], *, is_first: bool) -> dict[str, Any]:
    # The caller fills in the id, which must be unique among the calls of a chat.
    head = {"id": "", "type": "function"} if is_first else {}
    return {"tool_calls": [{"index": index, **head, "function": function}]}


def describe_usage(step: Step) -> dict[str, Any]:
    """The usage of an answer in OpenAI's format."""
    return {
        "prompt_tokens": step.tokens_in,
        "completion_tokens": step.tokens_out,
        "total_tokens": step.tokens_in + step.tokens_out,
        "prompt_tokens_details": {"cached_tokens": step.tokens_cached},
    }
