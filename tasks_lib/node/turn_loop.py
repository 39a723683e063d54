"""Runs an agent's session turn by turn until git shows that the work is done or blocked, or the attempt has failed."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from tasks_lib.agents.backend import Session, SessionSpec, TurnEnd, TurnSpec
from tasks_lib.errors import GitError
from tasks_lib.git.commits.branch_state import BranchState, read_state
from tasks_lib.git.inspection.content_marks import read_content_marks
from tasks_lib.git.kept.snapshots import KEPT_REFS
from tasks_lib.git.session_record import find_limit
from tasks_lib.git.worktrees.damage_repair import explain_unreadable, find_damage
from tasks_lib.git.worktrees.lifecycle import Worktree
from tasks_lib.git.worktrees.nested_worktrees import find_nested
from tasks_lib.model import Stage, Status
from tasks_lib.naming import flatten, show
from tasks_lib.node.agent_notices import relaying_notices
from tasks_lib.node.attempt_context import AttemptContext
from tasks_lib.node.branch_inspection import follow_branch, inspect_branch, record_fork
from tasks_lib.node.coming_conflicts import tell_coming_conflicts
from tasks_lib.node.first_prompt import AttemptInfo, compose_first_prompt, gather_context
from tasks_lib.node.live_diffstat import updating_diffstat
from tasks_lib.node.outside_work import note_outside_work, tell_outside_work
from tasks_lib.node.provider_limits import digest_worktree, prompt_until_answered
from tasks_lib.node.safe_exit import TurnStart, find_safe_exit, parse_status, record_turn_start
from tasks_lib.node.session_place import can_continue, find_session_log, place_session, runs_elsewhere
from tasks_lib.node.session_progress import note_excess, show_session
from tasks_lib.node.uncommitted_paths import list_agent_changes, note_setup
from tasks_lib.node.user_messages import add_user_messages
from tasks_lib.node.worktree_repair import reopen_worktree
from tasks_lib.process.host_resources import choose_memory_limit
from tasks_lib.process.process_groups import GroupId
from tasks_lib.runtime.copied_files import copy_listed, is_copied
from tasks_lib.runtime.setup_and_verify import run_setup
from tasks_lib.session.escalation import Bounds, Seen, Step, decide_step, has_attempt, write_prompt
from tasks_lib.session.turn_ending import (
    AttemptFailed,
    Done,
    Finding,
    SafeExit,
    TurnEnding,
    TurnFacts,
    Unfinished,
    decide_turn,
)
from tasks_lib.text import escape_unprintable


async def prepare_worktree(context: AttemptContext) -> None:
    """Prepare the node's worktree for its agent; raises ShellError naming the line of `setup` that failed."""
    await place_session(context)
    if runs_elsewhere(context):
        return  # The machine of the session does it.
    log = context.run.log_path(context.task.id, "setup")
    if not context.run.settings.setup:
        await set_up(context, context.worktree, log)
        return
    context.enter(Stage.SETUP)
    before = await context.run.git.call(read_content_marks, context.worktree)
    try:
        await set_up(context, context.worktree, log)
    finally:  # What one that fails leaves is not the work of the agent either.
        await context.run.git.call(note_setup, context, before)


async def set_up(context: AttemptContext, worktree: Worktree, log: Path) -> None:
    """Copy the configured files into the worktree and run `setup`; raises ShellError naming the line that failed."""
    await copy_listed(context.run, worktree)
    if context.run.settings.setup:
        environment = context.run.agents.environment("setup", worktree)
        await context.unless_stopped(run_setup(context.run.settings, environment, worktree.path, log))


async def run_turns(context: AttemptContext, prompt: str) -> Done | SafeExit | AttemptFailed:
    """Prompt the session until it is done, does a Safe Exit, or fails; nudges it at most `watch.nudges` times."""
    seen: list[Seen] = []
    while True:
        if context.session and not await can_continue(context):
            prompt = await begin_again(context, prompt)
        prompt = tell_coming_conflicts(context, tell_outside_work(context, prompt))
        prompt = add_user_messages(context, prompt)
        if excess := context.run.budgets.refuse_turn(context.record, context.record.attempt.session):
            return AttemptFailed(f"no further turn was started: {excess}")
        ending = await run_turn(context, prompt)
        if isinstance(ending, Done) and context.record.turn.messages:
            # The user sent a message during the turn, and the agent has not received it yet.
            prompt = ""
            continue
        if not isinstance(ending, Unfinished):
            return ending
        seen.append(Seen(ending.reason, ending.nudge, await context.run.git.call(digest_worktree, context.worktree)))
        step = decide_step(seen, find_bounds(context))
        if step not in (Step.NUDGE, Step.GUIDANCE):
            return AttemptFailed(f"{ending.reason}, after {context.run.settings.watch.nudges} nudges")
        context.note(findings=context.record.findings.add_cautions(ending.said_once))
        prompt = write_prompt(step, seen)
        context.run.board.enter(context.task.id, Stage.SESSION, f"{step}: {ending.reason}")


