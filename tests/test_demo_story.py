"""The demo's agents do what its story describes, and the story notices when they did not."""

import asyncio
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from checker import Meant, check, snapshot_user_state
from generated_graphs import run_git
from run_harness import HANG_SECONDS, PlainLauncher
from silence import read_silence

from flows.demo.story import ANSWER, DemoStory, check_story, make_demo, tell_statuses
from tasks_lib.engine.run_lifecycle import open_run
from tasks_lib.engine.scheduler import Scheduler
from tasks_lib.errors import InputError
from tasks_lib.graph.run_plan import Plan
from tasks_lib.landing.resolution import resolve_in_run
from tasks_lib.model import PersonsWord
from tasks_lib.project.loading import load_project
from tasks_lib.taskfile.parsing import parse_task


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> DemoStory:
    """The demo's repository after a run of its graph, with shorter pauses of its agents."""
    story = make_demo(tmp_path_factory.mktemp("demo") / "demo", pace=0.2)
    before = snapshot_user_state(story.repository)
    asyncio.run(asyncio.wait_for(work(story), HANG_SECONDS))
    assert check(story.repository, before=before, meant=Meant(tell_statuses(story))) == []
    return story


async def work(story: DemoStory) -> None:
    """Run the graph without Prefect, and answer the node that asks for it."""
    project = await asyncio.to_thread(load_project, story.repository, {})
    async with open_run(project, "demo", 4) as opened:
        answering: list[asyncio.Task[Any]] = []

        lines = story.repository.parent / "lines"

        def answer(node_id: str, line: str) -> None:
            with lines.open("a") as sink:
                sink.write(f"{node_id}: {line}\n" if node_id else f"{line}\n")
            if node_id == story.asked and line.startswith("Blocked"):
                resolving = resolve_in_run(opened.run, opened.merge_queue, story.asked, PersonsWord(ANSWER))
                answering.append(asyncio.create_task(resolving))

        opened.run.board.listen(answer)
        await Scheduler(opened, Plan(opened.run.nodes.graph), PlainLauncher()).work()
        await asyncio.gather(*answering)


@pytest.mark.xdist_group("demo")
def test_the_scripted_agents_work_the_graph_as_the_story_tells(worked: DemoStory) -> None:
    assert check_story(worked.repository, worked) == []


@pytest.mark.xdist_group("demo")
def test_the_reports_conflicted_and_the_second_was_merged_by_its_agent(worked: DemoStory) -> None:
    log = run_git(worked.repository, "log", "--merges", "--format=%s", "main")
    merged_by_agents = [line for line in log.splitlines() if " into feat/reports/by-" in line]
    assert len(merged_by_agents) == 1


@pytest.mark.xdist_group("demo")
def test_the_red_node_needed_a_second_turn(worked: DemoStory) -> None:
    log = run_git(worked.repository, "log", "--format=%s", "main")
    assert f"fix({worked.red}): Group thousands in printed amounts" in log.splitlines()


@pytest.mark.xdist_group("demo")
def test_what_went_wrong_is_told_while_it_happens(worked: DemoStory) -> None:
    told = (worked.repository.parent / "lines").read_text()
    assert f"{worked.hangs}: session: nudged: the turn was stopped: nothing happened for " in told
    assert read_silence(told) >= 10
    assert "reports/by-category and reports/by-month both change ledger/commands.py and will conflict" in told
    assert f"{worked.limited}: notice (limit): the quota for this minute is used up" in told
    assert f"{worked.returned}: given back: the review asks for changes" in told
    assert f"{worked.told}: it was blocked (context); a resolver supplied context: README.md says" in told
    assert f"{worked.asked}: Blocked: which tax rate" in told


@pytest.mark.xdist_group("demo")
def test_the_decision_of_a_person_lets_the_blocked_agent_go_on(worked: DemoStory, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    run_git(tmp_path, "clone", "-q", str(worked.repository), str(clone))
    run_git(clone, "config", "user.email", "demo@localhost")
    run_git(clone, "config", "user.name", "Demo")
    (clone / "docs" / "rounding-rule.txt").write_text("half even\n")
    run_git(clone, "add", "-A")
    run_git(clone, "commit", "-q", "-m", "Choose half even")
    variables = {
        "TASK_ID": worked.blocked,
        "TASK_FILE": worked.paths[worked.blocked],
        "ROLE": "implementation-specialist",
    }
    variables |= {"ATTEMPT": "2", "TURN": "1", "TARGET": run_git(clone, "rev-parse", "HEAD")}
    ours = {f"COORDINATOR_{name}": value for name, value in variables.items()}
    command: list[str] = yaml.safe_load((clone / "coordinator.yaml").read_text())["agent"]["command"]
    done = subprocess.run(command, cwd=clone, env={**os.environ, **ours}, input=b"", check=False)
    assert done.returncode == 0
    assert run_git(clone, "log", "-1", "--format=%s") == "feat(tax/rounding): Round tax on every entry"


@pytest.mark.xdist_group("demo")
def test_each_part_of_the_story_that_did_not_happen_is_said(worked: DemoStory, tmp_path: Path) -> None:
    fresh = make_demo(tmp_path / "fresh")
    faults = "\n".join(check_story(fresh.repository, fresh))
    for task_id in fresh.landed:
        assert f"{task_id} has 0 commits on main" in faults
    assert "main has no commit blocked(tax/rounding)" in faults
    assert "tax/rounding should be blocked" in faults
    assert "resolve-tax-rounding-1" in faults
    assert "ledger/commands.py lacks" in faults
    touched = replace(worked, skipped=("release",), target="main")
    assert "release should be untouched, but its task file has changed" in check_story(worked.repository, touched)


@pytest.mark.xdist_group("demo")
def test_a_test_that_fails_in_a_fresh_checkout_is_said(worked: DemoStory, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    run_git(tmp_path, "clone", "-q", str(worked.repository), str(clone))
    (clone / "tests" / "test_broken.py").write_text("raise SystemExit(1)\n")
    run_git(clone, "add", "-A")
    run_git(clone, "-c", "user.name=T", "-c", "user.email=t@localhost", "commit", "-q", "-m", "Break it")
    (fault,) = check_story(clone, worked)
    assert fault.startswith("the tests fail in a fresh checkout")


def test_every_task_file_of_the_demo_is_read_without_a_warning(tmp_path: Path) -> None:
    story = make_demo(tmp_path / "demo")
    for task_id, path in story.paths.items():
        task, faults = parse_task((story.repository / path).read_bytes(), path)
        assert task is not None
        assert (task.id, faults) == (task_id, ())


def test_a_directory_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(InputError, match="is not empty"):
        make_demo(tmp_path)
