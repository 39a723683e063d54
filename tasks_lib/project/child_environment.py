"""Makes the environments of a run's child processes: allowed variables, the committer, nothing outside the worktree."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from tasks_lib.agents.coordinator_on_path import NAME, write_launcher
from tasks_lib.agents.opencode.config.user_config import find_sources
from tasks_lib.agents.presets.known import PRESETS
from tasks_lib.git.environment_settings import (
    COUNT,
    TRUST,
    Setting,
    read_environment_settings,
    write_environment_settings,
)
from tasks_lib.git.git_config import read_setting
from tasks_lib.git.git_program import local_variables
from tasks_lib.git.repository import Repository
from tasks_lib.process.allowed_variables import lead_path, scrub
from tasks_lib.process.noninteractive import RefusingPrograms
from tasks_lib.process.user_environment import user_environment
from tasks_lib.settings.schema import Settings

REPOSITORY_MARKER = "COORDINATOR_REPOSITORY"
"""The variable by which a later coordinator recognises processes that a killed one left running."""
PROGRAM = "COORDINATOR_PROGRAM"
"""The variable with the absolute path of `coordinator`."""
SERVER_LOGIN = ("OPENCODE_SERVER_PASSWORD", "OPENCODE_SERVER_USERNAME")
"""Credentials for the user's own server; coordinator's server has its own password, which shells never see."""
QUIET_GIT: Mapping[str, str] = {
    # Garbage collection would race with coordinator's own git processes.
    "gc.auto": "0",
    # It would find nothing to do, and its lock, if left by a kill, would block the user's own maintenance forever.
    "maintenance.auto": "false",
}
Kind = Literal["setup", "agent", "verify"]


class ChildEnvironments:
    """The environments of one run's child processes. The launcher is written to `private`, the run's own directory."""

    def __init__(self, settings: Settings, repository: Repository, private: Path) -> None:
        self._settings = settings
        self._repository = repository
        self._launcher = write_launcher(private / "bin", sys.executable)
        gpg = read_setting(repository.git, "gpg.program")
        self._refusals = RefusingPrograms(
            private / "refusals", user_environment().get("PATH", os.defpath), gpg or "gpg"
        )
        self.identity: Mapping[str, str] = repository.identity()

    def of(self, kind: Kind, slot: int) -> dict[str, str]:
        """Return a child's environment in a worktree: the allowed variables, and nothing that points outside it."""
        allowed = getattr(self._settings.env, kind)
        if kind == "agent" and (preset := self._settings.agent.preset):
            allowed = (*allowed, *PRESETS[preset].passed_on)
        return self._make(allowed) | {"COORDINATOR_SLOT": str(slot)}

    def for_server(self) -> dict[str, str]:
        """Return the environment of a server for many sessions: the agents' variables and what only the server needs.

        That is the API keys, and the location of the user's own configuration: what it refuses stays refused.
        """
        agent = self._settings.agent
        allowed = (*self._settings.env.agent, *agent.keys, *(SERVER_LOGIN if agent.url else ()))
        return find_sources(user_environment(), Path.cwd()) | self._make(allowed)

    def for_notifications(self) -> dict[str, str]:
        """Return the environment of `notify.command`."""
        return self._make(self._settings.notify.env)

    def _make(self, allowed: Sequence[str]) -> dict[str, str]:
        variables = scrub(
            user_environment(), allowed, git_variables=local_variables(), own_bin=find_hidden_bin(self._repository.top)
        )
        return {
            **lead_path(lead_path(variables, str(self._refusals.programs)), str(self._launcher)),
            **self.identity,
            REPOSITORY_MARKER: str(self._repository.common_dir),
            # A login shell makes PATH anew.
            PROGRAM: str(self._launcher / NAME),
            # Without this, a worktree that lost its `.git` file would count as part of the repository around it.
            "GIT_CEILING_DIRECTORIES": str(self._repository.worktrees_dir),
            **self._refusals.variables(user_environment(), allowed),
            **write_environment_settings(
                [*_choose_settings(allowed), *self._refusals.git_settings().items(), *QUIET_GIT.items()]
            ),
        }


def _choose_settings(allowed: Sequence[str]) -> list[Setting]:
    """Return the git settings in the user's environment that a child gets.

    They may contain credentials, so `allowed` has to name their count in full, not by a glob. Which directories to
    trust is no secret, and without it git refuses a repository of another owner.
    """
    given = read_environment_settings(user_environment())
    return given if COUNT in allowed else [setting for setting in given if setting[0].lower() == TRUST]


def find_own_bin() -> str:
    """Return the `bin` of coordinator's virtual environment; "" if there is none."""
    return str(Path(sys.prefix) / "bin") if sys.prefix != sys.base_prefix else ""


def find_hidden_bin(top: Path) -> str:
    """Return the `bin` that agents, `setup` and `verify` of the repository at `top` must not see; "" if there is none.

    It is that of coordinator's virtual environment: its Python and pip are not the project's. An environment inside the
    repository is the project's own, with coordinator installed into it, and has what `verify` needs.
    """
    is_projects = Path(sys.prefix).resolve().is_relative_to(top.resolve())
    return "" if is_projects else find_own_bin()
