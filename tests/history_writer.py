"""Writes the history of a run with plain git, either as promised or broken in one place."""

import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from checker import Meant, check, snapshot_user_state
from generated_graphs import run_git

CHECK = "if grep -q BROKEN src/*.txt; then exit 1; fi\n"
VERIFY = ["sh check.sh"]
TRAILERS = {"Attempt": "1", "Run": "r-1", "Session": "s-1", "Verified": "0123456789abcdef"}
STATUSES = {
    "a": "completed",
    "b/c": "completed",
    "d": "blocked",
    "e": "pending",
    "r": "completed",
    "resolve-d-1": "pending",
}
PATHS = {"a": "tasks/a.md", "b/c": "tasks/deep/b.md", "d": "tasks/d.md", "e": "tasks/e.md", "r": "tasks/r.md"}


def write_task(task_id: str, needed: Sequence[str] = (), level: str = "implementation", end: str = "\n") -> str:
    lines = [
        "---",
        f"id: {task_id}  # by hand",
        f"name: Do {task_id}",
        "status: pending   # for now",
        f"depends_on: [{', '.join(needed)}]   # in order",
        f"level: {level}",
        "---",
        "## Description",
        "Do it.",
        "",
    ]
    return end.join(lines)


START = {
    "check.sh": CHECK,
    "src/base.txt": "base\n",
    PATHS["a"]: write_task("a"),
    PATHS["b/c"]: write_task("b/c", ["a"], end="\r\n"),
    PATHS["d"]: write_task("d", ["a"]),
    PATHS["e"]: write_task("e", ["d"]),
    PATHS["r"]: write_task("r", ["a"], level="review"),
}
Files = Mapping[str, str | None]


def _quote(text: str) -> list[str]:
    return [f"data {len(text.encode())}", text]


class HistoryWriter:
    """Writes a run's history commit by commit: `head` is the last one, and nothing is published before `publish`."""

    def __init__(self, directory: Path) -> None:
        self.repo = directory / "repository"
        self.repo.mkdir()
        run_git(self.repo, "init", "-q", "-b", "main")
        with (self.repo / ".git" / "config").open("a") as config:
            config.write("[user]\nname = T\nemail = t@localhost\n[core]\nautocrlf = false\n")
        exclude = self.repo / ".git" / "info" / "exclude"
        exclude.parent.mkdir(exist_ok=True)
        exclude.write_text("/.worktrees/\n")
        self.texts: dict[str, str] = dict(START)
        self.head = self.commit([], "Plan it all", START)
        run_git(self.repo, "reset", "-q", "--hard", self.head)
        self.before = snapshot_user_state(self.repo)

    def commit(self, parents: Sequence[str], message: str, files: Files) -> str:
        """Write a commit on the first of `parents` with `files` changed (None removes one), without moving any ref."""
        lines = ["commit refs/pen", "mark :1", "committer T <t@localhost> now", *_quote(message)]
        lines += [f"{word} {parent}" for word, parent in zip(("from", "merge"), parents, strict=False)]
        for path, text in files.items():
            lines += [f"D {path}"] if text is None else [f"M 100644 inline {path}", *_quote(text)]
        lines += ["get-mark :1", "reset refs/pen", f"from {'0' * 40}", ""]
        command = ["git", "fast-import", "--quiet", "--force", "--date-format=now"]
        done = subprocess.run(command, cwd=self.repo, input="\n".join(lines).encode(), capture_output=True, check=True)
        return done.stdout.decode().strip()

    def complete(self, task_id: str) -> dict[str, str]:
        """The task file of `task_id` with status completed and a Summary."""
        path = PATHS[task_id]
        end = "\r\n" if "\r\n" in self.texts[path] else "\n"
        text = self.texts[path].replace("status: pending", "status: completed")
        return {path: f"{text}{end}## Summary{end}Did it.{end}"}

    def advance(self, parents: Sequence[str], subject: str, files: Files, trailers: Mapping[str, str]) -> str:
        message = "\n".join([subject, "", *(f"{name}: {value}" for name, value in trailers.items())])
        self.head = self.commit(parents, message, files)
        self.texts |= {path: text for path, text in files.items() if text is not None}
        return self.head

    def merge(
        self,
        task_id: str,
        *,
        files: Files | None = None,
        trailers: Mapping[str, str] | None = None,
        subject: str = "",
        completes: bool = True,
        parents: Sequence[str] = (),
    ) -> str:
        """Land `task_id`; whatever the arguments do not change is as promised."""
        source = {f"src/{task_id.replace('/', '-')}.txt": f"{task_id}\n"}
        branch = self.commit([self.head], f"feat({task_id}): done", source)
        changes: dict[str, str | None] = {**source, **(self.complete(task_id) if completes else {}), **(files or {})}
        told = {"Task": task_id, **TRAILERS} if trailers is None else trailers
        subject = subject or f"Merge feat/{task_id}: Do {task_id}"
        return self.advance(parents or [self.head, branch], subject, changes, told)

    def check(self, task_id: str, files: Files | None = None) -> str:
        changes = {**self.complete(task_id), **(files or {})}
        return self.advance([self.head], f"Check {task_id}: Do {task_id}", changes, {"Task": task_id, **TRAILERS})

    def block(self, task_id: str, files: Files | None = None, subject: str = "", resolve: bool = True) -> str:
        text = self.texts[PATHS[task_id]].replace("status: pending", "status: blocked")
        text = text.replace("[a]", "[a, resolve-d-1]") + "\n## Notes\nBlocked: no rule\n"
        changes: dict[str, str | None] = {PATHS[task_id]: text}
        if resolve:
            changes["tasks/resolve-d-1.md"] = write_task("resolve-d-1")
        told = {name: value for name, value in TRAILERS.items() if name != "Verified"}
        subject = subject or f"blocked({task_id}): no rule"
        return self.advance([self.head], subject, {**changes, **(files or {})}, {"Task": task_id, **told})

    def resolve(self, task_id: str, files: Files | None = None, subject: str = "") -> str:
        text = write_task(task_id).replace("status: pending", "status: completed") + "\n## Summary\nUse it.\n"
        changes = {f"tasks/{task_id}.md": text, **(files or {})}
        return self.advance([self.head], subject or f"resolved({task_id}): Use it.", changes, {"Task": task_id})

    def publish(self) -> None:
        run_git(self.repo, "merge", "-q", "--ff-only", self.head)

    def read_faults(self, **changes: object) -> list[str]:
        """Publish, and return the checker's faults; `changes` override fields of `Meant`."""
        self.publish()
        meant = replace(Meant(STATUSES), **changes)  # pyright: ignore[reportArgumentType]
        return check(self.repo, before=self.before, meant=meant)


def write_rest(writer: HistoryWriter, *done: str) -> None:
    """Write the rest of a run as promised, without the steps in `done`."""
    steps: dict[str, Callable[[], str]] = {
        "a": lambda: writer.merge("a"),
        "b/c": lambda: writer.merge("b/c"),
        "d": lambda: writer.block("d"),
        "r": lambda: writer.check("r"),
    }
    for name, step in steps.items():
        if name not in done:
            step()


def assert_says(faults: Sequence[str], *parts: str) -> None:
    """Assert that one of `faults` contains all `parts`."""
    assert [fault for fault in faults if all(part in fault for part in parts)], faults
