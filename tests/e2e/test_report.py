"""The report on a run of the demo: each figure is recomputed, and each line traced, from git and Prefect alone."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from e2e.conftest import Coordinator, ask_until
from e2e.test_compatibility_runs import read_events
from generated_graphs import run_git

pytestmark = pytest.mark.xdist_group("prefect, with much waiting")

WORK = ("worktree", "setup", "session", "review", "given back", "resolver")
ENDS = ("merged", "checked", "blocked", "failed", "aborted", "skipped")
EFFORT = {"single": 1, "narrow": 2, "moderate": 3, "broad": 4, "system": 5}
SUCCESS = {"trivial": 0.98, "low": 0.90, "medium": 0.80, "high": 0.65, "critical": 0.50}
CLOSE = 0.05
"""Seconds by which two ways to add up milliseconds may differ."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event as Prefect has it; `at` is the time in its payload, in milliseconds since the run began."""

    verb: str
    node: str
    at: int
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Merge:
    """A commit with which a node landed, as git has it."""

    id: str
    trailers: Mapping[str, str]
    lines: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Witness:
    """What git and Prefect say of a run, read without any code of ours."""

    run: str
    events: Sequence[Event]
    merges: Mapping[str, Merge]
    tasks: Mapping[str, Mapping[str, Any]]
    answers: Mapping[str, int]
    """When the resolve tasks were completed, in milliseconds since the run began."""

    def of(self, *verbs: str) -> list[Event]:
        return [event for event in self.events if event.verb in verbs]


def to_ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def read_witness(coordinator: Coordinator, top: Path) -> Witness:
    run = run_git(top, "log", "--format=%(trailers:key=Run,valueonly)", "main").split()[0]
    found = read_events(coordinator, run)
    start = next(to_ms(one["payload"]["at"]) for one in found if one["event"] == "coordinator.run.started")
    events = [
        Event(
            one["event"].removeprefix("coordinator."),
            one["resource"].get("coordinator.node", ""),
            to_ms(one["payload"].get("since") or one["payload"]["at"]) - start,
            one["payload"],
        )
        for one in found
        if one["payload"].get("since") or one["payload"].get("at")
    ]
    answers = {
        subject.partition("(")[2].partition(")")[0]: int(at) * 1000 - start
        for at, subject in (line.split(" ", 1) for line in run_git(top, "log", "--format=%ct %s", "main").splitlines())
        if subject.startswith("resolved(")
    }
    events.sort(key=lambda one: one.at)
    return Witness(run, events, read_merges(top, run), read_tasks(top), answers)


def read_merges(top: Path, run: str) -> dict[str, Merge]:
    merges: dict[str, Merge] = {}
    for commit in run_git(top, "rev-list", "--first-parent", "main").split():
        subject, *body = run_git(top, "show", "-s", "--format=%B", commit).splitlines()
        trailers = dict(line.split(": ", 1) for line in body if re.match(r"[A-Z][a-z]+: ", line))
        if subject.startswith(("Merge ", "Check ")) and trailers.get("Run") == run:
            changes = run_git(top, "diff", "--numstat", "--no-renames", f"{commit}^1", commit).splitlines()
            rows = [line.split("\t") for line in changes]
            lines = {path: int(plus) + int(minus) for plus, minus, path in rows if not path.startswith("tasks/")}
            merges[trailers["Task"]] = Merge(commit, trailers, lines)
    return merges


def read_tasks(top: Path) -> dict[str, Mapping[str, Any]]:
    names = run_git(top, "ls-tree", "-r", "--name-only", "main", "tasks").split()
    texts = [run_git(top, "show", f"main:{name}") for name in names]
    tasks = [yaml.safe_load(text.split("---")[1]) for text in texts if text.startswith("---")]
    return {task["id"]: task for task in tasks}


def find_states(witness: Witness, node: str, last: int) -> list[str]:
    """What a node did in each millisecond of the run, from the moment when the first node started."""
    mine = [one for one in witness.events if one.node == node]
    first = min(one.at for one in witness.of("node.started"))
    began = min(one.at for one in mine if one.verb == "node.started")
    landed = {one.node: one.at for one in witness.of("node.merged", "node.checked")} | dict(witness.answers)
    needed = witness.tasks[node].get("depends_on", [])
    ready = max([landed[one] for one in needed if first < landed.get(one, -1) <= began], default=first)
    states = ["dependency"] * (ready - first) + ["slot"] * (began - ready)
    changes = [(one.at, state) for one in mine if (state := name_state(one)) and one.at >= began]
    for (at, state), (following, _) in zip(changes, [*changes[1:], (last, "")], strict=True):
        answered = [t for one, t in witness.answers.items() if one in needed and at <= t < following]
        for moment in range(at, following):
            states.append("slot" if state == "person" and answered and moment >= answered[0] else state)
    for one in mine:
        if one.verb == "node.waited":
            for moment in range(max(0, one.at - round(one.payload["seconds"] * 1000) - first), one.at - first):
                states[moment] = one.payload["cause"]
    return states


