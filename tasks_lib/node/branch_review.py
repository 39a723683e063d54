"""Has another role review a branch before it may land, where the settings require a review."""

from dataclasses import dataclass, replace

from tasks_lib.agents.backend import Session, SessionSpec, TurnEnd, TurnSpec
from tasks_lib.errors import AgentError, GitError, ShellError
from tasks_lib.git.commits.branch_state import list_changed_since
from tasks_lib.git.worktrees.lifecycle import Worktree
from tasks_lib.landing.results import Verified
from tasks_lib.model import REVIEW_LEVEL, Stage, Verdict
from tasks_lib.naming import show_some
from tasks_lib.node.attempt_context import AttemptContext, new_session_id
from tasks_lib.node.branch_inspection import find_work
from tasks_lib.node.session_place import runs_elsewhere
from tasks_lib.node.turn_loop import describe_session, prompt_until_answered, set_up
from tasks_lib.prompts import agent_prompts
from tasks_lib.reporting.journal_events import JournalEvent
from tasks_lib.session.review_report import (
    Mark,
    ReviewReport,
    add_open,
    find_objection,
    list_open,
    parse_review,
    summarize,
)
from tasks_lib.session.turn_ending import AttemptFailed, Done, SafeExit, TurnFacts, Unfinished, decide_turn
from tasks_lib.settings.spoke_schema import Place

REVIEWERS = 2
"""How many reviewers are tried for one commit: a second one runs only if the first gave no verdict."""


@dataclass(frozen=True, slots=True)
class ReviewEnded:
    """The reviewer's `answer`, with the earlier findings that are open, and why the work may not land, "" if it may.

    `summary` is the report in a few words, `requested` are the findings that the next review has to look at.
    """

    objection: str
    answer: str
    summary: str = ""
    requested: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReviewFailed:
    """No reviewer gave a verdict, through no fault of the work; `reason` completes a sentence after `the review`."""

    reason: str


async def review_branch(
    context: AttemptContext, commit: str, reason: str, verified: Verified | None = None
) -> ReviewEnded | ReviewFailed:
    """Have `commit` reviewed because of `reason`; without a verdict another reviewer is asked, up to `REVIEWERS`.

    `verified` is what `verify` says of it as merged, None without `verify`.
    """
    round_number = context.record.rounds.review + 1
    context.enter(Stage.REVIEW, f"round {round_number}: {reason}")
    ended = await _review_once(context, commit, verified)
    for _ in range(1, REVIEWERS):
        if isinstance(ended, ReviewEnded):
            break
        context.enter(Stage.REVIEW, f"round {round_number} again: the review {ended.reason}")
        ended = await _review_once(context, commit, verified)
    return ended


async def _review_once(context: AttemptContext, commit: str, verified: Verified | None) -> ReviewEnded | ReviewFailed:
    """Run one review of `commit` in a separate worktree, whose changes are discarded."""
    run = context.run
    worktree = await run.git.call(run.git.worktrees.open_detached, commit, "review")
    name = f"review-{context.record.attempt.number}-{context.record.rounds.review + 1}"
    log = run.log_path(context.task.id, name)
    role = run.settings.role_for(REVIEW_LEVEL)
    spec = describe_session(context, worktree, new_session_id(), role, log)
    spec = replace(spec, model=run.settings.agent.models.get(role, ""), is_read_only=True)
    elsewhere = _open_elsewhere(context, spec, worktree)
    session = elsewhere or run.agents.backend.open(spec)
    try:
        # The reviewer runs the tests, so its worktree needs the same setup as the author's.
        if elsewhere is None:
            await set_up(context, worktree, run.log_path(context.task.id, f"setup-{name}"))
        before = await run.git.call(_list_changed, worktree, commit)
        ended = await _ask_for_verdict(context, session, commit, _describe_verified(context, verified, spec))
        changed = await run.git.call(_list_changed, worktree, commit)
        return await run.git.call(_judge_changes, context, commit, changed - before, ended)
    except ShellError as error:
        return ReviewFailed(f"could not start: setup failed: {error}")
    except AgentError as error:
        return ReviewFailed(f"could not start: {error}")
    finally:
        await session.close()
        await run.git.call(run.git.worktrees.take_out, worktree, context.task.id)
        await run.git.call(run.git.worktrees.release, worktree)


def _list_changed(worktree: Worktree, commit: str) -> frozenset[str]:
    """The tracked files that differ from `commit` in the reviewer's worktree; none if it can no longer be read."""
    try:
        return list_changed_since(worktree.git, commit)
    except GitError:
        return frozenset()


