"""Makes opencode a backend: prepares servers, checks that they have what sessions need, and opens sessions."""

import asyncio
import hashlib
import secrets
import shutil
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from tasks_lib.agents.backend import Need, ProviderState, Session, SessionSpec
from tasks_lib.agents.memory_guard import guard_memory
from tasks_lib.agents.opencode.config.config_directory import (
    check_permission,
    list_kept,
    make_configuration,
    write_configuration,
)
from tasks_lib.agents.opencode.config.roles import Role, check_role_requirements, list_usable, load_shipped, read_roles
from tasks_lib.agents.opencode.config.shell_environments import Shells
from tasks_lib.agents.opencode.config.user_config import UserConfig, load_user_config
from tasks_lib.agents.opencode.servers.executable import check_program, find_program
from tasks_lib.agents.opencode.servers.external_server import ExternalServer
from tasks_lib.agents.opencode.servers.model_catalog import (
    Catalog,
    ToolServer,
    check_models,
    check_reach,
    read_catalog,
    read_tool_servers,
)
from tasks_lib.agents.opencode.servers.server_interface import ServerSource
from tasks_lib.agents.opencode.servers.server_pool import ServerPool
from tasks_lib.agents.opencode.servers.server_process import ServerPlan
from tasks_lib.agents.throttle import Throttles
from tasks_lib.errors import AgentError, Fault, InputError
from tasks_lib.settings.schema import Settings

OpenSession = Callable[[SessionSpec, ServerSource, str, str, str], Session]
"""Makes a session from its spec, the servers, the agent, the model, and the text that replaces a role."""
FALLBACK_AGENT = "build"
"""opencode's own agent that gets a role's text as instructions, on a server that does not have the role."""


