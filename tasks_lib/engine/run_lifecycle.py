"""Opens and closes a run: locks the repository, cleans up after earlier runs, and leaves nothing running."""

import asyncio
import os
import socket
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tasks_lib.agents.backend import Backend
from tasks_lib.agents.opencode.backend import find_data, forget_conversations, move_data
from tasks_lib.cleanup.dead_run import describe_takeover
from tasks_lib.cleanup.landed_nodes import NodeWorktrees
from tasks_lib.cleanup.moved_repository import adopt_new_location, is_mounted, require_disk
from tasks_lib.cleanup.plan import CleanupPlan, Scope, Stage, apply, find_leftovers, summarize
from tasks_lib.errors import CoordinatorError, InputError
from tasks_lib.git.repository import Repository
from tasks_lib.git.repository_lock import HeldRunLock, RunLock
from tasks_lib.git.worktrees.relinking import Relocation
from tasks_lib.landing.base_follower import BaseFollower
from tasks_lib.landing.candidate_verification import Verifier
from tasks_lib.landing.completed_elsewhere import end_completed_elsewhere_nodes
from tasks_lib.landing.head_moves import HeadMoves
from tasks_lib.landing.merge_queue import MergeQueue
from tasks_lib.landing.moving_base import MovingBaseLimit
from tasks_lib.landing.publish_local import LocalPublisher
from tasks_lib.landing.publish_remote import RemotePublisher
from tasks_lib.model import OutcomeName
from tasks_lib.process.marked_processes import marked
from tasks_lib.process.private_directories import name_owner, private_directory
from tasks_lib.project.agent_instructions import read_project_instructions
from tasks_lib.project.child_environment import REPOSITORY_MARKER, ChildEnvironments
from tasks_lib.project.loading import Project
from tasks_lib.runtime.agent_access import AgentAccess
from tasks_lib.runtime.agent_requirements import find_agent_requirements
from tasks_lib.runtime.backend_factory import make_backend
from tasks_lib.runtime.conflict_radar import ConflictRadar
from tasks_lib.runtime.earlier_spending import count_earlier_spending
from tasks_lib.runtime.notifier import FLUSH_SECONDS, QUICK_FLUSH_SECONDS, Notifier, make_notifier
from tasks_lib.runtime.run_context import Run
from tasks_lib.runtime.session_places import SessionPlaces
from tasks_lib.runtime.session_slots import SessionSlots
from tasks_lib.runtime.status_board import VIEW_NAME, Board, NodeView, RunView, now_text
from tasks_lib.spokes.link import SpokeLink
from tasks_lib.spokes.remote_sessions import RemoteSessions

WATCH_SECONDS = 1.0
"""How often the base is checked for commits that this run did not make."""
WRITE_SECONDS = 0.5
WRITTEN_A_SECOND = 1_000_000
"""Bytes of `run.json`, which is written whole: with 10,000 nodes that have run it is about 4 MB."""
NO_VERIFY = (
    "No `verify` is configured: what lands is not tested as merged. Add the commands that test this repository to "
    "coordinator.yaml."
)


@dataclass(frozen=True, slots=True)
class SpokeAccess:
    """How a run reaches sessions on other machines; `release` is that of this coordinator."""

    link: SpokeLink
    release: str


@dataclass(frozen=True, slots=True)
class Simulation:
    """What takes the place of agents and of time in a run; `clock` returns seconds since the epoch."""

    backend: Backend
    clock: Callable[[], float]


class OpenRun:
    """A run with its merge queue, base follower, publisher and notifier.

    `relocation` describes how the repository was moved or copied since the last run, None if it was not.
    """

    def __init__(self, run: Run, relocation: Relocation | None) -> None:
        self.run: Run = run
        self.relocation: Relocation | None = relocation
        remote = run.project.open_remote()
        moves = self._moves = HeadMoves(run, self._on_moved)
        limit = MovingBaseLimit(run.git.repository, run.project.base_name, is_remote=remote is not None)
        verifier = Verifier(run, limit.verifying)
        self.base_follower: BaseFollower = BaseFollower(
            run, moves, verifier, limit, fetch_base=lambda: remote and remote.fetch()
        )
        radar = ConflictRadar(run.git, run.board, run.settings.watch.conflict_seconds, run.git.reader.covers)
        self.merge_queue: MergeQueue = MergeQueue(run, moves, verifier, self.base_follower, radar)
        self.publisher: LocalPublisher | RemotePublisher = (
            RemotePublisher(run, self.base_follower, remote) if remote else LocalPublisher(run, self.base_follower)
        )
        self.notifier: Notifier = make_notifier(run.project, run.agents.environments, run.board)
        self.judge: Callable[[], int] | None = None
        """Returns the exit code once the run has closed; it is recorded before the lock is released."""

    @property
    def is_full(self) -> bool:
        """Whether as many nodes have landed as may in this run; no more start then."""
        return self._moves.is_full

    def limit_landings(self, most: int) -> None:
        """Let at most `most` nodes land in this run, 0 for any number."""
        self._moves.max_landings = most

    def _on_moved(self) -> None:
        self.run.changed.set()
        self.publisher.publish_soon()


