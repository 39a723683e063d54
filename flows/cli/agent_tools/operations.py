"""Does what the tools ask for; returns plain values, and raises CoordinatorError with what the model should read."""

import asyncio
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flows.cli.agent_tools.arguments import (
    AbortArguments,
    MessageArguments,
    NoArguments,
    ReportArguments,
    SpawnArguments,
    StatusArguments,
)
from flows.cli.agent_tools.caller import Caller
from flows.cli.agent_tools.detached_run import DetachedRun
from flows.cli.agent_tools.node_states import (
    describe_node,
    describe_nodes,
    find_target,
    get_tasks,
    has_ended,
    read_status,
)
from flows.cli.commands.plan import look_ahead
from flows.cli.commands.status import RepositoryStatus
from flows.node_requests import abort_nodes, send_message, spawn_directly, spawn_task
from flows.request_sender import NoRunError, SentRequest
from tasks_lib.errors import InputError
from tasks_lib.git.repository import Repository
from tasks_lib.graph.spawned_tasks import list_spawned
from tasks_lib.landing.spawning import SpawnOrder
from tasks_lib.project.after_action import gather
from tasks_lib.project.loading import load_project
from tasks_lib.reporting.after_action_text import write_markdown
from tasks_lib.runtime.last_run import read_last_run
from tasks_lib.runtime.status_board import NodeView, RunView

LOOK_SECONDS = 0.2
"""How often a waiting call reads what the run writes down twice a second."""


async def spawn(path: Path, caller: Caller, given: SpawnArguments) -> dict[str, Any]:
    """Add a task to the run in progress, and wait until it has a session, or for as long as was asked for."""
    caller.require_may_act()
    deadline = time.monotonic() + given.wait_seconds
    order = SpawnOrder(given.task, given.id, caller.task_id, caller.session)
    run: DetachedRun | None = None
    try:
        sent = await asyncio.to_thread(spawn_task, path, order)
    except NoRunError as error:
        if caller.task_id:
            raise InputError([await asyncio.to_thread(_explain_no_run, path)]) from error
        if not given.start:
            said = "no run is in progress here, so nothing was spawned; `start: true` starts one"
            raise InputError([said]) from error
        sent = await asyncio.to_thread(spawn_directly, path, order)
        _require_done(sent)
        run = await asyncio.to_thread(lambda: DetachedRun(Repository.open(path)))
    _require_done(sent)
    task_id = sent.answers[0].node
    await _await_session(path, task_id, run, deadline)
    status = await asyncio.to_thread(read_status, path)
    known = [node for node in status.nodes if node.id == task_id]
    described = describe_node(known[0], status.snapshot, get_tasks(status)) if known else {"id": task_id}
    return {**described, "said": sent.answers[0].sentence, **({"log": str(run.log)} if run else {})}


async def tell_status(path: Path, caller: Caller, given: StatusArguments) -> dict[str, Any]:
    """Describe nodes, after waiting until one of them has ended if that was asked for."""
    status = await asyncio.to_thread(read_status, path)
    chosen = _choose(status, given)
    opened = {node.id for node in chosen if not has_ended(node)}
    if given.wait_seconds and opened and status.snapshot.is_alive:
        await _await_end(path, opened, time.monotonic() + given.wait_seconds)
        status = await asyncio.to_thread(read_status, path)
        chosen = _choose(status, given)
    described = describe_nodes(status, chosen)
    ended = [node.id for node in chosen if node.id in opened and has_ended(node)]
    return {**described, **({"ended_meanwhile": ended} if given.wait_seconds else {})}


async def message(path: Path, caller: Caller, given: MessageArguments) -> dict[str, Any]:
    """Send a message to the agent of a session that is in progress."""
    node = await asyncio.to_thread(_find_reachable, path, caller, given.session)
    return _describe_sent(await asyncio.to_thread(send_message, path, node.id, given.message))


