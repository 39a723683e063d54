"""A session on this machine for a run on another: takes its turns as messages, and pushes its work."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks_lib.agents.backend import Need, Session, SessionSpec, SessionView, TurnEnd, TurnSpec
from tasks_lib.errors import CoordinatorError, GitError, ShellError
from tasks_lib.git.commits.branch_state import read_shortstat, read_state
from tasks_lib.git.remote_sessions.session_remote import START, session_ref
from tasks_lib.git.remote_sessions.state_application import apply_state
from tasks_lib.git.remote_sessions.state_commits import SessionState
from tasks_lib.git.session_record import clear_notices, find_limit, read_notices_file, write_record
from tasks_lib.git.worktrees.lifecycle import Worktree
from tasks_lib.model import Stage
from tasks_lib.process.host_resources import choose_memory_limit
from tasks_lib.process.thread_calls import call_to_end
from tasks_lib.session.attempt_record import AttemptIdentity, Record, TurnRecord
from tasks_lib.session.remote_messages import (
    Progress,
    SayOrder,
    SessionOrder,
    SetupFailed,
    StopOrder,
    TurnOrder,
    TurnReport,
)
from tasks_lib.session.spending import Allowance
from tasks_lib.spokes.link import HubLink
from tasks_lib.spokes.live_log import read_end
from tasks_lib.spokes.room import wait_for_room
from tasks_lib.spokes.state_pushes import StatePushes
from tasks_lib.spokes.workspace import Workspace

PROGRESS_SECONDS = 2.0
PULSE_SECONDS = 20.0
"""How often progress is published even if nothing changed, so that the run knows that this machine lives."""
PUSH_SECONDS = 30.0
"""How often work in progress is pushed, if it changed: what is lost if this machine dies."""
IDLE_SECONDS = 3600.0
"""How long a session waits for its next turn. By then its run will not return, and its work is on the remote."""
PUSH_TRIES = 20
"""Ten minutes; then the work stays on this machine, and the report says so."""
NOTICE_BYTES = 8 << 10


@dataclass(frozen=True, slots=True)
class Machine:
    """The name of this machine, and where it keeps the logs of sessions."""

    name: str
    logs: Path


class HostedSession:
    """One session. `open_workspace` refuses it with InputError; `say` is called with lines for its log."""

    def __init__(
        self,
        order: SessionOrder,
        open_workspace: Callable[[], Awaitable[Workspace]],
        link: HubLink,
        machine: Machine,
        say: Callable[[str], None],
    ) -> None:
        self._order = order
        self._open_workspace = open_workspace
        self._opened: Workspace | None = None
        self._link = link
        self._machine = machine
        self._say = say
        self._worktree: Worktree | None = None
        self._session: Session | None = None
        self._log = machine.logs / f"{order.session}-{order.generation}.log"
        self._progress = Progress(machine.name, "preparing", conversation=order.conversation)
        self._has_changed = asyncio.Event()
        self._pushes: StatePushes | None = None
        self._base = ""
        # A review of a branch must not disturb the session whose worktree has this branch.
        self._branch = f"coordinator-review/{order.session}" if order.is_read_only else order.branch
        self._last: TurnReport | None = None
        self._is_leaving = False
        self._prepared: tuple[str, ...] = ()
        self._allowances: tuple[Allowance, ...] = ()
        self._turn: asyncio.Task[TurnReport] | None = None

    @property
    def _workspace(self) -> Workspace:
        assert self._opened is not None
        return self._opened

    async def work(self) -> None:
        """Take turns until the run ends the session, or does not come back; then leave nothing here.

        If cancelled, because the worker stops, the turn is ended, and its work is pushed first.
        """
        pulse = asyncio.create_task(self._publish_progress())
        try:
            while await self._take_message():
                pass
        except asyncio.CancelledError:
            self._is_leaving = True
            raise
        finally:
            await self._close()
            pulse.cancel()
            await asyncio.gather(pulse, return_exceptions=True)

    # Messages.

    async def _take_message(self) -> bool:
        """Handle one message; returns whether to go on."""
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                message = await self._link.receive()
        except TimeoutError:
            if self._turn and not self._turn.done():
                return True
            self._say(f"No turn came for {IDLE_SECONDS:.0f} seconds; the session ends. Its work is on the remote.")
            return False
        match message:
            case TurnOrder(attempt, turn) if self._last and (attempt, turn) == (self._last.attempt, self._last.turn):
                await self._link.publish(report=self._last)
            case TurnOrder():
                await self._end_turn()
                self._turn = asyncio.create_task(self._take_turn(message))
            case SayOrder():
                is_received = self._session is not None and await self._session.say(message.text)
                self._show(said=(*self._progress.said, (message.id, is_received))[-20:])
                # A person waits for this answer, and the next regular one may be `PROGRESS_SECONDS` away.
                await self._link.publish(progress=self._progress)
            case StopOrder(is_last):
                await self._end_turn()
                return not is_last
        return True

    async def _end_turn(self) -> None:
        """End the turn in progress, which reports what was done."""
        if self._turn and not self._turn.done():
            self._turn.cancel()
        if self._turn:
            await asyncio.wait([self._turn])

    # A turn.

    async def _take_turn(self, order: TurnOrder) -> TurnReport:
        report = TurnReport(order.attempt, order.turn, status=1)
        try:
            report = await self._run_turn(order)
        except asyncio.CancelledError:
            what = f"the worker on {self._machine.name} was stopped" if self._is_leaving else "it was ended on request"
            report = replace(report, error=f"the turn did not end by itself: {what}", is_last=self._is_leaving)
        except ShellError as error:
            report = replace(report, setup=SetupFailed(error.line, error.status, error.tail))
        except (CoordinatorError, OSError, ValueError) as error:
            report = replace(report, refused=str(error) or type(error).__name__)
        is_wanted = not (self._order.is_read_only and report.error)
        state = await self._push_until_done() if is_wanted else ""
        report = replace(report, state=state, prepared=self._prepared)
        self._show(stage="waiting", activity="")
        self._last = report
        await self._link.publish(progress=self._progress, report=report)
        return report

    async def _run_turn(self, order: TurnOrder) -> TurnReport:
        self._show(stage="preparing")
        await self._prepare(order)
        self._allowances = order.allowances
        session = await self._open_session()
        await call_to_end(lambda: self._write_record(order))
        self._show(stage="session")
        pushing = asyncio.create_task(self._keep_pushing())
        try:
            end = await session.prompt(order.prompt, TurnSpec(order.attempt, order.turn, order.target))
        finally:
            pushing.cancel()
            await asyncio.gather(pushing, return_exceptions=True)
        return replace(self._describe(order, end), **await self._describe_damage())

    def _describe(self, order: TurnOrder, end: TurnEnd) -> TurnReport:
        return TurnReport(
            order.attempt, order.turn, end.status, end.timed_out, end.answer, end.error, end.seconds, end.spent,
            end.excess, end.refusal, end.is_limited, end.stall, end.loop, end.outside,
        )  # fmt: skip

    async def _prepare(self, order: TurnOrder) -> None:
        """Make the worktree what the run has; the first time it is created, and `setup` runs."""
        if self._opened is None:
            self._opened = await self._open_workspace()
        space, given = self._workspace, self._order
        ref = session_ref(given.hub, given.session, START)
        state = await call_to_end(lambda: space.repository.take_start(ref, order.start))
        if self._worktree is not None and self._pushes is not None:
            worktree, copied = self._worktree, space.settings.copy_paths
            if state.branch != self._pushes.branch:
                await call_to_end(lambda: apply_state(worktree, space.isolation, state, copied))
            return
        worktrees = space.repository.repository.worktrees_dir
        await wait_for_room(space.settings.watch, worktrees, lambda text: self._show(activity=text), self._say)
        await self._set_up(await call_to_end(lambda: self._open_worktree(state)))

    def _open_worktree(self, state: SessionState) -> Worktree:
        """Open the worktree, which is closed with the session even if that ends meanwhile."""
        space, given = self._workspace, self._order
        worktree = space.repository.open_worktree(space.worktrees, space.isolation, self._branch, state, given.session)
        self._pushes = StatePushes(
            space.repository.remote, worktree, given, self._branch, self._machine.name, self._log,
            space.settings.copy_paths, self._say,
        )  # fmt: skip
        self._worktree = worktree
        self._base = state.branch
        clear_notices(worktree.git_dir)
        return worktree

    async def _set_up(self, worktree: Worktree) -> None:
        if self._workspace.settings.setup:
            self._show(stage="setup")
        log = self._log.with_name(f"{self._log.stem}-setup.log")
        self._prepared = await self._workspace.set_up(worktree, log)

    async def _open_session(self) -> Session:
        if self._session is None:
            backend = await self._workspace.prepare(Need(self._order.role, self._order.model, "the run"))
            self._session = backend.open(self._specify())
        return self._session

    def _specify(self) -> SessionSpec:
        space, given, worktree, pushes = self._workspace, self._order, self._worktree, self._pushes
        assert worktree is not None
        assert pushes is not None
        return SessionSpec(
            session=given.session,
            role=given.role,
            task_id=given.node,
            task_file=given.task_file,
            branch=given.branch,
            slot=worktree.slot,
            cwd=worktree.path,
            environment=space.environments.of("agent", worktree.slot),
            log=self._log,
            prompt_directory=space.prompts / given.session,
            turn_seconds=space.settings.watch.turn_seconds,
            stop_seconds=space.settings.watch.stop_seconds,
            model=given.model,
            title=given.title,
            conversation=given.conversation,
            on_conversation=lambda conversation: self._show(conversation=conversation),
            on_view=self._show_view,
            allowances=lambda: self._allowances,
            digest_worktree=lambda: asyncio.to_thread(pushes.read_digest),
            is_read_only=given.is_read_only,
            find_limit=lambda turn: find_limit(worktree.git_dir, turn),
            memory_mb=choose_memory_limit(space.settings.watch.memory_mb),
        )

    def _write_record(self, order: TurnOrder) -> None:
        """Write what `coordinator notify` reads, and what marks the worktree as a session's after a kill."""
        assert self._worktree is not None
        given = self._order
        attempt = AttemptIdentity(order.attempt, order.attempt, given.session, slot=self._worktree.slot)
        turn = TurnRecord(order.turn, self._base)
        write_record(self._worktree.git_dir, Record(given.node, given.branch, Stage.SESSION, attempt, turn))

    async def _describe_damage(self) -> dict[str, Any]:
        """Return how the report changes if the agent left the worktree unusable, or on another branch; {} if not."""
        assert self._worktree is not None
        try:
            state = await asyncio.to_thread(read_state, self._worktree.git)
        except GitError as error:
            return {"status": 1, "error": f"git cannot read the worktree any more: {error}"}
        if state.branch == self._branch or self._order.is_read_only:
            return {}
        where = state.branch or "no branch"
        return {"status": 1, "error": f"the worktree is on {where} instead of {self._branch}"}

    # Progress and work in progress.

    def _show(self, **changes: object) -> None:
        self._progress = replace(self._progress, **changes)  # pyright: ignore[reportArgumentType]
        self._has_changed.set()

    def _show_view(self, view: SessionView) -> None:
        self._show(
            activity=view.activity, active_at=view.active_at, spent=view.spent,
            todos=view.todos, todos_done=view.todos_done, todo=view.todo,
        )  # fmt: skip

    async def _publish_progress(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(PULSE_SECONDS):
                    await self._await_change()
            self._has_changed.clear()
            await self._look()
            await self._link.publish(progress=replace(self._progress, active_at=self._progress.active_at or now()))
            await asyncio.sleep(PROGRESS_SECONDS)

    async def _await_change(self) -> None:
        """Wait until there is something new to publish; a growing log sends no event, so its size is polled."""
        while not self._has_changed.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(PROGRESS_SECONDS):
                    await self._has_changed.wait()
            if (await asyncio.to_thread(read_end, self._log))[1] != self._progress.log_bytes:
                return

    async def _look(self) -> None:
        """Read the end of the log, the agent's notices, and how much it has changed."""
        log, size = await asyncio.to_thread(read_end, self._log)
        self._progress = replace(self._progress, log=log, log_bytes=size)
        if self._worktree is None:
            return
        notices = await asyncio.to_thread(read_notices_file, self._worktree.git_dir)
        told = notices.decode("utf-8", "replace") if len(notices) <= NOTICE_BYTES else ""
        with suppress(GitError):
            found = await asyncio.to_thread(read_shortstat, self._worktree.git, self._base)
            self._progress = replace(self._progress, diffstat=found)
        self._progress = replace(self._progress, notices=told)

    async def _keep_pushing(self) -> None:
        """Push work in progress at intervals, if it changed."""
        while not self._order.is_read_only:
            await asyncio.sleep(PUSH_SECONDS)
            if self._pushes:
                await self._pushes.push_changes()

    async def _push_until_done(self) -> str:
        """Push the state of the worktree, again while the remote does not answer; return its commit.

        Returns "" if there is no worktree, or if `PUSH_TRIES` attempts failed.
        """
        for _ in range(PUSH_TRIES):
            if self._pushes is None or await self._pushes.push_changes():
                break
            self._show(activity="waiting for the git remote, to push its work")
            await asyncio.sleep(PUSH_SECONDS)
        return self._pushes.state if self._pushes else ""

    async def _close(self) -> None:
        """End the turn and the session, push what is new, and remove the worktree."""
        await self._end_turn()
        if self._session is not None:
            await self._session.close()
        worktree, pushes = self._worktree, self._pushes
        if worktree is None or pushes is None:
            return
        space, is_read_only = self._workspace, self._order.is_read_only
        if is_read_only:
            await pushes.wait()
        elif not await pushes.push_changes():
            return
        pushed = None if is_read_only else pushes.branch
        await call_to_end(lambda: space.repository.close_worktree(space.worktrees, worktree, self._branch, pushed))


def now() -> str:
    """The time as ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
