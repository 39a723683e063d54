"""The demo with sessions of the real opencode and a scripted model, as a person runs it."""

import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
from checker import Meant, check, snapshot_user_state
from e2e.conftest import RUN_SECONDS, Coordinator
from e2e.opencode_harness import isolate
from opencode_scripts import write_quick_program

from flows.demo.model_decisions import decide
from flows.demo.model_server import ModelServer
from flows.demo.opencode_provider import write_section
from flows.demo.second_terminal import SecondTerminal
from flows.demo.story import ANSWER, check_story, make_demo, tell_statuses, tell_story

pytestmark = pytest.mark.xdist_group("prefect and opencode")


@pytest.fixture
def model() -> Iterator[ModelServer]:
    with ModelServer(partial(decide, pace=0.0)) as running:
        yield running


def find_servers(data: Path) -> list[psutil.Process]:
    """The processes of opencode that keep their data below `data`."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            if "serve" in process.cmdline() and process.environ().get("XDG_DATA_HOME", "").startswith(str(data)):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


def test_demo_with_opencode_lands_all_that_the_scripted_agents_land(coordinator: Coordinator, tmp_path: Path) -> None:
    place = tmp_path / "demo"
    options = ("--backend", "opencode", "--opencode", write_quick_program(tmp_path), "--directory", place)

    code, output = coordinator.run("demo", *options)

    assert code == 0, output
    story = tell_story(place)
    assert check_story(place, story) == []
    assert "is blocked, so the run ended with exit code 1" in output
    assert find_servers(coordinator.data) == []


def test_killing_the_server_of_opencode_in_mid_run_costs_no_node(
    coordinator: Coordinator, model: ModelServer, tmp_path: Path
) -> None:
    story = make_demo(tmp_path / "demo", agent=write_section(write_quick_program(tmp_path), model.url))
    before = snapshot_user_state(story.repository)
    process = coordinator.start("run", story.repository, extra=isolate(tmp_path))
    answer = (story.asked, ANSWER, "coordinator", list[str]().append, coordinator.environment())
    with SecondTerminal(story.repository, *answer):
        model.wait_for(lambda requests: len(requests) >= 10, seconds=RUN_SECONDS)
        servers = find_servers(coordinator.data)
        for server in servers:
            server.send_signal(signal.SIGKILL)
        output, _ = process.communicate(timeout=RUN_SECONDS)

    assert servers
    assert process.returncode == 1, output
    assert check_story(story.repository, story) == []
    assert check(story.repository, before=before, meant=Meant(tell_statuses(story))) == []
    assert find_servers(coordinator.data) == []
