"""Serves the scripted model on loopback, as OpenAI's chat completions, so that no real model is needed.

`python -m flows.demo.model_server --port N` answers as the scripts in the prompts say, until SIGTERM; with `--demo` it
answers what the demo's tasks need.
"""

import argparse
import asyncio
import json
import logging
import socket
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from threading import Condition, Thread
from types import TracebackType
from typing import Any, TypeVar

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from flows.demo.model_script import Message, Step, choose_step, describe_usage, find_position, pieces_of, read_text
from flows.loopback import LOOPBACK

Body = dict[str, Any]
Decide = Callable[[Sequence[Message]], Step]
T = TypeVar("T")
WAIT_SECONDS = 120.0
BACKLOG = 1024
TITLE = "A scripted session"


class Cut(Exception):  # noqa: N818 - Raised to break a connection when the script says so.
    """Cuts an answer off in the middle."""


class ModelServer:
    """A scripted model in its own thread, from `start` or `with` to `stop`, which frees its port.

    `decide` chooses each step from the messages of the chat; without it, the script in the prompt does. It is called in
    the server's thread, must be quick, and is never called concurrently. `requests` are the bodies of all requests so
    far, oldest first.
    """

    def __init__(self, decide: Decide | None = None, port: int = 0) -> None:
        self.requests: list[Body] = []
        self._decide = decide
        self._port = port
        self._failures: Counter[tuple[str, int]] = Counter()
        self._came = Condition()
        self._released = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._socket: socket.socket | None = None
        self._server = uvicorn.Server(self._configure())
        self._thread = Thread(target=self._serve, name="scripted model", daemon=True)

    @property
    def port(self) -> int:
        """The server's port, also after `stop`."""
        return self._port

    @property
    def url(self) -> str:
        """The base URL for a provider's configuration."""
        assert self._port, "the model has no port until it is started"
        return f"http://{LOOPBACK}:{self._port}/v1"

    def bind(self) -> None:
        """Bind the port; connections wait until the server runs."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((LOOPBACK, self._port))
        self._socket.listen(BACKLOG)
        self._port = self._socket.getsockname()[1]

    def start(self) -> None:
        self.bind()
        self._thread.start()

    def stop(self) -> None:
        """Stop the server and abort open answers."""
        if self._thread.is_alive():
            self._server.should_exit = self._server.force_exit = True
            self._thread.join()
        if self._socket is not None:
            self._socket.close()

    def run(self) -> None:
        """Serve in this thread until SIGTERM or SIGINT."""
        self.bind()
        sys.stdout.write(f"listening on {self.url}\n")
        sys.stdout.flush()
        self._serve()

    def __enter__(self) -> "ModelServer":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def release(self) -> None:
        """Let hanging answers continue, now and from now on."""
        self._loop.call_soon_threadsafe(self._released.set)

    def wait_for(self, predicate: Callable[[list[Body]], T], seconds: float = WAIT_SECONDS) -> T:
        """Wait until `predicate` of the requests is true, and return its value; it is checked at each request.

        Raises TimeoutError after `seconds`. From an event loop, use `asyncio.to_thread(model.wait_for, …)`.
        """
        deadline = time.monotonic() + seconds
        with self._came:
            while not (found := predicate(self.requests)):
                if not self._came.wait(deadline - time.monotonic()):
                    raise TimeoutError(f"none of {len(self.requests)} requests met the condition")
            return found

    def _configure(self) -> uvicorn.Config:
        routes = [Route("/v1/chat/completions", self._chat, methods=["POST"]), Route("/v1/models", self._list_models)]
        # uvicorn logs each cut answer as an error; the log level is set above that.
        return uvicorn.Config(
            Starlette(routes=routes),
            lifespan="off",
            workers=1,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=1,
        )

    def _serve(self) -> None:
        assert self._socket is not None
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL + 1)
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._server.serve([self._socket]))
        finally:
            self._socket.close()

    async def _list_models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": "m1", "object": "model"}]})

    async def _chat(self, request: Request) -> Response:
        body: Body = await request.json()
        try:
            step = self._choose(body)
        except ValueError as error:
            return _refuse(400, str(error))
        with self._came:
            self.requests.append(body)
            self._came.notify_all()
        if step.error:
            return _refuse(step.error, step.message, dict(step.headers))
        if step.is_garbage:
            return Response("data: {this is no\n\ndata: answer\n\n", media_type="text/event-stream")
        answer = _Answer(body["model"], step, self._released)
        if body.get("stream"):
            return StreamingResponse(answer.stream(), media_type="text/event-stream")
        return JSONResponse(await answer.whole())

    def _choose(self, body: Body) -> Step:
        messages: list[Message] = body["messages"]
        if _asks_for_title(body):
            return Step(say=TITLE)
        if self._decide is not None:
            return self._decide(messages)
        step, key = choose_step(find_position(messages), self._failures)
        if step.goes_wrong:
            self._failures[key] += 1
        return step


class _Answer:
    """One answer in progress."""

    def __init__(self, model: str, step: Step, released: asyncio.Event) -> None:
        self._step = step
        self._released = released
        self._head = {"id": f"chat-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
        self._finish = step.finish or ("tool_calls" if step.calls else "stop")

    async def stream(self) -> AsyncIterator[str]:
        """The answer as server-sent events."""
        pieces = pieces_of(self._step)
        for number, piece in enumerate(pieces):
            if number == len(pieces) // 2:
                await self._go_wrong()
            yield self._event({"index": 0, "delta": _name_calls(piece), "finish_reason": None})
            await asyncio.sleep(self._step.slow)
        end: Body = {"index": 0, "delta": {}, "finish_reason": self._finish}
        yield self._event(end, usage=describe_usage(self._step))
        yield "data: [DONE]\n\n"

    async def whole(self) -> Body:
        """The answer as one object."""
        await self._go_wrong()
        message: Body = {"role": "assistant", "content": self._step.say or None}
        if self._step.think:
            message["reasoning_content"] = self._step.think
        if self._step.calls:
            message["tool_calls"] = [
                {
                    "id": _make_id(),
                    "type": "function",
                    "function": {"name": call.tool, "arguments": json.dumps(call.args)},
                }
                for call in self._step.calls
            ]
        choice = {"index": 0, "message": message, "finish_reason": self._finish}
        return {**self._head, "object": "chat.completion", "choices": [choice], "usage": describe_usage(self._step)}

    async def _go_wrong(self) -> None:
        if self._step.is_cut:
            raise Cut
        if self._step.hangs:
            # Starlette cancels this when the client disconnects.
            await self._released.wait()

    def _event(self, choice: Body, **more: Body) -> str:
        return f"data: {json.dumps({**self._head, 'object': 'chat.completion.chunk', 'choices': [choice], **more})}\n\n"


def _asks_for_title(body: Body) -> bool:
    """Whether opencode asks for a session's title; that request also contains the prompt with its script."""
    system = next((read_text(one) for one in body["messages"] if one["role"] == "system"), "")
    return not body.get("tools") and "title" in system[:200].lower()


def _name_calls(piece: Body) -> Body:
    calls = [{**call, "id": _make_id()} if "id" in call else call for call in piece.get("tool_calls", [])]
    return {**piece, "tool_calls": calls} if calls else piece


def _make_id() -> str:
    return f"call_{uuid.uuid4().hex[:16]}"


def _refuse(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    error = {"message": message, "type": "scripted", "code": status}
    return JSONResponse({"error": error}, status_code=status, headers=headers)


def main() -> None:
    """Serve on the port given on the command line."""
    parser = argparse.ArgumentParser(description="Serve a scripted model whose answers are in the prompts.")
    parser.add_argument("--port", type=int, required=True, help="the port on loopback; 0 picks a free one")
    parser.add_argument("--demo", action="store_true", help="answer what the demo's tasks need")
    chosen = parser.parse_args()
    # Imported here, as a model that reads scripts does not need the demo.
    from flows.demo.model_decisions import DemoModel

    ModelServer(DemoModel() if chosen.demo else None, chosen.port).run()


if __name__ == "__main__":
    main()
