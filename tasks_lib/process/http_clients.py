"""Makes every HTTP client of coordinator: requests to this machine are direct, never through a proxy.

A proxy from the environment is for other machines. A request to a loopback address that goes through it reaches another
machine, along with passwords. `tests/process/test_process_rules.py` checks that no other module makes a client.
"""

import logging
import ssl
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import httpx

from tasks_lib.errors import SystemFailure

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "ftp_proxy", "ws_proxy", "wss_proxy", "socks_proxy", "no_proxy")


def is_loopback(url: str) -> bool:
    """Return whether `url` names this machine; False if it is not an address."""
    try:
        host = (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        found = ip_address(host)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None) or found
    return mapped.is_loopback or mapped.is_unspecified


def make_client(
    url: str, seconds: float, *, headers: Mapping[str, str] | None = None, verify: ssl.SSLContext | bool = True
) -> httpx.Client:
    """Make a client for paths below `url`; other machines are reached through the user's proxy, if there is one.

    Raises SystemFailure if that proxy, or the certificates that the environment names, cannot be used.
    """
    try:
        return httpx.Client(base_url=url, headers=headers, timeout=seconds, **_choose(url, verify))
    except (ImportError, ValueError, OSError) as error:
        raise SystemFailure(
            f"{url} cannot be reached: {error}. Check the proxy and certificate variables in the environment "
            "(HTTPS_PROXY, ALL_PROXY, SSL_CERT_FILE)"
        ) from error


def make_async_client(
    url: str,
    timeout: httpx.Timeout | float,
    *,
    auth: tuple[str, str] | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> httpx.AsyncClient:
    """Make a client that connects to `url` directly, wherever it is; `transport` is for tests."""
    # Load certificates only where they are needed, because that takes longer than a call.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
    direct = transport or httpx.AsyncHTTPTransport(verify=url.startswith("https:"), limits=limits)
    return httpx.AsyncClient(base_url=url, auth=auth, timeout=timeout, transport=direct, trust_env=False)


def make_webhook_client(url: str, seconds: float) -> httpx.AsyncClient:
    """Make a client for a request to `url`; other machines are reached through the user's proxy, if there is one.

    Raises OSError or ValueError if that proxy, or the certificates that the environment names, cannot be used.
    """
    # Their messages at INFO name the address, which may contain a secret.
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        return httpx.AsyncClient(timeout=seconds, **_choose(url, True))
    except ImportError as error:
        raise ValueError(str(error)) from error


def _choose(url: str, verify: ssl.SSLContext | bool) -> dict[str, Any]:
    is_checked = url.startswith("https:")
    return {"trust_env": not is_loopback(url), "verify": verify if is_checked else False}


def bypass_loopback(environment: Mapping[str, str]) -> dict[str, str]:
    """Return `environment` with this machine excluded from every proxy; unchanged if there is no proxy."""
    if not any(name.lower() in PROXIES and name.lower() != "no_proxy" for name in environment):
        return dict(environment)
    given = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    entries = [entry.strip() for entry in given.split(",") if entry.strip()]
    if "*" not in entries:
        entries += [name for name in LOOPBACK_NAMES if name not in entries]
    return {**environment, "no_proxy": ",".join(entries), "NO_PROXY": ",".join(entries)}
