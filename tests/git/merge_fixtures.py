"""A real repository with task files, and the objects that compose commits in it."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tasks_lib.git.commits.task_reader import TaskReader
from tasks_lib.git.compose.commit_composer import Composer, Landing
from tasks_lib.git.objects.object_database import Objects
from tasks_lib.git.runner import Git
from tasks_lib.model import Task

IDENTITY = {
    "GIT_AUTHOR_NAME": "Test",
    "GIT_AUTHOR_EMAIL": "test@example.com",
    "GIT_COMMITTER_NAME": "Test",
    "GIT_COMMITTER_EMAIL": "test@example.com",
}


def task_text(
    task_id: str, *, level: str = "implementation", status: str = "pending", notes: str = "", end: str = "\n"
) -> str:
    """A task file as people write it, with a comment and a placeholder in Summary."""
    lines = [
        "---",
        f"id: {task_id}  # fixed",
        f"name: Do {task_id}",
        f"status: {status}",
        "depends_on: []",
        f"level: {level}",
        "---",
        "## Description",
        "",
        "Do it.",
        "",
        "## Notes",
        *(["", notes] if notes else []),
        "",
        "## Summary",
        "",
        "> To be filled on completion",
        "",
    ]
    return end.join(lines)


class MergeFixture:
    """A repository in `top` with `src.txt` and task files on main, and helpers to make commits."""

    def __init__(self, top: Path, files: Mapping[str, str | bytes | None]) -> None:
        self.top: Path = top
        top.mkdir(parents=True, exist_ok=True)
        self.sh("init", "-q", "-b", "main")
        with (top / ".git/config").open("a") as configuration:
            configuration.write("[user]\n\tname = Test\n\temail = test@example.com\n[gc]\n\tauto = 0\n")
        self.git: Git = Git(top)
        self.objects: Objects = Objects(self.git)
        self.reader: TaskReader = TaskReader(self.objects, "tasks", "main")
        self.composer: Composer = Composer(self.git, self.objects, self.reader, IDENTITY)
        self.commit(files)

    def sh(self, *arguments: str, at: Path | None = None) -> str:
        """Run plain git as a user would; return its standard output."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | {"LC_ALL": "C"}
        run = subprocess.run(["git", *arguments], cwd=at or self.top, capture_output=True, check=False, env=environment)
        assert run.returncode == 0, run.stderr.decode()
        return run.stdout.decode("utf-8", "surrogateescape").rstrip("\n")

    def write(self, files: Mapping[str, str | bytes | None], at: Path | None = None) -> None:
        """Write files below the top; None removes one."""
        for name, content in files.items():
            path = (at or self.top) / name
            if content is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)

    def commit(self, files: Mapping[str, str | bytes | None], message: str = "change") -> str:
        """Commit files on the checked-out branch and return the commit id."""
        self.write(files)
        self.sh("add", "-A")
        self.sh("commit", "-q", "--allow-empty", "-m", message)
        return self.sh("rev-parse", "HEAD")

    def branch(self, name: str, files: Mapping[str, str | bytes | None], start: str = "main") -> str:
        """Make a branch with one commit and check out main again."""
        self.sh("checkout", "-q", "-b", name, start)
        commit = self.commit(files, f"work on {name}")
        self.sh("checkout", "-q", "main")
        return commit

    def tip(self, revision: str = "main") -> str:
        return self.sh("rev-parse", revision)

    def show(self, commit: str, path: str) -> str | None:
        """The content of the file at `commit`, or None."""
        entry = self.objects.find_entry(commit, path)
        return self.objects.read(entry.oid).decode() if entry else None

    def files(self, commit: str) -> set[str]:
        return {path for path, _ in self.objects.walk(commit)}

    def task(self, task_id: str, commit: str = "main") -> Task:
        found = self.reader.read(self.tip(commit)).find(task_id)
        assert found is not None
        return found

    def landing(self, task_id: str, commit: str, **values: object) -> Landing:
        """The `Landing` of a task on main; `values` replace its fields."""
        given: dict[str, object] = {
            "task": self.task(task_id),
            "branch": f"feat/{task_id}",
            "commit": commit,
            "attempt": 1,
            "run": "run-1",
            "session": "ses-1",
            "verified": "d1gest",
            **values,
        }
        return Landing(**given)  # pyright: ignore[reportArgumentType]

    def close(self) -> None:
        self.objects.close()
