"""Sends one notification to a webhook, or to a program of the user's; what went wrong is said without the address."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Protocol

import httpx

from tasks_lib.errors import AgentError
from tasks_lib.process.http_clients import make_webhook_client
from tasks_lib.process.process_groups import run_group

REQUEST_SECONDS = 10.0
COMMAND_SECONDS = 60.0
STOP_SECONDS = 2.0
_PASSING = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
Payload = Mapping[str, str | int | float]


class NotSentError(Exception):
    """The notification was not taken, and why; `may_pass` says that it may be later."""

    def __init__(self, reason: str, *, may_pass: bool) -> None:
        super().__init__(reason)
        self.may_pass: bool = may_pass


class Channel(Protocol):
    """A way to reach a person; `name` is what it is called in messages and in the record of what was told."""

    name: str

    async def send(self, payload: Payload) -> None:
        """Send one notification. Raises NotSentError."""
        ...


class WebhookChannel:
    """Posts JSON to an address. It is never part of a message."""

    name: str = "webhook"

    def __init__(self, url: str) -> None:
        self._url = url

    async def send(self, payload: Payload) -> None:
        """Post `payload`; a redirection counts as a refusal, since it could lead anywhere. Raises NotSentError."""
        try:
            async with asyncio.timeout(REQUEST_SECONDS), make_webhook_client(self._url, REQUEST_SECONDS) as client:
                answer = await client.post(self._url, json=dict(payload))
        except TimeoutError:
            raise NotSentError(f"it did not answer within {REQUEST_SECONDS:.0f} seconds", may_pass=True) from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            said = str(error).replace(self._url, "the address") or type(error).__name__
            raise NotSentError(f"it cannot be reached: {said}", may_pass=True) from None
        if not answer.is_success:
            may_pass = answer.is_server_error or answer.status_code in _PASSING
            raise NotSentError(f"it answered {answer.status_code}", may_pass=may_pass)


class CommandChannel:
    """Runs a program once for each notification, which it reads as a line of JSON from standard input."""

    name: str = "command"

    def __init__(self, command: Sequence[str], cwd: Path, environment: Mapping[str, str], log: Path) -> None:
        self._command = command
        self._cwd = cwd
        self._environment = environment
        self._log = log

    async def send(self, payload: Payload) -> None:
        """Run the program to its end; its output is appended to the log. Raises NotSentError unless it exits with 0."""
        data = json.dumps(dict(payload), ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        try:
            ended = await run_group(
                self._command,
                cwd=self._cwd,
                environment=self._environment,
                log=self._log,
                stdin=data,
                timeout_seconds=COMMAND_SECONDS,
                stop_seconds=STOP_SECONDS,
            )
        except (AgentError, OSError) as error:
            raise NotSentError(str(error), may_pass=False) from error
        if ended.timed_out:
            raise NotSentError(f"it did not end within {COMMAND_SECONDS:.0f} seconds", may_pass=False)
        if ended.status:
            raise NotSentError(f"it exited with {ended.status} (log: {self._log})", may_pass=True)
