"""Commands in a repository with tags, branches and files named like HEAD, the target and commits."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from ambiguous_names import FILES, create_ambiguous_names, list_refs
from cli_fixtures import SETTINGS, Main, UserRepository

from flows.cli.commands.doctor_repository import check_branches, check_names
from tasks_lib.git.kept.snapshots import keep_state
from tasks_lib.git.worktrees.lifecycle import Worktrees
from tasks_lib.project.loading import load_project


@pytest.fixture
def crowded(repo: UserRepository) -> UserRepository:
    """A repository with all such names at a commit without task files."""
    old = repo.git.text("rev-list", "--max-parents=0", "refs/heads/main")
    begun = repo.commit(dict(FILES), "Name files like refs")
    create_ambiguous_names(repo.git, old, [begun])
    return repo


@pytest.mark.parametrize(
    "words",
    [("plan",), ("validate",), ("graph",), ("status",), ("cleanup",), ("prompt", "left"), ("doctor", "--audit")],
    ids=" ".join,
)
def test_command_reads_the_branch_among_all_names(
    crowded: UserRepository, main_here: Main, words: tuple[str, ...]
) -> None:
    before = list_refs(crowded.git)
    name, *rest = words
    where = [*rest, "--repo", str(crowded.top)] if name == "prompt" else [str(crowded.top), *rest]
    code, output = main_here(name, *where)
    assert code == (1 if name == "status" else 0), output
    assert "is ambiguous" not in output.replace("the task is ambiguous", "")
    assert "left" in output or name in ("validate", "cleanup", "doctor")
    assert list_refs(crowded.git) == before


def test_commands_that_restoring_prints_show_what_was_restored(crowded: UserRepository, main_here: Main) -> None:
    opened = Worktrees(crowded.repository).open_branch("feat/left", list_refs(crowded.git)["refs/heads/main"])
    (opened.path / "draft.txt").write_text("draft\n")
    opened.git.run("add", "draft.txt")
    (opened.path / "draft.txt").write_text("later\n")
    keep_state(opened, "left", "run")
    old = list_refs(crowded.git)["refs/tags/HEAD"]
    crowded.git.run("update-ref", "refs/tags/restored/left-1", old)
    crowded.write({"restored/left-1": "a file\n", "refs/heads/restored/left-1": "a file\n"})
    code, output = main_here("cleanup", str(crowded.top), "--restore", "left")
    assert code == 0
    said = [run_line(crowded.top, line) for line in find_commands(output, "show", "log", "switch")]
    assert len(said) == 3
    assert "+draft" in said[0]
    assert "draft.txt" in said[1]
    assert crowded.git.follow("HEAD") == "refs/heads/restored/left-1"


def find_commands(output: str, *names: str) -> list[str]:
    return [line.strip() for line in re.findall(rf"git (?:{'|'.join(names)}) .*?(?=   |$)", output, re.MULTILINE)]


def run_line(top: Path, line: str) -> str:
    done = subprocess.run(shlex.split(line), cwd=top, capture_output=True, text=True, check=True)
    return done.stdout


def test_doctor_names_what_agents_and_persons_may_take_for_a_branch(repo: UserRepository) -> None:
    project = load_project(repo.top)
    tip = list_refs(repo.git)["refs/heads/main"]
    repo.git.run("update-ref", "refs/tags/v1", tip)
    repo.git.run("update-ref", "refs/tags/base", tip)
    assert check_names(project).level == "ok"
    for ref in ("refs/tags/HEAD", "refs/heads/HEAD", "refs/tags/main", "refs/tags/feat/left", f"refs/heads/{tip}"):
        repo.git.run("update-ref", ref, tip)
        found = check_names(project)
        assert (found.level, ref in found.text) == ("warn", True)
        repo.git.run(*shlex.split(re.findall(r"`git (.*)`", found.text)[0]))
    assert check_names(project).level == "ok"
    assert check_branches(project).level == "ok"


@pytest.mark.parametrize("target", ["HEAD", "refs/heads/main", "v1"])
def test_doctor_says_what_a_target_is_that_is_not_a_branch(repo: UserRepository, main_here: Main, target: str) -> None:
    repo.git.run("tag", "v1")
    repo.commit({"coordinator.yaml": f"{SETTINGS}target: {target}\n"})
    code, output = main_here("doctor", str(repo.top), "--json")
    failed = [check["text"] for check in json.loads(output)["checks"] if check["level"] == "fail"]
    assert code == 2
    assert any(f'target is "{target}", which' in text for text in failed)
