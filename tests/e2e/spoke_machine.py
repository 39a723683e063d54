"""A second machine with an agent that tests script, remotes, and clones of them for runs."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from e2e.conftest import RUN_SECONDS
from run_harness import Signal, write_task
from sample_repository import SampleRepository

from bench.second_machine import SecondMachine, find_copy, url
from tasks_lib.git.remote_sessions.session_remote import SESSION_REFS
from tasks_lib.git.repository import Repository
from tasks_lib.git.runner import Git
from tasks_lib.spokes.hub_identity import HubIdentity

AGENT = r"""set -eu
cat > /dev/null
id=$COORDINATOR_TASK_ID attempt=$COORDINATOR_ATTEMPT turn=$COORDINATOR_TURN
echo "$id $attempt $turn $COORDINATOR_SESSION $(readlink /proc/self/ns/net)" >> "$HOME/journal"
tell() { echo > "$HOME/$1"; }
await() { read -r _ < "$HOME/$1"; }
commit() { git add -A && git commit -q -m "$1"; }
work() { echo "$id" > "$id.txt"; commit "feat($id): write $id.txt"; echo "Wrote $id.txt."; }
script=$(sed -n '/^```sh$/,/^```$/{/^```/!p}' "$COORDINATOR_TASK_FILE")
eval "${script:-work}"
"""
"""The agent, which is in the repository, since nothing else is on both machines; a task's block of sh says what it does."""


class Turn(NamedTuple):
    """A turn that the agent began on the second machine."""

    attempt: int
    turn: int
    session: str
    network: str


@dataclass(slots=True)
class Hub(SampleRepository):
    """A run's own clone of a remote, on this machine."""

    def list_published(self, remote: Git) -> list[str]:
        """The refs on `remote` of sessions of this repository."""
        place = f"{SESSION_REFS}/{HubIdentity(Repository.open(self.top)).name}"
        return remote.text("for-each-ref", "--format=%(refname)", place).splitlines()


@dataclass
class SpokeSite(SecondMachine):
    """The second machine of the tests; signals connect its agents and a test."""

    signals: dict[str, Signal] = field(default_factory=dict[str, Signal])

    def signal(self, name: str) -> None:
        """Make a signal between the test and an agent, by which one of them waits for the other."""
        self.signals[name] = Signal(self.home / name)

    def wait(self, name: str, seconds: float = RUN_SECONDS) -> None:
        async def hear() -> None:
            async with asyncio.timeout(seconds):
                await self.signals[name].wait()

        asyncio.run(hear())

    def close(self) -> None:
        SecondMachine.close(self)
        for one in self.signals.values():
            one.close()


def remote(site: SpokeSite, name: str = "work") -> Git:
    return Git(site.remotes / f"{name}.git")


def add_repository(site: SpokeSite, name: str, settings: Mapping[str, Any]) -> None:
    """Make a remote with a configuration and the agent, and register it there."""
    seed, bare = site.remotes / name, site.remotes / f"{name}.git"
    for place, words in ((seed, ()), (bare, ("--bare",))):
        place.mkdir()
        Git(place).run("init", "--quiet", *words, "--initial-branch=main")
    said = {
        "agent": {"command": ["sh", "agent.sh"]},
        "verify": ["test ! -e wrong.txt"],
        "spokes": {"remote": "origin", "prefer": "only"},
        "retry": {"attempts": 2, "delay_seconds": 0, "max_delay_seconds": 0},
        "watch": {"stop_seconds": 2},
        **settings,
    }
    (seed / "coordinator.yaml").write_text(yaml.safe_dump(said))
    (seed / "agent.sh").write_text(AGENT)
    set_author(Git(seed))
    Git(seed).run("add", "--all")
    Git(seed).run("commit", "--quiet", "--message", "Begin")
    Git(seed).run("push", "--quiet", str(bare), "main")
    register(site, name)


def register(site: SpokeSite, name: str) -> None:
    """Register an existing remote on a machine."""
    code, output = site.run("add", url(site, name))
    assert code == 0, output


def clone(site: SpokeSite, place: Path, tasks: Mapping[str, Mapping[str, Any]], name: str = "work") -> Hub:
    """A clone for runs on this machine, with `tasks`; the value `sh` of a task is what its agent does."""
    Git(place).run("clone", "--quiet", url(site, name), "repository")
    hub = Hub(place)
    set_author(hub.git)
    files: dict[str, str] = {}
    for task_id, given in tasks.items():
        front = dict(given)
        script = front.pop("sh", "")
        body = front.pop("body", f"Write it.\n\n```sh\n{script}\n```" if script else "Write it.")
        files[f"tasks/{task_id}.md"] = write_task(task_id, body, **front)
    hub.commit("Plan", files)
    return hub


def read_turns(site: SpokeSite, task_id: str) -> list[Turn]:
    """The turns that the agent of a task began, oldest first."""
    journal = site.home / "journal"
    rows = [line.split() for line in journal.read_text().splitlines()] if journal.exists() else []
    return [Turn(int(row[1]), int(row[2]), row[3], row[4]) for row in rows if row[0] == task_id]


def list_left(site: SpokeSite, name: str = "work") -> list[str]:
    """What sessions left in a repository there: worktrees and branches."""
    git = Git(find_copy(site, name))
    worktrees = git.text("worktree", "list", "--porcelain").strip().split("\n\n")[1:]
    branches = git.text("for-each-ref", "--format=%(refname)", "refs/heads").splitlines()
    return [*worktrees, *branches]


def set_author(git: Git) -> None:
    git.run("config", "user.name", "Ada")
    git.run("config", "user.email", "ada@example.org")
