"""A repository whose nodes end in every way there is, worked by an agent that its task files and `agent.sh` describe."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from generated_graphs import run_git

HERE = Path(__file__).parent
NODES: Mapping[str, Mapping[str, object]] = {
    "base": {"status": "completed"},
    "landed": {"depends_on": ["base"]},
    "checked": {"depends_on": ["landed"], "level": "review"},
    "blocked": {"depends_on": ["base"]},
    "skipped": {"depends_on": ["blocked"]},
    "retried": {"depends_on": ["base"]},
    "given-back": {"depends_on": ["base"], "risk": "high"},
    "human": {"assignee": "human"},
}
"""What both stories have."""
ENDING = {
    "nudged": {},
    "unreviewable": {"risk": "high"},
    "aborted": {},
    "unclaimed": {"status": "in-progress"},
    "failed": {"status": "failed"},
}
"""What a run that continues to its end has as well, except for `aborted`, which a person ends."""
KILLED = {"working": {}, "reviewed": {"risk": "high"}}
"""What a run has besides that is killed while these two, `given-back` and `retried` are open."""


@dataclass(frozen=True, slots=True)
class Story:
    """A repository in `place`, and beside it what the agent saw."""

    place: Path

    @property
    def top(self) -> Path:
        return self.place / "repository"

    def has_seen(self, *names: str) -> bool:
        return all((self.place / "seen" / name).exists() for name in names)

    def read_variables(self) -> dict[str, list[str]]:
        """The names of the variables that each kind of program was given."""
        return {path.name: path.read_text().split() for path in sorted((self.place / "variables").iterdir())}

    def read_prompt(self, name: str) -> str:
        return (self.place / "prompts" / name).read_text()

    def list_prompts(self) -> list[str]:
        return sorted(path.name for path in (self.place / "prompts").iterdir())


def write_task(task_id: str, about: Mapping[str, object]) -> str:
    front = yaml.safe_dump({"id": task_id, "name": f"Do {task_id}", "status": "pending", **about}, sort_keys=False)
    return f"---\n{front}---\n\n## Description\nDo it.\n\n## Acceptance Criteria\n- [ ] It is there\n\n## Notes\n"


def write_settings(**more: object) -> str:
    """Nothing in it names a place, so that its commit is the same everywhere; what is kept is kept for ever."""
    said = {
        "max_sessions": 8,
        "agent": {"command": ["sh", "agent.sh"]},
        "setup": ["sh note.sh setup"],
        "verify": ["sh note.sh verify"],
        "watch": {"stop_seconds": 2},
        "kept_days": 0,
        **more,
    }
    return yaml.safe_dump(said, sort_keys=False)


def commit(top: Path, subject: str, files: Mapping[str, str]) -> None:
    """A commit of a person's on the checkout."""
    for name, text in files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    run_git(top, "add", "--", *files)
    run_git(top, "commit", "--quiet", "--message", subject)


def begin(top: Path) -> None:
    """An empty repository of a person's."""
    top.mkdir(parents=True)
    run_git(top, "init", "--quiet", "--initial-branch=main")
    run_git(top, "config", "user.name", "Ada")
    run_git(top, "config", "user.email", "ada@example.org")


def tell_story(place: Path, more: Mapping[str, Mapping[str, object]], *, delay_seconds: int = 0) -> Story:
    """Make the repository; a node that failed is tried again after `delay_seconds`."""
    story = Story(place)
    begin(story.top)
    retry = {"attempts": 2, "delay_seconds": delay_seconds, "max_delay_seconds": delay_seconds}
    files = {name: (HERE / name).read_text(encoding="utf-8") for name in ("agent.sh", "note.sh")}
    tasks = {f"tasks/{name}.md": write_task(name, about) for name, about in {**NODES, **more}.items()}
    commit(story.top, "Begin", {"coordinator.yaml": write_settings(retry=retry), **files, **tasks})
    return story
