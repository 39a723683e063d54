"""What a run shows to programs by names stays, and a run continues from what an earlier release left.

How to record the promises anew, and when that is allowed, stands in `compatibility/golden.py`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from compatibility.golden import describe_shape, keep_promise, keep_promises, read_promise
from compatibility.recording import work_to_the_end
from compatibility.scenes import RECORDS, RELEASES, make_scene
from compatibility.story import ENDING, Story, commit, tell_story
from e2e.conftest import Coordinator, ask_until
from e2e.test_whole_runs import read_task_runs
from generated_graphs import run_git

pytestmark = pytest.mark.xdist_group("prefect")
SOMETIMES = "coordinator.node.waited"
"""The event of a wait that took a moment, which none does on a machine with nothing else to do."""
WORKED = 11
"""Nodes of the story that have a task run which ends, those that were skipped or completed before included."""


def test_names_that_a_run_shows_are_those_that_were_promised(coordinator: Coordinator, tmp_path: Path) -> None:
    story = tell_story(tmp_path / "story", ENDING)
    # In the way of publishing, so that the head's ref is there in the end.
    (story.top / "retried.txt").write_text("a person's own\n")
    code, output, told = work_to_the_end(coordinator, story)
    assert code == 1, output
    run = find_run(story)

    found = {
        "variables": story.read_variables(),
        "refs": list_refs(story),
        "commits": list_commits(story),
        "json-messages": {name: describe_shape(json.loads(text)) for name, text in told.items()},
        "events": {SOMETIMES: read_promise("events")[SOMETIMES], **list_events(read_events(coordinator, run))},
        "task-run-states": list_states(coordinator, run),
        "flow-run": describe_flow_run(coordinator, run),
        "artifacts": list_artifacts(coordinator, run),
    }
    keep_promises(found)
    code, output = coordinator.run("report", "--json", "--repo", story.top)
    assert code == 0, output
    keep_promise("json-report", describe_report(json.loads(output)))
    code, output = coordinator.run("status", story.top, "--json")
    assert describe_shape(json.loads(output)) == read_promise("json-ended")["status"]["json"]


TABLES = ("attempts", "by_cause", "by_model", "by_node", "by_role", "landed", "lines", "outcomes", "seconds", "waits")
"""Keys of a report whose value maps nodes, causes and the like to what is promised; which these are differs by run."""


def describe_report(value: Any, key: str = "") -> Any:
    """The shape of a report: of evidence only that it is there, and of each table and kind of trouble one row."""
    if key in ("evidence", "together"):
        return "evidence"
    if isinstance(value, list):
        return describe_shape([describe_report(one) for one in cast("list[Any]", value)])
    if not isinstance(value, dict):
        return "value" if key in ("expected", "scope") else describe_shape(value)
    known = cast("dict[str, Any]", value)
    if key in TABLES:
        return {"*": describe_shape([describe_report(one) for one in known.values()])}
    if key == "trouble":
        found = [describe_report(one) for name, rows in known.items() if name != "files" for one in rows]
        return {**dict.fromkeys(known, "rows"), "*": describe_shape(found)}
    return {name: describe_report(one, name) for name, one in known.items()}


def find_run(story: Story) -> str:
    """The id in Prefect of the last run."""
    return json.loads((story.top / ".git" / "coordinator" / "run.json").read_text())["run"]


def list_refs(story: Story) -> Sequence[str]:
    """The refs that there were in the course of a run, and those that are left."""
    during = (story.place / "refs").read_text().split()
    after = run_git(story.top, "for-each-ref", "--format=%(refname)", "refs/coordinator").split()
    return sorted({*during, *after})


def list_commits(story: Story) -> Mapping[str, object]:
    """For some of the commits of a run how many parents they have, and their trailers: see `name_trailer`."""
    form = "--format=%s%x00%P%x00%(trailers:only,unfold)%x01"
    landed = run_git(story.top, "log", "--first-parent", form, "refs/coordinator/queue/main").split("\x01")
    kept = run_git(story.top, "log", "-n1", form, "refs/coordinator/kept/landed/1").split("\x01")
    rows = [entry.strip("\n").split("\0") for entry in (*landed, *kept) if entry.strip()]
    return {
        subject: {"parents": len(parents.split()), "trailers": list(map(name_trailer, trailers.splitlines()))}
        for subject, parents, trailers in rows
        if any(word in subject for word in ("landed", "checked", "blocked", "given-back"))
    }


def name_trailer(line: str) -> str:
    """The name of a trailer; of `Verified` the whole: the same settings have the same digest in every release."""
    return line if line.startswith("Verified:") else line.partition(":")[0]


def read_events(coordinator: Coordinator, run: str) -> list[dict[str, Any]]:
    """All events of a run, the newest first, once its end is among them; the server gives them in pages."""
    wanted = {"event": {"prefix": ["coordinator."]}, "any_resource": {"id": [f"prefect.flow-run.{run}"]}}
    body = {"limit": 50, "filter": {**wanted, "order": "DESC"}}

    def is_whole(page: Mapping[str, Any]) -> bool:
        return any(one["event"] == "coordinator.run.ended" for one in page["events"])

    page = ask_until(lambda: coordinator.ask("events/filter", body), is_whole)
    found = list[dict[str, Any]](page["events"])
    while place := page["next_page"]:
        page = coordinator.ask(place.partition("/api/")[2])
        found += page["events"]
    return found


def list_events(events: Iterable[Mapping[str, Any]]) -> Mapping[str, object]:
    """For each event the shape of its payload, and what it says it is about."""
    found: dict[str, object] = {}
    for one in events:
        resource = one["resource"]
        about = {key: key for key in resource if not key.startswith("prefect.")}
        kind = resource["prefect.resource.id"].split(".")[:2]
        found[one["event"]] = {
            "payload": describe_shape(one["payload"], ()),
            "resource": ".".join(kind),
            "labels": sorted(about),
        }
    return found


def list_states(coordinator: Coordinator, run: str) -> Mapping[str, object]:
    """The states that each node went through, without those that Prefect gives every task run."""
    found: dict[str, object] = {}
    for one in read_task_runs(coordinator, run, WORKED):
        states = coordinator.ask(f"task_run_states/?task_run_id={one['id']}")
        names = [f"{state['type']} {state['name']}" for state in states]
        found[one["name"]] = [name for name in names if name not in ("PENDING Pending", "RUNNING Running")]
    return found


def describe_flow_run(coordinator: Coordinator, run: str) -> Mapping[str, object]:
    """How a person or a program finds and starts flow runs."""
    found = coordinator.ask(f"flow_runs/{run}")
    flow = coordinator.ask(f"flows/{found['flow_id']}")
    return {
        "flow": flow["name"],
        "name": found["name"],
        "parameters": describe_shape(found["parameters"]),
        "state": f"{found['state_type']} {found['state_name']}",
        "tags": found["tags"],
        "labels": describe_shape({key: one for key, one in found["labels"].items() if key.startswith("coordinator.")}),
    }


def list_artifacts(coordinator: Coordinator, run: str) -> Mapping[str, object]:
    body = {"flow_runs": {"id": {"any_": [run]}}}
    found = coordinator.ask("artifacts/filter", body)
    tables = {one["key"]: json.loads(one["data"]) for one in found if one["type"] == "table"}
    return {one["key"]: describe_shape(tables.get(one["key"], ""), ("stage",)) for one in found}


@pytest.mark.parametrize("release", RELEASES)
def test_run_continues_from_what_a_killed_run_of_an_earlier_release_left(
    coordinator: Coordinator, tmp_path: Path, release: str
) -> None:
    story = make_scene(RECORDS / release / "killed", tmp_path / "story")
    code, output = coordinator.run("run", story.top)
    assert code == 1, output
    landed = {name: read_attempt(story, name) for name in ("working", "given-back", "reviewed", "retried")}
    assert landed == {"working": "1", "given-back": "1", "reviewed": "1", "retried": "2"}
    # A turn that was broken off is taken again, and what was accepted is only reviewed again.
    assert story.list_prompts() == [
        *("given-back-1-2", "retried-2-1", "review-given-back-1-1", "review-reviewed-1-1"),
        *("working-1-1", "working-1-2"),
    ]
    assert "the review asks for changes" in story.read_prompt("given-back-1-2")
    assert "Attempt 1 failed: `sh` exited with 1" in story.read_prompt("retried-2-1")
    code, output = coordinator.run("doctor", story.top, "--audit")
    assert code == 0, output


@pytest.mark.parametrize("release", RELEASES)
def test_node_that_an_earlier_release_blocked_lands_once_a_person_has_decided(
    coordinator: Coordinator, tmp_path: Path, release: str
) -> None:
    story = make_scene(RECORDS / release / "ended", tmp_path / "story")
    resolve = "tasks/resolve-blocked-1.md"
    text = (story.top / resolve).read_text().replace("status: pending", "status: completed")
    commit(story.top, "Decide", {resolve: text, "decision.txt": "the second rule\n"})
    (coordinator.data / "repositories.json").write_text(json.dumps({"named-before": str(story.top)}))
    code, output = coordinator.run("run", story.top, "--only", "blocked", "--only", "skipped")
    assert code == 0, output
    assert coordinator.ask(f"flow_runs/{find_run(story)}")["name"] == "named-before"
    assert (read_attempt(story, "blocked"), read_attempt(story, "skipped")) == ("2", "1")
    assert "a person has to decide between two rules" in story.read_prompt("blocked-2-1")
    code, output = coordinator.run("doctor", story.top, "--audit")
    assert code == 0, output


def read_attempt(story: Story, node: str) -> str:
    """The attempt that the merge of a node names, "" where it has not landed."""
    form = "--format=%(trailers:key=Attempt,valueonly)"
    return run_git(
        story.top, "log", "-n1", form, f"--grep=^Task: {node}$", "--grep=^Verified: ", "--all-match", "main"
    ).strip()
