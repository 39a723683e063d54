"""The whole, as a person runs it, judged by the checker that knows nothing of our code."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from checker import Meant, check, snapshot_user_state
from checker_traces import text
from e2e.conftest import Coordinator, ask_until
from generated_graphs import Made, make_repository, run_git

pytestmark = pytest.mark.xdist_group("prefect")


def find_run(made: Made) -> str:
    """The Prefect id of the last run on the repository."""
    view = json.loads((made.repository / ".git/coordinator/run.json").read_text(encoding="utf-8"))
    return str(view["run"])


def read_task_runs(coordinator: Coordinator, flow_run: str, wanted: int) -> list[dict[str, Any]]:
    """Every task run of a flow run; the server records them a while after they happened, so it is asked again."""
    body = {"flow_runs": {"id": {"any_": [flow_run]}}, "limit": 200}

    def read() -> list[dict[str, Any]]:
        return coordinator.ask("task_runs/filter", body)

    ends = ("COMPLETED", "FAILED", "CANCELLED")
    return ask_until(read, lambda found: sum(one["state_type"] in ends for one in found) >= wanted)


def disturb(repository: Path) -> None:
    """What a person may have lying about: a changed file, a staged one, an untracked one, and a stash."""
    (repository / "README.md").write_text("stashed\n", encoding="utf-8")
    run_git(repository, "stash")
    (repository / "README.md").write_text("being edited\n", encoding="utf-8")
    (repository / "staged.txt").write_text("staged\n", encoding="utf-8")
    run_git(repository, "add", "staged.txt")
    (repository / "untracked.txt").write_text("untracked\n", encoding="utf-8")


def test_thirty_nodes_are_worked_landed_and_reported(coordinator: Coordinator, tmp_path: Path) -> None:
    made = make_repository(tmp_path, nodes=30, seed=7)
    disturb(made.repository)
    before = snapshot_user_state(made.repository)

    code, output = coordinator.run("run", made.repository, "--max-sessions", "8")

    assert code == 1, output
    assert check(made.repository, before=before, meant=Meant(made.expected, made.verify)) == []
    check_prefect(coordinator, made)


def check_prefect(coordinator: Coordinator, made: Made) -> None:
    """States and edges in Prefect's API agree with git and with `depends_on`."""
    run = find_run(made)
    runs = read_task_runs(coordinator, run, len(made.landing) + 1 + len(made.skipped))
    by_name = {one["name"]: one for one in runs}
    names = {one["id"]: one["name"] for one in runs}
    assert len(by_name) == len(runs)
    expected = dict.fromkeys(made.landing, "Merged") | {made.review: "Checked", made.blocked: "Blocked"}
    expected |= dict.fromkeys(made.skipped, "Skipped")
    assert {name: by_name[name]["state_name"] for name in expected} == expected
    for task_id in expected:
        inputs = by_name[task_id]["task_inputs"].get("wait_for", [])
        assert sorted(names[one["id"]] for one in inputs) == sorted(made.edges[task_id]), task_id
    edges = {(before, task_id) for task_id in expected for before in made.edges[task_id]}
    assert edges <= read_graph(coordinator, run)
    flow_run = coordinator.ask(f"flow_runs/{run}")
    assert flow_run["state_type"] == "FAILED"
    artifacts = coordinator.ask("artifacts/filter", {"flow_runs": {"id": {"any_": [run]}}, "limit": 200})
    check_node_artifacts(artifacts, by_name, made)
    check_node_log(coordinator, by_name[made.landing[0]]["id"])
    report = next(one["data"] for one in artifacts if one["key"] == "coordinator-report")
    assert all(f"`{task_id}`" in report for task_id in made.expected)


def read_graph(coordinator: Coordinator, run: str) -> set[tuple[str, str]]:
    """The edges that the UI draws, by the nodes' ids."""
    graph = coordinator.ask(f"flow_runs/{run}/graph-v2")
    nodes = {one["id"]: one for _, one in graph["nodes"]}
    return {(nodes[parent["id"]]["label"], one["label"]) for one in nodes.values() for parent in one["parents"]}


