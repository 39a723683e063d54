"""A repository, the bare remote on which its work lands, and other people who push to that remote."""

import os
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from checker import Before, Meant, check, snapshot_user_state
from run_harness import RunHarness, Tasks

from tasks_lib.git.runner import Git


@dataclass(slots=True)
class Person:
    """Another developer with a clone at `top`; `pushed` are the commits that the remote accepted."""

    top: Path
    pushed: list[str] = field(default_factory=list[str])

    @property
    def git(self) -> Git:
        return Git(self.top)

    def commit(self, subject: str, files: Mapping[str, str]) -> str:
        for name, text in files.items():
            (self.top / name).parent.mkdir(parents=True, exist_ok=True)
            (self.top / name).write_text(text)
        self.git.run("add", "--", *files)
        self.git.run("commit", "--quiet", "--message", subject)
        return self.git.text("rev-parse", "HEAD")

    def push(self, *words: str) -> bool:
        """Push with a plain `git push`; return whether the remote accepted it."""
        return self.git.run("push", "--quiet", "origin", *words, "main", accept=(0, 1)).status == 0

    def share(self, subject: str, files: Mapping[str, str]) -> str:
        """Commit on top of the remote's main and retry until the push succeeds; return the commit."""
        while True:
            self.git.run("fetch", "--quiet", "origin", "main")
            self.git.run("reset", "--quiet", "--hard", "FETCH_HEAD")
            commit = self.commit(subject, files)
            if self.push():
                self.pushed.append(commit)
                return commit


@dataclass(slots=True)
class RemoteHarness(RunHarness):
    """A repository `top` with `land.mode: push`, the bare remote `hub`, and a judge's clone of the initial state."""

    name: str = "origin"
    before: Before | None = None

    @property
    def hub_path(self) -> Path:
        return self.place / "hub.git"

    @property
    def hub(self) -> Git:
        return Git(self.hub_path)

    @property
    def url(self) -> str:
        return f"file://{self.hub_path}"

    def make(self, tasks: Tasks, agent: str = "work", *, land: Mapping[str, Any] | None = None, **rest: Any) -> None:
        """Do what `RunHarness.make` does, and push it all to the remote."""
        said = {"mode": "push", "remote": self.name, "fetch_seconds": 0.2, **(land or {})}
        RunHarness.make(self, tasks, agent, land=said, **rest)
        Git(self.place).run("init", "--quiet", "--bare", "--initial-branch=main", str(self.hub_path))
        self.git.run("remote", "add", self.name, self.url)
        self.git.run("push", "--quiet", self.name, "main")
        judge = self.join("judge")
        judge.git.run("remote", "remove", "origin")
        self.before = snapshot_user_state(judge.top)

    def join(self, name: str, *options: str) -> Person:
        """Clone the remote for another developer."""
        top = self.place / name
        Git(self.place).run("clone", "--quiet", *options, self.url, str(top))
        for key, value in (("user.name", name), ("user.email", f"{name}@example.org")):
            Git(top).run("config", key, value)
        return Person(top)

    def hook(self, name: str, body: str) -> None:
        """Install a hook in the remote; `body` is an sh script."""
        path = self.hub_path / "hooks" / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def unhook(self, name: str) -> None:
        (self.hub_path / "hooks" / name).unlink()

    def hub_log(self, form: str = "%s") -> list[str]:
        return self.hub.text("log", "--first-parent", f"--format={form}", "main").splitlines()

    def hub_has(self, path: str) -> bool:
        return self.hub.text("ls-tree", "--name-only", "main", "--", path) == path

    def at_hub(self, revision: str) -> str:
        return self.hub.text("rev-parse", revision)

    def hub_branches(self) -> list[str]:
        return self.hub.text("for-each-ref", "--format=%(refname:short)").splitlines()

    def leftovers(self) -> list[str]:
        """What a run left, locally or on the remote, besides the two main branches."""
        known = (f"refs/remotes/{self.name}/main", f"refs/remotes/{self.name}/HEAD")
        there = [f"{self.name}: {branch}" for branch in self.hub_branches() if branch != "main"]
        return [*(one for one in RunHarness.leftovers(self) if one not in known), *there]

    def judge(
        self, statuses: Mapping[str, str], *, verify: Sequence[str] = (), foreign: Sequence[str] = ()
    ) -> list[str]:
        """Return the broken promises that the checker finds in the remote's current state."""
        judge = Person(self.place / "judge")
        judge.git.run("pull", "--quiet", "--ff-only", self.url, "main")
        assert self.before
        return check(judge.top, before=self.before, meant=Meant(statuses, verify, foreign=foreign))


def completed(*ids: str) -> dict[str, str]:
    return dict.fromkeys(ids, "completed")


def start_run(place: Path) -> "subprocess.Popen[str]":
    """Start a run of the harness at `place` in a process of its own; see `run_once.py`."""
    tests = Path(__file__).parent.parent
    return subprocess.Popen(
        [sys.executable, str(tests / "push" / "run_once.py"), str(place)],
        env={**os.environ, "PYTHONPATH": str(tests)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run_quietly(*arguments: str) -> None:
    subprocess.run(arguments, check=True, capture_output=True)


class _Guarded(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="hub"')
        self.end_headers()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log nothing."""


@contextmanager
def asking_for_a_password() -> Generator[str]:
    """Yield the URL of a server that answers every request with 401."""
    with HTTPServer(("127.0.0.1", 0), _Guarded) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/hub.git"
        finally:
            server.shutdown()
            thread.join()


def add_mirror(shared: RemoteHarness, *, is_first: bool = False) -> Path:
    """Let pushes go to a copy of the remote too, which refuses them ("ask Bo"); return its hook that does that."""
    mirror = shared.place / "mirror.git"
    Git(shared.place).run("clone", "--quiet", "--bare", str(shared.hub_path), str(mirror))
    hook = mirror / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho ask Bo >&2\nexit 1\n")
    hook.chmod(0o755)
    for address in sorted((shared.url, f"file://{mirror}"), key=lambda one: (one == shared.url) is is_first):
        shared.git.run("remote", "set-url", "--add", "--push", shared.name, address)
    return hook