def name_state(event: Event) -> str:
    if event.verb == "node.retrying":
        return "retry"
    if event.verb == "node.blocked":
        return "dependency" if "it waits for " in event.payload["reason"] else "person"
    if event.verb.removeprefix("node.") in ENDS:
        return "over"
    stage, detail = event.payload.get("stage", ""), event.payload.get("detail", "")
    if stage in ("queued", "verify"):
        return "verify" if stage == "verify" and not detail else "queue"
    return "work" if stage in WORK else ""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "repository"


def test_every_figure_is_what_git_and_prefect_say_and_every_line_leads_to_its_evidence(
    coordinator: Coordinator, demo: Path
) -> None:
    code, output = coordinator.run("demo", "--directory", demo)
    assert code == 0, output
    code, output = coordinator.run("report", "--json", "--repo", demo)
    assert code == 0, output
    report = json.loads(output)
    witness = read_witness(coordinator, demo)
    assert report["runs"] == [witness.run]
    assert (report["missing"], report["exit_code"]) == ([], 1)
    check_evidence(report, witness, demo)
    check_times(report["figures"], witness)
    check_spending(report["figures"], witness)
    check_trouble(report["figures"], witness)
    text = coordinator.run("report", "--repo", demo)[1]
    body = {"flow_runs": {"id": {"any_": [witness.run]}}, "artifacts": {"key": {"any_": ["coordinator-after-action"]}}}
    [artifact] = ask_until(lambda: coordinator.ask("artifacts/filter", body), bool)
    assert artifact["data"].strip() == text.strip()
    check_later_answer(coordinator, demo)
    assert coordinator.ask("artifacts/filter", body) == [artifact]
    check_proposals(coordinator, demo, witness.run)


def check_later_answer(coordinator: Coordinator, top: Path) -> None:
    """What the demo leaves blocked is answered as it says at its end; a report on its run then says so."""
    (top / "docs" / "rounding-rule.txt").write_text("half even\n", encoding="utf-8")
    run_git(top, "add", "docs")
    run_git(top, "commit", "-qm", "Choose the rounding rule")
    code, output = coordinator.run("resolve", "tax/rounding", "See docs/rounding-rule.txt.", "--repo", top)
    assert code == 0, output
    answer = run_git(top, "rev-parse", "main").strip()
    report = json.loads(coordinator.run("report", "--json", "--repo", top)[1])
    [blocker] = [one for one in report["figures"]["trouble"]["blockers"] if one["node"] == "tax/rounding"]
    said = "still open when the run ended; afterwards a person answered: See docs/rounding-rule.txt."
    assert (blocker["ended"] + ".", blocker["evidence"][-1]["ref"]) == (said, answer)


AGENT = """
if [ "$COORDINATOR_ROLE" = resolver ]; then exit 1; fi
cp "$COORDINATOR_TASK_FILE" "$PLACE/$COORDINATOR_TASK_ID"
echo "Done." > "docs/$COORDINATOR_TASK_ID.md"
git add -A && git commit -qm "docs($COORDINATOR_TASK_ID): write it down"
"""


def check_proposals(coordinator: Coordinator, top: Path, run: str) -> None:
    """A second run works on what the report proposes to agents, and leaves to a person what is a person's."""
    found = json.loads(coordinator.run("report", "--propose", "--json", "--repo", top)[1])
    items = {f"tasks/aar-{run[:8]}-{number}.md": one for number, one in enumerate(found["action_items"], 1)}
    assert found["proposed"] == list(items)
    persons = {Path(path).stem for path, one in items.items() if one["is_for_person"]}
    agents = {Path(path).stem for path in items} - persons
    assert len(agents) >= 3
    run_git(top, "add", "tasks")
    run_git(top, "commit", "-qm", "Plan what the report asks for")
    place = top.parent / "seen"
    place.mkdir()
    command = json.dumps(["sh", "-c", AGENT.replace("$PLACE", str(place))])
    only = [word for path in items for word in ("--only", Path(path).stem)]
    code, output = coordinator.run("run", top, *only, extra={"COORDINATOR_AGENT__COMMAND": command})
    assert code == (3 if persons else 0), output
    assert {path.name for path in place.iterdir()} == agents
    tasks = read_tasks(top)
    for path, one in items.items():
        text, task = run_git(top, "show", f"main:{path}"), tasks[Path(path).stem]
        assert task["status"] == ("pending" if one["is_for_person"] else "completed")
        assert task.get("scope") == one["scope"]
        assert all(f"- [ ] {criterion}" in text for criterion in one["criteria"])
        for proof in one["evidence"]:
            assert proof["ref"][:10] in text
            assert proof["kind"] != "event" or f"{proof['at'][11:23]} on {proof['at'][:10]} (UTC)" in text
    [name] = set(re.findall(r"`(coordinator/journals/\S+)`", "".join(run_git(top, "show", f"main:{p}") for p in items)))
    assert run in (top / ".git" / name).read_text(encoding="utf-8")
    again = json.loads(coordinator.run("report", run, "--propose", "--json", "--repo", top)[1])
    assert again["proposed"] == []


