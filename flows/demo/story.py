"""Creates the demo's repository, and checks from git alone whether the run went as expected."""

import json
import os
import shlex
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks_lib.errors import InputError
from tasks_lib.git.runner import Git
from tasks_lib.process.captured_output import run_captured
from tasks_lib.process.program_lookup import find_program
from tasks_lib.process.python_command import python_environment

DATA = Path(__file__).resolve().parent
TEMPLATE_SUFFIX = "-tpl"
"""Suffix of the demo's Python files in the package, so that tools do not take them for this project's code."""
COMMAND_SECTION = """\
agent:
  backend: command
  # A scripted agent instead of a real one: it edits, runs the tests and commits in the worktree it is started in.
  command: {command}"""
TRAILERS = ("Task", "Attempt", "Run", "Session", "Verified")


@dataclass(frozen=True, slots=True)
class DemoStory:
    """What happens in the demo when all goes well.

    `landed` are the ids that this run completes: `conflicting` are two of them that change the same lines, `red` is one
    whose first turn breaks a test, `review` one that ends with a verdict. `blocked` needs a person, and `skipped`
    waits for it. `features` maps each file to the texts that it must contain at the end.
    """

    repository: Path
    landed: tuple[str, ...]
    conflicting: tuple[str, str]
    red: str
    review: str
    blocked: str
    skipped: tuple[str, ...]
    paths: Mapping[str, str]
    features: Mapping[str, tuple[str, ...]]
    target: str = "main"


PATHS = {
    "reports/by-category": "tasks/reports/by-category.md",
    "reports/by-month": "tasks/reports/by-month.md",
    "reports/review": "tasks/reports/review.md",
    "money/thousands": "tasks/phase-2/thousands.md",
    "entries/filters": "tasks/phase-2/filters.md",
    "import/bank": "tasks/phase-2/bank.md",
    "export/csv": "tasks/phase-2/export.md",
    "budget": "tasks/budget.md",
    "docs/guide": "tasks/guide.md",
    "release": "tasks/release.md",
    "tax/rounding-options": "tasks/tax/rounding-options.md",
    "tax/rounding": "tasks/tax/rounding.md",
    "tax/report": "tasks/tax/report.md",
}
BLOCKED = "tax/rounding"
SKIPPED = ("tax/report",)
FEATURES = {
    "ledger/commands.py": ('"categories": show_categories', '"months": show_months', '"statement": show_statement'),
    "ledger/money.py": (":,}",),
    "ledger/statement.py": ("AMOUNT_WIDTH = 12",),
    "ledger/__init__.py": ('"0.2.0"',),
}


def make_demo(directory: Path, pace: float = 1.0, agent: str = "") -> DemoStory:
    """Create the demo's repository in `directory`; raises InputError unless that is missing or empty.

    `agent` is the section of that name in its configuration, "" for scripted agents; `pace` multiplies the seconds
    that they pretend to think.
    """
    if directory.exists() and any(directory.iterdir()):
        raise InputError([f"{directory} is not empty; choose a directory that does not exist yet"])
    top = directory.resolve()
    top.mkdir(parents=True, exist_ok=True)
    git = Git(top)
    git.run("init", "-q", "-b", "main")
    for key, value in (("user.name", "Demo"), ("user.email", "demo@localhost"), ("commit.gpgsign", "false")):
        git.run("config", key, value)
    _copy_files(top, agent or write_command_section(pace))
    git.run("add", "--", ".gitignore", "README.md", "ledger", "tests")
    git.run("commit", "-q", "-m", "Keep entries and print a statement")
    git.run("add", "-A")
    git.run("commit", "-q", "-m", "Plan release 0.2")
    return tell_story(top)


def tell_story(repository: Path) -> DemoStory:
    """The story of a repository that `make_demo` created."""
    return DemoStory(
        repository=repository,
        landed=tuple(task_id for task_id in PATHS if task_id not in {BLOCKED, *SKIPPED}),
        conflicting=("reports/by-category", "reports/by-month"),
        red="money/thousands",
        review="reports/review",
        blocked=BLOCKED,
        skipped=SKIPPED,
        paths=PATHS,
        features=FEATURES,
    )


def _copy_files(top: Path, agent: str) -> None:
    source = DATA / "repository"
    for file in sorted(source.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            to = top / str(file.relative_to(source)).removesuffix(TEMPLATE_SUFFIX)
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(file.read_bytes())
    settings = top / "coordinator.yaml"
    settings.write_text(_fill_settings(settings.read_text(encoding="utf-8"), agent), encoding="utf-8")


def write_command_section(pace: float) -> str:
    """Write the `agent` section for the scripted agents."""
    command = [sys.executable, "-B", str(DATA / "agent.py"), str(pace)]
    return COMMAND_SECTION.format(command=json.dumps(command))


def _fill_settings(text: str, agent: str) -> str:
    # This Python may be the only one, under a name that is not on PATH.
    python = "python3" if find_program("python3") else shlex.quote(sys.executable)
    verify = json.dumps(f"{python} -m unittest discover -q")
    return text.replace("@AGENT@", agent).replace("@VERIFY@", verify)


def check_story(repository: Path, story: DemoStory) -> list[str]:
    """List what did not go as in `story`, a sentence each.

    Reads the target's branch, so unpublished merges on the head count as not landed.
    """
    git = Git(repository)
    return [
        *_check_landed(git, story),
        *_check_blocked(git, story),
        *_check_skipped(git, story),
        *_check_features(git, story),
        *_check_tests(git, story),
    ]


def _read(git: Git, story: DemoStory, path: str) -> str | None:
    found = git.run("cat-file", "blob", f"refs/heads/{story.target}:{path}", accept=(0, 128))
    return found.text if found.status == 0 else None


def _status(git: Git, story: DemoStory, task_id: str) -> str:
    lines = (_read(git, story, story.paths[task_id]) or "").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("status:")), "")


