"""One hostile repository, home and shell, worked from end to end: nothing of them steers a process of coordinator's."""

import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from e2e.checkout_deployments import deploy
from e2e.conftest import Coordinator
from e2e.test_interrupt import wait_for_end
from hostile_environment import HostileEnvironment, open_hostile_environment

from tasks_lib.process.program_lookup import require_program
from tasks_lib.process.python_command import ALLOWED

pytestmark = pytest.mark.xdist_group("steering")
PROGRAM = Path(sys.executable).parent / "coordinator"
SECONDS = 300


def write_agent() -> str:
    """Commits a file, and reports something: `coordinator` then runs in a worktree that has all those modules."""
    git = shlex.quote(require_program("git"))
    return f"echo it > it-$COORDINATOR_TASK_ID.txt; {git} add .; {git} commit -qm it; coordinator notify heard it"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostileEnvironment]:
    with open_hostile_environment(tmp_path_factory.mktemp("hostile"), write_agent()) as made:
        made.data.mkdir()
        yield made


@pytest.fixture(scope="module")
def server(hostile: HostileEnvironment) -> Iterator[str]:
    """The address that `coordinator up`, started in the repository, says."""
    process = subprocess.Popen(
        [PROGRAM, "up", "--port", "0"],
        cwd=hostile.top, env=hostile.environment({"PYTHONUNBUFFERED": "1"}), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        said = list[str]()
        for line in process.stdout:
            said.append(line)
            if found := re.search(r"http://\S+", line):
                yield found[0]
                break
        else:
            pytest.fail("".join(said))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    assert process.returncode == 0


@pytest.mark.parametrize("proxy", ["http", "socks5h"])
def test_run_in_a_hostile_repository_lands_and_nothing_there_is_read(
    hostile: HostileEnvironment, server: str, proxy: str
) -> None:
    task_id = f"run-{proxy}"
    add_task(hostile, task_id)
    done = subprocess.run(
        [PROGRAM, "run", "--only", task_id],
        cwd=hostile.top, env=hostile.environment(proxy=proxy), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False, timeout=SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{server}/runs/flow-run/" in done.stdout
    assert "heard it" in done.stdout
    assert hostile.git("show", f"main:it-{task_id}.txt") == "it"
    assert hostile.find_harm() == []
    assert sorted(path.name for path in (hostile.data / "empty").iterdir()) == []


def test_server_has_an_environment_and_a_directory_of_its_own(hostile: HostileEnvironment, server: str) -> None:
    port = int(server.rpartition(":")[2])
    found = [one.pid for one in psutil.net_connections("tcp") if one.laddr and one.laddr.port == port and one.pid]
    process = psutil.Process(found[0])
    names = {name for name in process.environ() if not name.startswith(("PREFECT_", "LC_"))}
    assert names <= {*ALLOWED, "PATH", "DO_NOT_TRACK", "PWD"}  # The shell that starts it sets PWD.
    assert process.cwd() == str((hostile.data / "empty").resolve())
    assert all(entry.startswith("/") for entry in process.environ()["PATH"].split(":"))
    assert str((hostile.data / "prefect" / "prefect.db").resolve()) in {file.path for file in process.open_files()}
    assert hostile.find_harm() == []


@pytest.mark.parametrize("words", [["doctor"], ["doctor", "--audit"], ["cleanup"], ["status"], ["validate"], ["plan"]])
def test_other_commands_take_nothing_from_there(hostile: HostileEnvironment, server: str, words: list[str]) -> None:
    done = subprocess.run(
        [PROGRAM, *words], cwd=hostile.top, env=hostile.environment(), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False, timeout=SECONDS,
    )  # fmt: skip
    assert "Traceback" not in done.stdout + done.stderr
    assert done.returncode in (0, 1), done.stdout + done.stderr
    assert hostile.find_harm() == []


def test_worker_that_is_started_in_the_repository_takes_nothing_from_it(
    hostile: HostileEnvironment, server: str
) -> None:
    add_task(hostile, "by-worker")
    hostile.git("rm", "--quiet", "--force", "tasks/a.md")
    hostile.git("commit", "--quiet", "--message", "Leave out a")
    coordinator = Coordinator(hostile.data, f"{server}/api")
    assert coordinator.run("init", hostile.top)[0] == 0
    deployment = deploy(coordinator)
    options = {"repository": str(hostile.top)}
    run = coordinator.ask(f"deployments/{deployment}/create_flow_run", {"parameters": {"options": options}})["id"]
    worker = subprocess.Popen(
        [PROGRAM.parent / "prefect", "worker", "start", "--pool", "coordinator", "--type", "process"],
        cwd=hostile.top, env=write_worker_environment(hostile, coordinator),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        state = wait_for_end(coordinator, run)
    finally:
        worker.send_signal(signal.SIGINT)
        worker.wait(timeout=300)
    assert state["type"] == "COMPLETED", state
    assert hostile.git("show", "main:it-by-worker.txt") == "it"
    assert hostile.find_harm() == []


def write_worker_environment(hostile: HostileEnvironment, coordinator: Coordinator) -> dict[str, str]:
    """The shell of a person who starts a worker: it is theirs, so what would break Prefect itself is not in it."""
    theirs = hostile.environment({"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"})
    spoiling = ("PREFECT_", "PYTHON", "SSL", "OTEL_", "WEB_CONCURRENCY")
    kept = {name: value for name, value in theirs.items() if not name.upper().startswith(spoiling)}
    return kept | {"PREFECT_API_URL": coordinator.api, "PREFECT_WORKER_QUERY_SECONDS": "2"}


def add_task(hostile: HostileEnvironment, task_id: str) -> None:
    text = f"---\nid: {task_id}\nname: Do it\ndepends_on: []\nstatus: pending\n---\nText.\n"
    (hostile.top / "tasks" / f"{task_id}.md").write_text(text)
    hostile.git("add", "tasks")
    hostile.git("commit", "--quiet", "--message", f"Add {task_id}")