@asynccontextmanager
async def open_run(
    project: Project,
    run_id: str,
    max_sessions: int,
    on_open: Callable[[OpenRun], None] | None = None,
    *,
    data: Path | None = None,
    spokes: SpokeAccess | None = None,
    simulation: Simulation | None = None,
) -> AsyncGenerator[OpenRun]:
    """Lock the repository for one run, clean up what an earlier run left, and close the run when the block ends.

    `data` is coordinator's own data directory, where a backend keeps data between runs; without it the backend keeps
    nothing. `spokes` reaches other machines; without it, all sessions run here. `simulation` replaces agents and time.
    Raises BusyError while another coordinator holds the lock, and InputError with all faults if the configured agent is
    not available.
    """
    repository, view = project.repository, _make_view(project, run_id)
    await asyncio.to_thread(repository.prepare)
    with (
        RunLock(repository.state_dir, run_id) as lock,
        marked(REPOSITORY_MARKER, str(repository.common_dir)),
        private_directory(name_owner(repository.common_dir)) as private,
    ):
        board, relocation = await _take_over(repository, lock, view, data)
        opened = OpenRun(
            await _make_run(project, board, max_sessions, data or private, private, spokes, simulation), relocation
        )
        opened.run.nodes.journal.open(repository.state_dir, board, max_sessions, project.head)
        try:
            if on_open:
                on_open(opened)
            await _prepare(opened, lock, data)
            async with _running_alongside(*_list_works(opened)):
                yield opened
                await opened.run.background.wait()
                await opened.publisher.finish()
        finally:
            await _close(opened)
        await _record_end(opened)


async def _prepare(opened: OpenRun, lock: HeldRunLock, data: Path | None) -> None:
    left = await clean_up_before_run(opened, lock, data)
    await count_earlier_spending(opened.run, [record for _, record in left.open])
    tasks = opened.run.nodes.graph.tasks
    for _, record in left.open:
        if record.acceptance.is_permitted and record.task_id in tasks:
            opened.run.nodes.let_land(record)
    if data and not any(record.turn.conversation for _, record in left.open):
        repository = opened.run.git.repository
        await asyncio.to_thread(forget_conversations, find_data(data, str(repository.common_dir)))
    await prepare_backend(opened.run)


def _make_view(project: Project, run_id: str) -> RunView:
    repository = project.repository
    return RunView(
        *(run_id, project.target, now_text(), os.getpid(), socket.gethostname()),
        nodes=_list_nodes(project),
        place=str(repository.common_dir),
        inode=repository.common_dir.stat().st_ino,
        is_mounted=is_mounted(repository),
    )


async def _take_over(
    repository: Repository, lock: HeldRunLock, view: RunView, data: Path | None
) -> tuple[Board, Relocation | None]:
    """Fix the paths of a repository that was moved; return the run's board, and how it was moved since the last run.

    Call first, before anything is written that records where the repository is.
    """
    relocation, moved = await asyncio.to_thread(adopt_new_location, repository, lock)
    await asyncio.to_thread(require_disk, repository)
    board = Board(view, repository.state_dir / VIEW_NAME)
    for line in moved:
        board.say(line)
    is_copy = relocation is not None and relocation.is_copy
    if lock.left and not is_copy:
        board.say(describe_takeover(lock.left, view.host))
    if data and relocation and not is_copy:
        await asyncio.to_thread(move_data, data, str(relocation.former), str(repository.common_dir))
    return board, relocation


async def _make_run(
    project: Project,
    board: Board,
    max_sessions: int,
    data: Path,
    private: Path,
    spokes: SpokeAccess | None,
    simulation: Simulation | None,
) -> Run:
    environments = ChildEnvironments(project.settings, project.repository, private)
    instructions = await asyncio.to_thread(read_project_instructions, project)
    simulated = simulation.backend if simulation else None
    backend = simulated or make_backend(project, instructions, environments, data, private)
    local, remote = SessionSlots(max_sessions), None
    if spokes and project.settings.spokes.remote:
        remote = RemoteSessions(project, spokes.link, spokes.release, SessionSlots(1), board.say)
    places = SessionPlaces(project.settings, local, remote.slots if remote else None)
    clock = simulation.clock if simulation else time.time
    agents = AgentAccess(backend, places, instructions, environments, private / "prompts", remote, clock)
    return Run(project, board.view.run, board, agents, private)


def _list_nodes(project: Project) -> dict[str, NodeView]:
    tasks = project.graph.tasks.values()
    outcomes = {task.id: OutcomeName.LANDED if task.is_completed else OutcomeName.NONE for task in tasks}
    return {task.id: NodeView(task.id, task.name, outcome=outcomes[task.id]) for task in tasks}


