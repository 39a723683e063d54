"""Sessions on a second machine: another network, another home, and a worker that is started as a person starts it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from e2e.conftest import RUN_SECONDS, Coordinator, StartRun, ask_until, read_end, read_until, start_server
from e2e.opencode_harness import bash, commit, describe_opencode, node, read_prompts
from e2e.spoke_machine import Hub, SpokeSite, add_repository, clone, list_left, read_turns, remote
from opencode_scripts import give_short_catalog
from running_processes import list_running

from bench.second_machine import Forwarder, environment, find_obstacle, find_processes, open_machine, read_log, url
from flows.demo.model_server import ModelServer
from flows.prefect_server import Child, end_child
from flows.spokes.session_labels import REPORT

pytestmark = pytest.mark.xdist_group("prefect and spokes")


@pytest.fixture(scope="module")
def opened_site(server: Child, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpokeSite]:
    """The second machine, with a repository, for all tests of this module."""
    hidden, remotes = tmp_path_factory.getbasetemp(), tmp_path_factory.mktemp("remotes")
    with open_machine(SpokeSite, "north", server.port, hidden, remotes) as opened:
        for name in ("begun", "go"):
            opened.signal(name)
        add_repository(opened, "work", {})
        yield opened


@pytest.fixture
def site(opened_site: SpokeSite) -> SpokeSite:
    """The second machine, with a worker that runs."""
    if opened_site.worker is None or opened_site.worker.poll() is not None:
        opened_site.start_worker()
    return opened_site


def assert_nothing_left(site: SpokeSite, hub: Hub, name: str = "work") -> None:
    assert hub.list_published(remote(site, name)) == []
    assert list_left(site, name) == []
    assert find_processes(site, "work") == []


def test_a_graph_lands_and_leaves_nothing_behind(coordinator: Coordinator, site: SpokeSite, tmp_path: Path) -> None:
    look = f"ls {tmp_path} > seen.txt 2>&1 || :; work"
    hub = clone(site, tmp_path, {"left": {}, "right": {"sh": look}, "last": {"depends_on": ["left", "right"]}})

    code, output = coordinator.run("run", hub.top)

    assert code == 0, output
    assert [hub.show(f"{task_id}.txt") for task_id in ("left", "right", "last")] == ["left\n", "right\n", "last\n"]
    assert [len(read_turns(site, task_id)) for task_id in ("left", "right", "last")] == [1, 1, 1]
    assert_nothing_left(site, hub)
    code, log = coordinator.run("logs", "last", "--repo", hub.top)
    assert (code, "Wrote last.txt." in log) == (0, True), log
    if obstacle := find_obstacle():
        pytest.skip(f"the spoke ran on this machine's own network, with its disk in sight: {obstacle}")
    assert "No such file" in hub.show("seen.txt")
    assert read_turns(site, "last")[0].network != str(Path("/proc/self/ns/net").readlink())


def test_a_killed_run_adopts_its_session_and_gives_back_to_the_same_conversation(
    coordinator: Coordinator, site: SpokeSite, start_run: StartRun, tmp_path: Path
) -> None:
    script = """
if [ "$turn" = 1 ]; then tell begun; await go; echo no > wrong.txt; commit wrong
else git rm -q wrong.txt; work; fi"""
    hub = clone(site, tmp_path, {"adopted": {"sh": script}, "early": {}})
    killed = start_run(hub.top)
    site.wait("begun")
    ask_until(lambda: hub.has("early.txt"), bool)  # The head moves on, and the session elsewhere does not.
    killed.kill()
    killed.communicate()
    again = start_run(hub.top)
    read_until(again, "Watch it at")
    site.signals["go"].send()

    code, output = read_end(again)

    assert code == 0, output
    turns = read_turns(site, "adopted")
    assert [(one.attempt, one.turn) for one in turns] == [(1, 1), (1, 2)]
    assert turns[0].session == turns[1].session
    assert_nothing_left(site, hub)


def test_a_review_of_a_killed_run_is_ended_by_the_next_one_which_asks_again(
    site: SpokeSite, start_run: StartRun, tmp_path: Path
) -> None:
    add_repository(site, "reviewed", {"review": {"when": "always"}})
    script = """