def find_bounds(context: AttemptContext) -> Bounds:
    """How often this node's session may be told to continue, and whether the node may be attempted once more."""
    attempt, settings = context.record.attempt, context.run.settings
    return Bounds(settings.watch.nudges, has_attempt(attempt.number, attempt.allowance, settings.retry.attempts))


async def begin_again(context: AttemptContext, prompt: str) -> str:
    """Prepare a new session for the rest of an attempt, since the old one ended with its machine; return its prompt."""
    await prepare_worktree(context)
    first = await context.run.git.call(write_first_prompt, context)
    return f"{first}\n\n{prompt}"


async def run_turn(context: AttemptContext, prompt: str) -> TurnEnding:
    """Send one prompt, and judge from git how the turn ended."""
    run = context.run
    start = await run.git.call(read_state_before_turn, context)
    context.note(turn=context.record.turn.begin(start.commit))
    await run.git.call(record_fork, context, start.commit)
    said = f"turn {context.record.turn.number} as {run.settings.role_of(context.task)}"
    context.enter(Stage.SESSION, said, log=find_session_log(run, context.record))
    async with relaying_notices(context), updating_diffstat(context):
        end = await context.unless_stopped(prompt_session(context, prompt, start.target))
    context.reports.answer = escape_unprintable(end.answer)
    return await run.git.call(judge_turn, context, start, end)


def read_state_before_turn(context: AttemptContext) -> TurnStart:
    """Return the state of the worktree before a turn.

    Restores the worktree first if another agent has damaged it while this one was waiting.
    """
    context.run.shared_state.begin()
    if damage := find_damage(context.worktree):
        reopen_worktree(context)
        context.run.say_from_thread(f"{context.task.id}: an agent {damage}, outside of any turn; it has been restored.")
    return record_turn_start(context, context.state or read_state(context.worktree.git))


def judge_turn(context: AttemptContext, start: TurnStart, end: TurnEnd) -> TurnEnding:
    """Decide how the turn that began at `start` ended."""
    note_outside_work(context, context.run.shared_state.compare(context.task.id), end)
    if damage := find_damage(context.worktree):
        return _fail_damaged(context, damage)
    try:
        after = context.state = read_state(context.worktree.git)
    except GitError as error:
        return _fail_damaged(context, explain_unreadable(error), is_unreadable=True)
    if after.branch != context.branch:
        reopen_worktree(context)
        kept = f"its state is kept under {KEPT_REFS}/{flatten(context.branch)}"
        return AttemptFailed(f"the worktree is on {after.branch or 'no branch'} instead of {context.branch}; {kept}")
    follow_branch(context, after.commit)
    return decide_turn(gather_facts(context, start, after, end))


def _fail_damaged(context: AttemptContext, damage: str, *, is_unreadable: bool = False) -> AttemptFailed:
    reopen_worktree(context, is_unreadable=is_unreadable)
    return AttemptFailed(
        f"the agent {damage}; the commits on {context.branch} are kept, and the next attempt continues from there"
    )


async def prompt_session(context: AttemptContext, prompt: str, target: str) -> TurnEnd:
    """Send `prompt` to the node's session, opening it if needed; `target` is the value of COORDINATOR_TARGET."""
    run, record = context.run, context.record
    role = run.settings.role_of(context.task)
    if context.session is None:
        log = find_session_log(run, record)
        spec = describe_session(context, context.worktree, record.attempt.session, role, log)
        on_conversation = partial(remember_conversation, context)
        spec = replace(spec, conversation=record.turn.conversation, on_conversation=on_conversation)
        context.session = open_session(context, spec)
        run.board.show(context.task.id, role=role, model=spec.model or run.settings.agent.model, machine="")
    turn = TurnSpec(attempt=record.attempt.number, turn=record.turn.number, target=target)
    return await prompt_until_answered(context, context.session, prompt, turn, role)


