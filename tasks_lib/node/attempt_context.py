"""Opens an attempt at a node: its worktree, and its record, which continues from what an earlier run left."""

import uuid
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from tasks_lib.agents.backend import Session, SessionView
from tasks_lib.errors import GitError
from tasks_lib.git.commits.branch_state import BranchState
from tasks_lib.git.commits.merge_tree import find_merge_base
from tasks_lib.git.session_record import clear_notices, write_record
from tasks_lib.git.worktrees.lifecycle import Worktree
from tasks_lib.landing.merge_queue import MergeQueue
from tasks_lib.model import AttemptEnd, RecordStage, Stage, Task
from tasks_lib.node.branch_start import update_unstarted_branch
from tasks_lib.node.previous_attempt import count_attempts, read_previous
from tasks_lib.process.process_groups import GroupId, end_group
from tasks_lib.runtime.run_context import Run
from tasks_lib.runtime.session_slots import SlotLease
from tasks_lib.runtime.user_requests import RequestResult
from tasks_lib.session.attempt_record import (
    Acceptance,
    AttemptIdentity,
    Findings,
    Record,
    Rounds,
    Spending,
    TurnRecord,
)
from tasks_lib.session.spending import NOTHING, Spent

STAGES_WITHOUT_AGENT = (Stage.QUEUED, Stage.VERIFY, Stage.REVIEW, Stage.LANDED)
"""The stages after which no prompt follows if all goes well, so that a message could be lost."""
NO_VIEW = SessionView()
T = TypeVar("T")


@dataclass(slots=True)
class AttemptContext:
    """State that the stages of one attempt share.

    `task` is the task as it is on the head. `state` is the last state that git reported for the worktree, None if
    something else may have changed the worktree since. `answer` is the agent's last answer. `notices_told` is the
    number of its notices that were shown, `notices_bytes` the size of their file at that time.
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
    answer: str = ""
    notices_told: int = 0
    notices_bytes: int = 0
    view: SessionView = NO_VIEW

    @property
    def branch(self) -> str:
        return self.record.branch

    async def unless_stopped(self, job: Awaitable[T]) -> T:
        """Return the result of `job`; raise Interrupted once the run or this node is stopped."""
        return await self.run.stopping.unless_stopped(job, self.task.id)

    def show(self, view: SessionView) -> None:
        """Update the board and the budgets with the state of a session, the author's or a reviewer's."""
        self.view = view
        self.run.budgets.show(self.record.attempt.session, view.spent)
        todo = f"{view.todos_done}/{view.todos} {view.todo}".strip() if view.todos else ""
        self.run.board.show(self.task.id, activity=view.activity, active_at=view.active_at, todo=todo)
        self._show_spending(view.spent)

    def spend(self, spent: Spent) -> None:
        """Count what a turn has used toward the attempt, the node and the run."""
        self.run.budgets.settle(self.record.attempt.session, spent)
        self.note(spending=self.record.spending.add(spent))
        self.view = NO_VIEW
        self.run.board.show(self.task.id, activity="", todo="")
        self._show_spending(NOTHING)

    def _show_spending(self, live: Spent) -> None:
        spent, total = self.record.spending.node + live, self.run.budgets.total
        self.run.board.show(self.task.id, tokens=spent.tokens, cost=spent.cost)
        self.run.board.show_spending(total.tokens, total.cost)

    async def receive_message(self, text: str) -> RequestResult:
        """Deliver the user's `text` to the agent: in its current turn if possible, otherwise with its next prompt."""
        if self.record.stage in STAGES_WITHOUT_AGENT:
            why = f"{self.task.id} is at the stage {self.record.stage}, where its agent gets no more prompts"
            return RequestResult(False, f"{why}; stop it with `abort` if its work must not land")
        self.note(notes=(*self.record.notes, f"A person said: {text}"))
        if self.record.stage is Stage.SESSION and self.session and await self.session.say(text):
            return RequestResult(True, f"{self.task.id} received it in its current turn")
        self.note(turn=self.record.turn.add_message(text))
        return RequestResult(True, f"{self.task.id} will get it with its next prompt")

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
            updated=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        self.run.nodes.records[self.task.id] = self.record
        # If the directory is missing, an agent has deleted it; `reopen` creates it again, and the record with it.
        with suppress(FileNotFoundError):
            write_record(self.worktree.git_dir, self.record)

    def reopen(self, *, is_unreadable: bool = False) -> None:
        """Restore a worktree that this agent or another one has damaged or left on another branch."""
        run = self.run
        start = self.record.attempt.base or run.git.head.last_seen()
        self.worktree = run.git.worktrees.reopen(
            self.worktree, self.branch, start, is_unreadable=is_unreadable, label=self.task.id
        )
        self.state = None
        self.note(attempt=self.record.attempt.with_slot(self.worktree.slot))

    def remove_nested(self) -> None:
        """Keep and remove what the agent made besides its branch, and note it for the next attempt."""
        try:
            taken = self.run.git.worktrees.take_out(self.worktree, self.task.id)
        except (GitError, OSError) as error:
            self.run.say_from_thread(
                f"Could not remove what {self.task.id} made beside its branch: {error}. The next run tries again."
            )
            return
        if stashes := [one.stash for one in taken if one.stash]:
            self.run.shared_state.pass_over(stashes)
        if taken:
            self.note(notes=(*self.record.notes, *map(str, taken)))

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
            **({"log": str(log)} if log else {}),
        )

    def remember_group(self, group: GroupId) -> None:
        self.note(turn=self.record.turn.with_process(group.pid, group.started))

    def is_last_attempt(self) -> bool:
        """Whether the node has used all attempts that `retry.attempts` allows since it was last blocked."""
        return self.record.attempt.number - self.record.attempt.allowance + 1 >= self.run.settings.retry.attempts


