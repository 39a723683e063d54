"""A repository that the real opencode works, with a scripted model that a test can talk into other moods."""

import os
import socket
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
from opencode_scripts import FEW_SESSIONS, MODEL, find_opencode, give_short_catalog, provider_config, scripted
from run_harness import RunHarness

from flows.demo.model_script import Message, Step, choose_step, find_position, read_step, read_text
from flows.demo.model_server import Body, ModelServer
from tasks_lib.agents.opencode.backend import OpencodeBackend
from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.process.marked_processes import find_marked
from tasks_lib.project.child_environment import REPOSITORY_MARKER

OTHER_MODEL = "scripted/m2"
SECONDS = 180.0
"""No assertion: a run that would hang ends instead."""
LISTENING = "opencode server listening on http://127.0.0.1:"
REVIEWING = "Verdict: approved with changes"
"""Only a reviewer is told of it."""
RESOLVING = "Resolution: dependency"
"""Only a resolver is told of it."""
SUMMARIZING = "# Summary of a report"
"""Only the writer of a report's summary is told of it."""
FOUND_BEFORE = "`- [answered] 1`"
"""Only a reviewer is told of it who gets the findings of an earlier review."""
Steps = Sequence[Mapping[str, Any]]


class Mind:
    """What the model answers: what the script in the task file says; reviewers and resolvers have their own scripts."""

    def __init__(self) -> None:
        self.refusal: Step | None = None
        """While it is set, the provider answers nothing else."""
        self.reviews: Steps = ()
        self.second_reviews: Steps = ()
        """What a reviewer answers who is told what an earlier review found; without it, the same as `reviews`."""
        self.follow_ups: Steps = ()
        """What is done for tasks that coordinator made of the findings of a review."""
        self.summaries: Steps = ({"say": "All went well."},)
        self.resolutions: Steps = ({"say": "I do not know."},)
        self._failures: Counter[tuple[str, int]] = Counter()

    def __call__(self, messages: Sequence[Message]) -> Step:
        if self.refusal:
            return self.refusal
        if steps := self._choose_script(read_first_prompt(messages)):
            answers = sum(1 for one in messages if one["role"] == "assistant")
            return read_step(steps[min(answers, len(steps) - 1)])
        step, key = choose_step(find_position(messages), self._failures)
        if step.goes_wrong:
            self._failures[key] += 1
        return step

    def _choose_script(self, prompt: str) -> Steps:
        """The script for those who find none in their first prompt."""
        if self.reviews and REVIEWING in prompt:
            return self.second_reviews if self.second_reviews and FOUND_BEFORE in prompt else self.reviews
        if prompt.startswith(SUMMARIZING):
            return self.summaries
        if RESOLVING in prompt:
            return self.resolutions
        return self.follow_ups if "\nid: follow-up-" in prompt else ()


def read_first_prompt(messages: Sequence[Message]) -> str:
    return next((read_text(one) for one in messages if one["role"] == "user"), "")


def read_prompts(body: Body) -> list[str]:
    """What the conversation of a request was told, oldest first."""
    return [read_text(one) for one in body["messages"] if one["role"] == "user"]


def read_system(body: Body) -> str:
    return "\n".join(read_text(one) for one in body["messages"] if one["role"] == "system")


def read_results(body: Body) -> list[str]:
    """What the tools of the conversation of a request answered, oldest first."""
    return [read_text(one) for one in body["messages"] if one["role"] == "tool"]


@dataclass(slots=False)
class OpencodeHarness(RunHarness):
    """A repository whose agent is opencode; `agent` is laid over that section of coordinator.yaml."""

    hang_seconds: float = SECONDS
    agent: dict[str, Any] = field(default_factory=dict[str, Any])
    mind: Mind = field(default_factory=Mind)

    @cached_property
    def model(self) -> ModelServer:
        return ModelServer(self.mind)

    def describe_agent(self) -> dict[str, Any]:
        ours = {"model": MODEL} if "url" in self.agent else describe_opencode(self.model.url)
        return {"backend": "opencode", **ours, **self.agent}

    def requests(self, task_id: str) -> list[Body]:
        """The requests of all who work on a task, reviewers included, oldest first."""
        return [body for body in self.model.requests if f"\nid: {task_id}\n" in read_first_prompt(body["messages"])]

    def signal_path(self, name: str) -> Path:
        return self.place / "signals" / name

    def list_ports(self) -> list[int]:
        """The ports that the servers of the runs so far had."""
        log = self.top / ".git/coordinator/logs/opencode.log"
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        return [int(line.partition(LISTENING)[2]) for line in lines if LISTENING in line]

    def find_processes(self) -> list[psutil.Process]:
        return find_marked(REPOSITORY_MARKER, str((self.top / ".git").resolve()))

    def find_remains(self) -> list[str]:
        """What runs have left on this machine: coordinator's processes, and ports on which something listens."""
        processes = [f"{one.pid}: {' '.join(one.cmdline())}" for one in self.find_processes()]
        return processes + [f"port {port}" for port in self.list_ports() if is_listening(port)]


def describe_opencode(url: str) -> dict[str, Any]:
    """How opencode is started, and its model, which answers at `url` under two names."""
    section = provider_config(url)
    models = section["scripted"]["models"]
    models["m2"] = deepcopy(models["m1"])  # YAML would make one of the two an alias, which our files may not have.
    config = {"provider": section, "enabled_providers": ["scripted"]}
    settings = [f"{name}={value}" for name, value in FEW_SESSIONS.items()]
    return {"command": ["env", *settings, str(find_opencode())], "model": MODEL, "config": config}


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def opening(place: Path) -> Generator[OpencodeHarness]:
    """A place for one repository; at the end nothing of its runs may be alive."""
    harness = OpencodeHarness(place, data=place / "data")
    with harness.model:
        yield harness
    remains = harness.find_remains()
    for process in harness.find_processes():
        process.kill()
    harness.close()
    assert remains == []


async def find_server(opened: OpenRun) -> psutil.Process:
    """The process of the run's first server, which runs."""
    assert isinstance(opened.run.agents.backend, OpencodeBackend)
    assert opened.run.agents.backend.servers
    lease = await opened.run.agents.backend.servers.lease(0)
    address = await lease.address()
    lease.leave()
    assert address.group
    return psutil.Process(address.group.pid)


# What agents do.


def bash(command: str, **more: Any) -> dict[str, Any]:
    return {"tool": "bash", "args": {"command": command, "description": "run it", **more}}


def commit(task_id: str, *before: str) -> dict[str, Any]:
    """Do the lines `before`, then commit all that is there, with a file that only this task writes."""
    name = task_id.replace("/", "-")
    lines = [*before, f"echo {task_id} > {name}.txt", f"git add -A && git commit -q -m 'feat({task_id}): do it'"]
    return bash("\n".join(lines))


def delegate(steps: Steps) -> dict[str, Any]:
    prompt = f"Do this.\n\n{scripted([dict(one) for one in steps])}"
    return {"tool": "task", "args": {"description": "help", "prompt": prompt, "subagent_type": "general"}}


def node(*steps: Mapping[str, Any], **front: Any) -> dict[str, Any]:
    """A task whose agent does `steps`, and at the end says that it is done."""
    return {"body": f"Write it.\n\n{scripted([dict(one) for one in steps])}", **front}


def isolate(place: Path) -> dict[str, str]:
    """Variables that keep a person's own settings of opencode, and of git, out of a test."""
    home = place / "home"
    home.mkdir(exist_ok=True)
    give_short_catalog(home)
    return {"HOME": str(home), "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
