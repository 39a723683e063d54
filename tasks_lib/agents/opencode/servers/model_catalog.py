"""Decides whether a server has the models that sessions need, and whether their providers can be reached."""

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from tasks_lib.agents.backend import Need
from tasks_lib.agents.json_values import as_object
from tasks_lib.agents.opencode.servers.server_interface import Address
from tasks_lib.agents.opencode.servers.server_process import connect
from tasks_lib.errors import AgentError
from tasks_lib.suggestions import suggest
from tasks_lib.text import fold, list_some

NameModel = Callable[[str, str], str]
"""Returns a session's model, from its role and the requested model; "" if neither names one."""
_FIRST_SECONDS = 120.0
"""The first request for a directory took 7 seconds on a cold machine."""
_REACH_SECONDS = 10.0
_TOOLS_SECONDS = 300.0
"""opencode gives each MCP server 30 seconds, or the `timeout` of its configuration."""
_LISTED = 8


@dataclass(frozen=True, slots=True)
class Catalog:
    """What a server offers: its `agents` with the model of each ("" for the default), and `models` per usable provider.

    `usual_model` is what its configuration names, "" for none. `addresses` are those that the configuration gives to
    providers, otherwise those that opencode lists; for some providers it lists none. `has_plugin` says that
    coordinator's plugin is loaded.
    """

    agents: Mapping[str, str]
    models: Mapping[str, Sequence[str]]
    usual_model: str
    addresses: Mapping[str, str]
    has_plugin: bool = False


