"""Opens a run's sessions on other machines: chooses the machine, and knows which of them are online."""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from tasks_lib.agents.backend import Session, SessionSpec
from tasks_lib.errors import AgentError, GitError, InputError, RemoteError
from tasks_lib.git.remote_sessions.abandoned_states import keep_abandoned
from tasks_lib.git.remote_sessions.session_remote import SESSION_REFS, SessionRemote, find_session
from tasks_lib.git.worktrees.lifecycle import Worktree
from tasks_lib.model import Task
from tasks_lib.project.loading import Project
from tasks_lib.runtime.git_access import GitAccess
from tasks_lib.runtime.session_slots import SessionSlots
from tasks_lib.session.remote_conversation import parse_conversation
from tasks_lib.session.remote_messages import SessionOrder
from tasks_lib.settings.schema import digest_sessions
from tasks_lib.settings.spoke_schema import find_machine
from tasks_lib.spokes.hub_identity import HubIdentity
from tasks_lib.spokes.hub_states import HubStates
from tasks_lib.spokes.link import Machine, SpokeLink
from tasks_lib.spokes.published_sessions import find_ended_sessions, list_continued
from tasks_lib.spokes.remote_session import RemoteSession

LOOK_SECONDS = 5.0
"""How often the run asks which spokes are online."""
CLOSE_SECONDS = 15.0
WAIT_SECONDS = 60.0
"""How long a session waits for a spoke to come online."""


