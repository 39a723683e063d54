"""Decides what an error from opencode means: for a turn, for all sessions, or that requests must slow down."""

import re
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from tasks_lib.agents.opencode.api.rate_limit_headers import find_reset
from tasks_lib.session.events import Problem
from tasks_lib.text import cut, fold

_RATE = re.compile(r"\b429\b|rate.?limit|too many requests|overloaded|exhausted|throttl", re.IGNORECASE)
_QUOTA = re.compile(r"insufficient.?quota|exceeded your current quota|billing|payment|credit balance", re.IGNORECASE)
_KEY = re.compile(r"api.?key|credential|authenticat|unauthori[sz]ed", re.IGNORECASE)
_MODEL = re.compile(
    r"model.{0,80}(not found|not exist|not supported|unknown|invalid)|(unknown|invalid) model", re.IGNORECASE
)
_MODERATED = re.compile(r"moderat|flagged|content.?policy|safety", re.IGNORECASE)
_UNREACHABLE = re.compile(
    r"cannot connect|unable to connect|fetch failed|socket (hang up|connection was closed)|network error"
    r"|\b(ECONN\w+|ENOTFOUND|EAI_AGAIN|ENETUNREACH|EHOSTUNREACH|ETIMEDOUT)\b",
    re.IGNORECASE,
)
_ERROR_NAME = re.compile(r"^\w+Error: (?=\S)")
_OVERLOADED = 529
_SERVER_ERRORS = 500
_BACKOFF_SECONDS = 2.0
_TOLERANCE_SECONDS = 0.5
_LATE = 0.6
_TEXT = 400
ABORTED = "MessageAbortedError"


def read_problem(error: Mapping[str, Any], model: str) -> Problem:
    """Classify `error` (`name`, `data`) of a session with `model` ("" if it names none)."""
    name, data = str(error.get("name", "")), cast("Mapping[str, Any]", error.get("data") or {})
    said, status = _read_message(str(data.get("message", "")) or name), data.get("statusCode")
    whose = f"the provider of {model}" if model else "the model's provider"
    if status in (401, 402, 403, 404, 400, 429) or (isinstance(status, int) and _is_overload(status, said)):
        problem = _judge_status(int(status), said, whose)
        headers = cast("Mapping[str, str]", data.get("responseHeaders") or {})
        return replace(problem, until=find_reset(headers, time.time())) if problem.is_rate_limit else problem
    if name.startswith("ProviderAuth") or name == "ProviderInitError":
        return Problem(
            f"{whose} cannot be used: {said}; log in with `opencode auth login`, or set its key", is_refusal=True
        )
    if said.startswith("Model not found"):
        return Problem(
            f"{said.rstrip('.')}: run `opencode models` to list the available ones, and correct the model",
            is_refusal=True,
        )
    if said.startswith("Agent not found"):
        return Problem(f"{said}: correct the role in coordinator.yaml", is_refusal=True)
    if name == "ContextOverflowError":
        return Problem(f"the conversation is too long for {model or 'the model'}: {said}")
    if name == ABORTED:
        return Problem("the turn was aborted in opencode's own interface")
    if status:
        return Problem(
            f"{whose} answered {status}: {said}", is_outage=isinstance(status, int) and status >= _SERVER_ERRORS
        )
    if _UNREACHABLE.search(said):
        return Problem(f"{whose} cannot be reached: {said}", is_outage=True)
    return Problem(f"opencode could not continue: {said}")


def _judge_status(status: int, said: str, whose: str) -> Problem:
    is_about_key = status == 401 or bool(_KEY.search(said))
    if status in (401, 400, 403) and is_about_key:
        return Problem(
            f"{whose} refuses the key ({status}: {said}): correct the variable, or run `opencode auth login` again",
            is_refusal=True,
        )
    if status == 402 or _QUOTA.search(said):
        return Problem(f"{whose} requires payment ({status}: {said}): check the account", is_refusal=True)
    if status == 404 or (status == 400 and _MODEL.search(said)):
        return Problem(
            f"{whose} does not have the model ({status}: {said}): correct the model in coordinator.yaml",
            is_refusal=True,
        )
    if status == 403 and not _MODERATED.search(said):
        return Problem(
            f"{whose} refuses the model to this key ({status}: {said}): choose another model or key", is_refusal=True
        )
    if status == 429 or _is_overload(status, said):
        return Problem(
            f"{whose} gets too many requests ({status}: {said}), after all of opencode's retries", is_rate_limit=True
        )
    return Problem(f"{whose} answered {status}: {said}")


def _is_overload(status: int, said: str) -> bool:
    """Return whether a provider's error says that it is overloaded and will answer later."""
    return status == _OVERLOADED or (status >= _SERVER_ERRORS and bool(_RATE.search(said)))


def is_rate_limit(message: str, attempt: int, wait_seconds: float) -> bool:
    """Return whether a retry is due to a provider's rate limit.

    opencode does not report the status, so this decides by the message, or by a wait other than opencode's own 2, 4,
    8… seconds, which only a provider's `Retry-After` causes. If the event came late, the wait looks a little shorter.
    """
    if _UNREACHABLE.search(message):
        return False
    own = _BACKOFF_SECONDS * 2 ** max(0, attempt - 1)
    return bool(_RATE.search(message)) or not own * _LATE <= wait_seconds <= own + _TOLERANCE_SECONDS


def _read_message(text: str) -> str:
    """Return the message of an error on one line, without its name and its stack trace."""
    return cut(_ERROR_NAME.sub("", fold(text.split("\n    at ")[0])), _TEXT)
