"""What `coordinator run` says, and exits with, if it starts nothing."""

from collections.abc import Mapping

import pytest
from cli_fixtures import Call, Main, UserRepository, open_worktree, task_text


def test_node_that_is_completed_is_the_only_one_that_is_spoken_of(repo: UserRepository, main_here: Main) -> None:
    """Also while there is a worktree of another node."""
    said = "base is completed on main; there is nothing to do."
    assert main_here("run", str(repo.top), "--only", "base") == (0, f"{said}\n")
    open_worktree(repo, "left")
    assert main_here("run", str(repo.top), "--only", "base") == (0, f"{said}\n")


def test_node_that_cannot_start_is_said_with_what_it_waits_for_and_nothing_else(
    repo: UserRepository, main_here: Main
) -> None:
    code, output = main_here("run", str(repo.top), "--only", "top")
    first, *rest = output.splitlines()
    assert (code, first) == (1, "top cannot start now:")
    assert [line.split()[0] for line in rest[:-1]] == ["left", "right", "top"]
    repo.commit(repo.tasks(task_text("left", status="blocked")))
    assert "right" not in main_here("run", str(repo.top), "--only", "left")[1]


@pytest.mark.parametrize(
    ("command", "environment"),
    [
        ("run", {"PREFECT_API_URL": "nowhere"}),
        ("run", {"PREFECT_API_URL": "http://127.0.0.1:9/api", "PREFECT_CLIENT_CUSTOM_HEADERS": "x"}),
        ("run", {"PREFECT_API_URL": "https://127.0.0.1:9/api", "PREFECT_API_SSL_CERT_FILE": "/nowhere"}),
        ("history", {"PREFECT_API_URL": "http://127.0.0.1:9/api"}),
        ("deploy", {"PREFECT_API_URL": "http://127.0.0.1:9/api", "PREFECT_CLIENT_CUSTOM_HEADERS": "x"}),
    ],
)
def test_command_that_cannot_reach_prefect_ends_with_2_and_one_line(
    repo: UserRepository, call: Call, command: str, environment: Mapping[str, str]
) -> None:
    done = call(command, cwd=repo.top, environment=environment)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert done.stderr.startswith(("no Prefect server at ", "PREFECT_", "the Prefect server at "))
