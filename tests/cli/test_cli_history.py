"""What `history` says without a server, or with one that refuses; `tests/e2e/test_history.py` has a real one."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cli_fixtures import Call, UserRepository


def test_history_without_a_server_says_how_to_start_one(repo: UserRepository, call: Call) -> None:
    done = call("history", cwd=repo.top)
    assert (done.returncode, done.stdout) == (2, "")
    assert "coordinator up" in done.stderr
    assert "PREFECT_API_URL" in done.stderr


def test_server_that_does_not_answer_is_named(repo: UserRepository, call: Call) -> None:
    done = call("history", cwd=repo.top, environment={"PREFECT_API_URL": "http://127.0.0.1:9/api"})
    assert done.returncode == 2
    assert "http://127.0.0.1:9/api" in done.stderr
    assert "does not answer" in done.stderr
    assert "Traceback" not in done.stderr


@contextmanager
def answering(status: int, body: bytes = b"") -> Generator[str]:
    """A server that gives every request the same answer; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST  # noqa: N815 - The base class looks for this name.

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - The base class's name.
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/api"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "said", "code"),
    [(401, b"", "rejected the login (401)", 2), (404, b"", "answered 404", 2), (200, b"<html>", "does not answer", 2)],
)
def test_server_that_refuses_or_is_another_is_explained(
    repo: UserRepository, call: Call, status: int, body: bytes, said: str, code: int
) -> None:
    with answering(status, body) as api:
        done = call("history", "left", cwd=repo.top, environment={"PREFECT_API_URL": api})
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_bad_limit_and_a_directory_without_a_repository_are_refused(
    repo: UserRepository, call: Call, tmp_path: Path
) -> None:
    assert call("history", "--limit", "0", cwd=repo.top).returncode == 2
    outside = tmp_path / "outside"
    outside.mkdir()
    assert call("history", cwd=outside).returncode == 2


def test_history_does_not_import_prefect(repo: UserRepository, call: Call) -> None:
    environment = {"PYTHONPROFILEIMPORTTIME": "1"}
    done = call("history", cwd=repo.top, environment=environment)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "import time:" in line}
    assert "flows.run_history" in imported, done.stderr
    assert "prefect" not in imported
