"""Opens a run's sessions on other machines, and decides what becomes of those that were left there."""

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from tasks_lib.agents.backend import Session, SessionSpec
from tasks_lib.errors import GitError, InputError, RemoteError
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
from tasks_lib.settings.spoke_schema import Place
from tasks_lib.spokes.hub_identity import HubIdentity
from tasks_lib.spokes.hub_states import HubStates
from tasks_lib.spokes.link import SpokeLink
from tasks_lib.spokes.online_machines import OnlineMachines
from tasks_lib.spokes.published_sessions import find_ended_sessions, list_continued
from tasks_lib.spokes.remote_session import RemoteSession

LOOK_SECONDS = 5.0
"""How often the run asks which spokes are online."""
CLOSE_SECONDS = 15.0
GONE_SECONDS = 45.0
"""Between turns, a session of which nothing was heard for so long has ended if its machine is offline too."""
LISTEN_SECONDS = 0.5
RETURN_SECONDS = 45.0
"""How long after its machine came online a lost session has to be heard of."""


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
        self._machines = OnlineMachines(settings, link, slots, say)
        self._watching: asyncio.Task[None] | None = None
        self._on_change: Callable[[], None] = lambda: None

    async def begin(self, git: GitAccess, on_change: Callable[[], None]) -> None:
        """Check the remote, remove what killed runs published, and begin to follow which spokes are online.

        `on_change` is called whenever more sessions may be able to start. Raises InputError if the remote cannot be
        used.
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
            await self._machines.look()
        except RemoteError as error:
            raise InputError([f"spokes: {error}"]) from error
        self._git, self._on_change = git, on_change
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
        choose, leave = partial(self._choose, node, spec.role), partial(self._leave, node)
        lost_seconds = self._settings.lost_seconds
        return RemoteSession(spec, find_worktree, order, self._link, self._states, choose, leave, lost_seconds)

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

    # Sessions that other attempts, or other runs, have left.

    async def can_continue(self, conversation: str, attempt: int, turn: int) -> bool:
        """Whether the session of `conversation` can take that turn, or has reported it."""
        known = parse_conversation(conversation)
        if known is None:
            return False
        news = await self._link.next_news(known.run, -1)
        if news.find_result(attempt, turn, known.state):
            return True
        is_silent = news.silent_seconds > GONE_SECONDS and not self._machines.is_online(known.machine)
        return not (news.ended or is_silent)

    def is_lost(self, conversation: str) -> bool:
        """Whether `conversation` is of a session that was given up because nothing was heard of it."""
        known = parse_conversation(conversation)
        return bool(known and known.lost)

    async def has_returned(self, node: Task, conversation: str, attempt: int, turn: int) -> bool:
        """Whether a lost session is heard of again, or has reported that turn.

        If its machine is online and no other one is, waits up to `RETURN_SECONDS` for that: a machine's worker may be
        heard of before its sessions.
        """
        known = parse_conversation(conversation)
        with suppress(TimeoutError):
            async with asyncio.timeout(RETURN_SECONDS):
                while known:
                    news = await self._link.next_news(known.run, -1)
                    if news.find_result(attempt, turn, known.state):
                        return True
                    if news.ended or news.pulse not in ("", known.lost):
                        return not news.ended
                    if self._machines.list_fitting(node) != [known.machine]:
                        return False
                    await asyncio.sleep(LISTEN_SECONDS)
        return False

    async def give_up(self, session: str, conversation: str, worktree: Worktree, log: Path) -> None:
        """End a session for good. What it pushed last is taken first; what it pushes later will be kept at a ref."""
        known = parse_conversation(conversation)
        if known is None or self._states is None:
            return
        # Without an answer, the session ends itself, and the next run removes what it published.
        with suppress(RemoteError, GitError):
            if not (await self._link.next_news(known.run, -1)).ended:
                await self._link.stop(known.run)
            await self._states.take(session, worktree, log, taken=known.state)
            await self._states.forget(session)

    # Machines.

    def has_machine(self, node: Task) -> bool:
        """Whether a spoke is online that may run the session of `node`."""
        return bool(self._machines.list_fitting(node))

    async def wait_for_machine(self, node: Task) -> None:
        """Return once there is such a spoke; says what to start if there is none."""
        await self._machines.wait_for(node)

    async def _choose(self, node: Task, role: str) -> str:
        """Choose the machine for a session with `role`; waits for one unless the session may run on the hub as well.

        Raises AgentError.
        """
        if Place.LOCAL not in self._settings.list_places(node, role):
            await self._machines.wait_for(node)
        return self._machines.choose(node)

    def _leave(self, node: Task, machine: str, has_failed: bool) -> None:
        self._machines.leave(node, machine, has_failed=has_failed)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            with suppress(RemoteError):
                await self._machines.look()
                self._on_change()