def check_evidence(report: Mapping[str, Any], witness: Witness, top: Path) -> None:
    """Each line and action item has evidence, and all of it exists."""
    times: defaultdict[tuple[str, int], list[Event]] = defaultdict(list)
    for event in witness.events:
        times[event.node, event.at].append(event)
    start = to_ms(report["started"])
    parts = (*report["went_right"], *report["went_wrong"], *report["could_be_better"], *report["action_items"])
    assert len(parts) > 15
    for part in parts:
        assert part["evidence"], part["text"]
        for one in part["evidence"]:
            match one["kind"]:
                case "commit":
                    assert run_git(top, "cat-file", "-t", one["ref"]).strip() == "commit"
                case "event":
                    found = times[one["node"], to_ms(one["at"]) - start]
                    assert any(is_same(one["ref"], event.verb) for event in found), one
                case "task":
                    assert one["ref"] in witness.tasks
                case kind:
                    assert (kind, one["ref"]) == ("run", witness.run)


def is_same(name: str, verb: str) -> bool:
    """Whether an event of the journal is the one that Prefect has."""
    match name:
        case "ended":
            return verb.removeprefix("node.") in ENDS
        case "stage" | "conflict-expected":
            return True
        case _:
            return verb == name


def check_times(figures: Mapping[str, Any], witness: Witness) -> None:
    [ended] = witness.of("run.ended")
    started = sorted({one.node for one in witness.of("node.started")})
    states = {node: find_states(witness, node, ended.at) for node in started}
    counts = {node: Counter(found) for node, found in states.items()}
    assert_close(figures["waits"], sum_up(counts.values(), lambda cause: cause != "over"))
    makespan = figures["makespan"]
    assert_close({"s": makespan["seconds"]}, {"s": ended.at / 1000})
    own = {node: (count["work"] + count["verify"]) / 1000 for node, count in counts.items()}
    work, verify = (sum(count[cause] for count in counts.values()) / 1000 for cause in ("work", "verify"))
    paths = {node: find_length(witness, own, node) for node in started}
    assert_close(makespan["bounds"], {"path": max(paths.values()), "sessions": work / 4, "verify": verify})
    assert makespan["bound"] == max(makespan["bounds"], key=lambda name: makespan["bounds"][name])
    nodes = [link["node"] for link in makespan["chain"] if link["node"]]
    for before, after in pairwise(nodes):
        assert before in witness.tasks[after]["depends_on"]
    assert nodes[-1] == max(witness.of(*(f"node.{end}" for end in ENDS[:5])), key=lambda one: one.at).node
    assert abs(sum(makespan["by_cause"].values()) - makespan["seconds"]) < CLOSE
    turns = [(one.at - round(one.payload["seconds"] * 1000), one.at) for one in witness.of("session.turned")]
    peak = max(sum(begin <= at < end for begin, end in turns) for at, _ in turns)
    mean = sum(end - begin for begin, end in turns) / ended.at
    assert figures["parallelism"]["allowed"] == witness_sessions(witness) == 4
    assert figures["parallelism"]["peak"] == peak
    assert abs(figures["parallelism"]["mean"] - mean) < CLOSE
    for row in figures["estimates"]:
        check_estimate(row, figures, witness, own)


def witness_sessions(witness: Witness) -> int:
    return witness.of("run.started")[0].payload["sessions"]


