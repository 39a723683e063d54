"""Shows in a node's task run where its work is: an artifact with branch, worktree, commit, logs and commands.

It is made once an attempt has ended, in the background: the run never waits for it, and continues if it fails.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.context import TaskRunContext

from flows.prefect_reporting import PrefectConnection
from tasks_lib.model import Blocked, Outcome
from tasks_lib.naming import flatten
from tasks_lib.node.attempt import AttemptRetry
from tasks_lib.runtime.run_context import Run
from tasks_lib.runtime.status_board import NodeView
from tasks_lib.text import cut, fold

KEY = "coordinator-node"
DESCRIPTION = "Where the node's work is, and how to look into it"
MOST_LOGS = 10
MOST_CHARS = 1_000
CLOSE_SECONDS = 5.0
"""How long the end of a run waits for artifacts that are still being made."""


@dataclass(frozen=True, slots=True)
class EndedAttempt:
    """One attempt at a node: its last view, and how it ended. `logs` are paths, the newest last."""

    node: NodeView
    ended: Outcome | AttemptRetry
    branch: str
    session: str
    host: str
    repository: str
    logs: Sequence[str]


def write_node(attempt: EndedAttempt) -> str:
    """The artifact, in markdown."""
    node, ended = attempt.node, attempt.ended
    name = "Failed; another attempt follows" if isinstance(ended, AttemptRetry) else str(ended.name)
    reason = cut(fold(getattr(ended, "reason", "")), MOST_CHARS)
    commit = str(getattr(ended, "commit", ""))
    lines = [f"**{node.id}**: {fold(node.name)}", "", f"**{name}**{f': {reason}' if reason else ''}", ""]
    rows = (
        ("commit", commit and f"`{commit}`"),
        ("branch", "" if commit else f"`{attempt.branch}`"),
        ("worktree", "" if commit or not node.worktree else f"`{node.worktree}`"),
        ("session", attempt.session and f"`{attempt.session}`"),
        ("attempt", f"{node.attempt}, turn {node.turn}" if node.attempt else ""),
        ("used", f"{node.tokens} tokens, ${node.cost:.2f}" if node.tokens else ""),
        ("machine", node.machine or attempt.host),
        *(("log", f"`{log}`") for log in attempt.logs[-MOST_LOGS:]),
    )
    lines += [*(f"- {key}: {value}" for key, value in rows if value), ""]
    return "\n".join([*lines, *_list_commands(attempt), ""])


def _list_commands(attempt: EndedAttempt) -> list[str]:
    """The commands to look into the node and, if it is blocked, to let it run again."""
    node_id, ended = attempt.node.id, attempt.ended
    lines = [f"In the repository {attempt.repository}:", "", f"    coordinator logs {node_id}"]
    if not getattr(ended, "commit", ""):
        lines.append(f"    coordinator attach {node_id}    # while a session runs")
    if isinstance(ended, Blocked) and ended.resolve_id:
        lines += [f"    coordinator resolve {node_id} TEXT", "", f"The last one completes `{ended.resolve_id}`."]
    return lines


class NodeArtifacts:
    """Makes the artifacts of one run's nodes."""

    def __init__(self, run: Run, repository: str, connection: PrefectConnection) -> None:
        self._run = run
        self._repository = repository
        self._connection = connection
        self._sessions: dict[str, str] = {}
        self._jobs: set[asyncio.Task[object]] = set()

    def hear(self, node_id: str, line: str) -> None:
        """Listen to the board: the record that names a node's session is gone once the node has landed."""
        if record := self._run.nodes.records.get(node_id):
            self._sessions[node_id] = record.attempt.session

    def show(self, node_id: str, ended: Outcome | AttemptRetry) -> None:
        """Begin to make the artifact of an attempt that has ended; call it in the node's task run."""
        context, view = TaskRunContext.get(), self._run.board.node(node_id)
        if context is None or view is None:
            return
        flow_run, task_run = context.task_run.flow_run_id, context.task_run.id
        making = self._connection.call(lambda: self._make(view, ended, flow_run, task_run))
        job = asyncio.create_task(making, name=f"artifact of {node_id}")
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)

    async def _make(self, view: NodeView, ended: Outcome | AttemptRetry, flow_run: UUID | None, task_run: UUID) -> None:
        run = self._run
        logs = await asyncio.to_thread(self._list_logs, view.id)
        attempt = EndedAttempt(
            view,
            ended,
            run.nodes.branch_of(view.id),
            self._sessions.get(view.id, ""),
            run.board.view.host,
            self._repository,
            logs,
        )
        artifact = ArtifactCreate(
            type="markdown",
            key=KEY,
            description=DESCRIPTION,
            data=write_node(attempt),
            flow_run_id=flow_run,
            task_run_id=task_run,
        )
        async with get_client() as client:
            await client.create_artifact(artifact)

    def _list_logs(self, node_id: str) -> Sequence[str]:
        folder = self._run.git.repository.state_dir / "logs" / flatten(node_id)
        files = sorted(folder.glob("*.log"), key=lambda file: (file.stat().st_mtime_ns, file.name))
        return [str(file) for file in files]

    async def close(self) -> None:
        """Wait for the artifacts that are being made, for a limited time."""
        if self._jobs:
            await asyncio.wait(self._jobs, timeout=CLOSE_SECONDS)
        for job in self._jobs:
            job.cancel()


@asynccontextmanager
async def making_artifacts(run: Run, repository: str, connection: PrefectConnection) -> AsyncGenerator[NodeArtifacts]:
    """Make artifacts of nodes while the block runs."""
    artifacts = NodeArtifacts(run, repository, connection)
    run.board.listen(artifacts.hear)
    try:
        yield artifacts
    finally:
        run.board.ignore(artifacts.hear)
        await artifacts.close()