def _read_commits(git: Git, story: DemoStory) -> list[tuple[str, list[str], dict[str, str]]]:
    """Subject, parents and trailers of each commit on the target, first parents only, newest first."""
    fields = "%s%x01%P%x01%(trailers:only=true,unfold=true)"
    log = git.text("log", "--first-parent", "-z", f"--format={fields}", f"refs/heads/{story.target}", "--")
    commits: list[tuple[str, list[str], dict[str, str]]] = []
    for record in log.rstrip("\0").split("\0"):
        subject, parents, trailers = record.split("\x01")
        pairs = (line.partition(": ") for line in trailers.splitlines())
        commits.append((subject, parents.split(), {key: value for key, _, value in pairs}))
    return commits


def _check_landed(git: Git, story: DemoStory) -> list[str]:
    wrong: list[str] = []
    commits = _read_commits(git, story)
    for task_id in story.landed:
        mine = [c for c in commits if c[2].get("Task") == task_id and not c[0].startswith("blocked(")]
        if len(mine) != 1:
            wrong.append(f"{task_id} has {len(mine)} commits on {story.target}; one was expected")
            continue
        _, parents, trailers = mine[0]
        if missing := [name for name in TRAILERS if not trailers.get(name)]:
            wrong.append(f"the commit of {task_id} lacks the trailers {', '.join(missing)}")
        if len(parents) != 2 and task_id != story.review:
            wrong.append(f"the commit of {task_id} is not a merge of its branch")
        if (status := _status(git, story, task_id)) != "completed":
            wrong.append(f"{task_id} landed, but its task file says {status or 'nothing'}")
    return wrong


def _check_blocked(git: Git, story: DemoStory) -> list[str]:
    wrong: list[str] = []
    subjects = [subject for subject, _, _ in _read_commits(git, story)]
    if not any(subject.startswith(f"blocked({story.blocked}): ") for subject in subjects):
        wrong.append(f"{story.target} has no commit blocked({story.blocked})")
    if (status := _status(git, story, story.blocked)) != "blocked":
        wrong.append(f"{story.blocked} should be blocked, but its task file says {status or 'nothing'}")
    resolve_id = f"resolve-{story.blocked.replace('/', '-')}-1"
    files = git.text("ls-tree", "-r", "-z", "--name-only", f"refs/heads/{story.target}", "--", "tasks").split("\0")
    if not any(f"id: {resolve_id}" in (_read(git, story, path) or "") for path in files if "resolve-" in path):
        wrong.append(f"no task file has the id {resolve_id}, which a person would complete")
    if resolve_id not in (_read(git, story, story.paths[story.blocked]) or ""):
        wrong.append(f"{story.blocked} does not depend on {resolve_id}")
    return wrong


def _check_skipped(git: Git, story: DemoStory) -> list[str]:
    return [
        f"{task_id} should be untouched, but its task file has changed"
        for task_id in story.skipped
        if _read(git, story, story.paths[task_id]) != _first_text(git, story, story.paths[task_id])
    ]


def _first_text(git: Git, story: DemoStory, path: str) -> str:
    start = git.text(
        "log", "--first-parent", "--diff-filter=A", "--format=%H", f"refs/heads/{story.target}", "--", path
    )
    return git.text("cat-file", "blob", f"{start.splitlines()[-1]}:{path}")


def _check_features(git: Git, story: DemoStory) -> list[str]:
    return [
        f"{path} lacks {wanted!r}"
        for path, texts in story.features.items()
        for wanted in texts
        if wanted not in (_read(git, story, path) or "")
    ]


def _check_tests(git: Git, story: DemoStory) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="coordinator-demo-") as name:
        clone = Path(name) / "fresh"
        git.run("clone", "-q", "--branch", story.target, "--", str(git.directory), str(clone))
        command = [sys.executable, "-B", "-m", "unittest", "discover", "-q"]
        # Python starts in the clone that is tested; it needs none of the user's variables.
        done = run_captured(command, cwd=clone, environment=python_environment(os.environ, {}))
    said = done.stderr.decode("utf-8", "replace").strip()
    return [] if done.status == 0 else [f"the tests fail in a fresh checkout:\n{said}"]
