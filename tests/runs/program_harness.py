"""A repository that the real Claude Code or Codex works, with a scripted model."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from agent_model_server import MODEL, AgentModelServer
from agent_programs_installed import find_agent_program
from e2e.opencode_harness import Mind, read_first_prompt
from run_harness import RunHarness, tidied

from flows.demo.model_server import Body

KEYS = {"claude": "ANTHROPIC_API_KEY", "codex": "CODEX_API_KEY"}
SECONDS = 240.0
CODEX_CONFIGURATION = """\
model = "m1"
model_provider = "scripted"
[model_providers.scripted]
name = "scripted"
base_url = "{url}"
wire_api = "responses"
env_key = "CODEX_API_KEY"
stream_max_retries = {retries}
"""


@dataclass(slots=False)
class ProgramHarness(RunHarness):
    """A repository whose agent is the preset `preset`; `agent` is laid over that section of coordinator.yaml."""

    hang_seconds: float = SECONDS
    preset: str = "claude"
    agent: dict[str, Any] = field(default_factory=dict[str, Any])
    mind: Mind = field(default_factory=Mind)

    @cached_property
    def model(self) -> AgentModelServer:
        return AgentModelServer(self.mind)

    def describe_agent(self) -> dict[str, Any]:
        return {"preset": self.preset, "model": MODEL, **self.agent}

    def make(self, *given: Any, **settings: Any) -> None:
        super().make(*given, **{"env": {"agent": [KEYS[self.preset]]}, **settings})

    def requests(self, task_id: str) -> list[Body]:
        """The requests of all who work on a task, reviewers included, oldest first."""
        return [body for body in self.model.requests if f"\nid: {task_id}\n" in read_first_prompt(body["messages"])]

    def read_log(self, task_id: str, name: str = "session-1") -> str:
        log = self.top / f".git/coordinator/logs/{task_id}/{name}.log"
        return log.read_text() if log.exists() else ""

    def find_conversations(self) -> list[Path]:
        """The conversations that the program has kept of all sessions."""
        home = self.place / "home"
        return sorted([*home.glob(".claude/projects/*/*.jsonl"), *home.glob(".codex/sessions/**/*.jsonl")])


@contextmanager
def opening_program(
    place: Path, preset: str, monkeypatch: pytest.MonkeyPatch, retries: int = 5
) -> Generator[ProgramHarness]:
    """A place for one repository with the program of `preset`, which finds a scripted model and no user."""
    program = find_agent_program(preset)
    harness = ProgramHarness(place, data=place / "data", preset=preset)
    with harness.model, tidied(harness):
        isolate_program(monkeypatch, place / "home", harness.model, retries)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        yield harness


def isolate_program(monkeypatch: pytest.MonkeyPatch, home: Path, model: AgentModelServer, retries: int) -> None:
    """Give the programs an empty home and the scripted model, and hide the user's own keys and settings."""
    for name in list(os.environ):
        if name.startswith(("ANTHROPIC_", "CLAUDE", "CODEX_", "OPENAI_", "XDG_")):
            monkeypatch.delenv(name)
    (home / ".codex").mkdir(parents=True)
    configuration = CODEX_CONFIGURATION.format(url=model.url, retries=retries)
    (home / ".codex" / "config.toml").write_text(configuration)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("ANTHROPIC_BASE_URL", model.origin)
    for name in KEYS.values():
        monkeypatch.setenv(name, "scripted")
