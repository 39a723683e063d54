"""Runs one opencode server: its directories and port, how it is started, checked for health, and ended."""

import asyncio
import secrets
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from tasks_lib.agents.opencode.config.config_directory import SERVER_MARK, write_stub
from tasks_lib.agents.opencode.config.user_config import USER_CONFIG_VARIABLES
from tasks_lib.agents.opencode.servers.executable import check_version
from tasks_lib.agents.opencode.servers.linked_places import find_home, link_others
from tasks_lib.agents.opencode.servers.server_interface import USERNAME, Address
from tasks_lib.errors import AgentError
from tasks_lib.process.http_clients import bypass_loopback, make_async_client
from tasks_lib.process.marked_processes import end_marked
from tasks_lib.process.process_groups import MARKER, GroupId, run_group
from tasks_lib.process.program_lookup import drop_relative
from tasks_lib.process.shell_lines import tail_of

BOOT_SECONDS = 120.0
"""A start takes 1 to 3 seconds; on two busy cores it has taken 18."""
PORTS = 4
"""How many ports to try: one that was free a moment ago may be taken meanwhile."""
_FOR_EVER = 10 * 365 * 86400.0
_LOOK_SECONDS = 0.05
"""How often to check the log while a server boots: a request would hang then, and there is no other signal."""
_HEALTH_SECONDS = 15.0
_DISPOSE_SECONDS = 5.0
_LISTENING = "listening on http"
_TAKEN = "ServeError"
"""What opencode prints if it cannot have the port."""

SWITCHES: Mapping[str, str] = {
    f"OPENCODE_DISABLE_{name}": "1"
    for name in (
        "AUTOUPDATE MODELS_FETCH SHARE LSP_DOWNLOAD DEFAULT_PLUGINS CLAUDE_CODE PROJECT_CONFIG TERMINAL_TITLE".split()  # noqa: SIM905
    )
}
"""No worktree influences how its sessions run, and nothing is downloaded without being asked for."""

_PASSED_ON = (
    "OPENCODE_API_KEY", "OPENCODE_AUTH_CONTENT", "OPENCODE_MODELS_PATH", "OPENCODE_MODELS_URL", *USER_CONFIG_VARIABLES,
)  # fmt: skip
"""opencode's own variables that say how to reach models, and where the user's configuration is."""
_USERS_FILES = ("auth.json", "mcp-auth.json")
_INSTALLED = ("node_modules", "package.json", "package-lock.json", "bun.lock", "bun.lockb", ".gitignore")
"""What opencode installs into a directory with configuration; plugins find the packages next to the real file."""