def open_session(context: AttemptContext, spec: SessionSpec) -> Session:
    """Open the node's session: on this machine, or on another one."""
    agents = context.run.agents
    if agents.remote is None or not runs_elsewhere(context):
        return agents.backend.open(spec)
    on_prepared = partial(remember_prepared, context)
    return agents.remote.open(replace(spec, on_prepared=on_prepared), lambda: context.worktree, context.task)


def remember_prepared(context: AttemptContext, marks: Sequence[str]) -> None:
    """Record what `setup` left uncommitted on the machine of the session."""
    context.note(findings=context.record.findings.with_prepared(tuple(marks)))


def remember_process(context: AttemptContext, group: GroupId) -> None:
    """Record the process group of the session, so that a later run can end it."""
    context.note(turn=context.record.turn.with_process(group.pid, group.started))


def remember_conversation(context: AttemptContext, conversation: str) -> None:
    """Record the backend's id of the conversation, so that a later run can continue it."""
    context.note(turn=context.record.turn.with_conversation(conversation))
    if context.session:
        context.run.board.show(context.task.id, attach=context.session.attach_command())


def describe_session(context: AttemptContext, worktree: Worktree, session: str, role: str, log: Path) -> SessionSpec:
    """Describe a session of this node to the backend."""
    run, record = context.run, context.record
    return SessionSpec(
        session=session,
        role=role,
        task_id=context.task.id,
        task_file=context.task.path,
        branch=record.branch,
        slot=worktree.slot,
        cwd=worktree.path,
        environment=run.agents.environment("agent", worktree),
        log=log,
        prompt_directory=run.agents.prompts / session,
        turn_seconds=run.settings.watch.turn_seconds,
        stop_seconds=run.settings.watch.stop_seconds,
        on_start=partial(remember_process, context),
        model=run.settings.model_for(context.task, role),
        title=f"{context.task.id}: {context.task.name}",
        on_view=partial(show_session, context),
        allowances=lambda: run.budgets.list_allowances(context.record, context.record.attempt.session),
        digest_worktree=lambda: run.git.call(digest_worktree, worktree),
        find_limit=partial(find_limit, worktree.git_dir),
        memory_mb=choose_memory_limit(run.settings.watch.memory_mb),
        on_excess=partial(note_excess, context),
    )


def gather_facts(context: AttemptContext, start: TurnStart, after: BranchState, end: TurnEnd) -> TurnFacts:
    """Collect the facts from git, the notices and the exit status about the turn that began at `start`."""
    own = context.task.path
    changed: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    if after.commit != context.record.attempt.base:
        changed, findings = inspect_branch(context, after.commit)
    says_completed = own in changed and _status_on(context, after.commit) is Status.COMPLETED
    said = escape_unprintable(find_safe_exit(context, start, after))
    dirty = tuple(show(path) for path in list_dirty(context, after))
    return TurnFacts(
        status=end.status,
        answer=context.reports.answer,
        commit=after.commit,
        has_work=says_completed or any(path != own for path in changed),
        dirty=dirty,
        said_blocked=said,
        is_timed_out=end.timed_out,
        error=end.error,
        refused=context.record.acceptance.refused,
        excess=end.excess,
        is_review=context.task.is_review,
        stall=end.stall,
        loop=end.loop,
        denied=end.denied,
        findings=tuple(one for one in findings if one.text not in context.record.findings.cautions),
    )


def list_dirty(context: AttemptContext, state: BranchState) -> list[str]:
    """Return the paths that the agent left uncommitted, without copied files and nested worktrees, which are kept."""
    dirty = [
        path for path in list_agent_changes(context, state) if not is_copied(path, context.run.settings.copy_paths)
    ]
    if not any(path.endswith("/") for path in dirty):
        return dirty
    place = context.worktree.path
    nested = {f"{entry.path.relative_to(place)}/" for entry in find_nested(context.run.git.repository, place)}
    return [path for path in dirty if path not in nested]


def _status_on(context: AttemptContext, commit: str) -> Status | None:
    text = context.run.git.reader.text(commit, context.task.path)
    return parse_status(text.encode("utf-8", "surrogateescape"), context.task.path) if text is not None else None


def write_first_prompt(context: AttemptContext) -> str:
    """Write the prompt that begins or resumes an attempt."""
    run, record = context.run, context.record
    briefing = gather_context(run, run.agents.instructions)
    return compose_first_prompt(
        briefing, context.task, AttemptInfo(record.branch, record.attempt.number, context.is_resumed, record.notes)
    )
