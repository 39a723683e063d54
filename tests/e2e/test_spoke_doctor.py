"""What `doctor --spoke` says of a real Prefect server, each with that fault."""

import asyncio
import json
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from email.utils import formatdate, parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from threading import Thread

import httpx
import pytest
from e2e.conftest import Coordinator, send_api

from flows.cli.commands.doctor_check import Check
from flows.cli.commands.doctor_spoke_server import check_server, judge_version
from flows.prefect_isolation import isolated
from flows.prefect_server import LOOPBACK, Child, find_free_port
from flows.spokes.worker_lock import holding_worker_lock
from tasks_lib.process.http_clients import make_client

pytestmark = pytest.mark.xdist_group("prefect and spokes")
Examine = Callable[..., dict[str, Check]]


@pytest.fixture
def api(server: Child) -> str:
    return f"http://{LOOPBACK}:{server.port}/api"


@pytest.fixture
def examine(api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Examine:
    """Checks a server, by default the real one, as this machine called north; returns the checks by what they are about."""
    monkeypatch.setenv("COORDINATOR_DATA_DIR", str(tmp_path / "data"))

    def check(pool: str, address: str = api) -> dict[str, Check]:
        monkeypatch.setenv("PREFECT_API_URL", address)
        return {one.about: one for one in check_server(pool, "north")}

    return check


@pytest.fixture
def pool(api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A work pool with a queue, as a spoke's worker makes them."""
    monkeypatch.setenv("COORDINATOR_DATA_DIR", str(tmp_path / "data"))
    name = f"doctor-{tmp_path.name}"
    with isolated({"PREFECT_API_URL": api}):
        from prefect.client.orchestration import get_client
        from prefect.settings import PREFECT_API_URL, temporary_settings

        from flows.spoke_worker.session_deployment import ensure_queue, ensure_sessions

        async def make() -> None:
            async with get_client() as client:
                await ensure_sessions(client, name)
                await ensure_queue(client, name, "north")

        # Another test of this process may have loaded Prefect's settings with another server.
        with temporary_settings(updates={PREFECT_API_URL: api}):
            asyncio.run(make())
    yield name
    send_api(api, "DELETE", f"work_pools/{name}")


@contextmanager
def behind(api: str, change: Callable[[str, httpx.Response], tuple[bytes, str]]) -> Generator[str]:
    """The address of a proxy before `api` that answers with the body and the date that `change` returns."""
    with make_client(api, 60) as client:

        class Proxy(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                path = self.path.removeprefix("/api")
                answer = client.request(self.command, path, content=body, headers={"Content-Type": "application/json"})
                content, date = change(path, answer)
                self.send_response_only(answer.status_code)
                self.send_header("Date", date)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def do_POST(self) -> None:
                self.do_GET()

        with ThreadingHTTPServer((LOOPBACK, 0), Proxy) as proxy:
            thread = Thread(target=proxy.serve_forever, daemon=True)
            thread.start()
            yield f"http://{LOOPBACK}:{proxy.server_port}/api"
            proxy.shutdown()
            thread.join()


def test_a_server_with_pool_and_queue_is_in_order(examine: Examine, pool: str) -> None:
    found = examine(pool)
    assert {about: one.level for about, one in found.items()} == dict.fromkeys(
        ("server", "clock", "pool", "queue", "worker"), "ok"
    )
    assert f"Prefect {metadata.version('prefect')}" in found["server"].text
    assert "none runs here" in found["worker"].text


def test_a_server_that_is_not_there_is_named(examine: Examine) -> None:
    address = f"http://{LOOPBACK}:{find_free_port()}/api"
    found = examine("any", address)["server"]
    assert (found.level, address in found.text, "tunnel" in found.text) == ("fail", True, True)


def test_an_address_that_is_not_prefects_api_is_found_out(examine: Examine, api: str) -> None:
    found = examine("any", api.removesuffix("/api"))["server"]
    assert (found.level, "set PREFECT_API_URL to a Prefect API" in found.text) == ("fail", True)


def test_a_pool_and_a_queue_that_nobody_made_yet_are_said(examine: Examine, pool: str, api: str) -> None:
    found = examine("nobodys")["pool"]
    assert (found.level, "spoke start` makes it" in found.text) == ("warn", True)
    send_api(api, "DELETE", f"work_pools/{pool}/queues/north")
    found = examine(pool)["queue"]
    assert (found.level, 'the work queue "north" does not exist yet' in found.text) == ("warn", True)


def test_a_pool_and_a_queue_that_are_paused_are_said(examine: Examine, pool: str, api: str) -> None:
    send_api(api, "PATCH", f"work_pools/{pool}", {"is_paused": True})
    send_api(api, "PATCH", f"work_pools/{pool}/queues/north", {"is_paused": True})
    found = examine(pool)
    assert (found["pool"].level, f"prefect work-pool resume {pool}" in found["pool"].text) == ("fail", True)
    assert (found["queue"].level, f"work-queue resume north --pool {pool}" in found["queue"].text) == ("fail", True)


def test_a_pool_whose_workers_start_no_processes_is_refused(examine: Examine, api: str, tmp_path: Path) -> None:
    name = f"docker-{tmp_path.name}"
    send_api(api, "POST", "work_pools/", {"name": name, "type": "docker"})
    found = examine(name)["pool"]
    send_api(api, "DELETE", f"work_pools/{name}")
    assert (found.level, "of type docker" in found.text) == ("fail", True)


def test_a_worker_of_the_same_name_on_another_machine_is_said(
    examine: Examine, pool: str, api: str, tmp_path: Path
) -> None:
    send_api(api, "POST", f"work_pools/{pool}/workers/heartbeat", {"name": "north", "heartbeat_interval_seconds": 30})
    found = examine(pool)["worker"]
    assert (found.level, "another machine is online as north" in found.text) == ("warn", True)
    with holding_worker_lock(tmp_path / "data"):
        assert examine(pool)["worker"].text == "north is online"


def test_a_worker_here_that_the_server_does_not_know_by_this_name_is_said(
    examine: Examine, pool: str, tmp_path: Path
) -> None:
    examine(pool)
    with holding_worker_lock(tmp_path / "data"):
        found = examine(pool)["worker"]
    assert (found.level, "not as north" in found.text) == ("warn", True)


def test_deployments_of_another_release_are_said(examine: Examine, pool: str, api: str) -> None:
    found = send_api(api, "GET", "deployments/name/run-session/session").json()
    send_api(api, "PATCH", f"deployments/{found['id']}", {"version": "0.0.1"})
    told = examine(pool)["release"]
    send_api(api, "PATCH", f"deployments/{found['id']}", {"version": found["version"]})
    assert (told.level, "coordinator 0.0.1" in told.text) == ("warn", True), told


@pytest.mark.parametrize("version", ["0c2f9a4b6d8e1357f0a2b4c6d8e0f1a3", "54a13724"])
def test_deployment_that_prefects_own_command_made_is_of_no_release(
    examine: Examine, pool: str, api: str, version: str
) -> None:
    found = send_api(api, "GET", "deployments/name/run-session/session").json()
    send_api(api, "PATCH", f"deployments/{found['id']}", {"version": version})
    told = examine(pool)
    send_api(api, "PATCH", f"deployments/{found['id']}", {"version": found["version"]})
    assert "release" not in told


@pytest.mark.parametrize(
    ("seconds", "level", "said"),
    [(3600, "fail", "behind"), (-3600, "fail", "ahead of"), (20, "warn", "behind")],
)
def test_a_clock_that_differs_from_the_servers_is_said(
    examine: Examine, pool: str, api: str, seconds: int, level: str, said: str
) -> None:
    def shift(path: str, answer: httpx.Response) -> tuple[bytes, str]:
        there = parsedate_to_datetime(answer.headers["date"]).timestamp() + seconds
        return answer.content, formatdate(there, usegmt=True)

    with behind(api, shift) as address:
        found = examine(pool, address)["clock"]
    assert (found.level, f"seconds {said} the Prefect server" in found.text) == (level, True), found


@pytest.mark.parametrize(("version", "level"), [("3.0.0", "warn"), ("2.20.4", "fail"), ("9.0.0", "fail")])
def test_a_server_of_another_version_is_said(examine: Examine, api: str, version: str, level: str) -> None:
    def claim(path: str, answer: httpx.Response) -> tuple[bytes, str]:
        content = json.dumps(version).encode() if path == "/admin/version" else answer.content
        return content, answer.headers["date"]

    with behind(api, claim) as address:
        found = examine("any", address)["server"]
    assert (found.level, f"Prefect {version}" in found.text) == (level, True), found


def test_what_is_no_version_is_not_a_prefect_server() -> None:
    assert judge_version("http://api", "a page", "3.0.0").level == "fail"


def test_the_command_line_finds_a_machine_with_a_server_but_without_repositories(
    coordinator: Coordinator, pool: str
) -> None:
    code, output = coordinator.run("doctor", "--spoke", "--name", "north", "--pool", pool)
    assert code == 2
    assert "fail repositories: none is registered here" in output
    assert "ok   queue" in output