def check_node_artifacts(artifacts: list[dict[str, Any]], by_name: dict[str, dict[str, Any]], made: Made) -> None:
    """Each task run that had an attempt says where its work is, and how to look into it."""
    shown = {one["task_run_id"]: one["data"] for one in artifacts if one["key"] == "coordinator-node"}
    worked = {*made.landing, made.review, made.blocked}
    assert shown.keys() == {by_name[task_id]["id"] for task_id in worked}
    blocked, landed = shown[by_name[made.blocked]["id"]], shown[by_name[made.landing[0]]["id"]]
    for word in (f"`feat/{made.blocked}`", f"{made.repository}/.worktrees/", "session-1.log", "**Blocked**: "):
        assert word in blocked
    for command in ("logs", "attach", "resolve"):
        assert f"    coordinator {command} {made.blocked}" in blocked
    assert "**Merged**" in landed
    assert "- session: `" in landed
    assert "- commit: `" in landed


def check_node_log(coordinator: Coordinator, task_run: str) -> None:
    """The log of a task run has a line for each stage, with how long it took."""
    body = {"logs": {"task_run_id": {"any_": [task_run]}}, "sort": "TIMESTAMP_ASC", "limit": 200}
    found = coordinator.ask("logs/filter", body)
    lines = " | ".join(one["message"] for one in found)
    for stage in ("worktree", "session", "queued", "verify"):
        assert re.search(rf"\b{stage} took \d", lines), lines
    assert "the whole attempt" in lines


def test_completing_the_resolve_file_lets_the_node_land_and_a_further_run_has_nothing_to_do(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    made = make_repository(tmp_path, nodes=16, seed=3, block_with="notify")
    assert coordinator.run("run", made.repository)[0] == 1
    resolve = made.repository / made.tasks_dir / f"{made.resolve_id}.md"
    resolve.write_text(
        resolve.read_text(encoding="utf-8").replace("status: pending", "status: completed"), encoding="utf-8"
    )
    (made.repository / made.decision).parent.mkdir(exist_ok=True)
    (made.repository / made.decision).write_text("half up\n", encoding="utf-8")
    run_git(made.repository, "add", "-A")
    run_git(made.repository, "commit", "-qm", "Decide")
    before = snapshot_user_state(made.repository)

    code, output = coordinator.run("run", made.repository)

    assert code == 0, output
    everything = dict.fromkeys(made.expected, "completed")
    assert check(made.repository, before=before, meant=Meant(everything, made.verify)) == []
    head = text(made.repository, "rev-parse", "main")
    journal = len(made.read_journal())
    code, output = coordinator.run("run", made.repository)
    assert (code, text(made.repository, "rev-parse", "main"), len(made.read_journal())) == (0, head, journal), output
    assert "nothing to do" in output


def test_sixteen_sessions_of_two_seconds_overlap(coordinator: Coordinator, tmp_path: Path) -> None:
    made = make_flat(tmp_path, 16)

    code, output = coordinator.run("run", made.repository, "--max-sessions", "16")

    assert code == 0, output
    assert made.count_most_at_once() == 16


def make_flat(directory: Path, nodes: int) -> Made:
    """A repository whose `nodes` open nodes depend on nothing and take two seconds each."""
    made = make_repository(directory, nodes=14, seed=1, with_oddities=False)
    tasks = made.repository / made.tasks_dir
    run_git(made.repository, "rm", "-rq", made.tasks_dir)
    tasks.mkdir(exist_ok=True)
    for number in range(nodes):
        head = f"---\nid: flat-{number}\nname: Flat {number}\nstatus: pending\ndepends_on: []\n---\n"
        (tasks / f"flat-{number}.md").write_text(head, encoding="utf-8")
        made.behave(f"flat-{number}", seconds=2.0, write={f"src/flat-{number}.txt": f"{number}\n"})
    run_git(made.repository, "add", "-A")
    run_git(made.repository, "commit", "-qm", "Sixteen at once")
    return made


def test_a_second_coordinator_says_who_holds_the_repository(coordinator: Coordinator, tmp_path: Path) -> None:
    made = make_flat(tmp_path, 2)
    first = coordinator.start("run", made.repository)
    assert first.stdout
    for line in first.stdout:
        if "session" in line:
            break

    code, output = coordinator.run("run", made.repository)
    rest, _ = first.communicate(timeout=120)

    assert (code, first.returncode) == (2, 0), output + rest
    assert str(first.pid) in output