def find_data(data: Path, repository: str) -> Path:
    """Return where servers for the git directory `repository` keep data, in the coordinator's data directory `data`."""
    return data / "opencode" / hashlib.sha256(repository.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def move_data(data: Path, former: str, repository: str) -> None:
    """Move the data of a repository that was at `former` to its current place."""
    old, new = find_data(data, former), find_data(data, repository)
    if old.is_dir() and not new.exists():
        old.rename(new)


def forget_conversations(data: Path) -> None:
    """Remove the sessions that servers of earlier runs stored in `data`; what they downloaded is kept.

    Call this only while no server runs there.
    """
    for place in data.glob("*/data"):
        shutil.rmtree(place, ignore_errors=True)


class OpencodeBackend:
    """Sessions on opencode servers: coordinator's own, or one that the user runs (`agent.url`).

    `environment` is what servers may see, including the variables of `agent.keys`. `data` is kept from run to run,
    `private` is for this run only and is removed by the caller. `roles` are the repository's, path → text, as they are
    on the target. Servers write to `log`. `throttles` are those that the sessions wait for.
    """

    def __init__(
        self,
        settings: Settings,
        environment: Mapping[str, str],
        data: Path,
        private: Path,
        roles: Mapping[str, str],
        log: Path,
        open_session: OpenSession,
        throttles: Throttles | None = None,
    ) -> None:
        self._settings: Settings = settings
        self._environment: Mapping[str, str] = environment
        self._data: Path = data
        self._private: Path = private / "opencode"
        self._texts: Mapping[str, str] = roles
        self._log: Path = log
        self._open_session: OpenSession = open_session
        self._throttles: Throttles = throttles or Throttles()
        self._roles: dict[str, Role] = {}
        self._catalog: Catalog | None = None
        self._user_config: UserConfig | None = None
        self._servers: ServerPool | ExternalServer | None = None
        self._preparing: asyncio.Lock = asyncio.Lock()
        self.durations: dict[str, float] = {}
        """How long the parts of `prepare` took, in seconds, in their order."""

    @property
    def servers(self) -> ServerSource | None:
        """The owner of the servers, None before `prepare`."""
        return self._servers

    async def prepare(self, needs: Sequence[Need]) -> None:
        """Make sure that sessions as listed in `needs` can be opened; starts the first server unless it is running.

        Raises InputError with every fault, AgentError if the server cannot be started.
        """
        async with self._preparing:
            if self._servers is None:
                with self._timing("program"):
                    self._servers = await asyncio.to_thread(self._set_up)
            if self._catalog is None or self._check(needs, self._catalog):
                self._catalog = await self._read_catalog(self._servers)
            faults = self._check(needs, self._catalog)
            with self._timing("providers"):
                faults += await check_reach(needs, self.name_model, self._catalog, self._environment)
            if faults:
                raise InputError(faults)

    @contextmanager
    def _timing(self, part: str) -> Generator[None]:
        began = time.monotonic()
        yield
        self.durations[part] = time.monotonic() - began

    async def find_tool_servers(self) -> list[ToolServer]:
        """Ask a prepared server for the MCP servers of sessions, which waits until each answers; raises AgentError."""
        if not isinstance(self._servers, ServerPool):
            return []
        lease = await self._servers.lease(0)
        try:
            with self._timing("MCP servers"):
                return await read_tool_servers(await lease.address(), self._private / "probe")
        finally:
            lease.leave()

    def _set_up(self) -> ServerPool | ExternalServer:
        """Read the roles and write the configuration; raises InputError with every fault."""
        agent = self._settings.agent
        faults: list[Fault | str] = [*check_permission(agent.permission)]
        try:
            self._roles = {**load_shipped(), **read_roles(self._texts)}
        except InputError as error:
            faults += error.faults
        search_path = self._environment.get("PATH", "")
        if not agent.url and (fault := check_program(agent.command, search_path, self._environment)):
            faults.append(fault)
        if faults:
            raise InputError(faults)
        self._private.mkdir(mode=0o700, parents=True, exist_ok=True)
        command = find_program(agent.command, search_path)
        if agent.url:
            return ExternalServer(agent.url, self._environment, command)
        return self._make_fleet(command)

    def _make_fleet(self, command: tuple[str, ...]) -> ServerPool:
        settings, environment = self._settings, self._environment
        shells = Shells(self._private / "shells")
        self._write_configuration(None)
        plan = ServerPlan(
            command,
            environment,
            self._data,
            self._configuration,
            self._log,
            settings.watch.stop_seconds,
            settings.wrapper,
        )
        return ServerPool(plan, shells, self._private / "password", secrets.token_urlsafe(32))

    @property
    def _configuration(self) -> Path:
        return self._private / "configuration"

    def _write_configuration(self, user_config: UserConfig | None) -> None:
        """Rewrite the files that servers read for each worktree; before `user_config` is known they allow nothing."""
        settings, environment = self._settings, self._environment
        keys = [name for name in environment if any(fnmatchcase(name, key) for key in settings.agent.keys)]
        scratch = next((environment[name] for name in ("TMPDIR", "TMP", "TEMP") if environment.get(name)), "/tmp")  # noqa: S108 - It is where opencode tells agents to put such files.
        found = make_configuration(
            settings,
            self._roles,
            shells=str(self._private / "shells"),
            keep=list_kept(environment, keys),
            scratch=[f"{scratch.rstrip('/')}/opencode/*"],
            user_config=user_config,
        )
        write_configuration(self._configuration, found)

    def _permit(self) -> None:
        """Let agents do what neither the run nor the user's own configuration refuses."""
        self._user_config = load_user_config(self._configuration)
        self._write_configuration(self._user_config)

    async def _read_catalog(self, servers: ServerPool | ExternalServer) -> Catalog:
        probe = self._private / "probe"
        await asyncio.to_thread(probe.mkdir, mode=0o700, exist_ok=True)
        lease = await servers.lease(0)
        try:
            with self._timing("server"):
                address = await lease.address()
            with self._timing("roles and models"):
                catalog = await read_catalog(address, probe)
        except AgentError as error:
            if isinstance(servers, ExternalServer):
                raise InputError([f"coordinator.yaml: agent.url: {error}"]) from error
            raise
        finally:
            lease.leave()
        if isinstance(servers, ServerPool) and not catalog.has_plugin:
            raise AgentError(
                f"opencode did not load the plugin that keeps secrets from shells; {self._log} may say why"
            )
        if isinstance(servers, ServerPool) and self._user_config is None:
            await asyncio.to_thread(self._permit)
        return catalog

    def _check(self, needs: Sequence[Need], catalog: Catalog) -> list[Fault | str]:
        known = set(catalog.agents)
        if isinstance(self._servers, ExternalServer):
            known |= set(list_usable(self._roles.values()))
        named = [replace(need, where=self._find_naming(need)) for need in needs]
        disabled = self._user_config.disabled if self._user_config else ()
        return [
            *check_role_requirements(needs, known, self._roles, disabled),
            *check_models(named, self.name_model, catalog),
        ]

    def _find_naming(self, need: Need) -> str:
        """Return where the model of `need` is named, as the start of a message; same order as `_name_model`."""
        role = self._roles.get(need.role)
        if need.model:
            return need.where
        if role and role.model:
            return f"{role.where}: model"
        named_there = not role and self._catalog and self._catalog.agents.get(need.role)
        if self._settings.agent.model and not named_there:
            return "coordinator.yaml: agent.model"
        return "opencode's own configuration"

    def name_model(self, role: str, model: str) -> str:
        """Return a session's model: the repository's choice before the user's; "" if neither names one."""
        mine, catalog = self._roles.get(role), self._catalog
        theirs = catalog.agents.get(role, "") if catalog else ""
        usual = self._settings.agent.model
        known = (mine.model, usual, theirs) if mine else (theirs, usual)
        return next((name for name in (model, *known) if name), catalog.usual_model if catalog else "")

    def open(self, spec: SessionSpec) -> Session:
        """Open a session for `spec`; nothing is started before its first prompt."""
        if self._servers is None:
            raise AgentError("the opencode backend must be prepared before a session is opened")
        agent, system = spec.role, ""
        if isinstance(self._servers, ExternalServer) and self._catalog and spec.role not in self._catalog.agents:
            role = self._roles.get(spec.role)
            agent, system = FALLBACK_AGENT, role.text if role else ""
        model = self.name_model(spec.role, spec.model)
        return guard_memory(self._open_session(spec, self._servers, agent, model, system), spec)

    def find_provider(self, role: str, model: str) -> ProviderState:
        """What the sessions of this run know about the provider of such a session."""
        throttle = self._throttles.find(self.name_model(role, model))
        return ProviderState(throttle.until, throttle.answered_at)

    async def close(self) -> None:
        """Stop every server that coordinator started; closing it again does nothing."""
        if self._servers:
            await self._servers.close()