@dataclass(frozen=True, slots=True)
class ServerPlan:
    """How servers are started.

    `command` is the program and its arguments before `serve`, `wrapper` is put before it. `environment` is what they
    may see, without what is added here. `data` has a directory for each server, kept from run to run, because it
    contains conversations. `configuration` is a directory made by `write_configuration`; next to it, each server has a
    directory for as long as it runs. `log` is appended to; servers after the first have their own logs next to it.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str]
    data: Path
    configuration: Path
    log: Path
    stop_seconds: float = 10.0
    wrapper: tuple[str, ...] = ()

    def log_of(self, number: int) -> Path:
        return self.log if number == 0 else self.log.with_name(f"{self.log.stem}-{number}{self.log.suffix}")


class Server:
    """One server, and its data directory; it may be restarted any number of times, but runs only once at a time."""

    def __init__(
        self, plan: ServerPlan, number: int, password: str = "", choose_port: Callable[[], int] | None = None
    ) -> None:
        self.number: int = number
        self._plan: ServerPlan = plan
        self._places: Path = plan.data / str(number)
        self._libraries: Path = plan.configuration.with_name(f"libraries-{number}")
        self.log: Path = plan.log_of(number)
        self._password: str = password or secrets.token_urlsafe(32)
        self._choose_port: Callable[[], int] = choose_port or find_port
        self._generation: int = 0
        self._address: Address | None = None
        self._is_running: bool = False
        self._process: asyncio.Task[None] | None = None
        self._group: GroupId | None = None
        self._dead: dict[int, asyncio.Event] = {}

    @property
    def address(self) -> Address | None:
        """Where the server answers, None while it is not running."""
        return self._address if self._is_running else None

    async def wait_until_dead(self, generation: int) -> None:
        """Return once the start number `generation` has ended, with everything that it had started."""
        if dead := self._dead.get(generation):
            await dead.wait()

    async def start(self) -> Address:
        """Start the server, which must not be running, and wait until it is healthy; raises AgentError.

        A start that is cancelled leaves nothing running.
        """
        if self._process:
            await asyncio.wait({self._process})
        await asyncio.to_thread(prepare_places, self._places, self._plan.environment)
        for _ in range(PORTS):
            self._generation += 1
            self._dead[self._generation] = asyncio.Event()
            try:
                if address := await self._boot(await asyncio.to_thread(self._choose_port)):
                    self._address = address
                    return address
            except BaseException:
                with suppress(AgentError):
                    await self._end()
                raise
        raise AgentError(f"{PORTS} ports for opencode were free but then taken by other programs; run again")

    async def _boot(self, port: int) -> Address | None:
        """Start the program on `port`; None if the port was taken meanwhile."""
        before = await asyncio.to_thread(_size, self.log)
        self._process = asyncio.create_task(self._run(port, self._generation))
        # Waiting for the server's death must not raise what caused it.
        self._process.add_done_callback(lambda done: done.cancelled() or done.exception())
        deadline = time.monotonic() + BOOT_SECONDS
        while not (said := await asyncio.to_thread(_read_from, self.log, before)).count(_LISTENING):
            if self._process.done():
                self._process.result()
                if _TAKEN in said:
                    return None
                raise AgentError(f"opencode's server exited while starting{self._quote(before)}")
            if time.monotonic() > deadline:
                raise AgentError(
                    f"opencode's server did not start within {BOOT_SECONDS:g} seconds{self._quote(before)}"
                )
            await asyncio.wait({self._process}, timeout=_LOOK_SECONDS)
        address = Address(f"http://127.0.0.1:{port}", self._password, self.number, self._generation, self._group)
        if fault := check_version(await read_health(address), "the server"):
            raise AgentError(fault)
        await load_plugin(address, self._places / "cwd")
        return address

    async def _run(self, port: int, generation: int) -> None:
        """Run the program until it exits, then end everything that it has started, including sessions' shells."""
        plan, mark = self._plan, f"opencode-{uuid.uuid4().hex}"
        command = (*plan.wrapper, *plan.command, "serve", "--hostname", "127.0.0.1", "--port", str(port), "--no-mdns")
        try:
            await asyncio.to_thread(self._libraries.mkdir, mode=0o700, exist_ok=True)
            await run_group(
                (*command, "--print-logs", "--log-level", "WARN"),
                cwd=self._places / "cwd",
                environment=self._make_environment(mark),
                log=self.log,
                timeout_seconds=_FOR_EVER,
                stop_seconds=plan.stop_seconds,
                on_start=self._note_group,
            )
        finally:
            # It may end before `start` has recorded its address.
            self._is_running = False
            try:
                # A shell outlives a killed server, and has the marker of its session, not of the server.
                await asyncio.shield(end_marked(SERVER_MARK, mark, plan.stop_seconds))
                await asyncio.shield(asyncio.to_thread(shutil.rmtree, self._libraries, ignore_errors=True))
            finally:
                self._dead[generation].set()

    def _note_group(self, group: GroupId) -> None:
        self._group = group
        self._is_running = True

    def _make_environment(self, mark: str) -> dict[str, str]:
        environment = {**drop_switches(self._plan.environment), **SWITCHES}
        environment |= {f"XDG_{kind}_HOME": str(self._places / kind.lower()) for kind in ("DATA", "STATE", "CACHE")}
        # Programs that opencode itself runs, e.g. git, must not come from the worktree. Shells have their own PATH.
        environment["PATH"] = drop_relative(environment.get("PATH", ""))
        # In the user's own directory, opencode would install packages, and write what it thinks is missing.
        environment["XDG_CONFIG_HOME"] = str(self._places / "config")
        if (self._places / "home").is_dir():
            # The only way to move `~/.opencode`; opencode still expands `~` in permissions to the user's own home.
            environment["OPENCODE_TEST_HOME"] = str(self._places / "home")
        # opencode unpacks libraries of 6 MB into a directory for temporary files, and never removes them.
        environment.setdefault("BUN_TMPDIR", str(self._libraries))
        models = find_home(self._plan.environment, "CACHE") / "opencode" / "models.json"
        if models.is_file():
            environment.setdefault("OPENCODE_MODELS_PATH", str(models))
        return bypass_loopback(environment) | {
            "OPENCODE_CONFIG_DIR": str(self._plan.configuration),
            "OPENCODE_SERVER_PASSWORD": self._password,
            "OPENCODE_SERVER_USERNAME": USERNAME,
            SERVER_MARK: mark,
            MARKER: mark,
        }

    def _quote(self, before: int) -> str:
        tail = tail_of(self.log, before, _size(self.log), max_bytes=2000, max_lines=12)
        return f". The end of {self.log}:\n{tail}" if tail else f"; {self.log} is empty"

    async def stop(self) -> None:
        """End the server and everything that it has started; does nothing if it is not running."""
        address, self._address = self._address, None
        if address and self._process and not self._process.done():
            with suppress(httpx.HTTPError):
                async with connect(address, _DISPOSE_SECONDS) as client:
                    await client.post("/global/dispose")
        await self._end()

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.cancel()
        await asyncio.wait({process})
        if not process.cancelled() and isinstance(error := process.exception(), AgentError):
            raise error


