"""A session on another machine, as the run sees it: prompted turn by turn like a local one.

The run keeps a worktree of its own for the node. Before a turn its state is published for the other machine, and after
a turn it is made what the other machine reports. So everything that is decided from a worktree is decided as for a
local session.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from uuid import uuid4

from tasks_lib.agents.backend import SessionSpec, SessionView, TurnEnd, TurnSpec
from tasks_lib.errors import AgentError, GitError, RemoteError, ShellError
from tasks_lib.git.worktrees.lifecycle import Worktree
from tasks_lib.session.remote_conversation import RemoteConversation, parse_conversation, write_conversation
from tasks_lib.session.remote_messages import Progress, SayOrder, SessionOrder, StopOrder, TurnOrder, TurnReport
from tasks_lib.session.spending import NOTHING
from tasks_lib.spokes.hub_states import HubStates, TakenState
from tasks_lib.spokes.link import News, SpokeLink
from tasks_lib.spokes.live_log import LogMirror

UNSTARTED_SECONDS = 90.0
STOP_SECONDS = 90.0
"""How long a session may take to end its turn and push its work when it is asked to."""
CLOSE_SECONDS = 60.0
SAY_SECONDS = 6.0


class RemoteSession:
    """A session of a run on a spoke. `order` lacks only where and how often it was started.

    `choose` returns the machine to start on, and raises AgentError if there is none; `leave` is called with it once the
    session has ended there, and whether it failed. After `lost_seconds` of silence, while the server answers, the
    session is lost: its turn has failed, and the next attempt decides whether the session is back.
    """

    def __init__(
        self,
        spec: SessionSpec,
        find_worktree: Callable[[], Worktree],
        order: SessionOrder,
        link: SpokeLink,
        states: HubStates,
        choose: Callable[[], Awaitable[str]],
        leave: Callable[[str, bool], None],
        lost_seconds: float,
    ) -> None:
        self._spec = spec
        self._find_worktree = find_worktree
        self._order = order
        self._link = link
        self._states = states
        self._choose = choose
        self._leave = leave
        self._lost_seconds = lost_seconds
        self._known: RemoteConversation | None = parse_conversation(spec.conversation)
        self._is_open = False
        self._news = News()
        self._silence = ""
        self._mirror = LogMirror(spec.log)

    @property
    def machine(self) -> str:
        """The spoke that it runs on, "" before it is chosen."""
        return self._known.machine if self._known else ""

    async def prompt(self, text: str, turn: TurnSpec) -> TurnEnd:
        """Take a turn on the other machine, or wait for the end of one that an earlier run began there.

        If cancelled, the turn is ended and its work fetched first. Raises ShellError if `setup` failed there,
        AgentError if the session cannot be started or is refused.
        """
        try:
            if report := await self._find_late_report(turn):
                return await self._settle(report)
            start = await self._states.publish_start(self._order.session, self._find_worktree(), turn.target)
            run = await self._open()
            allowances = tuple(self._spec.allowances()) if self._spec.allowances else ()
            order = TurnOrder(turn.attempt, turn.turn, start, turn.target, text, allowances)
            await self._link.send(run, f"turn-{turn.attempt}-{turn.turn}", order)
        except (RemoteError, GitError) as error:
            raise AgentError(
                f"the session on {self.machine or 'another machine'} cannot be reached: {error}"
            ) from error
        try:
            report = await self._await_report(run, turn)
        except asyncio.CancelledError:
            await self._end_turn(run, turn)
            raise
        return await self._settle(report)

    async def _find_late_report(self, turn: TurnSpec) -> TurnReport | None:
        """Look at the session that an earlier run or a failed attempt left: it continues, or it has ended.

        If it has ended, returns its report of this turn; without one, takes what it pushed, and returns None.
        """
        if self._known is None or self._is_open:
            return None
        news = await self._link.next_news(self._known.run, -1)
        self._is_open, self._news = not news.ended, replace(news, number=-1)
        if self._known.lost:
            self._remember(replace(self._known, lost=""))
        if self._is_open:
            return None
        if report := news.find_result(turn.attempt, turn.turn, self._known.state):
            return report
        await self._take(taken=self._known.state)
        return None

    async def _open(self) -> str:
        """Start the session, unless it continues."""
        if not (self._known and self._is_open):
            before = self._known
            machine = await self._choose()
            is_same = before is not None and before.machine == machine
            order = replace(
                self._order,
                machine=machine,
                generation=(before.generation if before else 0) + 1,
                conversation=before.inner if before and is_same else "",
            )
            run = await self._link.start(order, machine)
            self._is_open, self._news = True, News()
            state = before.state if before else ""
            return self._remember(RemoteConversation(run, machine, order.generation, order.conversation, state)).run
        return self._known.run

    def _remember(self, known: RemoteConversation) -> RemoteConversation:
        self._known = known
        if self._spec.on_conversation:
            self._spec.on_conversation(write_conversation(known))
        return known

    async def _await_report(self, run: str, turn: TurnSpec) -> TurnReport | str:
        """Wait for the end of the turn; returns why the session was given up if there is no report."""
        while True:
            self._news = news = await self._link.next_news(run, self._news.number)
            limit = self._lost_seconds if news.progress else UNSTARTED_SECONDS
            if news.silent_seconds <= limit:
                self._silence = ""
            if news.progress:
                await self._show(news.progress)
            if report := news.find_report(turn.attempt, turn.turn):
                return report
            if news.ended:
                return f"ended: {news.ended}"
            if news.silent_seconds > limit and (reason := await self._look(news)):
                return await self._give_up(run, news, reason)

    async def _look(self, news: News) -> str:
        """Look at a session of which nothing was heard for too long; return why it is given up, "" to wait longer."""
        is_online = await self._is_online()
        is_alive = news.progress is not None and is_online is True and news.silent_seconds <= 2 * self._lost_seconds
        if is_alive and self._silence:
            return ""
        what = "nothing was heard of it" if news.progress else "its worker did not start it"
        found = {True: "is online", False: "is offline", None: "could not be asked about"}[is_online]
        reason = f"{what} for {news.silent_seconds:.0f} seconds, and its worker {found}"
        last = f"; it was at {news.progress.activity or news.progress.stage}" if news.progress else ""
        then = f"it is given up if that lasts {self._lost_seconds:.0f} seconds more" if is_alive else "it is given up"
        self._silence = f"on {self.machine}, {reason}{last}; {then}"
        if self._spec.on_view:
            self._spec.on_view(self._view(news.progress or Progress(self.machine, "preparing")))
        return "" if is_alive else reason

    async def _is_online(self) -> bool | None:
        """Whether the worker on the session's machine is online; None if the server does not say."""
        try:
            machines = await self._link.list_machines()
        except RemoteError:
            return None
        return any(machine.is_online for machine in machines if machine.name == self.machine)

    def _end(self, *, has_failed: bool) -> None:
        if self._is_open:
            self._is_open = False
            self._leave(self.machine, has_failed)

    async def _give_up(self, run: str, news: News, reason: str) -> str:
        """Continue without the session; returns why. What it reports later may still become the attempt's result."""
        if news.progress and self._spec.on_conversation and self._known:
            self._remember(replace(self._known, lost=news.pulse or "no pulse"))
            return f"is lost: {reason}"
        with suppress(RemoteError):
            await self._link.stop(run)
        return f"was given up: {reason}"

    async def _show(self, progress: Progress) -> None:
        if self._spec.on_view:
            self._spec.on_view(self._view(progress))
        if self._known and progress.conversation and progress.conversation != self._known.inner:
            self._remember(replace(self._known, inner=progress.conversation))
        if progress.log:
            await asyncio.to_thread(self._mirror.add, progress.log, progress.log_bytes)
        if progress.notices:
            await self._states.write_notices(self._find_worktree(), progress.notices.encode("utf-8", "replace"))

    def _view(self, progress: Progress) -> SessionView:
        return SessionView(
            progress.activity or progress.stage, progress.active_at, progress.spent, progress.todos,
            progress.todos_done, progress.todo, progress.machine, progress.diffstat, self._silence,
        )  # fmt: skip

    async def _settle(self, report: TurnReport | str) -> TurnEnd:
        """Make the worktree what the session reported, or, without a report, what it had pushed last."""
        if isinstance(report, str):
            self._end(has_failed=True)
            kept = await self._take_pushed()
            error = f"the session on {self.machine} {report}; {kept}"
            spent = self._news.progress.spent if self._news.progress else NOTHING
            return TurnEnd(1, timed_out=False, answer="", error=error, seconds=0.0, spent=spent)
        if report.is_last:
            self._end(has_failed=True)
        if report.refused:
            raise AgentError(f"{self.machine} refuses the session: {report.refused}")
        if report.setup:
            raise ShellError(report.setup.line, report.setup.status, report.setup.tail, f"on {self.machine}")
        if not report.state:
            raise AgentError(f"{self.machine} could not push its work to the git remote; it is kept there")
        try:
            await self._take()
        except (RemoteError, GitError) as error:
            raise AgentError(f"the work of {self.machine} cannot be fetched: {error}") from error
        if self._spec.on_prepared and report.prepared:
            self._spec.on_prepared(report.prepared)
        return TurnEnd(
            report.status, report.timed_out, report.answer, report.error, report.seconds, report.spent,
            report.excess, report.refusal, report.is_limited, report.stall, report.loop, report.outside,
        )  # fmt: skip

    async def _take_pushed(self) -> str:
        """Take what the session had pushed when it died; say what that was, and what is missing."""
        try:
            taken = await self._take(taken="")
        except (RemoteError, GitError) as error:
            return f"what it had done there is not known here ({error})"
        if self._spec.is_read_only:
            return "its changes are not needed"
        here = f"its work up to {taken.branch[:10]} is here" if taken else "it had pushed nothing of this turn"
        told = self._news.progress.diffstat if self._news.progress else ""
        seen = f", which it last described as {told} in all" if told else ""
        return f"{here}. Missing is what it did after that{seen}; {self.machine} keeps it at a ref when it starts again"

    async def _take(self, *, taken: str | None = None) -> TakenState | None:
        spec, session = self._spec, self._order.session
        found = await self._states.take(
            session, self._find_worktree(), spec.log, taken=taken, is_read_only=spec.is_read_only
        )
        if found and self._known:
            self._remember(replace(self._known, state=found.commit))
        return found

    async def _end_turn(self, run: str, turn: TurnSpec) -> None:
        """End the turn on the other machine and take its work, within limits: a person is waiting."""
        job = asyncio.ensure_future(self._stop_turn(run, turn))
        with suppress(TimeoutError, AgentError, ShellError, RemoteError):
            while not job.done():
                # Cancelled again, it still waits: what was not fetched would be missing here.
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([job])
            job.result()

    async def _stop_turn(self, run: str, turn: TurnSpec) -> None:
        async with asyncio.timeout(STOP_SECONDS):
            await self._link.send(run, f"stop-{turn.attempt}-{turn.turn}", StopOrder(is_last=False))
            await self._settle(await self._await_report(run, turn))

    async def say(self, text: str) -> bool:
        """Send a message to the agent; False if it was not received within a few seconds."""
        if not (self._known and self._is_open):
            return False
        message = SayOrder(uuid4().hex[:12], text)
        with suppress(TimeoutError, RemoteError):
            async with asyncio.timeout(SAY_SECONDS):
                await self._link.send(self._known.run, f"say-{message.id}", message)
                news = self._news
                while True:
                    said = dict(news.progress.said) if news.progress else {}
                    if message.id in said:
                        return said[message.id]
                    news = await self._link.next_news(self._known.run, news.number)
        return False

    def attach_command(self) -> str:
        """Return "": the conversation is on another machine."""
        return ""

    async def close(self) -> None:
        """End the session there, and remove what it published once it has ended; one that is lost is left as it is."""
        if self._known and self._known.lost:
            return
        if not (self._known and self._is_open):
            await self._forget()
            return
        self._end(has_failed=False)
        run, seen = self._known.run, self._news.number
        with suppress(RemoteError, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._link.send(run, "stop-last", StopOrder(is_last=True))
                while not (news := await self._link.next_news(run, seen)).ended:
                    seen = news.number
        await self._forget()

    async def _forget(self) -> None:
        with suppress(RemoteError, GitError):
            await self._states.forget(self._order.session)
