"""Keys that users' programs read stay stable, and records of earlier releases stay readable, whatever moves inside."""

import fcntl
import json
import socket
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

import pytest
import typer
from cli_fixtures import Call, Main
from compatibility.golden import describe_shape, keep_promise
from compatibility.scenes import RECORDS, RELEASES, make_scene
from compatibility.story import Story, commit
from generated_graphs import run_git

from flows.cli.app import app
from flows.prefect_states import RETRY, describe_run
from tasks_lib.reporting.run_report import ExitCode
from tasks_lib.settings.schema import settings_schema

PLAIN = ("$defs", "$ref", "description", "properties", "title")
"""Keys of a schema that are for human readers, or that are resolved."""
SCENES = ("ended", "killed", "running")
COMMANDS: Sequence[tuple[str, ...]] = (
    ("validate",),
    ("validate", "--head"),
    ("plan",),
    ("graph",),
    ("status",),
    ("cleanup", "--dry-run"),
    ("cleanup", "--prune", "--older-than", "0", "--dry-run"),
    ("cleanup", "--restore", "landed"),
    ("doctor", "--audit"),
    ("prompt", "blocked"),
    ("prompt", "given-back", "--kind", "review"),
    ("logs", "given-back", "--list"),
    # Last, since it changes what the others see.
    ("cleanup", "--prune", "--older-than", "0"),
    ("cleanup",),
)


@pytest.fixture(params=RELEASES)
def release(request: pytest.FixtureRequest) -> Path:
    """The records of a release."""
    return RECORDS / request.param


@contextmanager
def held(story: Story) -> Generator[None]:
    """Hold the repository's lock in place of the run named in it."""
    with (story.top / ".git" / "coordinator" / "lock").open("rb+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def opened(release: Path, scene: str, place: Path) -> Generator[Story]:
    """A repository as left by a run that `ended` or was `killed`, or as it is while the latter is still `running`."""
    story = make_scene(release / ("ended" if scene == "ended" else "killed"), place)
    if scene != "running":
        yield story
        return
    with held(story):
        yield story


def ask(main_here: Main, top: Path, words: Sequence[str]) -> tuple[int, Any]:
    """Call a command with `--json`; return its exit code and parsed output."""
    code, output = main_here(words[0], *list_repository(words, top), *words[1:], "--json")
    return code, json.loads(output)


def list_repository(words: Sequence[str], top: Path) -> list[str]:
    return ["--repo", str(top)] if words[0] in ("prompt", "logs", "message", "abort", "attach") else [str(top)]


@pytest.mark.parametrize("scene", SCENES)
def test_json_of_every_command_has_the_keys_that_were_promised(main_here: Main, tmp_path: Path, scene: str) -> None:
    busy = ("cleanup",) if scene == "running" else ()
    with opened(RECORDS / RELEASES[-1], scene, tmp_path) as story:
        answers = {" ".join(words): ask(main_here, story.top, words) for words in COMMANDS if words[0] not in busy}
    found = {name: {"exit": code, "json": describe_shape(value)} for name, (code, value) in answers.items()}
    keep_promise(f"json-{scene}", found)


def test_json_of_faulty_input_has_the_keys_that_were_promised(main_here: Main, tmp_path: Path) -> None:
    story = make_scene(RECORDS / RELEASES[-1] / "ended", tmp_path)
    broken = "---\nid: broken\nname: Broken\nstatus: done\ndepends_on: [nothing]\n---\n"
    commit(story.top, "Break it", {"tasks/broken.md": broken, "coordinator.yaml": "max_sessions: many\nnone: 1\n"})
    (story.top / "tasks" / "new.md").write_text("---\nid: new\nname: New\n---\n")
    asked = ("validate",), ("validate", "--head"), ("status",)
    found = {" ".join(words): ask(main_here, story.top, words) for words in asked}
    shapes = {name: {"exit": code, "json": describe_shape(value)} for name, (code, value) in found.items()}
    keep_promise("json-faulty", shapes)


def test_json_of_broken_promises_has_the_keys_that_were_promised(main_here: Main, tmp_path: Path) -> None:
    story = make_scene(RECORDS / RELEASES[-1] / "ended", tmp_path)
    run_git(story.top, "commit", "--quiet", "--allow-empty", "--message", "Merge feat/none: None\n\nTask: none")
    run_git(story.top, "update-ref", "refs/coordinator/queue/none", "HEAD")
    code, found = ask(main_here, story.top, ("doctor", "--audit"))
    assert code == 1
    keep_promise("json-audit", describe_shape(found))


def test_json_of_doctor_has_the_keys_that_were_promised(main_here: Main, tmp_path: Path) -> None:
    story = make_scene(RECORDS / RELEASES[-1] / "ended", tmp_path)
    _, found = ask(main_here, story.top, ("doctor",))
    assert {check["level"] for check in found["checks"]} <= {"ok", "warn", "fail"}
    (story.top / "coordinator.yaml").write_text("max_sessions: many\n")
    code, faulty = ask(main_here, story.top, ("doctor",))
    assert (code, faulty["has_failed"]) == (2, True)
    keep_promise("json-doctor", describe_shape([found, faulty]))


def list_options(command: Any) -> dict[str, object]:
    """Map each argument and option of a command to the values it can be chosen from."""
    return {"/".join((*one.opts, *one.secondary_opts)): list_choices(one) for one in command.params}


def list_choices(parameter: Any) -> list[str]:
    """The choices of a parameter, however this version of typer stores them; empty if it is not a choice."""
    chosen: Any = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)
    if isinstance(chosen, type) and issubclass(chosen, StrEnum):
        return sorted(one.value for one in chosen)
    return sorted(getattr(getattr(parameter, "type", None), "choices", ()))