async def clean_up_before_run(opened: OpenRun, held: HeldRunLock, data: Path | None = None) -> NodeWorktrees:
    """Clean up what an earlier run left: processes, incomplete worktrees, landed nodes, unpublished merges.

    Returns the nodes' worktrees that were found; nodes that are still open continue from there. Every step may be
    repeated or interrupted.
    """
    run = opened.run
    if not run.settings.verify:
        run.board.say(NO_VERIFY)
    for warning in (*run.project.warnings, *run.agents.instructions.templates.warnings):
        run.board.say(str(warning))
    await _clean_up(opened, held, data, Stage.PROCESSES)
    await run.git.call(run.git.repository.exclude_worktrees)
    await _clean_up(opened, held, data, Stage.REPOSITORY)
    if refusal := await opened.base_follower.follow_base():
        if opened.base_follower.is_rewritten:
            raise InputError([refusal])
        run.board.say(f"{refusal}. Nothing lands until {run.project.base_name} moves.")
    elif await run.git.call(run.git.head.is_pending):
        opened.publisher.publish_soon()  # Nothing else may move the head for hours.
    run.nodes.graph = await run.git.call(run.nodes.read_graph_at, await run.git.call(run.git.head.current))
    return (await _clean_up(opened, held, data, Stage.NODES)).nodes


async def _clean_up(opened: OpenRun, held: HeldRunLock, data: Path | None, stage: Stage) -> CleanupPlan:
    """Find what an earlier run left in one stage of the cleanup, and clean it up; return what was found."""
    run = opened.run
    graph = run.nodes.graph
    branches = tuple(run.nodes.branch_of(task_id) for task_id in graph.tasks)
    scope = Scope(run.git.repository, run.settings, run.git.head, graph, branches, data, opened.relocation)
    plan = await run.git.call(find_leftovers, scope, stage)
    for line in summarize(await apply(plan, held, run.git.worktrees, run.id, run.git.call), run.settings):
        run.board.say(line)
    return plan


async def prepare_backend(run: Run) -> None:
    """Prepare the backends for all that the graph requires; raises InputError before any worktree is created."""
    needs = find_agent_requirements(run.nodes.graph.tasks.values(), run.settings)
    await run.agents.backend.prepare(needs)
    run.agents.requirements.update(needs)
    if run.agents.remote:
        await run.agents.remote.begin(run.git, run.changed.set)


def _list_works(opened: OpenRun) -> tuple[Coroutine[Any, Any, None], ...]:
    """The background work of an open run."""
    return (
        _watch_base(opened),
        opened.publisher.keep_publishing(),
        _write_board(opened.run.board),
        opened.merge_queue.radar.work(),
    )


async def _watch_base(opened: OpenRun) -> None:
    """Follow commits that others make on the target during the run."""
    run = opened.run
    seen = await run.git.call(run.git.head.base)
    while True:
        await asyncio.sleep(WATCH_SECONDS)
        try:
            base = await run.git.call(run.git.head.base)
            if base != seen:
                if refusal := await opened.base_follower.follow_base():
                    run.board.say(f"{refusal}. Nothing lands until {run.project.base_name} moves.")
                end_completed_elsewhere_nodes(run)
                seen = base
                run.changed.set()
        except CoordinatorError as error:
            run.board.say(f"{run.project.base_name} cannot be followed at the moment: {error}")


async def _write_board(board: Board) -> None:
    """Keep `run.json` up to date with the board; for thousands of nodes it is written less often."""
    written, size = None, 0
    while True:
        if (view := board.view) != written:
            written = view
            size = await asyncio.to_thread(board.write)
        await asyncio.sleep(max(WRITE_SECONDS, size / WRITTEN_A_SECOND))


@asynccontextmanager
async def _running_alongside(*works: Coroutine[Any, Any, None]) -> AsyncGenerator[None]:
    """Run `works`, which never end, while the block runs; if one has failed, raise its error after the block."""
    jobs = [asyncio.create_task(work) for work in works]
    try:
        yield
        for job in jobs:
            if job.done():
                job.result()
    finally:
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)


async def _record_end(opened: OpenRun) -> None:
    """Record how the run ended, while it still holds the lock: others take a free lock without an end for a kill."""
    if opened.judge:
        await asyncio.to_thread(partial(opened.run.board.close, opened.judge(), is_reported=False))


async def _close(opened: OpenRun) -> None:
    run = opened.run
    try:
        try:
            await run.agents.backend.close()
        finally:
            await run.background.wait()
            if run.agents.remote:  # Now it is known which nodes are still open.
                await run.agents.remote.close()
            is_interrupted = run.stopping.is_requested and not run.stopping.halt_reason
            await opened.notifier.flush(QUICK_FLUSH_SECONDS if is_interrupted else FLUSH_SECONDS)
            await opened.merge_queue.close()
            await run.git.call(run.git.worktrees.close)
            await run.git.call(run.git.head.finish)
    finally:
        # In a thread, so that signals are still handled while the git threads end.
        await asyncio.to_thread(run.git.close)