def connect(address: Address, seconds: float) -> httpx.AsyncClient:
    """Return a client for `address` whose requests may take `seconds`."""
    return make_async_client(address.url, seconds, auth=(address.username, address.password))


async def load_plugin(address: Address, directory: Path) -> None:
    """Make the server load its configuration in `directory`, which is private, before it does so in a worktree.

    It imports the plugins of a worktree whatever its switches say, unless coordinator's plugin is already loaded.
    """
    places = {"directory": str(directory)}
    async with connect(address, BOOT_SECONDS) as client:
        with suppress(httpx.HTTPError):
            await client.get("/agent", params=places)
            await client.post("/instance/dispose", params=places)


async def read_health(address: Address) -> str:
    """Return the version that the server at `address` reports; raises AgentError, with what to do."""
    try:
        async with connect(address, _HEALTH_SECONDS) as client:
            answer = await client.get("/global/health")
    except httpx.HTTPError as error:
        raise AgentError(
            f"opencode's server at {address.url} cannot be reached: {str(error) or type(error).__name__}"
        ) from error
    if answer.status_code == httpx.codes.UNAUTHORIZED.value:
        raise AgentError(
            f"opencode's server at {address.url} refuses the password: set OPENCODE_SERVER_PASSWORD (and "
            "OPENCODE_SERVER_USERNAME, if it is not `opencode`) to what it was started with"
        )
    try:
        health = answer.raise_for_status().json()
        return str(health["version"]) if health["healthy"] else "not healthy"
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise AgentError(f"{address.url} answers, but not as opencode's server does: {error}") from error


def prepare_places(places: Path, environment: Mapping[str, str]) -> None:
    """Make a server's own directories, with the user's logins in them.

    Links rather than copies: opencode writes renewed tokens through them, and a copy would invalidate the user's own.
    """
    for kind in ("", "data/opencode", "state", "cache", "cwd"):
        (places / kind).mkdir(mode=0o700, parents=True, exist_ok=True)
    link_others(places, environment)
    link_configuration(places / "config", find_home(environment, "CONFIG"), "opencode")
    shutil.rmtree(places / "home", ignore_errors=True)
    home = Path(environment.get("HOME") or Path.home())
    if (home / ".opencode").is_dir():
        link_configuration(places / "home", home, ".opencode")
    for name in _USERS_FILES:
        theirs = find_home(environment, "DATA") / "opencode" / name
        link = places / "data" / "opencode" / name
        if link.is_symlink() or theirs.is_file():
            link.unlink(missing_ok=True)
        if theirs.is_file():
            link.symlink_to(theirs)


def link_configuration(place: Path, theirs: Path, name: str) -> None:
    """Make `place` mean what the user's directory `theirs` means now, without opencode changing its directory `name`.

    Each entry is a link, those of other programs too, which configuration may refer to and MCP servers may need. The
    directory for opencode is real, and nothing is installed into it.
    """
    shutil.rmtree(place, ignore_errors=True)
    write_stub(place / name)
    for directory, skipped in ((theirs, (name,)), (theirs / name, _INSTALLED)):
        for entry in directory.iterdir() if directory.is_dir() else ():
            if entry.name not in skipped:
                (place / entry.relative_to(theirs)).symlink_to(entry.absolute())


def drop_switches(environment: Mapping[str, str]) -> dict[str, str]:
    """Return `environment` without opencode's switches: some of them would keep coordinator's plugin from loading."""
    return {
        name: value for name, value in environment.items() if not name.startswith("OPENCODE_") or name in _PASSED_ON
    }


def find_port() -> int:
    """Return a port that is free now: opencode uses a fixed one if it may choose."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _read_from(path: Path, start: int) -> str:
    if not path.exists():
        return ""
    with path.open("rb") as source:
        source.seek(start)
        return source.read().decode("utf-8", "replace")