def test_commands_and_their_options_are_those_that_were_promised() -> None:
    group: Any = typer.main.get_command(app)
    found = {"": list_options(group)} | {name: list_options(one) for name, one in group.commands.items()}
    keep_promise("options", found)


def keep_keys(schema: Any, parts: Mapping[str, Any]) -> Any:
    """A schema without keys for human readers, and with references to its internally named definitions resolved."""
    if isinstance(schema, list):
        return [keep_keys(one, parts) for one in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    known = cast("dict[str, Any]", schema)
    if place := known.get("$ref"):
        known = {**known, **parts[place.rpartition("/")[2]]}
    kept = {key: keep_keys(one, parts) for key, one in known.items() if key not in PLAIN}
    properties = known.get("properties", {})
    return (
        kept | {"properties": {name: keep_keys(one, parts) for name, one in properties.items()}} if properties else kept
    )


def test_keys_of_the_configuration_are_those_that_were_promised() -> None:
    schema = settings_schema()
    keep_promise("coordinator-yaml", keep_keys(schema, schema["$defs"]))


def test_states_of_a_flow_run_are_those_that_were_promised() -> None:
    states = {str(int(code)): describe_run(code, "") for code in ExitCode}
    named = {code: f"{state.type.value} {state.name}" for code, state in states.items()}
    keep_promise("flow-run-states", {**named, "attempt that is to be tried again": RETRY})


def test_exit_codes_are_those_that_were_promised(main_here: Main, call: Call, tmp_path: Path) -> None:
    ended = make_scene(RECORDS / RELEASES[-1] / "ended", tmp_path / "ended")
    killed = make_scene(RECORDS / RELEASES[-1] / "killed", tmp_path / "killed")
    found = {
        "a node is blocked": main_here("status", str(ended.top))[0],
        "the run was killed": main_here("status", str(killed.top))[0],
        "no such option": call("status", "--none", cwd=ended.top).returncode,
        "no repository": call("run", cwd=tmp_path).returncode,
    }
    with held(killed):
        found["a run is going on"] = main_here("status", str(killed.top))[0]
        found["another run is going on"] = call("run", cwd=killed.top).returncode
    tasks = {f"tasks/{path.name}": path.read_text() for path in (ended.top / "tasks").iterdir()}
    done = {name: set_status(text, "completed") for name, text in tasks.items()}
    commit(ended.top, "Only a person is left", {**done, "tasks/human.md": tasks["tasks/human.md"]})
    found["a person is waited for"] = main_here("run", str(ended.top))[0]
    commit(ended.top, "Nothing is left", done)
    found["everything is completed"] = main_here("status", str(ended.top))[0]
    keep_promise("exit-codes", found)


def set_status(text: str, status: str) -> str:
    lines = text.splitlines(keepends=True)
    return "".join(f"status: {status}\n" if line.startswith("status:") else line for line in lines)


def test_record_of_a_run_that_ended_is_read(release: Path, main_here: Main, tmp_path: Path) -> None:
    with opened(release, "ended", tmp_path) as story:
        code, found = ask(main_here, story.top, ("status",))
    nodes = {node["id"]: node for node in found["nodes"]}
    outcomes = {name: node["outcome"] for name, node in nodes.items() if node["outcome"]}
    assert (code, found["run"]["exit_code"], found["run"]["was_killed"], found["is_alive"]) == (1, 1, False, False)
    assert outcomes == {
        **dict.fromkeys(("landed", "given-back", "nudged", "retried", "unclaimed"), "Merged"),
        "base": "Landed",
        "checked": "Checked",
        "blocked": "Blocked",
        "unreviewable": "Failed",
        "aborted": "Aborted",
        "skipped": "Skipped",
        "failed": "Skipped",
    }
    assert nodes["blocked"]["reason"] == "Blocked: a person has to decide between two rules"
    assert nodes["blocked"]["depends_on"] == ["base", "resolve-blocked-1"]
    assert (nodes["retried"]["attempt"], nodes["given-back"]["turn"]) == (2, 2)
    assert "blocked: notice (info): Reading the rules" in found["messages"]


def test_record_of_a_run_that_was_killed_is_read(release: Path, main_here: Main, tmp_path: Path) -> None:
    with opened(release, "killed", tmp_path) as story:
        code, found = ask(main_here, story.top, ("status",))
    nodes = {node["id"]: node for node in found["nodes"]}
    assert (code, found["run"]["was_killed"], found["holder"]) == (130, True, None)
    interrupted = {name for name, node in nodes.items() if node["outcome"] == "interrupted"}
    assert interrupted == {"working", "given-back", "reviewed", "retried"}
    assert nodes["reviewed"]["reason"].startswith("was at review")


def test_head_that_is_not_published_yet_is_read(release: Path, main_here: Main, tmp_path: Path) -> None:
    with opened(release, "killed", tmp_path) as story:
        run_git(story.top, "update-ref", "refs/coordinator/queue/main", "HEAD")
        run_git(story.top, "reset", "--quiet", "--hard", "HEAD~1")
        _, found = ask(main_here, story.top, ("status",))
    nodes = {node["id"]: node for node in found["nodes"]}
    assert found["is_publication_pending"] is True
    assert nodes["blocked"]["status"] == "blocked"


def test_lock_of_a_run_that_is_going_on_is_read(release: Path, main_here: Main, call: Call, tmp_path: Path) -> None:
    with opened(release, "running", tmp_path) as story:
        code, found = ask(main_here, story.top, ("status",))
        refused = call("cleanup", cwd=story.top)
    nodes = {node["id"]: node for node in found["nodes"]}
    holder = found["holder"]
    assert (code, found["is_alive"], holder["host"]) == (0, True, socket.gethostname())
    assert (holder["run"], bool(holder["pid"]), bool(holder["started"])) == (found["run"]["run"], True, True)
    assert (nodes["working"]["stage"], nodes["given-back"]["stage"]) == ("session", "session")
    assert (refused.returncode, holder["run"] in refused.stderr) == (2, True)


@pytest.mark.parametrize(
    ("scene", "unlanded"),
    [
        ("ended", {"aborted", "blocked", "unreviewable"}),
        ("killed", {"blocked", "given-back", "retried", "reviewed", "working"}),
    ],
)
def test_records_of_sessions_and_kept_states_are_found(
    release: Path, main_here: Main, tmp_path: Path, scene: str, unlanded: set[str]
) -> None:
    with opened(release, scene, tmp_path) as story:
        _, dry = ask(main_here, story.top, ("cleanup", "--dry-run"))
        _, audited = ask(main_here, story.top, ("doctor", "--audit"))
        _, done = ask(main_here, story.top, ("cleanup",))
        _, restored = ask(main_here, story.top, ("cleanup", "--restore", "landed"))
        _, again = ask(main_here, story.top, ("doctor", "--audit"))
    for found in (dry, done):
        assert {one["id"] for one in found["open"]} == unlanded
        assert {one["branch"] for one in found["open"]} == {f"feat/{name}" for name in unlanded}
        assert "refs/coordinator/kept/landed/1" in {one["ref"] for one in found["kept"]}
    assert (audited["violations"], again["violations"]) == ([], [])
    assert audited["commits"] >= 3
    assert (restored["ref"], restored["branch"]) == ("refs/coordinator/kept/landed/1", "restored/landed-1")


def test_next_attempt_after_a_kill_is_told_what_the_records_say(release: Path, main_here: Main, tmp_path: Path) -> None:
    with opened(release, "killed", tmp_path) as story:
        told = {
            name: ask(main_here, story.top, ("prompt", name))[1]
            for name in ("blocked", "given-back", "retried", "reviewed", "working")
        }
    attempts = {"blocked": 2, "given-back": 1, "retried": 2, "reviewed": 1, "working": 1}
    assert {name: one["attempt"] for name, one in told.items()} == attempts
    assert "Attempt 1 failed: `sh` exited with 1" in told["retried"]["prompt"]
    assert "Given back: the review asks for changes" in told["given-back"]["prompt"]
    assert "already accepted" in " ".join(told["reviewed"]["remarks"])


def test_message_to_a_node_that_was_aborted_is_part_of_its_next_prompt(
    release: Path, main_here: Main, tmp_path: Path
) -> None:
    with opened(release, "ended", tmp_path) as story:
        _, told = ask(main_here, story.top, ("prompt", "aborted"))
    assert "Hurry" in told["prompt"]
