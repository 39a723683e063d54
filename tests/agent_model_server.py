"""A scripted model for Claude Code and Codex: Anthropic's messages and OpenAI's responses, with the scripts of opencode.

Each request is turned into a chat as opencode would send it, so that the same scripts, decisions and helpers serve all.
"""

import json
import re
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, cast

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from flows.demo.model_script import Step
from flows.demo.model_server import Body, Decide, ModelServer

MODEL = "m1"
REMINDER = re.compile(r"<system-reminder>.*?</system-reminder>\s*", re.DOTALL)
CONTEXTS = ("<environment_context>", "# AGENTS.md instructions", "<user_instructions>", "<permissions", "<skills")
"""What Codex says before a prompt of its own accord."""
ERRORS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error", 529: "overloaded_error"}
Event = tuple[str, Body]


class AgentModelServer(ModelServer):
    """A scripted model at `/v1/messages` and `/v1/responses`; `requests` are chats, each with its `api` and `model`."""

    @property
    def origin(self) -> str:
        """The address without a path, as Claude Code wants it."""
        return self.url.removesuffix("/v1")

    def decide_by(self, decide: Decide) -> None:
        """Let `decide` choose the answers from now on."""
        self._decide = decide

    def _configure(self) -> uvicorn.Config:
        config = super()._configure()
        config.app = Starlette(
            routes=[
                Route("/v1/messages", self._take_messages, methods=["POST"]),
                Route("/v1/messages/count_tokens", self._count, methods=["POST"]),
                Route("/v1/responses", self._take_responses, methods=["POST"]),
                Route("/v1/models", self._list_models),
                Route("/", self._greet, methods=["GET", "HEAD"]),
            ]
        )
        return config

    async def _greet(self, request: Request) -> Response:
        return Response()

    async def _count(self, request: Request) -> Response:
        return JSONResponse({"input_tokens": 100})

    async def _take_messages(self, request: Request) -> Response:
        return await self._answer(request, "anthropic")

    async def _take_responses(self, request: Request) -> Response:
        return await self._answer(request, "openai")

    async def _answer(self, request: Request, api: str) -> Response:
        body: Body = await request.json()
        messages = [*(read_anthropic(body) if api == "anthropic" else read_openai(body))]
        chat: Body = {"messages": messages, "model": body.get("model"), "tools": body.get("tools") or [], "api": api}
        if not chat["tools"]:  # For a title, or a probe of the key.
            return self._send(api, chat, Step(say="A title"), is_streamed=bool(body.get("stream")))
        try:
            step = self._choose(chat)
        except ValueError as error:
            return JSONResponse({"type": "error", "error": {"type": "bad", "message": str(error)}}, status_code=400)
        with self._came:
            self.requests.append(chat)
            self._came.notify_all()
        if step.error:
            error = {"type": ERRORS.get(step.error, "api_error"), "message": step.message}
            return JSONResponse({"type": "error", "error": error}, step.error, dict(step.headers))
        return self._send(api, chat, step, is_streamed=bool(body.get("stream")))

    def _send(self, api: str, chat: Body, step: Step, *, is_streamed: bool) -> Response:
        write = write_anthropic if api == "anthropic" else write_openai
        events = list(write(chat, step))
        if not is_streamed:
            return JSONResponse(join_anthropic(events) if api == "anthropic" else events[-1][1]["response"])
        return StreamingResponse(self._stream(events, step), media_type="text/event-stream", headers=dict(step.headers))

    async def _stream(self, events: list[Event], step: Step) -> AsyncIterator[str]:
        for number, (name, event) in enumerate(events):
            if number == 1 and step.hangs:
                await self._released.wait()
            yield f"event: {name}\ndata: {json.dumps({'type': name} | event)}\n\n"


# From the wire to a chat.


def read_anthropic(body: Body) -> Iterator[Body]:
    system = body.get("system") or ""
    yield {"role": "system", "content": system if isinstance(system, str) else "\n".join(one["text"] for one in system)}
    for message in body["messages"]:
        content = message["content"]
        parts: list[Body] = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if message["role"] == "assistant":
            calls = [
                {"function": {"name": one["name"], "arguments": json.dumps(one["input"])}}
                for one in parts
                if one["type"] == "tool_use"
            ]
            said = "".join(one["text"] for one in parts if one["type"] == "text")
            yield {"role": "assistant", "content": said, "tool_calls": calls}
            continue
        for one in parts:
            if one["type"] == "tool_result":
                yield {"role": "tool", "content": one.get("content") or ""}
        said = "\n".join(REMINDER.sub("", one["text"]) for one in parts if one["type"] == "text").strip()
        if said and message["role"] == "user":
            yield {"role": "user", "content": said}


