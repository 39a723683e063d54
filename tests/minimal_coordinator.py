"""A minimal coordinator that runs a graph wave by wave with plain git, to test agents and checker.

Unlike the real one, it starts all sessions of a wave together from the same head and lands them one after another,
nothing survives a kill, and any failure other than a conflict, a red verify or a Safe Exit raises.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from checker_texts import TaskText, read_task
from generated_graphs import run_git

from tasks_lib.git.compose.task_file_text import block_text, complete_text
from tasks_lib.model import Status
from tasks_lib.taskfile.parsing import decode, encode, render_task

MAX_TURNS = 6
NOTIFY = """\
#!/bin/sh
# Stands in for `coordinator notify --level blocking TEXT`.
printf '%s' "$4" > "$(git rev-parse --git-dir)/notice"
"""


class MinimalCoordinator:
    """Runs the graph of the repository at `top` with the agent and verify of its `coordinator.yaml`."""

    def __init__(self, top: Path, path: Path) -> None:
        """Put the `coordinator` command into the directory `path`, which comes first on the agents' PATH."""
        self.top = top
        settings = yaml.safe_load((top / "coordinator.yaml").read_text(encoding="utf-8"))
        self.command: list[str] = settings["agent"]["command"]
        self.verify: list[str] = settings["verify"]
        path.mkdir(exist_ok=True)
        (path / "coordinator").write_text(NOTIFY, encoding="utf-8")
        (path / "coordinator").chmod(0o755)
        self.path = path
        (top / ".git" / "info").mkdir(exist_ok=True)
        (top / ".git" / "info" / "exclude").write_text("/.worktrees/\n", encoding="utf-8")

    def work(self) -> None:
        """Run nodes as they become ready, until none is left."""
        while ready := self._find_ready():
            sessions = [Session(self, path, task) for path, task in ready]
            for session in sessions:
                session.begin_turn()
            for session in sessions:
                session.finish()
            for session in sessions:
                session.clean_up()

    def _find_ready(self) -> list[tuple[str, TaskText]]:
        tasks = self.read_tasks()
        done = {task.id for task in tasks.values() if task.status == "completed"}
        may_start = [(path, task) for path, task in tasks.items() if task.status == "pending"]
        human = {task.id for _, task in may_start if task.id.startswith("resolve-")}
        return [(path, task) for path, task in may_start if done >= set(task.depends_on) and task.id not in human]

    def read_tasks(self) -> dict[str, TaskText]:
        paths = run_git(self.top, "ls-tree", "-r", "--name-only", "HEAD", "--", "tasks").splitlines()
        found = {path: read_task((self.top / path).read_bytes()) for path in paths if path.endswith(".md")}
        return {path: task for path, task in found.items() if task is not None}

    def is_green(self, commit: str) -> bool:
        place = self.path / "verify"
        if not place.exists():
            run_git(self.top, "clone", "-q", "--shared", "--no-checkout", str(self.top), str(place))
        run_git(place, "checkout", "-qf", "--detach", commit)
        status = max(subprocess.call(["sh", "-c", line], cwd=place, stderr=-3, stdout=-3) for line in self.verify)
        return status == 0

    def publish(self, tree: str, parents: Sequence[str], message: str, must_verify: bool = True) -> bool:
        """Commit `tree` and fast-forward the checkout to it; return False and move nothing if verify is red on it."""
        words = [word for parent in parents for word in ("-p", parent)]
        commit = run_git(self.top, "commit-tree", tree, *words, "-m", message)
        if must_verify and not self.is_green(commit):
            return False
        run_git(self.top, "merge", "-q", "--ff-only", commit)
        return True


