"""What `coordinator resolve` does and prints without a run; `tests/e2e/test_resolving.py` has runs."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from cli_fixtures import Call, Main, UserRepository, task_text

from tasks_lib.errors import InputError

RESOLVE = "tasks/resolve-left-1.md"


@pytest.fixture
def blocked(repo: UserRepository) -> UserRepository:
    """The graph of `repo`, in which left is blocked."""
    left = task_text("left", depends_on=("base", "resolve-left-1"), status="blocked")
    repo.commit(repo.tasks(left, task_text("resolve-left-1", assignee="human")), "Block left")
    return repo


def test_resolving_commits_the_answer_and_says_how_to_go_on(blocked: UserRepository, call: Call) -> None:
    done = call("resolve", "left", "Use", "-- the sandbox key", cwd=blocked.top)
    head = blocked.git.text("rev-parse", "main")
    said = f"resolve-left-1 was completed on main with {head[:12]}. To run left again: `coordinator run`.\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, said, "")
    assert "Use -- the sandbox key" in (blocked.top / RESOLVE).read_text()
    assert blocked.git.text("log", "-n1", "--format=%s") == "resolved(resolve-left-1): Use -- the sandbox key"
    assert "Use -- the sandbox key" in call("prompt", "left", cwd=blocked.top).stdout
    assert "left: " in call("run", "--dry-run", cwd=blocked.top).stdout
    assert call("doctor", "--audit", cwd=blocked.top).returncode == 0


def test_answer_may_be_given_as_an_option_as_for_retry(blocked: UserRepository, main_here: Main) -> None:
    code, _ = main_here("resolve", "left", "--note", "Use the sandbox key", "--repo", str(blocked.top))
    assert code == 0
    assert blocked.git.text("log", "-n1", "--format=%s") == "resolved(resolve-left-1): Use the sandbox key"


def test_answer_as_json_has_the_keys_of_the_other_requests(blocked: UserRepository, main_here: Main) -> None:
    code, output = main_here("resolve", "resolve-left-1", "--repo", str(blocked.top), "--json")
    found = json.loads(output)
    assert (code, found["run"], found["wish"]) == (0, "", "resolve")
    assert [(one["node"], one["is_done"]) for one in found["answers"]] == [("resolve-left-1", True)]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("lefd", '"lefd" is not a task. Did you mean "left"?'),
        ("right", "tasks/right.md:5: right is not blocked, its status is pending"),
        ("base", "tasks/base.md:5: base is completed, so there is nothing to resolve"),
    ],
)
def test_what_cannot_be_resolved_is_said_and_changes_nothing(
    blocked: UserRepository, main_here: Main, name: str, said: str
) -> None:
    head = blocked.git.text("rev-parse", "main")
    code, output = main_here("resolve", name, "Go on.", "--repo", str(blocked.top))
    assert (code, said in output) == (1, True), output
    assert blocked.git.text("rev-parse", "main") == head


def test_second_answer_and_an_edit_that_is_not_committed_are_refused(blocked: UserRepository, main_here: Main) -> None:
    (blocked.top / RESOLVE).write_text("mine\n")
    code, output = main_here("resolve", "left", "--repo", str(blocked.top))
    assert (code, "has uncommitted changes" in output) == (1, True), output
    assert (blocked.top / RESOLVE).read_text() == "mine\n"
    blocked.git.run("restore", RESOLVE)
    assert main_here("resolve", "left", "--repo", str(blocked.top))[0] == 0
    code, output = main_here("resolve", "left", "--repo", str(blocked.top))
    assert (code, "resolve-left-1 is already completed" in output) == (1, True), output


def test_publication_that_waits_is_said(blocked: UserRepository, main_here: Main) -> None:
    (blocked.top / ".git" / "index.lock").touch()
    code, output = main_here("resolve", "left", "--repo", str(blocked.top))
    assert code == 0
    assert "main has not been updated yet" in output
    assert "the commit waits at refs/coordinator/queue/main, and the next `coordinator run` publishes it" in output


def test_text_that_is_too_long_and_a_directory_without_a_repository_are_invalid_input(
    blocked: UserRepository, main_here: Main, call: Call, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="the text is longer than"):
        main_here("resolve", "left", "x" * 70_000, "--repo", str(blocked.top))
    assert call("resolve", "left", cwd=tmp_path).returncode == 2


class _Recorder(BaseHTTPRequestHandler):
    bodies: ClassVar[list[tuple[str, bytes]]] = []

    def do_POST(self) -> None:
        self.bodies.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log nothing."""


def test_server_that_is_known_is_told_of_it_and_one_that_is_gone_changes_nothing(
    blocked: UserRepository, call: Call
) -> None:
    with HTTPServer(("127.0.0.1", 0), _Recorder) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            api = f"http://127.0.0.1:{server.server_port}/api"
            done = call("resolve", "left", "Go on.", cwd=blocked.top, environment={"PREFECT_API_URL": api})
        finally:
            server.shutdown()
            thread.join()
    assert done.returncode == 0, done.stderr
    [(path, body)] = _Recorder.bodies
    [event] = json.loads(body)
    assert (path, event["event"]) == ("/api/events", "coordinator.node.resolved")
    labels = {key.removeprefix("coordinator."): value for key, value in event["resource"].items()}
    assert (labels["node"], labels["repository"], labels["in-run"]) == ("left", "repository", "false")
    assert (event["payload"]["resolve_id"], event["payload"]["guidance"]) == ("resolve-left-1", "Go on.")
    blocked.commit(blocked.tasks(task_text("resolve-left-1", assignee="human")), "Reopen it")
    again = call("resolve", "left", cwd=blocked.top, environment={"PREFECT_API_URL": api})
    assert (again.returncode, again.stderr) == (0, "")
