"""The server that stays until it is told to end."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
from helpers_cli import Call


def test_up_serves_the_ui_until_it_is_ended_and_leaves_nothing(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-u", "-m", "flows.cli", "up", "--port", str(port)]
    process = subprocess.Popen(command, env=dict(os.environ), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        link = next(found[0] for line in process.stdout if (found := re.search(r"http://\S+", line)))
        assert link == f"http://127.0.0.1:{port}"
        assert httpx.get(f"{link}/api/health", timeout=30).is_success
        children = psutil.Process(process.pid).children(recursive=True)
    finally:
        process.send_signal(signal.SIGTERM)
        status = process.wait(60)
    assert status == 0
    assert children
    assert not [child for child in children if child.is_running()]
    assert not (tmp_path / "data" / "prefect" / "server.json").exists()


def test_up_says_when_its_port_is_taken(tmp_path: Path, call: Call) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = call("up", "--port", str(taken.getsockname()[1]), cwd=tmp_path)
    assert (done.returncode, "--port" in done.stderr, len(done.stderr.splitlines())) == (2, True, 1)


def test_up_starts_nothing_beside_a_server_of_the_user(tmp_path: Path, call: Call) -> None:
    done = call("up", cwd=tmp_path, environment={"PREFECT_API_URL": "http://prefect.example/api"})
    assert (done.returncode, "http://prefect.example" in done.stdout) == (0, True)