def _judge_changes(
    context: AttemptContext, commit: str, changed: frozenset[str], ended: ReviewEnded | ReviewFailed
) -> ReviewEnded | ReviewFailed:
    """Decide whether a verdict counts although the reviewer `changed` files of its worktree, which are discarded.

    It may have changed others by running the tests. But an approval of what the branch changes is one of other work.
    """
    if not changed:
        return ended
    named = show_some(sorted(changed))
    context.run.say_from_thread(f"{context.task.id}: the reviewer changed {named} in its worktree; that is discarded.")
    own = changed & {change.path for change in find_work(context, commit)}
    if not own or not isinstance(ended, ReviewEnded) or ended.objection:
        return ended
    return ReviewFailed(f"approved {show_some(sorted(own))} as the reviewer itself had changed it")


def is_reviewed_elsewhere(context: AttemptContext, role: str) -> bool:
    """Whether a reviewer with `role` works on another machine: where the node's session does, if it may and can."""
    remote, places = context.run.agents.remote, context.run.settings.spokes.list_places(context.task, role)
    if remote is None or Place.SPOKES not in places or not runs_elsewhere(context):
        return False
    return Place.LOCAL not in places or remote.has_machine(context.task)


def _open_elsewhere(context: AttemptContext, spec: SessionSpec, worktree: Worktree) -> Session | None:
    remote = context.run.agents.remote
    if remote is None or not is_reviewed_elsewhere(context, spec.role):
        return None
    return remote.open(spec, lambda: worktree, context.task)


def _describe_verified(context: AttemptContext, verified: Verified | None, spec: SessionSpec) -> str:
    """What the reviewer is told of the verification; a reviewer on another machine cannot read its log."""
    if verified is None:
        return ""
    log = "" if is_reviewed_elsewhere(context, spec.role) else verified.green.log
    lines = context.run.settings.verify
    return agent_prompts.describe_verified(lines, verified.commit, verified.green.idle, verified.green.tail, log)


async def _ask_for_verdict(
    context: AttemptContext, session: Session, commit: str, verified: str
) -> ReviewEnded | ReviewFailed:
    run = context.run
    text = await run.git.call(run.git.reader.text, commit, context.task.path) or ""
    head = run.git.head.last_seen()
    instructions = run.agents.instructions
    prompt = agent_prompts.write_review_prompt(
        context.task,
        text,
        context.branch,
        head,
        instructions.files,
        instructions.templates,
        context.record.rounds.requested,
        verified,
    )
    for number in range(1, run.settings.watch.nudges + 2):
        if excess := run.budgets.refuse_turn(context.record, context.record.attempt.session):
            return ReviewFailed(f"was not started: {excess}")
        end = await prompt_until_answered(
            context,
            session,
            prompt,
            TurnSpec(attempt=context.record.attempt.number, turn=number, target=head),
            run.settings.role_for(REVIEW_LEVEL),
        )
        match decide_turn(_gather_facts(end, commit)):
            case Done(verdict) if verdict is not None:
                return _read_report(context, verdict, end.answer)
            case Unfinished(_, nudge):
                prompt = nudge
            case AttemptFailed(reason):
                return ReviewFailed(f"failed: {reason}")
            case Done() | SafeExit():
                break
    return ReviewFailed("ended without a verdict")


def _read_report(context: AttemptContext, verdict: Verdict, answer: str) -> ReviewEnded:
    report, earlier = parse_review(answer), context.record.rounds.requested
    objection = find_objection(verdict, report)
    note_review(context, verdict, report)
    told = add_open(answer, report, earlier)
    return ReviewEnded(objection, told, summarize(report, earlier), list_open(report, earlier))


def note_review(context: AttemptContext, verdict: Verdict, report: ReviewReport) -> None:
    """Write down what a reviewer of this node reported, or the node itself if it is a review."""
    context.run.nodes.journal.note(
        JournalEvent.REVIEWED,
        context.task.id,
        verdict=str(verdict),
        objection=find_objection(verdict, report),
        blocking=sum(one.is_blocking for one in report.findings),
        notes=sum(not one.is_blocking for one in report.findings),
        unmet=sum(mark is Mark.NOT_MET for _, mark in report.criteria),
        findings=tuple(str(one) for one in report.findings),
    )


def _gather_facts(end: TurnEnd, commit: str) -> TurnFacts:
    return TurnFacts(
        end.status,
        end.answer,
        commit,
        has_work=False,
        is_timed_out=end.timed_out,
        error=end.error,
        excess=end.excess,
        is_review=True,
        stall=end.stall,
        loop=end.loop,
    )
