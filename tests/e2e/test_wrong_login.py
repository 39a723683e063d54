"""A Prefect server of the user's that requires a login: each command says when it is rejected, and what to set."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from coordinator_host import CoordinatorHost, open_host
from e2e.conftest import Coordinator, find_api, read_until, start_server
from e2e.test_local_stack import READY
from e2e.test_messages import make_gated
from e2e.test_resolving import make_blocked
from generated_graphs import Made

from flows.prefect_server import end_child

pytestmark = pytest.mark.xdist_group("prefect, with a login")
LOGIN = "ada:swordfish"
RIGHT = {"PREFECT_API_AUTH_STRING": LOGIN}
WRONG = {"PREFECT_API_AUTH_STRING": "ada:guessed"}
FIX = "set PREFECT_API_AUTH_STRING or PREFECT_API_KEY as the server requires it"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with basic authentication."""
    home = tmp_path_factory.mktemp("guarded")
    child = start_server(home, {"PREFECT_SERVER_API_AUTH_STRING": LOGIN})
    yield find_api(child)
    end_child(child)


@pytest.fixture(scope="module")
def host(guarded: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoordinatorHost]:
    """A process that forks for each command against that server; it reads the login anew each time."""
    place = tmp_path_factory.mktemp("host")
    with open_host(place, Coordinator(place, guarded).environment()) as running:
        yield running


@pytest.fixture
def coordinator(guarded: str, host: CoordinatorHost, tmp_path: Path) -> Coordinator:
    """A coordinator of that server; without a login, which each call has to give."""
    data = tmp_path / "data"
    data.mkdir()
    return Coordinator(data, guarded, host)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make_gated(tmp_path, 1, gated=0)


@pytest.mark.parametrize("login", [{}, WRONG], ids=["none", "wrong"])
@pytest.mark.parametrize("command", ["up", "deploy", "history", "run"])
def test_rejected_login_is_said_with_the_fix_and_nothing_is_done(
    coordinator: Coordinator, made: Made, command: str, login: dict[str, str]
) -> None:
    words = {"up": [], "history": ["--repo", made.repository]}.get(command, [made.repository])
    code, output = coordinator.run(command, *words, extra=login)
    assert code == 2, output
    assert f"the Prefect server at {coordinator.api} rejected the login (401): {FIX}" in output
    assert len(output.splitlines()) == 1, output
    assert not (made.repository / ".worktrees").exists()


def test_commands_work_with_the_login(coordinator: Coordinator, made: Made) -> None:
    for words in (("deploy", made.repository), ("run", made.repository), ("history", "--repo", made.repository)):
        code, output = coordinator.run(*words, extra=RIGHT)
        assert code == 0, output
    assert "Completed" in output
    process = coordinator.start("up", extra=RIGHT)
    try:
        said = read_until(process, READY)
    finally:
        process.terminate()
        process.communicate(timeout=120)
    assert f"run-graph/{made.repository.name}" in said
    assert process.returncode == 0


def test_request_to_a_run_with_a_wrong_login_is_refused(coordinator: Coordinator, tmp_path: Path) -> None:
    made = make_gated(tmp_path, 1, gated=1)
    process = coordinator.start("run", made.repository, extra=RIGHT)
    try:
        read_until(process, "Watch it at")
        answers = [
            coordinator.run(*words, "--repo", made.repository, extra=WRONG)
            for words in (("resolve", "flat-0"), ("message", "flat-0", "Hello"), ("abort", "flat-0"))
        ]
        stopped = coordinator.run("abort", "--all", "--repo", made.repository, extra=RIGHT)
        process.communicate(timeout=120)
    finally:
        process.kill()
    assert [code for code, _ in answers] == [2, 2, 2], answers
    assert all(FIX in output for _, output in answers), answers
    assert (stopped[0], process.returncode) == (0, 130), stopped


def test_resolving_without_a_run_says_that_no_automation_hears_of_it(coordinator: Coordinator, tmp_path: Path) -> None:
    made = make_blocked(tmp_path, 1, gated=0)
    assert coordinator.run("run", made.repository, extra=RIGHT)[0] == 1
    code, output = coordinator.run("resolve", "flat-0", "Half", "even.", "--repo", made.repository, extra=WRONG)
    assert code == 0, output
    assert "resolve-flat-0-1 was completed on main" in output
    assert "Prefect was not told, so no automation starts a run" in output
    assert FIX in output
