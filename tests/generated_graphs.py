"""Makes repositories with a generated graph of task files, run by `scripted_agent.py`, for end-to-end tests."""

import json
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from task_file_styles import write_task_file

AGENT = Path(__file__).resolve().parent / "scripted_agent.py"
LEFT, RIGHT = "shared/left", "shared/right"
RIVALS = ("rivals/one", "rivals/two")
RED, BLOCKED, REVIEW, RESEARCH = "red-first", "needs/decision", "checks/review", "look.around"
AFTER_BLOCKED = ("needs/after", "needs/after-that")
DECISION = "docs/decision.txt"
"""The blocked node continues once the target has this file."""
BASE_PATH = "src/base.txt"
BlockWith = Literal["task-file", "notify", "commit"]

CHECK = """\
#!/bin/sh
# Red if a source is marked BROKEN or holds the marks of a conflict, or if both rivals are in without their bridge.
if grep -rnE '^(BROKEN|<<<<<<< |>>>>>>> )' src; then
    echo "a source is broken"
    exit 1
fi
if [ -e src/rival-one.txt ] && [ -e src/rival-two.txt ] && [ ! -e src/bridge.txt ]; then
    echo "rival-one.txt and rival-two.txt need src/bridge.txt"
    exit 1
fi
"""
VERIFY = ("sh check.sh",)


@dataclass(frozen=True, slots=True)
class Made:
    """A generated repository. `edges` maps each id to what it depends on, `paths` to its task file.

    `expected` maps every id to its status at the end of a run that goes as planned, including the resolve task that
    the blocked node gets. `skipped` depend on `blocked`, directly or indirectly. `conflicting` write the same lines;
    `rivals` are each green alone and red together.
    """

    repository: Path
    plan_path: Path
    journal: Path
    edges: Mapping[str, tuple[str, ...]]
    paths: Mapping[str, str]
    completed_before: tuple[str, ...]
    expected: Mapping[str, str]
    conflicting: tuple[str, str] = (LEFT, RIGHT)
    rivals: tuple[str, str] = (RIVALS[0], RIVALS[1])
    red: str = RED
    review: str = REVIEW
    blocked: str = BLOCKED
    skipped: tuple[str, ...] = AFTER_BLOCKED
    resolve_id: str = "resolve-needs-decision-1"
    decision: str = DECISION
    verify: tuple[str, ...] = VERIFY
    tasks_dir: str = "tasks"

    @property
    def landing(self) -> tuple[str, ...]:
        """The ids that land in a run that goes as planned."""
        done = (task_id for task_id, status in self.expected.items() if status == "completed")
        return tuple(task_id for task_id in done if task_id not in self.completed_before)

    def behave(self, task_id: str, **options: Any) -> None:
        """Change what the agent of `task_id` does; None removes an option. `scripted_agent.py` lists the options."""
        plan = json.loads(self.plan_path.read_text(encoding="utf-8"))
        node = plan["nodes"].setdefault(task_id, {}) | options
        plan["nodes"][task_id] = {key: value for key, value in node.items() if value is not None}
        fresh = self.plan_path.with_suffix(".new")
        fresh.write_text(json.dumps(plan, indent=1), encoding="utf-8")
        fresh.replace(self.plan_path)

    def read_journal(self) -> list[dict[str, Any]]:
        """The agents' journal, oldest entry first; see `scripted_agent.note`."""
        if not self.journal.exists():
            return []
        return [json.loads(line) for line in self.journal.read_text(encoding="utf-8").splitlines()]

    def count_most_at_once(self) -> int:
        """The largest number of sessions that ran at the same time."""
        now = most = 0
        for line in self.read_journal():
            now += {"start": 1, "end": -1}.get(line["event"], 0)
            most = max(most, now)
        return most


