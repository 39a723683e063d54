"""A Postgres server of the tests' own, on a free port and in a temporary directory."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.prefect_server import LOOPBACK, find_free_port

LOCAL = Path(__file__).resolve().parents[2] / ".local" / "postgres"
SYSTEM = Path("/usr/lib/postgresql")
PASSWORD = "swordfish"
START_SECONDS = 300


def find_programs() -> Path | None:
    """The directory of Postgres's programs: on PATH, where Debian keeps them, or in the checkout (`make postgres`)."""
    on_path = shutil.which("initdb")
    places = [Path(on_path).resolve().parent] if on_path else []
    for top in (SYSTEM, LOCAL / "usr/lib/postgresql"):
        places += sorted(top.glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "initdb").exists() and (place / "pg_ctl").exists()), None)


def find_libraries(programs: Path) -> dict[str, str]:
    """The variable by which Debian's packages, extracted here instead of installed, find each other's libraries."""
    if not programs.is_relative_to(LOCAL):
        return {}
    return {"LD_LIBRARY_PATH": os.pathsep.join(sorted({str(found.parent) for found in LOCAL.rglob("*.so.*")}))}


@dataclass(frozen=True, slots=True)
class Postgres:
    """A server whose database `prefect` exists; the user `ada` has a password."""

    port: int
    home: Path
    run: "Runner"

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        options = f"-p {self.port} -h {LOOPBACK} -k {self.home} -c fsync=off"
        bound = ["-w", "-t", str(START_SECONDS)]
        self.run("pg_ctl", "start", "-D", self.data, *bound, "-o", options, "-l", self.home / "log")

    def stop(self) -> None:
        """End it, and break its connections, as a crash does."""
        self.run("pg_ctl", "stop", "-D", self.data, "-m", "immediate")

    @property
    def data(self) -> Path:
        return self.home / "data"

    def url(self, *, password: str = PASSWORD, database: str = "prefect", scheme: str = "postgresql") -> str:
        return f"{scheme}://ada:{password}@{LOOPBACK}:{self.port}/{database}"


def require_programs() -> Path:
    """The directory of Postgres's programs. Without them, the test is skipped with a reason, or fails if `CI` is set."""
    if programs := find_programs():
        return programs
    reason = "Postgres is not installed; `make postgres` installs it"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def running_postgres(programs: Path) -> Generator[Postgres]:
    """Run a server while the block runs. It refuses to run as root, so root runs it as another user."""
    home = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))
    run = Runner(programs, choose_user())
    if run.user is not None:
        os.chown(home, run.user, -1)
    (home / "password").write_text(PASSWORD)
    (home / "password").chmod(0o644)
    server = Postgres(find_free_port(), home, run)
    try:
        run(
            "initdb",
            "-D",
            server.data,
            "-U",
            "ada",
            "--auth=scram-sha-256",
            f"--pwfile={home / 'password'}",
            "--no-sync",
        )
        server.start()
        try:
            address = ["-h", LOOPBACK, "-p", str(server.port), "-U", "ada"]
            run("createdb", *address, "prefect", extra={"PGPASSWORD": PASSWORD})
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(home, ignore_errors=True)


def choose_user() -> int | None:
    """The user to run Postgres as; None is the one who runs the tests."""
    if os.geteuid():
        return None
    known = {entry.pw_name: entry.pw_uid for entry in pwd.getpwall()}
    return known.get("postgres", known["nobody"])


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs Postgres's programs as `user`."""

    programs: Path
    user: int | None

    def __call__(self, name: str, *arguments: object, extra: Mapping[str, str] | None = None) -> None:
        environment = {**os.environ, "LC_ALL": "C", **find_libraries(self.programs), **(extra or {})}
        done = subprocess.run(
            [self.programs / name, *map(str, arguments)], cwd="/", env=environment, user=self.user, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