async def read_catalog(address: Address, directory: Path) -> Catalog:
    """Ask the server at `address`, as a session in `directory` would see it; raises AgentError."""
    places = {"directory": str(directory)}
    try:
        async with connect(address, _FIRST_SECONDS) as client:
            agents, providers, configuration = [
                (await client.get(path, params=places)).raise_for_status().json()
                for path in ("/agent", "/config/providers", "/config")
            ]
            with suppress(httpx.HTTPError):
                await client.post("/instance/dispose", params=places)
        return understand(agents, providers, configuration)
    except httpx.HTTPStatusError as error:
        raise AgentError(f"opencode's server rejected its configuration: {_quote(error.response)}") from error
    except httpx.TimeoutException as error:
        raise AgentError(
            f"opencode's server at {address.url} did not say within {_FIRST_SECONDS:g} seconds which roles and models "
            "it has; its log may say what it waits for, such as packages that it cannot fetch"
        ) from error
    except httpx.HTTPError as error:
        reason = str(error) or type(error).__name__
        raise AgentError(f"opencode's server at {address.url} does not answer: {reason}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AgentError(f"opencode's server at {address.url} gave an unexpected answer: {error}") from error


@dataclass(frozen=True, slots=True)
class ToolServer:
    """An MCP server that sessions are configured with, and the `reason` why it gives them no tools, "" if it does."""

    name: str
    reason: str = ""


async def read_tool_servers(address: Address, directory: Path) -> list[ToolServer]:
    """Return the enabled MCP servers as a session in `directory` would find them; waits until each answers or fails.

    Raises AgentError.
    """
    places = {"directory": str(directory)}
    try:
        async with connect(address, _TOOLS_SECONDS) as client:
            found = (await client.get("/mcp", params=places)).raise_for_status().json()
            with suppress(httpx.HTTPError):
                await client.post("/instance/dispose", params=places)
    except (httpx.HTTPError, ValueError) as error:
        reason = str(error) or type(error).__name__
        raise AgentError(f"opencode's server at {address.url} does not say which tools it has: {reason}") from error
    states = {name: as_object(state) for name, state in as_object(found).items()}
    return [ToolServer(name, _find_reason(one)) for name, one in states.items() if one.get("status") != "disabled"]


def _find_reason(state: Mapping[str, Any]) -> str:
    status = str(state.get("status"))
    return "" if status == "connected" else fold(str(state.get("error") or status.replace("_", " ")))[:200]


def _quote(answer: httpx.Response) -> str:
    return f"{answer.status_code} {fold(answer.text)[:400]}"


def understand(agents: Any, providers: Any, configuration: Any) -> Catalog:
    """Return the catalog from a server's answers to `/agent`, `/config/providers` and `/config`.

    Raises ValueError, KeyError, TypeError or AttributeError for answers of another shape.
    """
    return Catalog(
        {agent["name"]: _join(agent.get("model")) for agent in agents if not agent.get("hidden")},
        {provider["id"]: sorted(provider["models"]) for provider in providers["providers"]},
        str(configuration.get("model") or ""),
        {
            **{provider["id"]: url for provider in providers["providers"] if (url := _find_listed_url(provider))},
            **{name: url for name, one in configuration.get("provider", {}).items() if (url := _find_url(one))},
        },
        configuration.get("username") == "coordinator",
    )


def _find_listed_url(provider: Any) -> str:
    """Return the address that all models of a provider share, "" for none."""
    found = {_find_model_url(model) for model in provider["models"].values()}
    return found.pop() if len(found) == 1 else ""


def _find_model_url(model: Any) -> str:
    api: Any = model.get("api")
    return str((api and api.get("url")) or "")


def _find_url(provider: Any) -> str:
    options: Any = provider.get("options")
    return str((options and options.get("baseURL")) or provider.get("api") or "")


def _join(model: Any) -> str:
    return f"{model['providerID']}/{model['modelID']}" if model else ""


def check_models(needs: Iterable[Need], name_model: NameModel, catalog: Catalog) -> list[str]:
    """Return a sentence for each model that sessions need and the server does not have."""
    faults: dict[str, str] = {}
    for need in needs:
        model = name_model(need.role, need.model)
        if fault := _find_fault(model, catalog):
            faults.setdefault(model, f"{need.where or 'coordinator.yaml'}: {fault}" if model else fault)
    return list(faults.values())


def _find_fault(model: str, catalog: Catalog) -> str | None:
    if not model:
        return (
            "coordinator.yaml: no model is set: write `model: provider/model` below `agent`, as listed by "
            f"`opencode models`; available providers: {_list(catalog.models)}"
        )
    provider, _, name = model.partition("/")
    if provider not in catalog.models:
        return (
            f"the model {model} is not available: there is no usable provider {provider}"
            f"{suggest(provider, catalog.models) or f'; available providers: {_list(catalog.models)}'} Run `opencode "
            "auth login`, list the variable of its key in agent.keys, or define the provider in agent.config"
        )
    known = catalog.models[provider]
    if name in known:
        return None
    hint = suggest(name, known) or f"; its models: {_list(known)}"
    return f"the model {model} is not available: {provider} has no model of this name{hint}"


def _list(words: Iterable[str]) -> str:
    return f"{list_some(sorted(words), _LISTED) or 'none'}."


async def check_reach(
    needs: Iterable[Need], name_model: NameModel, catalog: Catalog, environment: Mapping[str, str]
) -> list[str]:
    """Return a sentence for each needed provider whose address does not accept connections.

    Only opens a connection, and only if no proxy is set; providers without a known address are not checked.
    """
    if any(name.lower().endswith("_proxy") for name in environment):
        return []
    providers = {name_model(need.role, need.model).partition("/")[0] for need in needs}
    asked = [(name, catalog.addresses[name]) for name in sorted(providers) if name in catalog.addresses]
    found = await asyncio.gather(*(_knock(url) for _, url in asked))
    return [
        f"the provider {name} cannot be reached at {url}: {reason}; check that it is running and reachable from this "
        "machine, or correct its baseURL in agent.config"
        for (name, url), reason in zip(asked, found, strict=True)
        if reason
    ]


async def _knock(url: str) -> str:
    """Return why `url` cannot be reached, "" if it can."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        return str(error)
    try:
        async with asyncio.timeout(_REACH_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return f"no answer within {_REACH_SECONDS:g} seconds"
    except OSError as error:
        # asyncio replaces the system's message with its own.
        number = error.errno or 0
        return os.strerror(number) if number > 0 else error.strerror or str(error)
    writer.close()
    return ""