if [ "$COORDINATOR_ROLE" != code-reviewer ]; then work
elif mkdir "$HOME/reviewing"; then tell begun; sleep 1000
else echo 'Verdict: approved'; fi"""
    hub = clone(site, tmp_path, {"read": {"sh": script}}, "reviewed")
    killed = start_run(hub.top)
    site.wait("begun")
    killed.kill()
    killed.communicate()
    left = find_processes(site, "reviewed")
    assert left

    code, output = read_end(start_run(hub.top))

    assert code == 0, output
    assert hub.trailer("Reviewed") == "approved"
    assert psutil.wait_procs(left, timeout=RUN_SECONDS)[1] == []
    assert len(read_turns(site, "read")) == 3
    ask_until(lambda: list_left(site, "reviewed"), lambda found: not found)
    assert_nothing_left(site, hub, "reviewed")


def test_work_continues_from_what_was_pushed_when_the_worker_was_killed(
    site: SpokeSite, start_run: StartRun, tmp_path: Path
) -> None:
    script = """
case $attempt-$turn in
1-1) echo first > first.txt; echo no > wrong.txt; commit first;;
1-2) tell begun; sleep 1000;;
*) test -f first.txt; git rm -q --ignore-unmatch wrong.txt; work;;
esac"""
    hub = clone(site, tmp_path, {"lost": {"sh": script}})
    run = start_run(hub.top)
    site.wait("begun")
    left = find_processes(site, "work")
    assert left
    site.kill_worker()
    site.start_worker()

    code, output = read_end(run)

    assert code == 0, output
    assert list_running(left) == []
    assert [(one.attempt, one.turn) for one in read_turns(site, "lost")][:2] == [(1, 1), (1, 2)]
    assert {one.attempt for one in read_turns(site, "lost")} == {1, 2}
    assert hub.show("first.txt") == "first\n"
    assert hub.trailer("Attempt") == "2"
    assert_nothing_left(site, hub)


def test_what_a_session_finished_after_its_run_was_killed_is_taken_though_it_has_ended(
    coordinator: Coordinator, site: SpokeSite, start_run: StartRun, tmp_path: Path
) -> None:
    def list_reports() -> list[object]:
        runs = coordinator.ask("flow_runs/filter", {"flow_runs": {"name": {"like_": "drained on"}}})
        return [run["labels"][REPORT] for run in runs if REPORT in run["labels"]]

    hub = clone(site, tmp_path, {"drained": {"sh": "tell begun; await go; work"}})
    killed = start_run(hub.top)
    site.wait("begun")
    killed.kill()
    killed.communicate()
    site.signals["go"].send()
    ask_until(list_reports, bool)
    site.stop_worker()
    site.start_worker()

    code, output = read_end(start_run(hub.top))

    assert code == 0, output
    assert len(read_turns(site, "drained")) == 1
    assert hub.show("drained.txt") == "drained\n"
    assert_nothing_left(site, hub)


def test_abort_and_control_c_end_the_agents_there_and_bring_their_work_home(
    coordinator: Coordinator, site: SpokeSite, start_run: StartRun, tmp_path: Path
) -> None:
    script = 'echo "$id" > part.txt; tell begun; sleep 1000'
    hub = clone(site, tmp_path, {"stopped": {"sh": script}, "interrupted": {"sh": script}})
    run = start_run(hub.top)
    site.wait("begun")
    site.wait("begun")
    agents = find_processes(site, "work")
    assert agents

    answer = coordinator.run("abort", "stopped", "--repo", hub.top)
    ask_until(part_of(hub, "stopped").exists, bool)
    run.send_signal(signal.SIGINT)
    code, output = read_end(run)

    assert answer[0] == 0, answer
    assert code == 130, output
    assert psutil.wait_procs(agents, timeout=RUN_SECONDS)[1] == []
    assert [part_of(hub, task_id).read_text() for task_id in ("stopped", "interrupted")] == [
        "stopped\n",
        "interrupted\n",
    ]
    assert_nothing_left(site, hub)


def part_of(hub: Hub, task_id: str) -> Path:
    return hub.top / ".worktrees" / "feat" / task_id / "part.txt"


def test_opencode_there_hears_a_message_during_its_turn(
    coordinator: Coordinator, site: SpokeSite, start_run: StartRun, tmp_path: Path
) -> None:
    give_short_catalog(site.home)
    wait = bash(f"echo > {site.home}/begun; read -r _ < {site.home}/go")
    with ModelServer() as model:
        reached = Forwarder(site.network.hub, model.port)
        url = f"http://{reached.host}:{reached.port}/v1"
        add_repository(site, "opencode", {"agent": {"backend": "opencode", **describe_opencode(url)}})
        hub = clone(site, tmp_path, {"spoken": node(wait, commit("spoken"))}, "opencode")
        run = start_run(hub.top)
        site.wait("begun")
        told = coordinator.run("message", "spoken", "Prefer", "blue", "--repo", hub.top, "--json")
        site.signals["go"].send()
        code, output = read_end(run)
        reached.close()
    assert told[0] == 0, told
    assert json.loads(told[1])["answers"][0]["is_done"], told
    assert code == 0, output
    assert hub.show("spoken.txt") == "spoken\n"
    assert any("Prefer blue" in prompt for prompt in read_prompts(model.requests[-1]))
    assert_nothing_left(site, hub, "opencode")
    site.stop_worker()
    assert "north takes no more sessions." in read_log(site)
    workers = coordinator.ask("work_pools/coordinator-sessions/workers/filter", {})
    assert "north" not in [worker["name"] for worker in workers], "nothing more is sent there"
    assert find_processes(site, "opencode") == [], "the server of opencode belongs to the worker, and ends with it"


def test_a_run_needs_no_spoke_and_a_spoke_makes_its_pool_again(
    coordinator: Coordinator, site: SpokeSite, start_run: StartRun, tmp_path: Path
) -> None:
    httpx.delete(f"{coordinator.api}/work_pools/coordinator-sessions").raise_for_status()
    add_repository(site, "alone", {"spokes": {"remote": "origin", "work_pool": "nowhere"}})
    hub = clone(site, tmp_path, {"here": {}}, "alone")
    code, output = read_end(start_run(hub.top))
    assert code == 0, output
    assert "No spoke is online in the work pool nowhere." in output
    queues = ask_until(lambda: coordinator.ask("work_queues/filter", {}), lambda found: "north" in map(by_name, found))
    assert "north" in map(by_name, queues)
    assert "lost the work pool coordinator-sessions, which was made again" in read_log(site)


def by_name(found: Mapping[str, Any]) -> str:
    return str(found["name"])


def test_what_keeps_a_spoke_from_starting_is_said_with_the_fix(site: SpokeSite) -> None:
    for words, extra, expected, said in (
        (("start",), {"PREFECT_API_URL": ""}, 2, "no Prefect server is known here: set PREFECT_API_URL"),
        (("start",), {"COORDINATOR_DATA_DIR": str(site.place / "other")}, 2, "no repository is registered here"),
        (("start",), {}, 2, "another `coordinator spoke start` on this machine uses"),
        (("start", "--name", "a b"), {}, 2, '"a b" cannot be the name of a spoke'),
        (("add", url(site, "nowhere")), {}, 2, "nowhere.git cannot be fetched"),
    ):
        code, output = site.run(*words, extra=extra)
        assert code == expected, output
        assert said in output
        assert "Traceback" not in output
        assert "Warning" not in output


def test_a_plain_worker_of_prefect_refuses_a_session_and_says_what_to_start(
    coordinator: Coordinator, site: SpokeSite, start_run: StartRun, tmp_path: Path
) -> None:
    log = tmp_path / "plain.log"
    words = ["worker", "start", "--pool", "coordinator-sessions", "--name", "plain", "--work-queue", "plain"]
    own = {**environment(site), "PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_WORKER_QUERY_SECONDS": "1"}
    hub = clone(site, tmp_path, {"stray": {"runs_on": "plain"}})
    with log.open("wb") as output:
        plain = subprocess.Popen(
            [*site.network.enter, Path(sys.executable).parent / "prefect", *words], cwd=site.place, env=own,
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        body: dict[str, object] = {}
        path = "work_pools/coordinator-sessions/workers/filter"
        ask_until(lambda: coordinator.ask(path, body), lambda found: any(one["name"] == "plain" for one in found))
        code, output = read_end(start_run(hub.top))
    finally:
        os.killpg(plain.pid, signal.SIGKILL)
        plain.wait()
    how = "`coordinator spoke start --pool coordinator-sessions`"
    said = " ".join(output.split())
    assert code == 1, output
    assert "A plain Prefect worker on" in said
    assert how in said
    assert how in " ".join(log.read_text().split())
    named = {"flow_runs": {"name": {"any_": ["stray on plain"]}}}
    states = [run["state"] for run in coordinator.ask("flow_runs/filter", named)]
    assert {(state["type"], how in state["message"]) for state in states} == {("FAILED", True)}
    assert read_turns(site, "stray") == []
    assert_nothing_left(site, hub)


def test_a_wrong_login_is_refused_by_a_spoke(site: SpokeSite, tmp_path: Path) -> None:
    guarded = start_server(tmp_path, {"PREFECT_SERVER_API_AUTH_STRING": "ada:swordfish"})
    reached = Forwarder(site.network.hub, guarded.port)
    try:
        api = f"http://{reached.host}:{reached.port}/api"
        wrong = {"PREFECT_API_URL": api, "PREFECT_API_AUTH_STRING": "ada:guessed"}
        code, output = site.run("start", extra=wrong)
    finally:
        reached.close()
        end_child(guarded)
    assert (code, f"the Prefect server at {api} rejected the login (401)" in output) == (2, True), output
    assert "PREFECT_API_AUTH_STRING" in output
