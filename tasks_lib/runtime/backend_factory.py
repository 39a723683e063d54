"""Creates the backend that a repository's configuration names."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tasks_lib.agents.backend import Backend, Session, SessionSpec
from tasks_lib.agents.command_backend import CommandBackend, check_command, find_root_fault
from tasks_lib.agents.opencode.backend import OpencodeBackend, find_data
from tasks_lib.agents.opencode.servers.executable import check_program
from tasks_lib.agents.opencode.servers.model_catalog import ToolServer
from tasks_lib.agents.opencode.servers.server_interface import ServerSource
from tasks_lib.agents.opencode.turns.session_adapter import OpencodeSession, SessionLimits, Shared
from tasks_lib.agents.presets.backend import PresetBackend
from tasks_lib.agents.presets.known import PRESETS
from tasks_lib.errors import Fault, InputError
from tasks_lib.git.git_program import local_variables
from tasks_lib.graph.run_plan import Plan
from tasks_lib.process.allowed_variables import scrub
from tasks_lib.process.private_directories import private_directory
from tasks_lib.process.user_environment import user_environment
from tasks_lib.project.agent_instructions import Instructions, find_instruction_faults, read_project_instructions
from tasks_lib.project.child_environment import ChildEnvironments, find_hidden_bin
from tasks_lib.project.loading import Project
from tasks_lib.runtime.agent_requirements import find_agent_requirements
from tasks_lib.session.liveness import SilenceLimits
from tasks_lib.settings.schema import Settings

SERVER_LOG = "opencode.log"
NO_AGENT = """no agent is configured; add to coordinator.yaml:
agent:
  backend: opencode
  model: provider/model
or, for Claude Code or Codex,
agent:
  preset: claude
or, for any other program,
agent:
  command: [my-agent, --prompt, "{prompt_file}"]"""


def anchor_program(settings: Settings, top: Path) -> Settings:
    """Return `settings` with a relative path to opencode resolved against `top`, not the current directory."""
    command = settings.agent.command
    if settings.agent.backend != "opencode" or not command or "/" not in command[0] or command[0].startswith("/"):
        return settings
    agent = settings.agent.model_copy(update={"command": (str(top / command[0]), *command[1:])})
    return settings.model_copy(update={"agent": agent})


def check_agent(project: Project) -> None:
    """Check everything about the agent that needs no running server. Raises InputError with every fault."""
    settings = anchor_program(project.settings, project.repository.top)
    faults: list[Fault | str] = []
    if fault := find_command_fault(project):
        faults.append(fault)
    found = find_instruction_faults(project.repository, project.head, settings)
    faults += [fault for fault in found if not fault.is_warning]
    if settings.agent.backend == "opencode" and not settings.agent.url:
        variables = _find_variables(project)
        fault = check_program(settings.agent.command, variables.get("PATH", os.defpath), variables)
        faults += [fault] if fault else []
    if faults:
        raise InputError(faults)


def find_command_fault(project: Project) -> str:
    """Return why `agent.command` cannot be run by any node, or "" if that is not certain.

    Nothing is said of what `setup` may install or the repository contains, of other machines, and while no task for an
    agent can start.
    """
    settings = project.settings
    if settings.agent.backend != "command":
        return ""
    if not settings.agent.program:
        return NO_AGENT
    if settings.setup or settings.spokes.remote or not Plan(project.graph).ready():
        return ""
    variables = _find_variables(project)
    fault = check_command(settings.wrapper or settings.agent.program, variables.get("PATH", os.defpath))
    return fault or find_root_fault(settings.agent.command, variables)


def _find_variables(project: Project) -> dict[str, str]:
    """Return the variables that the agent gets from the user's environment."""
    hidden = find_hidden_bin(project.repository.top)
    allowed = project.settings.env.agent
    return scrub(user_environment(), allowed, git_variables=local_variables(), own_bin=hidden)


def make_backend(
    project: Project,
    instructions: Instructions,
    surroundings: ChildEnvironments,
    data: Path,
    private: Path,
    log: Path | None = None,
) -> Backend:
    """Create the backend of one run without starting it. `data` outlives the run, `private` is removed with it.

    `log` is the file for a server's output, by default one next to the nodes' logs. Raises InputError if no agent is
    configured.
    """
    repository = project.repository
    settings = anchor_program(project.settings, repository.top)
    watch = settings.watch
    if settings.agent.backend == "command":
        return _make_program_backend(settings, surroundings)
    limits = SessionLimits(
        watch.stall_seconds, watch.tool_seconds, watch.limit_seconds, watch.input_seconds, watch.suspend_seconds
    )
    shared = Shared()

    def open_session(spec: SessionSpec, servers: ServerSource, agent: str, model: str, system: str) -> Session:
        return OpencodeSession(spec, servers, limits, shared, agent, model, system)

    return OpencodeBackend(
        settings,
        surroundings.for_server(),
        find_data(data, str(repository.common_dir)),
        private,
        instructions.roles,
        log or repository.state_dir / "logs" / SERVER_LOG,
        open_session,
        shared.throttles,
    )


def _make_program_backend(settings: Settings, surroundings: ChildEnvironments) -> Backend:
    agent, watch = settings.agent, settings.watch
    if not agent.program:
        raise InputError([NO_AGENT])
    silence = SilenceLimits(watch.stall_seconds, watch.tool_seconds, watch.input_seconds)
    if not agent.preset:
        return CommandBackend(agent.command, settings.wrapper, silence, watch.limit_seconds)
    return PresetBackend(
        PRESETS[agent.preset],
        surroundings.of("agent", 0),
        silence,
        model=agent.model,
        wrapper=settings.wrapper,
        limit_seconds=watch.limit_seconds,
        has_setup=bool(settings.setup),
    )


@dataclass(frozen=True, slots=True)
class ExaminedBackend:
    """How long the parts of a start took, in seconds and in their order, and the MCP servers of sessions."""

    durations: Mapping[str, float] = field(default_factory=dict[str, float])
    tool_servers: Sequence[ToolServer] = ()


async def examine_backend(project: Project) -> ExaminedBackend:
    """Check that a run could open its sessions; everything that this starts is stopped again.

    Raises InputError with every fault, AgentError if a server cannot be started.
    """
    with private_directory() as private:
        surroundings = ChildEnvironments(project.settings, project.repository, private)
        instructions = await asyncio.to_thread(read_project_instructions, project)
        # It gets its own data directory, because a run may be using the usual one.
        backend = make_backend(project, instructions, surroundings, private / "data", private, private / SERVER_LOG)
        try:
            await backend.prepare(find_agent_requirements(project.graph.tasks.values(), project.settings))
            if not isinstance(backend, OpencodeBackend):
                return ExaminedBackend()
            tool_servers = await backend.find_tool_servers()
            return ExaminedBackend(backend.durations, tool_servers)
        finally:
            await backend.close()
