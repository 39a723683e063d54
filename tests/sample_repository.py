"""A test's repository: commits as the user makes them, and what is on its branches and in its worktrees."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks_lib.git.runner import Git
from tasks_lib.git.session_record import RECORD_NAME, read_record
from tasks_lib.session.attempt_record import Record


@dataclass(slots=True)
class SampleRepository:
    """A repository `top` in the directory `place`, which belongs to the test."""

    place: Path

    @property
    def top(self) -> Path:
        return self.place / "repository"

    @property
    def git(self) -> Git:
        return Git(self.top)

    def commit(self, subject: str, files: Mapping[str, str]) -> str:
        """Commit in the checkout as the user would."""
        for name, text in files.items():
            path = self.top / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.git.run("add", "--", *files)
        self.git.run("commit", "--quiet", "--message", subject)
        return self.at("HEAD")

    def set_status(self, task_id: str, status: str) -> str:
        """Commit a change of a task file's status on main as the user would."""
        path = f"tasks/{task_id}.md"
        lines = self.show(path).splitlines()
        text = "\n".join(f"status: {status}" if line.startswith("status:") else line for line in lines)
        return self.commit(f"Set {task_id} to {status}", {path: text + "\n"})

    def at(self, revision: str = "refs/heads/main") -> str:
        return self.git.text("rev-parse", f"{revision}^{{commit}}")

    def show(self, path: str, revision: str = "refs/heads/main") -> str:
        return self.git.run("cat-file", "blob", f"{revision}:{path}").stdout.decode()

    def has(self, path: str, revision: str = "refs/heads/main") -> bool:
        return self.git.text("ls-tree", "--name-only", revision, "--", path) == path

    def log(self, form: str, *words: str) -> list[str]:
        return self.git.text("log", "--first-parent", f"--format={form}", *words).splitlines()

    def trailer(self, name: str, revision: str = "refs/heads/main") -> str:
        return self.git.text("log", "-n1", f"--format=%(trailers:key={name},valueonly)", revision).strip()

    def record(self, branch: str) -> Record:
        git_dir = Path(Git(self.top / ".worktrees" / branch).text("rev-parse", "--absolute-git-dir"))
        found = read_record(git_dir)
        assert found, f"no {RECORD_NAME} in {git_dir}"
        return found

    def leftovers(self) -> list[str]:
        """The coordinator's branches, worktrees and refs that exist besides main."""
        refs = self.git.text("for-each-ref", "--format=%(refname)").splitlines()
        worktrees = self.git.text("worktree", "list", "--porcelain").split("\n\n")[1:]
        below = self.top / ".worktrees"
        return [
            *(ref for ref in refs if ref != "refs/heads/main"),
            *worktrees,
            *(str(path) for path in (below.iterdir() if below.exists() else ())),
        ]
