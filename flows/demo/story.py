"""Creates the demo's repository, and checks from git alone whether the run went as expected."""

import json
import os
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks_lib.errors import InputError
from tasks_lib.git.commits.commit import Commit, read_first_parents
from tasks_lib.git.new_repository import clone_branch, commit_files, create_repository
from tasks_lib.git.objects.object_database import Objects
from tasks_lib.git.ref_names import branch_ref
from tasks_lib.git.repository import Repository
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
SETTINGS = {"user.name": "Demo", "user.email": "demo@localhost", "commit.gpgsign": "false"}
MAX_COMMITS = 1_000
"""More than the demo makes, even if it is run again and again."""
TRAILERS = ("Task", "Attempt", "Run", "Session", "Verified")


@dataclass(frozen=True, slots=True)
class DemoStory:
    """What happens in the demo when all goes well.

    `landed` are the ids that this run completes: `conflicting` are two of them that change the same lines, `red` is one
    whose first turn breaks a test, `review` one that ends with a verdict. `hangs` is one whose first turn is ended,
    `limited` one that waits for its provider, `returned` one whose reviewer asks for changes, `told` one that a
    resolver answers, and `asked` one that the user answers during the run. `blocked` needs the user afterwards, and
    `skipped` waits for it. `features` maps each file to the texts that it must contain at the end.
    """

    repository: Path
    landed: tuple[str, ...]
    conflicting: tuple[str, str]
    red: str
    review: str
    hangs: str
    limited: str
    returned: str
    told: str
    asked: str
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
ANSWER = "We pay 20 percent."
"""What the user says to `asked` in a second terminal."""
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
    git = create_repository(top, "main", SETTINGS)
    _copy_files(top, agent or write_command_section(pace))
    commit_files(git, "Keep entries and print a statement", (".gitignore", "README.md", "ledger", "tests"))
    commit_files(git, "Plan release 0.2")
    return tell_story(top)


def tell_story(repository: Path) -> DemoStory:
    """The story of a repository that `make_demo` created."""
    return DemoStory(
        repository=repository,
        landed=tuple(task_id for task_id in PATHS if task_id not in {BLOCKED, *SKIPPED}),
        conflicting=("reports/by-category", "reports/by-month"),
        red="money/thousands",
        review="reports/review",
        hangs="import/bank",
        limited="docs/guide",
        returned="budget",
        told="export/csv",
        asked="tax/rounding-options",
        blocked=BLOCKED,
        skipped=SKIPPED,
        paths=PATHS,
        features=FEATURES,
    )


def tell_statuses(story: DemoStory) -> dict[str, str]:
    """The status of every task file at the end, by id."""
    resolved = f"resolve-{story.asked.replace('/', '-')}-1"
    landed = dict.fromkeys(("ledger-core", resolved, *story.landed), "completed")
    waiting = dict.fromkeys((f"resolve-{story.blocked.replace('/', '-')}-1", *story.skipped), "pending")
    return {**landed, **waiting, story.blocked: "blocked"}


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
    opened = Repository.open(repository)
    commits = read_first_parents(opened.git, branch_ref(story.target), MAX_COMMITS)
    with Objects(opened.git) as objects:
        target = _Target(objects, commits)
        return [
            *_check_landed(target, story),
            *_check_blocked(target, story),
            *_check_skipped(target, story),
            *_check_helped(target, story),
            *_check_features(target, story),
            *_check_tests(opened, story),
        ]


@dataclass(frozen=True, slots=True)
class _Target:
    """The target's branch: its `commits`, first parents only, newest first."""

    objects: Objects
    commits: Sequence[Commit]

    def read(self, path: str, commit: str = "") -> str | None:
        """The text of the file at `path`, at the tip or at an earlier commit; None if there is none."""
        entry = self.objects.find_entry(commit or self.commits[0].id, path)
        return self.objects.read(entry.oid).decode("utf-8", "replace") if entry and entry.is_file else None

    def read_first(self, path: str) -> str | None:
        """The text that the file at `path` had when it was added."""
        texts = (self.read(path, commit.id) for commit in reversed(self.commits))
        return next((text for text in texts if text is not None), None)

    def read_status(self, path: str) -> str:
        """The status in the task file at `path`."""
        lines = (self.read(path) or "").splitlines()
        return next((line.partition(":")[2].strip() for line in lines if line.startswith("status:")), "")


