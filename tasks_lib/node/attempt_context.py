"""The state that the stages of one attempt share, and its record on disk, from which a rerun resumes."""

import uuid
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from tasks_lib.agents.backend import Session, SessionView
from tasks_lib.git.commits.branch_state import BranchState
from tasks_lib.git.session_record import write_record
from tasks_lib.git.worktrees.lifecycle import Worktree
from tasks_lib.landing.merge_queue import MergeQueue
from tasks_lib.model import RecordStage, Stage, Task
from tasks_lib.runtime.run_context import Run
from tasks_lib.runtime.session_slots import SlotLease
from tasks_lib.session.attempt_record import (
    Acceptance,
    AttemptIdentity,
    Conflicts,
    Findings,
    Foreseen,
    Record,
    Rounds,
    Spending,
    TurnRecord,
    Unblocking,
)

NO_VIEW = SessionView()
T = TypeVar("T")
MAX_NOTES = 20
"""How many notes a record keeps, the newest ones."""
MAX_NOTE_CHARS = 4_000


def new_session_id() -> str:
    return str(uuid.uuid4())


@dataclass(slots=True)
class AgentReports:
    """What the agent has reported: its last `answer`, and how much of its notices was shown. And what was noticed
    `outside` of its worktree, which it has not been told yet.

    `notices_shown` is their number, `notices_bytes` the size of their file at that time.
    """

    answer: str = ""
    notices_shown: int = 0
    notices_bytes: int = 0
    outside: tuple[str, ...] = ()


@dataclass(slots=True)
class AttemptContext:
    """State that the stages of one attempt share.

    `task` is the task as it is on the head. `state` is the last state that git reported for the worktree, None if
    something else may have changed the worktree since. `view` is the last view of the running session, the author's
    or a reviewer's.
    """

    run: Run
    merge_queue: MergeQueue
    task: Task
    slot_lease: SlotLease
    worktree: Worktree
    record: Record
    is_resumed: bool = False
    session: Session | None = None
    state: BranchState | None = None
    view: SessionView = NO_VIEW
    reports: AgentReports = field(default_factory=AgentReports)

    @property
    def branch(self) -> str:
        return self.record.branch

    async def unless_stopped(self, job: Awaitable[T]) -> T:
        """Return the result of `job`; raise Interrupted once the run or this node is stopped."""
        return await self.run.stopping.unless_stopped(job, self.task.id)

    def note(
        self,
        *,
        stage: RecordStage | None = None,
        attempt: AttemptIdentity | None = None,
        turn: TurnRecord | None = None,
        acceptance: Acceptance | None = None,
        rounds: Rounds | None = None,
        spending: Spending | None = None,
        findings: Findings | None = None,
        notes: tuple[str, ...] | None = None,
        unblocking: Unblocking | None = None,
        conflicts: Conflicts | None = None,
        foreseen: Foreseen | None = None,
    ) -> None:
        """Change these parts of the record, and write it to disk: after a kill, the next run reads it from there."""
        self.record = self.record.change(
            stage=stage,
            attempt=attempt,
            turn=turn,
            acceptance=acceptance,
            rounds=rounds,
            spending=spending,
            findings=findings,
            notes=notes,
            unblocking=unblocking,
            conflicts=conflicts,
            foreseen=foreseen,
            updated=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        self.run.nodes.records[self.task.id] = self.record
        # If the directory is missing, an agent has deleted it; `reopen_worktree` creates it and the record again.
        with suppress(FileNotFoundError):
            write_record(self.worktree.git_dir, self.record)

    def enter(self, stage: Stage, detail: str = "", log: Path | None = None) -> None:
        """Move the node to `stage` in the record, on the board, and in the log."""
        self.note(stage=stage)
        self.run.board.enter(
            self.task.id,
            stage,
            detail,
            attempt=self.record.attempt.number,
            turn=self.record.turn.number,
            worktree=str(self.worktree.path),
            session=self.record.attempt.session,
            **({"log": str(log)} if log else {}),
        )