def make_next_record(
    previous: Record | None, task_id: str, branch: str, base: str, run_id: str, attempts_before: int
) -> Record:
    """Make the record of the attempt that begins now.

    After a failed or blocked attempt, a new attempt begins. An interrupted attempt continues under its number and
    repeats a turn that had not ended. `attempts_before` is the number of earlier attempts according to git, for when no
    record is left.
    """
    if previous is None or previous.task_id != task_id:
        number = attempts_before + 1
        attempt = AttemptIdentity(number, number, session=new_session_id(), run=run_id, base=base)
        return Record(task_id, branch, attempt=attempt)
    if isinstance(previous.stage, AttemptEnd):
        return previous.begin_next(new_session_id(), run_id)
    return previous.resume(run_id)


def new_session_id() -> str:
    return uuid.uuid4().hex[:12]


async def open_attempt(run: Run, merge_queue: MergeQueue, task: Task, slot_lease: SlotLease) -> AttemptContext:
    """Create or resume the node's worktree, and end processes that an earlier coordinator left running in it."""
    head = run.git.head.last_seen()
    branch = run.nodes.branch_of(task.id)
    previous, worktree, before = await run.git.call_opening(_open_worktree, run, task.id, branch, head)
    if previous and previous.turn.pid:
        group = GroupId(previous.turn.pid, previous.turn.pid_started)
        await end_group(group, run.settings.watch.stop_seconds, session=previous.attempt.session)
    is_found = previous is None and not worktree.is_new_branch
    base = await run.git.call(_find_base, run, branch, head) if is_found else head
    record = make_next_record(previous, task.id, branch, base, run.id, before)
    if previous is None or record.attempt.number != previous.attempt.number:
        # Each attempt numbers its turns from the start, so an old notice would be taken for one of this attempt.
        await run.git.call(clear_notices, worktree.git_dir)
    record, state = await run.git.call_opening(update_unstarted_branch, run, worktree, record, head)
    # A clean worktree at the head is the same as a new one, unless its session continues an interrupted attempt.
    is_begun = previous is not None and previous.attempt.number == record.attempt.number
    is_fresh = state is not None and state.commit == head and not state.dirty and not is_begun
    record = record.change(
        attempt=record.attempt.with_slot(worktree.slot), turn=record.turn.with_process(0, record.turn.pid_started)
    )
    context = AttemptContext(
        run, merge_queue, task, slot_lease, worktree, record,
        is_resumed=worktree.is_resumed and not is_fresh, state=state,
    )  # fmt: skip
    run.requests.enter(task.id, context)
    context.enter(Stage.WORKTREE, branch)
    return context


def _find_base(run: Run, branch: str, head: str) -> str:
    """Find where a branch began that a killed coordinator left without a record; the head may have moved since."""
    tip = run.git.repository.branch_head(branch)
    return (tip and find_merge_base(run.git.repository.git, head, tip)) or head


def _open_worktree(run: Run, task_id: str, branch: str, head: str) -> tuple[Record | None, Worktree, int]:
    """Return the previous record, the worktree, and, if no record was left, the number of attempts according to git."""
    tasks = run.nodes.graph.tasks
    # The record is read first, because a worktree that an agent left on another branch is recreated and loses its
    # record. This run's own copy takes precedence over the file, which an agent may have changed.
    previous = run.nodes.records.get(task_id) or read_previous(run.git.repository, tasks, task_id, branch, head)
    worktree = run.git.worktrees.open_branch(branch, head)
    return previous, worktree, 0 if previous else count_attempts(run.git.repository, tasks[task_id], head)
