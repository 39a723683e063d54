"""Shared by the tests of the command line: a repository, and the text of task files."""

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from tasks_lib.git.repository import Repository
from tasks_lib.git.runner import Git
from tasks_lib.git.session_record import write_record
from tasks_lib.git.worktrees.lifecycle import Worktree, Worktrees
from tasks_lib.session.attempt_record import Record

Call = Callable[..., "subprocess.CompletedProcess[str]"]
Main = Callable[..., tuple[int, str]]
SETTINGS = """\
max_sessions: 2
agent:
  command: [sh, -c, "true"]
verify:
  - "true"
"""


def task_text(task_id: str, *, depends_on: tuple[str, ...] = (), **keys: str) -> str:
    """The text of a task file."""
    more = "".join(f"{key}: {value}\n" for key, value in ({"status": "pending"} | keys).items())
    return f"---\nid: {task_id}\nname: Do {task_id}\ndepends_on: [{', '.join(depends_on)}]\n{more}---\nText.\n"


class UserRepository:
    """A test repository."""

    def __init__(self, top: Path) -> None:
        self.top: Path = top
        self.git: Git = Git(top)

    @property
    def repository(self) -> Repository:
        return Repository.open(self.top)

    def write(self, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            file = self.top / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")

    def commit(self, files: Mapping[str, str], message: str = "Change") -> str:
        self.write(files)
        self.git.run("add", "--all")
        self.git.run("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git.text("rev-parse", "HEAD")

    def tasks(self, *texts: str) -> dict[str, str]:
        """Map each task file's path, taken from its id, to its text."""
        ids = [text.splitlines()[1].removeprefix("id: ") for text in texts]
        return {f"tasks/{task_id}.md": text for task_id, text in zip(ids, texts, strict=True)}


def open_worktree(repo: UserRepository, task_id: str) -> Worktree:
    """Make a node's worktree with a commit on its branch and a record, as a killed run leaves it."""
    opened = Worktrees(repo.repository).open_branch(f"feat/{task_id}", repo.git.text("rev-parse", "main"))
    write_record(opened.git_dir, Record(task_id, f"feat/{task_id}"))
    (opened.path / f"{task_id}.txt").write_text("work\n")
    opened.git.run("add", "--all")
    opened.git.run("commit", "--quiet", "--message", f"Work on {task_id}")
    return opened


def land(repo: UserRepository, task_id: str) -> None:
    """Merge the branch of a node as a run does, with its task file completed."""
    repo.git.run("merge", "--quiet", "--no-ff", "--no-commit", f"feat/{task_id}")
    done = repo.tasks(task_text(task_id, status="completed"))
    repo.commit(done, f"Merge feat/{task_id}: Do {task_id}\n\nTask: {task_id}")
