"""HTTP clients for Prefect's API, for commands that do not import Prefect."""

import base64
import json
import os
import ssl
from http import HTTPStatus
from urllib.parse import urlsplit

import httpx

from tasks_lib.errors import InputError
from tasks_lib.process.http_clients import is_loopback, make_client

_TRUE = ("1", "true", "t", "yes", "y", "on")


def ask(api: str, seconds: float) -> httpx.Client:
    """Make a client of the API at `api` with a timeout of `seconds`, and the headers of Prefect's own client.

    Raises InputError if one of the user's settings is invalid.
    """
    headers = {**_read_headers(), **authorize()} if _is_theirs(api) else {}
    return make_client(api, seconds, headers=headers, verify=_choose_certificates() if _is_theirs(api) else True)


def find_ui(api: str) -> str:
    """The address of the UI of the server with the API at `api`, without a trailing slash."""
    return api.removesuffix("/").removesuffix("/api")


def authorize() -> dict[str, str]:
    """The authorization header that Prefect's own client would send."""
    if login := os.environ.get("PREFECT_API_AUTH_STRING"):
        return {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
    key = os.environ.get("PREFECT_API_KEY")
    return {"Authorization": f"Bearer {key}"} if key else {}


def require_accepted_login(api: str, status: int) -> None:
    """Raise InputError if the HTTP status `status` says that the server at `api` rejects the user's login."""
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        how = "set PREFECT_API_AUTH_STRING or PREFECT_API_KEY as the server requires it; Prefect profiles are not read"
        raise InputError([f"the Prefect server at {api.rstrip('/')} rejected the login ({int(status)}): {how}"])


def _is_theirs(api: str) -> bool:
    """Whether the user's login is for the server at `api`, which may come from a file that agents can write."""
    theirs = os.environ.get("PREFECT_API_URL")
    return not theirs or _find_origin(theirs) == _find_origin(api)


def _find_origin(url: str) -> tuple[str, str, int | None]:
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return ("", url, None)
    return (parts.scheme, "127.0.0.1" if is_loopback(url) else parts.hostname or "", port)


def _read_headers() -> dict[str, str]:
    given = os.environ.get("PREFECT_CLIENT_CUSTOM_HEADERS", "")
    try:
        found: dict[object, object] = json.loads(given) if given else {}
        return {str(name): str(value) for name, value in found.items()}
    except (ValueError, AttributeError) as error:
        raise InputError([f"PREFECT_CLIENT_CUSTOM_HEADERS is not a JSON object: {error}"]) from error


def _choose_certificates() -> ssl.SSLContext | bool:
    if os.environ.get("PREFECT_API_TLS_INSECURE_SKIP_VERIFY", "").casefold() in _TRUE:
        return False
    file = os.environ.get("PREFECT_API_SSL_CERT_FILE")
    if not file:
        return True
    try:
        return ssl.create_default_context(cafile=file)
    except OSError as error:
        raise InputError([f"PREFECT_API_SSL_CERT_FILE is {file}, which cannot be used: {error}"]) from error
