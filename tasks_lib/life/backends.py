"""Makes the backend that a repository's configuration names."""

import asyncio
import tempfile
from pathlib import Path

from tasks_lib.agents.backend import Backend, Session, SessionSpec
from tasks_lib.agents.command import CommandBackend
from tasks_lib.agents.opencode.backend import OpencodeBackend, find_data
from tasks_lib.agents.opencode.host import Host
from tasks_lib.agents.opencode.session import OpencodeSession, SessionLimits, Shared
from tasks_lib.life.instructions import Instructions, read_project_instructions
from tasks_lib.life.needs import find_needs
from tasks_lib.life.project import Project
from tasks_lib.life.surroundings import Surroundings

SERVER_LOG = "opencode.log"


def make_backend(
    project: Project,
    instructions: Instructions,
    surroundings: Surroundings,
    data: Path,
    private: Path,
    log: Path | None = None,
) -> Backend:
    """The backend of one run; nothing is started yet. `data` outlives the run, `private` is removed with it.

    `log` is what a server prints, by default a file beside the logs of the nodes.
    """
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
        log or repository.state_dir / "logs" / SERVER_LOG,
        open_session,
    )


async def examine_backend(project: Project) -> None:
    """See, as a run would, whether its sessions could be opened; all that this starts is ended again.

    Raises InputError with every fault, AgentError if a server cannot be started.
    """
    with tempfile.TemporaryDirectory(prefix="coordinator-") as name:
        private = Path(name)
        surroundings = Surroundings(project.settings, project.repository, private)
        instructions = await asyncio.to_thread(read_project_instructions, project)
        # A data directory of its own: a run may be using the other one.
        backend = make_backend(project, instructions, surroundings, private / "data", private, private / SERVER_LOG)
        try:
            await backend.prepare(find_needs(project.graph.tasks.values(), project.settings))
        finally:
            await backend.close()
