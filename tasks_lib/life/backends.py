"""Makes the backend that a repository's configuration names."""

from pathlib import Path

from tasks_lib.agents.backend import Backend, Session, SessionSpec
from tasks_lib.agents.command import CommandBackend
from tasks_lib.agents.opencode.backend import OpencodeBackend, find_data
from tasks_lib.agents.opencode.host import Host
from tasks_lib.agents.opencode.session import OpencodeSession, SessionLimits, Shared
from tasks_lib.life.instructions import Instructions
from tasks_lib.life.project import Project
from tasks_lib.life.surroundings import Surroundings

SERVER_LOG = "opencode.log"


def make_backend(
    project: Project, instructions: Instructions, surroundings: Surroundings, data: Path, private: Path
) -> Backend:
    """The backend of one run; nothing is started yet. `data` outlives the run, `private` is removed with it."""
    settings, repository = project.settings, project.repository
    if settings.agent.backend == "command":
        return CommandBackend(settings.agent.command, settings.wrapper)
    limits = SessionLimits(settings.watch.stall_seconds, settings.watch.tool_seconds)
    shared = Shared()

    def open_session(spec: SessionSpec, host: Host, agent: str, model: str, system: str) -> Session:
        return OpencodeSession(spec, host, limits, shared, agent, model, system)

    return OpencodeBackend(
        settings,
        surroundings.of_server(),
        find_data(data, str(repository.common_dir)),
        private,
        instructions.roles,
        repository.state_dir / "logs" / SERVER_LOG,
        open_session,
    )