def read_openai(body: Body) -> Iterator[Body]:
    yield {"role": "system", "content": body.get("instructions") or ""}
    before = ""
    for item in body["input"]:
        kind, role = item.get("type", "message"), item.get("role", "")
        if kind.endswith("_call_output"):
            output = item["output"]
            yield {"role": "tool", "content": output if isinstance(output, str) else json.dumps(output)}
        elif kind.endswith("_call") or (kind == "message" and role == "assistant"):
            if before != "assistant":  # What it says before a call belongs to the same answer.
                yield {"role": "assistant", "content": ""}
            before = "assistant"
            continue
        elif kind == "message" and role == "user":
            said = "".join(one.get("text", "") for one in item["content"])
            if not said.lstrip().startswith(CONTEXTS):
                yield {"role": "user", "content": said}
        elif kind == "reasoning":
            continue
        before = kind


# From a step to the wire.


def find_call(step: Step, tools: list[Mapping[str, Any]]) -> tuple[str, Body]:
    """The tool of the program that does what the step's first call asks for, and its arguments."""
    call, names = step.calls[0], {tool.get("name", "") for tool in tools}
    args = dict(call.args)
    if call.tool != "bash":
        return call.tool, args
    if "Bash" in names:
        return "Bash", {"command": args["command"], "description": "run it", "timeout": 120_000}
    if "exec_command" in names:
        return "exec_command", {"cmd": args["command"], "yield_time_ms": 30_000}
    return "shell_command", {"command": args["command"]}


def write_anthropic(chat: Body, step: Step) -> Iterator[Event]:
    usage = {
        "input_tokens": step.tokens_in,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": step.tokens_cached,
        "output_tokens": 1,
    }
    message: Body = {"id": make_id("msg"), "type": "message", "role": "assistant", "model": chat["model"]}
    message["content"] = []
    yield "message_start", {"message": {**message, "stop_reason": None, "stop_sequence": None, "usage": usage}}
    blocks: list[tuple[Body, Body]] = []
    if step.say:
        blocks.append(({"type": "text", "text": ""}, {"type": "text_delta", "text": step.say}))
    if step.calls:
        name, args = find_call(step, chat["tools"])
        block = {"type": "tool_use", "id": make_id("toolu"), "name": name, "input": cast("Body", {})}
        blocks.append((block, {"type": "input_json_delta", "partial_json": json.dumps(args)}))
    for index, (block, delta) in enumerate(blocks):
        yield "content_block_start", {"index": index, "content_block": block}
        yield "content_block_delta", {"index": index, "delta": delta}
        yield "content_block_stop", {"index": index}
    reason = "tool_use" if step.calls else "end_turn"
    delta = {"stop_reason": reason, "stop_sequence": None}
    yield "message_delta", {"delta": delta, "usage": {**usage, "output_tokens": step.tokens_out}}
    yield "message_stop", {}


def join_anthropic(events: list[Event]) -> Body:
    said = "".join(event["delta"].get("text", "") for name, event in events if name == "content_block_delta")
    return {**events[0][1]["message"], "content": [{"type": "text", "text": said}], "stop_reason": "end_turn"}


def write_openai(chat: Body, step: Step) -> Iterator[Event]:
    response: Body = {"id": make_id("resp"), "object": "response", "created_at": 0, "model": chat["model"]}
    yield "response.created", {"response": {**response, "status": "in_progress", "output": []}}
    output: list[Body] = []
    if step.say:
        content = [{"type": "output_text", "text": step.say, "annotations": cast("list[Body]", [])}]
        message = {"type": "message", "role": "assistant", "id": make_id("msg")}
        output.append({**message, "status": "completed", "content": content})
    if step.calls:
        name, args = find_call(step, chat["tools"])
        call = {"type": "function_call", "id": make_id("fc"), "call_id": make_id("call"), "status": "completed"}
        output.append({**call, "name": name, "arguments": json.dumps(args)})
    for index, item in enumerate(output):
        yield "response.output_item.added", {"output_index": index, "item": item}
        yield "response.output_item.done", {"output_index": index, "item": item}
    usage = {
        "input_tokens": step.tokens_in + step.tokens_cached,
        "input_tokens_details": {"cached_tokens": step.tokens_cached},
        "output_tokens": step.tokens_out,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": step.tokens_in + step.tokens_cached + step.tokens_out,
    }
    yield "response.completed", {"response": {**response, "status": "completed", "output": output, "usage": usage}}


def make_id(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex[:20]}"