class Session:
    """One node's worktree and its turns."""

    def __init__(self, owner: MinimalCoordinator, path: str, task: TaskText) -> None:
        self.owner, self.path, self.task = owner, path, task
        prefix = "research" if task.level == "research" else "feat"
        self.branch = f"{prefix}/{task.id.replace('/', '-')}"
        self.worktree = owner.top / ".worktrees" / self.branch
        self.base = run_git(owner.top, "rev-parse", "HEAD")
        self.turn = 0
        self.answer = ""
        self.process: subprocess.Popen[bytes]
        run_git(owner.top, "worktree", "add", "-q", "-b", self.branch, str(self.worktree), self.base)

    def begin_turn(self) -> None:
        self.turn += 1
        if self.turn > MAX_TURNS:
            raise RuntimeError(f"{self.task.id} did not land in {MAX_TURNS} turns: {self.answer}")
        variables = {
            "TASK_ID": self.task.id,
            "TASK_FILE": self.path,
            "BRANCH": self.branch,
            "WORKTREE": str(self.worktree),
            "ROLE": "code-reviewer" if self.task.level == "review" else "implementation-specialist",
            "ATTEMPT": "1",
            "TURN": str(self.turn),
            "SESSION": f"s-{self.task.id.replace('/', '-')}",
            "TARGET": run_git(self.owner.top, "rev-parse", "HEAD"),
        }
        ours = {f"COORDINATOR_{name}": value for name, value in variables.items()}
        path = f"{self.owner.path}{os.pathsep}{os.environ['PATH']}"
        log = self.owner.path / f"{self.branch.replace('/', '-')}.log"
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                self.owner.command,
                cwd=self.worktree,
                env={**os.environ, **ours, "PATH": path},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def finish(self) -> None:
        """Wait for the turn to end, and return the work to the agent until the node has landed or is blocked."""
        while not self._is_over():
            self.begin_turn()

    def _is_over(self) -> bool:
        status = self.process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # Whatever the agent left running.
        log = self.owner.path / f"{self.branch.replace('/', '-')}.log"
        self.answer = log.read_text(encoding="utf-8")[-4000:]
        if notes := self._find_blocker():
            self._record_blocker(notes)
            return True
        if status:
            raise RuntimeError(f"the agent of {self.task.id} exited with {status}: {self.answer}")
        if run_git(self.worktree, "status", "--porcelain"):
            return False
        return self._land()

    def _find_blocker(self) -> str:
        subject = run_git(self.worktree, "log", "-1", "--format=%s")
        notice = Path(run_git(self.worktree, "rev-parse", "--git-dir")) / "notice"
        if notice.exists():
            return notice.read_text(encoding="utf-8")
        return self.answer if subject.startswith(f"blocked({self.task.id}): ") else ""

    def _record_blocker(self, notes: str) -> None:
        resolve_id = f"resolve-{self.task.id.replace('/', '-')}-1"
        reason = notes.splitlines()[0].removeprefix("Blocked: ")
        text = block_text(decode((self.owner.top / self.path).read_bytes()), reason, notes, resolve_id)
        new = render_task(
            resolve_id, f"Resolve {self.task.id}", status=Status.PENDING, level="implementation", assignee="human",
            depends_on=(), body=f"## Description\n{notes}\n",
        )  # fmt: skip
        head = run_git(self.owner.top, "rev-parse", "HEAD")
        tree = self._edit_tree(head, {self.path: encode(text), f"tasks/{resolve_id}.md": encode(new)})
        message = f"blocked({self.task.id}): {reason}\n\n{self._write_trailers()}"
        self.owner.publish(tree, [head], message, must_verify=False)

    def _write_trailers(self) -> str:
        return f"Task: {self.task.id}\nAttempt: 1\nRun: minimal\nSession: s-1\nVerified: 0123456789abcdef"

    def _land(self) -> bool:
        top = self.owner.top
        head, branch = (run_git(place, "rev-parse", "HEAD") for place in (top, self.worktree))
        before = decode((top / self.path).read_bytes())
        if self.task.level == "review":
            tree = self._edit_tree(head, {self.path: encode(complete_text(before, None, None, self.answer))})
            name = " ".join(self.task.name.split())
            return self.owner.publish(tree, [head], f"Check {self.task.id}: {name}\n\n{self._write_trailers()}")
        run_git(self.worktree, "merge-base", "--is-ancestor", self.base, branch)
        entries = run_git(top, "ls-tree", "-r", head, "--", "tasks").splitlines()
        tasks: dict[str, bytes | str] = {path: meta.split()[2] for meta, path in (one.split("\t") for one in entries)}
        after = complete_text(before, decode((self.worktree / self.path).read_bytes()), before, self.answer)
        # Task files stay as on the head, so the branch is merged as if it had not touched them.
        ours = self._edit_tree(branch, tasks)
        helper = run_git(top, "commit-tree", ours, "-p", branch, "-m", "without task files")
        merge = subprocess.run(
            ["git", "merge-tree", "--write-tree", head, helper], cwd=top, capture_output=True, check=False
        )
        if merge.returncode:
            return False
        tree = self._edit_tree(merge.stdout.decode().split()[0], {self.path: encode(after)})
        name = " ".join(self.task.name.split())
        return self.owner.publish(tree, [head, branch], f"Merge {self.branch}: {name}\n\n{self._write_trailers()}")

    def _edit_tree(self, start: str, files: Mapping[str, bytes | str]) -> str:
        """Return the tree of `start` with `files` added, each given as content or as a blob id."""
        index = self.owner.path / "index"
        index.unlink(missing_ok=True)
        environment = {**os.environ, "GIT_INDEX_FILE": str(index)}
        subprocess.run(["git", "read-tree", start], cwd=self.owner.top, env=environment, check=True)
        entries: list[bytes] = []
        for path, data in files.items():
            blob = data if isinstance(data, str) else self._write_blob(data)
            entries.append(f"100644 {blob}\t{path}\0".encode())
        update = ["git", "update-index", "-z", "--index-info"]
        subprocess.run(update, cwd=self.owner.top, env=environment, input=b"".join(entries), check=True)
        written = subprocess.run(
            ["git", "write-tree"], cwd=self.owner.top, env=environment, capture_output=True, check=True
        )
        return written.stdout.decode().strip()

    def _write_blob(self, data: bytes) -> str:
        command = ["git", "hash-object", "-w", "--stdin", "--no-filters"]
        done = subprocess.run(command, cwd=self.owner.top, input=data, capture_output=True, check=True)
        return done.stdout.decode().strip()

    def clean_up(self) -> None:
        """Remove worktree and branch, or only the worktree of a blocked node."""
        run_git(self.owner.top, "worktree", "remove", "--force", str(self.worktree))
        statuses = {task.id: task.status for task in self.owner.read_tasks().values()}
        if statuses[self.task.id] == "completed":
            run_git(self.owner.top, "branch", "-q", "-D", self.branch)
        for folder in (self.worktree.parent, self.owner.top / ".worktrees"):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


if __name__ == "__main__":
    MinimalCoordinator(Path(sys.argv[1]), Path(sys.argv[2])).work()