async def abort(path: Path, caller: Caller, given: AbortArguments) -> dict[str, Any]:
    """End a session and, by the policy, what it has spawned; the work is kept."""
    node = await asyncio.to_thread(_find_reachable, path, caller, given.session, may_have_ended=True)
    return _describe_sent(await asyncio.to_thread(abort_nodes, path, [node.id], given.policy))


async def plan(path: Path, caller: Caller, given: NoArguments) -> dict[str, Any]:
    """Describe what is left to do: what can run in parallel, the critical path, what would start now."""
    return asdict(await asyncio.to_thread(lambda: look_ahead(load_project(path))))


async def report(path: Path, caller: Caller, given: ReportArguments) -> dict[str, Any]:
    """Make the after-action report on a run or a milestone; `text` is for reading, the rest are its facts."""

    def make() -> dict[str, Any]:
        made = gather(load_project(path), given.run, given.milestone)
        return {"text": write_markdown(made), **made.to_json()}

    return await asyncio.to_thread(make)


def _explain_no_run(path: Path) -> str:
    """Why a session cannot spawn: its run has ended, or works on another machine, which a spoke does not know."""
    view, _ = _read_run(path)
    where = "has ended" if view else "is on another machine, where the tools of its sessions cannot reach it"
    how = "do the work yourself, or say in your report which tasks are missing"
    return f"the run of this session {where}, so nothing was spawned; {how}"


def _choose(status: RepositoryStatus, given: StatusArguments) -> Sequence[NodeView]:
    chosen = status.nodes
    if given.parent:
        below = list_spawned(get_tasks(status), find_target(status, given.parent).id)
        chosen = tuple(node for node in chosen if node.id in below)
    if given.nodes:
        named = {find_target(status, name).id for name in given.nodes}
        chosen = tuple(node for node in chosen if node.id in named)
    return chosen


def _find_reachable(path: Path, caller: Caller, name: str, *, may_have_ended: bool = False) -> NodeView:
    """Find the node `name` for a request to it. Raises InputError if it has ended, or is not for `caller` to reach."""
    status = read_status(path)
    node = find_target(status, name)
    caller.require_is_below(node.id, get_tasks(status))
    if not status.snapshot.is_alive:
        raise InputError(["no run is in progress here, so no session is either"])
    if has_ended(node) and not may_have_ended:
        what = f"the session {name} of {node.id}" if name != node.id else f"the session of {node.id}"
        why = f": {node.reason or node.detail}" if node.reason or node.detail else ""
        raise InputError([f"{what} has ended ({node.outcome}{why}), so nothing was sent"])
    return node


def _require_done(sent: SentRequest) -> None:
    if not sent.is_done:
        raise InputError([answer.sentence for answer in sent.answers if not answer.is_done])


def _describe_sent(sent: SentRequest) -> dict[str, Any]:
    _require_done(sent)
    return {"said": [answer.sentence for answer in sent.answers]}


def _read_run(path: Path) -> tuple[RunView | None, bool]:
    """What the run has written down, and whether it is in progress."""
    run = read_last_run(Repository.open(path).state_dir)
    return run.view, run.is_alive


async def _await_session(path: Path, task_id: str, run: DetachedRun | None, deadline: float) -> None:
    """Return when the node has a session or has ended, or at the deadline."""
    while time.monotonic() < deadline:
        view, is_alive = await asyncio.to_thread(_read_run, path)
        node = view.nodes.get(task_id) if view and is_alive else None
        if node and (node.session or node.outcome):
            return
        if (run and run.is_open() and not is_alive) or not (run or is_alive):
            return
        await asyncio.sleep(LOOK_SECONDS)


async def _await_end(path: Path, opened: Collection[str], deadline: float) -> None:
    """Return when one of the nodes `opened` has ended, when the run has, or at the deadline."""
    while time.monotonic() < deadline:
        view, is_alive = await asyncio.to_thread(_read_run, path)
        if not is_alive or (view and any(node.outcome for i in opened if (node := view.nodes.get(i)))):
            return
        await asyncio.sleep(LOOK_SECONDS)