def make_repository(
    directory: Path,
    *,
    nodes: int = 30,
    seed: int = 0,
    block_with: BlockWith = "task-file",
    seconds: tuple[float, float] = (0.0, 0.05),
    meet: bool = True,
    with_oddities: bool = True,
    settings: Mapping[str, Any] | None = None,
) -> Made:
    """Make a repository of `nodes` task files (at least 14) in `directory`/repository, with plan and journal next to it.

    A session takes between the two `seconds`, not counting its git commands. With `meet`, the conflicting pair and the
    rivals wait for each other, so that they conflict with any number of sessions from two; without it, one session
    is enough. `with_oddities` adds a daemon, uncommitted work and edits to other nodes' task files. `settings`
    override top-level keys of `coordinator.yaml`.
    """
    if nodes < len(_special_edges()) + 3:
        raise ValueError(f"nodes is {nodes}; at least {len(_special_edges()) + 3} are needed for every special one")
    rng = random.Random(seed)
    edges, completed = _make_edges(nodes, rng)
    paths = {task_id: _choose_path(task_id, rng) for task_id in edges}
    plan = _make_plan(edges, completed, rng, seconds, meet, block_with)
    if with_oddities:
        _add_oddities(plan, edges, completed, paths)
    expected = dict.fromkeys(edges, "completed") | {BLOCKED: "blocked"} | dict.fromkeys(AFTER_BLOCKED, "pending")
    made = Made(
        repository=directory / "repository",
        plan_path=directory / "plan.json",
        journal=directory / "journal.jsonl",
        edges=edges,
        paths=paths,
        completed_before=completed,
        expected=expected | {"resolve-needs-decision-1": "pending"},
    )
    _write_repository(made, rng, settings or {})
    made.plan_path.write_text(json.dumps({"journal": str(made.journal), "nodes": plan}, indent=1), encoding="utf-8")
    return made


def _special_edges() -> dict[str, tuple[str, ...]]:
    return {
        LEFT: (),
        RIGHT: (),
        RIVALS[0]: (LEFT, RIGHT),
        RIVALS[1]: (LEFT, RIGHT),
        RED: (),
        RESEARCH: (RED,),
        BLOCKED: (RED,),
        AFTER_BLOCKED[0]: (BLOCKED, LEFT),
        AFTER_BLOCKED[1]: (AFTER_BLOCKED[0],),
        REVIEW: (*RIVALS, RED),
        "after/review": (REVIEW, RESEARCH),
    }


