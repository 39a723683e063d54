"""A repository, a home and a shell full of traps that could steer a coordinator process; each records that it fired."""

import os
import socket
import subprocess
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

from tasks_lib.process.program_lookup import own_path, require_program

MODULES = (
    "queue", "json", "typing", "logging", "asyncio", "httpx", "typer", "prefect", "uvicorn", "sqlalchemy", "pydantic",
    "git", "psutil", "yaml", "flows", "tasks_lib", "usercustomize",
)  # fmt: skip
"""Modules at the top of the repository, except those that Python loads before any program starts."""
PROGRAMS = ("git", "sh", "nice", "env", "rm", "python", "python3", "prefect", "opencode", "bwrap", "nproc")
TASK = "---\nid: a\nname: Do a\ndepends_on: []\nstatus: pending\n---\nText.\n"


class Listener:
    """A port that nothing should connect to; `calls` counts the connections."""

    def __init__(self) -> None:
        self.calls: int = 0
        self._socket: socket.socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.calls += 1
            connection.close()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@dataclass(frozen=True, slots=True)
class HostileEnvironment:
    """The repository at `top`; `marks` is a file with a line for each trap that fired."""

    place: Path
    listener: Listener
    settings: str = ""
    traps: list[str] = field(default_factory=list[str])

    @property
    def top(self) -> Path:
        return self.place / "repository"

    @property
    def home(self) -> Path:
        return self.place / "home"

    @property
    def data(self) -> Path:
        return self.place / "data"

    @property
    def marks(self) -> Path:
        return self.place / "marks"

    @property
    def database(self) -> Path:
        return self.top / "mine.db"

    def git(self, *words: str) -> str:
        command = [require_program("git"), *words]
        environment = {**os.environ, "PATH": own_path()}
        return subprocess.run(
            command, cwd=self.top, env=environment, capture_output=True, text=True, check=True
        ).stdout.strip()

    def find_harm(self) -> list[str]:
        """The traps that fired, any connection to the listener, and any change to the user's database."""
        told = self.marks.read_text().splitlines() if self.marks.exists() else []
        asked = ["the proxy, or a server that only the repository names, was asked"] if self.listener.calls else []
        is_same = self.database.read_bytes() == b"theirs" and not list(self.top.glob("mine.db-*"))
        return [*told, *asked, *([] if is_same else ["the person's database was opened"])]

    def environment(self, extra: Mapping[str, str] | None = None, *, proxy: str = "http") -> dict[str, str]:
        """The environment of a shell with every harmful variable set; `proxy` is the scheme of its proxy."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "PYTHON"))}
        address = f"{proxy}://127.0.0.1:{self.listener.port}"
        proxies = dict.fromkeys(("HTTP_PROXY", "https_proxy", "ALL_PROXY", "http_proxy", "all_proxy"), address)
        nowhere = str(self.place / "nowhere")
        hostile = {
            "PATH": f".::{os.environ['PATH']}",
            "HOME": str(self.home),
            "COORDINATOR_DATA_DIR": str(self.data),
            "NO_PROXY": "example.org",
            "no_proxy": "example.org",
            "SSL_CERT_FILE": nowhere,
            "SSLKEYLOGFILE": str(self.place / "keys-of-tls"),
            "PYTHONPATH": ".",
            "PYTHONWARNINGS": "error",
            "PYTHONINSPECT": "1",
            "PYTHONOPTIMIZE": "2",
            "PYTHONSTARTUP": str(self.top / "queue.py"),
            "PREFECT_PROFILE": "theirs",
            "PREFECT_API_KEY": "secret",
            "prefect_api_url": f"http://127.0.0.1:{self.listener.port}/api",
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{self.database}",
            "PREFECT_LOGGING_SETTINGS_PATH": str(self.home / ".prefect" / "logging.yml"),
            "PREFECT_PROFILES_PATH": str(self.home / ".prefect" / "profiles.toml"),
            "PREFECT_RESULTS_DEFAULT_SERIALIZER": "nowhere",
            "PREFECT_TEST_MODE": "1",
            "PREFECT_SERVER_API_BASE_PATH": "/elsewhere",
            "UVICORN_PORT": "1",
            "WEB_CONCURRENCY": "two",
            "OTEL_PYTHON_TRACER_PROVIDER": "nowhere",
            "SQLALCHEMY_WARN_20": "1",
            "GIT_PYTHON_GIT_EXECUTABLE": "./git",
            "GIT_PYTHON_REFRESH": "raise",
            "NETRC": str(self.home / ".netrc"),
        }
        return kept | proxies | hostile | dict(extra or {})


@contextmanager
def open_hostile_environment(place: Path, agent: str) -> Generator[HostileEnvironment]:
    """Make a repository with one task that `agent`, a shell line, runs; its traps are committed or ignored."""
    listener = Listener()
    made = HostileEnvironment(place, listener)
    made.top.mkdir(parents=True)
    made.git("init", "--quiet", "--initial-branch=main")
    for key, value in (("user.name", "Ada"), ("user.email", "ada@example.org")):
        made.git("config", key, value)
    _write(made.top, _list_repository(made, agent))
    _write(made.home, _list_home(made))
    for name in PROGRAMS:
        (made.top / name).chmod(0o755)
    made.git("add", "--all")
    made.git("commit", "--quiet", "--message", "Begin")
    made.database.write_bytes(b"theirs")
    yield made
    listener.close()


def _write(top: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text, encoding="utf-8")


def _list_repository(made: HostileEnvironment, agent: str) -> dict[str, str]:
    api = f"http://127.0.0.1:{made.listener.port}/api"
    server = f'[server.database]\nconnection_url = "sqlite+aiosqlite:///{made.database}"\n'
    toml = f'profiles_path = "{made.home}/.prefect/profiles.toml"\n[api]\nurl = "{api}"\n{server}'
    pyproject = toml.replace("[", "[tool.prefect.")
    lines = {
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{made.database}",
        "PREFECT_API_URL": api,
        "PREFECT_API_KEY": "secret",
        "PREFECT_HOME": str(made.home / ".prefect"),
        "PREFECT_PROFILES_PATH": f"{made.home}/.prefect/profiles.toml",
        "PREFECT_SERVER_API_BASE_PATH": "/elsewhere",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "",
        "PREFECT_FLOWS_DEFAULT_RETRIES": "5",
    }
    trap = f"#!/bin/sh\necho program $0 >> {made.marks}\nexit 97\n"
    return {
        ".gitignore": ".env\nmine.db*\n.worktrees/\n",
        ".env": "".join(f"{name}={value}\n" for name, value in lines.items()),
        "prefect.toml": toml,
        "pyproject.toml": f'[tool.prefect]\nprofiles_path = "{made.home}/x"\n' + pyproject.split("\n", 1)[1],
        "prefect.yaml": "pull: [{nowhere: {}}]\n",
        ".prefectignore": "*\n",
        "logging.yml": "version: nowhere\n",
        "bunfig.toml": f'preload = ["{made.top}/preload.js"]\n',
        "preload.js": f'require("fs").appendFileSync("{made.marks}", "preload.js\\n")\n',
        "opencode.json": '{"provider": "broken"}\n',
        **{f"{name}.py": _write_trap(made, name) for name in MODULES if name not in ("flows", "tasks_lib")},
        **{f"{name}/__init__.py": _write_trap(made, name) for name in ("flows", "tasks_lib")},
        **dict.fromkeys(PROGRAMS, trap),
        "tasks/a.md": TASK,
        "coordinator.yaml": f"agent:\n  command: [/bin/sh, -c, {agent!r}]\nverify: [':']\nretry: {{attempts: 1}}\n",
    }


def _write_trap(made: HostileEnvironment, name: str) -> str:
    return f'with open({str(made.marks)!r}, "a") as marks:\n    marks.write("module {name}\\n")\nraise ImportError\n'


def _list_home(made: HostileEnvironment) -> dict[str, str]:
    profile = f'active = "theirs"\n[profiles.theirs]\nPREFECT_API_URL = "http://127.0.0.1:{made.listener.port}/api"\n'
    database = f'PREFECT_SERVER_DATABASE_CONNECTION_URL = "sqlite+aiosqlite:///{made.database}"\n'
    return {
        ".prefect/profiles.toml": profile + 'PREFECT_API_KEY = "secret"\n' + database,
        ".prefect/logging.yml": "version: nowhere\n",
        ".netrc": "machine 127.0.0.1 login ada password secret\n",
    }