def check_estimate(
    row: Mapping[str, Any], figures: Mapping[str, Any], witness: Witness, own: Mapping[str, float]
) -> None:
    landed = [node for node in own if node in witness.merges]
    chosen = [node for node in landed if witness.tasks[node].get(row["key"], "(not named)") == row["value"]]
    efforts = {node: EFFORT[witness.tasks[node].get("scope", "narrow")] for node in landed}
    assert row["nodes"] == len(chosen)
    assert abs(row["seconds"] - sum(own[node] for node in chosen)) < CLOSE
    if row["key"] == "scope":
        assert row["expected"] == sum(efforts[node] for node in chosen) / sum(efforts.values())
        assert abs(row["actual"] - row["seconds"] / sum(own[node] for node in landed)) < CLOSE
    else:
        bad = {one.node for one in witness.of("merge.refused", "node.retrying", "node.blocked", "node.answered")}
        bad |= {one.node for one in witness.of("session.turned") if one.payload["stall"]}
        assert row["expected"] == SUCCESS.get(row["value"])
        assert row["actual"] == sum(node not in bad for node in chosen) / len(chosen)
    assert figures["outcomes"] == Counter(
        {
            one.node: one.payload["stage"] and one.verb.removeprefix("node.").title() for one in last_ends(witness)
        }.values()
    )


def last_ends(witness: Witness) -> list[Event]:
    return list({one.node: one for one in witness.of(*(f"node.{end}" for end in ENDS))}.values())


def find_length(witness: Witness, own: Mapping[str, float], node: str) -> float:
    before = [find_length(witness, own, one) for one in witness.tasks[node].get("depends_on", []) if one in own]
    return own[node] + max(before, default=0.0)


def sum_up(counts: Any, is_wanted: Callable[[str], bool]) -> dict[str, float]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return {cause: ms / 1000 for cause, ms in total.items() if is_wanted(cause)}


def assert_close(found: Mapping[str, float], expected: Mapping[str, float]) -> None:
    assert found.keys() == expected.keys()
    assert {name: abs(found[name] - expected[name]) < CLOSE for name in found} == dict.fromkeys(found, True), (
        found,
        expected,
    )


def check_spending(figures: Mapping[str, Any], witness: Witness) -> None:
    turns = witness.of("session.turned")
    spending = figures["spending"]
    for name, key in (("by_node", "node"), ("by_role", "role"), ("by_model", "model")):
        groups: defaultdict[str, list[Event]] = defaultdict(list)
        for turn in turns:
            groups[(turn.node if key == "node" else turn.payload[key]) or "(not named)"].append(turn)
        assert spending[name].keys() == groups.keys()
        for group, found in groups.items():
            assert spending[name][group]["turns"] == len(found)
            assert spending[name][group]["tokens"] == sum(one.payload["tokens"] for one in found)
            assert abs(spending[name][group]["seconds"] - sum(one.payload["seconds"] for one in found)) < CLOSE
            assert abs(spending[name][group]["cost"] - sum(one.payload["cost"] for one in found)) < 1e-6
    assert spending["total"]["turns"] == len(turns)
    assert figures["lines"] == {node: sum(merge.lines.values()) for node, merge in witness.merges.items()}
    assert figures["landed"] == {node: merge.id for node, merge in witness.merges.items()}
    for node, attempt in figures["attempts"].items():
        told = witness.merges[node].trailers["Attempt"] if node in witness.merges else last_attempt(witness, node)
        assert attempt == int(told)


def last_attempt(witness: Witness, node: str) -> str:
    return str(next(one.payload["attempt"] for one in last_ends(witness) if one.node == node))


def check_trouble(figures: Mapping[str, Any], witness: Witness) -> None:
    trouble = figures["trouble"]
    refused = witness.of("merge.refused")
    assert [(one["node"], one["about"]) for one in trouble["refusals"]] == [
        (one.node, one.payload["cause"]) for one in refused
    ]
    conflicts = Counter(path for one in refused for path in one.payload["paths"].split(", ") if path)
    changed: defaultdict[str, set[str]] = defaultdict(set)
    for node, merge in witness.merges.items():
        for path in merge.lines:
            changed[path].add(node)
    files = {one["path"]: (one["conflicts"], set(one["nodes"])) for one in trouble["files"]}
    wanted = {path for path in {*changed, *conflicts} if conflicts[path] or len(changed[path]) >= 3}
    assert files == {path: (conflicts[path], changed[path]) for path in wanted}
    assert conflicts.total() == 1
    blocked = Counter(one.node for one in witness.of("node.blocked", "node.answered"))
    assert Counter(one["node"] for one in trouble["blockers"]) == blocked
    assert [one["node"] for one in trouble["stalls"]] == [
        one.node for one in witness.of("session.turned") if one.payload["stall"]
    ]
    assert [one["about"] for one in trouble["reviews"]] == [
        one.payload["verdict"] for one in witness.of("session.reviewed")
    ]
    assert [(one["node"], one["about"]) for one in trouble["touches"]] == [
        (one.node, one.payload["what"]) for one in witness.of("node.requested")
    ]
    assert [one["node"] for one in trouble["unfinished"]] == [one.node for one in witness.of("node.skipped")]
    assert [one["node"] for one in trouble["retries"]] == [one.node for one in witness.of("node.retrying")]