def _check_landed(target: _Target, story: DemoStory) -> list[str]:
    wrong: list[str] = []
    ours = [(c, c.trailers) for c in target.commits if not c.subject.startswith("blocked(")]
    for task_id in story.landed:
        mine = [(commit, trailers) for commit, trailers in ours if trailers.get("Task") == task_id]
        if len(mine) != 1:
            wrong.append(f"{task_id} has {len(mine)} commits on {story.target}; one was expected")
            continue
        commit, trailers = mine[0]
        if missing := [name for name in TRAILERS if not trailers.get(name)]:
            wrong.append(f"the commit of {task_id} lacks the trailers {', '.join(missing)}")
        if len(commit.parents) != 2 and task_id != story.review:
            wrong.append(f"the commit of {task_id} is not a merge of its branch")
        if (status := target.read_status(story.paths[task_id])) != "completed":
            wrong.append(f"{task_id} landed, but its task file says {status or 'nothing'}")
    return wrong


def _check_blocked(target: _Target, story: DemoStory) -> list[str]:
    wrong: list[str] = []
    if not any(commit.subject.startswith(f"blocked({story.blocked}): ") for commit in target.commits):
        wrong.append(f"{story.target} has no commit blocked({story.blocked})")
    if (status := target.read_status(story.paths[story.blocked])) != "blocked":
        wrong.append(f"{story.blocked} should be blocked, but its task file says {status or 'nothing'}")
    resolve_id = f"resolve-{story.blocked.replace('/', '-')}-1"
    files = [path for path, _ in target.objects.walk(target.commits[0].id, "tasks")]
    if not any(f"id: {resolve_id}" in (target.read(path) or "") for path in files if "resolve-" in path):
        wrong.append(f"no task file has the id {resolve_id}, which a person would complete")
    if resolve_id not in (target.read(story.paths[story.blocked]) or ""):
        wrong.append(f"{story.blocked} does not depend on {resolve_id}")
    return wrong


def _check_skipped(target: _Target, story: DemoStory) -> list[str]:
    return [
        f"{task_id} should be untouched, but its task file has changed"
        for task_id in story.skipped
        if target.read(story.paths[task_id]) != target.read_first(story.paths[task_id])
    ]


def _check_helped(target: _Target, story: DemoStory) -> list[str]:
    """Check the nodes that got an answer, or a review that asked for changes, by their commits."""
    wrong: list[str] = []
    merges = [commit.trailers for commit in target.commits if len(commit.parents) == 2]
    attempts = {trailers.get("Task"): trailers.get("Attempt") for trailers in merges}
    wrong += [f"{one} landed without a second attempt" for one in (story.told, story.asked) if attempts.get(one) != "2"]
    resolve_id = f"resolve-{story.asked.replace('/', '-')}-1"
    if not any(commit.subject.startswith(f"resolved({resolve_id})") for commit in target.commits):
        wrong.append(f"{story.target} has no commit resolved({resolve_id})")
    if "test_month_without_entries" not in (target.read("tests/test_budget.py") or ""):
        wrong.append(f"{story.returned} landed without what its reviewer asked for")
    return wrong


def _check_features(target: _Target, story: DemoStory) -> list[str]:
    return [
        f"{path} lacks {wanted!r}"
        for path, texts in story.features.items()
        for wanted in texts
        if wanted not in (target.read(path) or "")
    ]


def _check_tests(repository: Repository, story: DemoStory) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="coordinator-demo-") as name:
        clone = Path(name) / "fresh"
        clone_branch(repository, story.target, clone)
        command = [sys.executable, "-B", "-m", "unittest", "discover", "-q"]
        # Python starts in the clone that is tested; it needs none of the user's variables.
        done = run_captured(command, cwd=clone, environment=python_environment(os.environ, {}))
    said = done.stderr.decode("utf-8", "replace").strip()
    return [] if done.status == 0 else [f"the tests fail in a fresh checkout:\n{said}"]
