"""A sample of the kills of `make chaos`, and proofs that a coordinator that breaks a promise is detected."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from chaos.kill_points import count_kinds, read_effects
from checker_traces import text
from generated_graphs import RED

pytestmark = pytest.mark.xdist_group("chaos")
TESTS = Path(__file__).resolve().parent.parent
SAMPLE = 10
HANG_SECONDS = 600
AMID_LANDING = "before #1: process git update-ref -m coordinator: move the head"


def run_chaos(place: Path, **options: str) -> "subprocess.CompletedProcess[str]":
    """Run `make chaos` in `place`, with `options` as environment variables."""
    named = {f"CHAOS_{name}": value for name, value in options.items()} | {"CHAOS_DIR": str(place), "CHAOS_JOBS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "chaos"],
        env={**os.environ, **named, "PYTHONPATH": str(TESTS), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_SECONDS,
    )


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> "tuple[Path, subprocess.CompletedProcess[str]]":
    """The directory in which a sample of kills was tried, and the output."""
    place = tmp_path_factory.mktemp("chaos")
    done = run_chaos(place, PARTS="life,cuts,pairs", SAMPLE=str(SAMPLE), PAIRS="2", KEEP="1")
    return next(place.iterdir()), done


def test_killed_at_a_side_effect_and_run_again_it_ends_as_undisturbed(
    sampled: "tuple[Path, subprocess.CompletedProcess[str]]",
) -> None:
    _, done = sampled
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Every promise was kept." in done.stdout


def test_killed_with_its_sessions_elsewhere_and_run_again_it_ends_as_undisturbed(tmp_path: Path) -> None:
    done = run_chaos(tmp_path, PARTS="spokes", SAMPLE="5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Every promise was kept." in done.stdout


def test_killed_while_work_is_judged_and_run_again_it_ends_as_undisturbed(tmp_path: Path) -> None:
    done = run_chaos(tmp_path, PARTS="judgement", SAMPLE="4", KEEP="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Every promise was kept." in done.stdout
    log = next(tmp_path.glob("chaos-*/judgement-calm/log")).read_text()
    for stage in ("before its review", "the review asks for changes", "was told", "conflicts with", "dropped 1 change"):
        assert stage in log, f"the graph no longer goes through: {stage}"


def test_killed_amid_what_people_and_sessions_add_and_told_again_it_ends_as_undisturbed(tmp_path: Path) -> None:
    amid = [
        "after #1: rename*coordinator.json @ taking.take *",  # Taken, and nothing is copied yet.
        # The first time a task is spawned, the last time a report is committed: neither is published yet.
        "after #?: process git update-ref -m coordinator: move the head*",
    ]
    done = run_chaos(tmp_path, PARTS="people", ONLY="|".join(amid), KEEP="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kills that struck: 3 (3 after)" in done.stdout
    log = next(tmp_path.glob("chaos-*/people-calm/log")).read_text()
    for stage in ("design is yours", "SpawnedTask(task_id='part'", "asked: Waiting", "part may land", "design: Merged"):
        assert stage in log, f"the story no longer goes through: {stage}"


def test_side_effects_of_every_kind_are_seen(sampled: "tuple[Path, subprocess.CompletedProcess[str]]") -> None:
    root, _ = sampled
    kinds = count_kinds(read_effects(root / "calm/trace"))
    floors = {"git that writes": 40, "git that reads": 50, "other process": 10, "write": 60, "rename": 40, "remove": 20}
    assert {kind: kinds[kind] for kind, floor in floors.items() if kinds[kind] < floor} == {}
    assert {"mkdir", "rmdir", "chmod", "lock", "truncate", "signal"} <= kinds.keys()


def test_an_agent_of_the_graph_works_in_a_worktree_inside_its_own(
    sampled: "tuple[Path, subprocess.CompletedProcess[str]]",
) -> None:
    """Otherwise no kill would interrupt the steps that keep it."""
    root, _ = sampled
    assert text(root / "calm/repository", "for-each-ref", "--format=%(refname)", f"refs/coordinator/kept/{RED}")


def test_no_git_command_escapes(sampled: "tuple[Path, subprocess.CompletedProcess[str]]") -> None:
    """Git traces each of its own processes; those that git started itself do not count."""
    root, _ = sampled
    seen = Counter(effect.argv[1:] for effect in read_effects(root / "calm/trace") if effect.argv[:1] == ("git",))
    lines = (json.loads(line) for line in (root / "calm/trace.git").read_text().splitlines())
    told = Counter(tuple(line["argv"][1:]) for line in lines if line["event"] == "start" and "/" not in line["sid"])
    assert told - seen == Counter()
    assert told.total() > 80


@pytest.fixture(scope="module")
def found_out(tmp_path_factory: pytest.TempPathFactory) -> "subprocess.CompletedProcess[str]":
    """One kill of each defective coordinator."""
    place = tmp_path_factory.mktemp("chaos")
    return run_chaos(place, PARTS="life", ONLY=AMID_LANDING, DEFECTS="careless stray twice")


@pytest.mark.parametrize(
    ("defect", "said"),
    [
        pytest.param("careless", "is lost", id="that-deletes-work-at-its-start"),
        pytest.param("stray", "is left: sleep", id="that-leaves-a-process"),
        pytest.param("twice", "landed 2 times", id="that-lands-twice"),
    ],
)
def test_a_coordinator_is_found_out(found_out: "subprocess.CompletedProcess[str]", defect: str, said: str) -> None:
    assert found_out.returncode == 1, found_out.stdout + found_out.stderr
    violations = re.findall(rf"VIOLATION, \d+ times: {defect}: (.*)", found_out.stdout)
    assert any(said in one for one in violations), found_out.stdout + found_out.stderr
    assert "3 of 3 kills broke a promise." in found_out.stdout
    assert "CHAOS_ONLY=before-" in found_out.stdout