def _make_edges(nodes: int, rng: random.Random) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """Every id with its prerequisites, in a valid order to run them; and the ids completed from the start."""
    edges: dict[str, tuple[str, ...]] = {}
    count = max(2, nodes // 10)
    fillers = _name_fillers(nodes - len(_special_edges()), count, rng)
    completed = tuple(fillers[:count])
    for task_id in completed:
        edges[task_id] = tuple(rng.sample(list(edges), k=min(len(edges), rng.randint(0, 2))))
    for task_id, needed in _special_edges().items():
        edges[task_id] = needed or tuple(rng.sample(completed, k=rng.randint(0, 1)))
    may_need = [task_id for task_id in edges if task_id not in {BLOCKED, *AFTER_BLOCKED}]
    for task_id in fillers[len(completed) :]:
        edges[task_id] = tuple(rng.sample(may_need, k=min(len(may_need), rng.choice((0, 1, 1, 2, 2, 3)))))
        may_need.append(task_id)
    return edges, completed


def _name_fillers(count: int, completed: int, rng: random.Random) -> list[str]:
    names: list[str] = []
    shapes = ("{area}/{word}-{n}", "{word}.{n}", "{area}_{n}", "{area}/{word}/{n}x", "{word}-{n}")
    for number in range(count):
        area, word = rng.choice(("core", "db", "net", "ui")), rng.choice(("index", "parse", "store", "view"))
        names.append(rng.choice(shapes).format(area=area, word=word, n=number))
    # `graph` and `graph/construction` cannot both be branches under one prefix: the coordinator must cope with that.
    return [*names[:completed], "graph", "graph/construction", "deep/er/nested", *names[completed:]][:count]


def _choose_path(task_id: str, rng: random.Random) -> str:
    """An id need not match the path of its file."""
    flat = task_id.replace("/", "-")
    return rng.choice((f"tasks/{task_id}.md", f"tasks/{flat}.md", f"tasks/phase-{rng.randint(1, 3)}/{flat}.md"))


def _make_plan(
    edges: Mapping[str, Sequence[str]],
    completed: Sequence[str],
    rng: random.Random,
    seconds: tuple[float, float],
    meet: bool,
    block_with: BlockWith,
) -> dict[str, dict[str, Any]]:
    plan: dict[str, dict[str, Any]] = {}
    for task_id in edges:
        if task_id not in completed:
            flat = task_id.replace("/", "-")
            plan[task_id] = {"seconds": rng.uniform(*seconds), "write": {f"src/{flat}.txt": f"{task_id}\n"}}
    for task_id, other in ((LEFT, RIGHT), (RIGHT, LEFT)):
        plan[task_id] |= {"append": {"src/shared.txt": f"{task_id}\n"}} | ({"meet": other} if meet else {})
    for number, (task_id, other) in enumerate(zip(RIVALS, reversed(RIVALS), strict=True)):
        mine, theirs = ("src/rival-one.txt", "src/rival-two.txt")[:: -1 if number else 1]
        plan[task_id] |= {"write": {mine: f"{task_id}\n"}, "bridge": {"if": theirs, "src/bridge.txt": "both\n"}}
        plan[task_id] |= {"meet": other} if meet else {}
    plan[RED] |= {"red_first": {"src/red-first.txt": "BROKEN\n"}}
    plan[BLOCKED] |= {"block_with": block_with, "block_until": DECISION}
    plan[REVIEW] = {"review": True, "verdicts": ["approved"]}
    return plan


def _add_oddities(
    plan: dict[str, dict[str, Any]],
    edges: Mapping[str, Sequence[str]],
    completed: Sequence[str],
    paths: Mapping[str, str],
) -> None:
    """Side effects of agents besides their task, one oddity per node as far as the nodes suffice."""
    oddities: tuple[dict[str, Any], ...] = (
        {"edit_own_task_file": True},
        {"edit_other_task_file": paths[AFTER_BLOCKED[1]]},
        {"leave_dirty": True},
        {"daemon": True},
        {"edit_own_task_file": True, "edit_other_task_file": paths[completed[0]]},
    )
    plain = (task_id for task_id in edges if task_id not in completed and task_id not in _special_edges())
    for task_id, oddity in zip(plain, oddities, strict=False):
        plan[task_id] |= oddity


def _write_repository(made: Made, rng: random.Random, settings: Mapping[str, Any]) -> None:
    top = made.repository
    top.mkdir(parents=True)
    files = {
        "check.sh": CHECK.encode(),
        "coordinator.yaml": yaml.safe_dump({**_default_settings(made), **settings}, sort_keys=False).encode(),
        BASE_PATH: b"base\n",
        "src/shared.txt": b"first\n",
        "tasks/README.md": b"# Tasks\n\nThis file has no front matter, so it is not a task.\n",
    }
    for task_id, needed in made.edges.items():
        status = "completed" if task_id in made.completed_before else "pending"
        level = {REVIEW: "review", RESEARCH: "research"}.get(task_id, "implementation")
        files[made.paths[task_id]] = write_task_file(task_id, needed, status, level, rng)
    for path, data in files.items():
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_bytes(data)
    run_git(top, "init", "-q", "-b", "main")
    with (top / ".git" / "config").open("a", encoding="utf-8") as file:
        file.write(CONFIG)
    run_git(top, "add", "-A")
    run_git(top, "commit", "-q", "-m", "Plan it all")


CONFIG = """\
[user]
name = Tester
email = tester@localhost
[commit]
gpgsign = false
[core]
autocrlf = false
[gc]
auto = 0
"""


def _default_settings(made: Made) -> dict[str, Any]:
    # Without `site`, the agent starts in half the time.
    command = [sys.executable, "-S", "-E", "-s", "-B", str(AGENT), str(made.plan_path)]
    return {
        "target": "main",
        "max_sessions": 4,
        "agent": {"backend": "command", "command": command},
        "verify": list(made.verify),
        "retry": {"attempts": 3, "delay_seconds": 0},
        "watch": {"stop_seconds": 2},
    }


def run_git(directory: Path, *arguments: str) -> str:
    """Return the standard output of `git *arguments` in `directory` without the final newline; raises on failure."""
    done = subprocess.run(["git", *arguments], cwd=directory, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"git {' '.join(arguments)} exited with {done.returncode}: {done.stderr.decode()}")
    return done.stdout.decode("utf-8", "surrogateescape").rstrip("\n")