class RemoteSessions:
    """The sessions of one run on spokes. `slots` limits them; it follows the number of spokes that are online."""

    def __init__(
        self, project: Project, link: SpokeLink, release: str, slots: SessionSlots, say: Callable[[str], None]
    ) -> None:
        settings = project.settings.spokes
        self.slots: SessionSlots = slots
        self._project = project
        self._settings = settings
        self._link = link
        self._release = release
        self._say = say
        self._remote = SessionRemote(project.repository, settings.remote, project.target)
        self._hub = HubIdentity(project.repository)
        self._digest = digest_sessions(project.settings)
        self._configuration = ""
        self._git: GitAccess | None = None
        self._states: HubStates | None = None
        self._online: tuple[str, ...] = ()
        self._active: Counter[str] = Counter()
        self._avoided: dict[str, set[str]] = {}
        self._watching: asyncio.Task[None] | None = None
        self._has_changed = asyncio.Event()
        self._is_told = False

    async def begin(self, git: GitAccess) -> None:
        """Check the remote, remove what killed runs published, and begin to follow which spokes are online.

        Raises InputError if the remote cannot be used.
        """
        await git.call(self._remote.remote.require)
        if said := self._hub.describe_former(f"{self._settings.remote}: {SESSION_REFS}"):
            self._say(said)
        try:
            tip = await git.call(self._remote.remote.fetch)
            self._configuration = await git.call(self._remote.find_common, tip, git.head.last_seen())
        except RemoteError as error:
            raise InputError([f"spokes: {error}; spokes.remote has to be a remote that all machines reach"]) from error
        try:
            await self._sweep(git)
            await self._look()
        except RemoteError as error:
            raise InputError([f"spokes: {error}"]) from error
        self._git = git
        self._states = HubStates(self._hub, self._remote, git.isolation, git.call, self._project.settings.copy_paths)
        self._watching = asyncio.create_task(self._watch(), name="spokes")

    async def _sweep(self, git: GitAccess) -> None:
        """End and remove what no open node continues; raises RemoteError."""
        continued = await git.call(list_continued, self._project.repository)
        await self._end_abandoned(continued)
        for line in await git.call(self._forget_ended):
            self._say(line)

    async def _end_abandoned(self, continued: Collection[str]) -> None:
        """End the sessions that no open node continues, which would wait for their next turn.

        A killed run leaves them; so does one that continues a node after its session's last turn.
        """
        for session, run in await self._link.list_sessions(self._hub.name):
            if self._hub.owns(session) and session not in continued:
                await self._link.stop(run)

    def _forget_ended(self) -> list[str]:
        """Remove from the remote what was published of other sessions; return a line for each whose work is kept."""
        left = find_ended_sessions(self._remote, self._hub)
        kept = keep_abandoned(self._project.repository.git, self._remote, left)
        if left:
            self._remote.forget(left)
        self._hub.forget_old({*list_continued(self._project.repository), *map(find_session, left)})
        return [f"{one.node}: a session on {one.machine} left work, which is kept at {one.ref}." for one in kept]

    def open(self, spec: SessionSpec, find_worktree: Callable[[], Worktree], node: Task) -> Session:
        """Open a session; which machine it runs on is decided with its first prompt."""
        assert self._states is not None
        if not self._hub.owns(spec.session):  # A copy of the record of a session that may belong to another hub.
            spec = replace(spec, conversation="")
        order = SessionOrder(
            release=self._release,
            repository=self._settings.repository or self._remote.name_repository(),
            target=self._project.target,
            configuration=self._configuration,
            digest=self._digest,
            hub=self._hub.name,
            session=spec.session,
            generation=0,
            node=spec.task_id,
            title=spec.title,
            task_file=spec.task_file,
            branch=spec.branch,
            role=spec.role,
            model=spec.model,
            is_read_only=spec.is_read_only,
        )
        choose = partial(self._choose, node)
        return RemoteSession(spec, find_worktree, order, self._link, self._states, choose, partial(self._leave, node))

    def continues(self, conversation: str) -> bool:
        """Whether a conversation is that of a session on a spoke."""
        return parse_conversation(conversation) is not None

    async def close(self) -> None:
        """Stop following which spokes are online, and end what is left of sessions."""
        if self._watching:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        if self._git:
            with suppress(RemoteError, GitError, TimeoutError):  # The next run does it.
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._sweep(self._git)

    # Machines.

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            with suppress(RemoteError):
                await self._look()

    async def _look(self) -> None:
        machines = await self._link.list_machines()
        online = tuple(sorted(machine.name for machine in machines if machine.is_online))
        if online == self._online and self._is_told:
            return
        self._say_changes(machines, online)
        self._online, self._is_told = online, True
        # With one slot although none is online, a node gets far enough to say what is missing.
        self.slots.resize(max(1, len(online) * self._settings.sessions_each))
        self._has_changed.set()

    def _say_changes(self, machines: Sequence[Machine], online: Sequence[str]) -> None:
        for name in sorted({*self._online} - {*online}):
            self._say(f"The spoke {name} is offline; its sessions are given up if nothing is heard of them.")
        if not online:
            known = ", ".join(machine.name for machine in machines)
            seen = f" (offline: {known})" if known else ""
            self._say(f"No spoke is online in the work pool {self._settings.work_pool}{seen}.")
        elif new := sorted({*online} - {*self._online}):
            self._say(f"Spokes online: {', '.join(new)}.")

    async def _choose(self, node: Task) -> str:
        """Choose the machine for a session, waiting a while for one; raises AgentError if none comes online."""
        wanted = find_machine(node)
        with suppress(TimeoutError):
            async with asyncio.timeout(WAIT_SECONDS):
                while not (fitting := [name for name in self._online if wanted in ("", name)]):
                    self._has_changed.clear()
                    await self._has_changed.wait()
                avoided = self._avoided.get(node.id, set())
                chosen = min(fitting, key=lambda name: (name in avoided, self._active[name], name))
                self._active[chosen] += 1
                return chosen
        which = f"the spoke {wanted} is not" if wanted else "no spoke is"
        how = "start one there with `coordinator spoke start`"
        raise AgentError(f"{which} online in the work pool {self._settings.work_pool}; {how}")

    def _leave(self, node: Task, machine: str, has_failed: bool) -> None:
        """Note that a session on `machine` has ended; after a failure, the node's next one goes elsewhere if it can."""
        self._active[machine] -= 1
        if has_failed:
            self._avoided.setdefault(node.id, set()).add(machine)
