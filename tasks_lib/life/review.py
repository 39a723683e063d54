"""Has a branch reviewed by another role before it may land, where the policy asks for it."""

from dataclasses import dataclass

from tasks_lib import prompts
from tasks_lib.agents.backend import TurnSpec
from tasks_lib.endings import Done, TurnFacts, Unfinished, decide_turn
from tasks_lib.life.run import Run
from tasks_lib.life.session import describe_session
from tasks_lib.life.work import Work, new_session
from tasks_lib.model import REVIEW_LEVEL, Risk, Scope, Stage, Task, Verdict

RISKY = frozenset({Risk.HIGH, Risk.CRITICAL})
WIDE = frozenset({Scope.BROAD, Scope.SYSTEM})


@dataclass(frozen=True, slots=True)
class ReviewEnded:
    """What the reviewer said; `verdict` is None, and no approval, if its last line was none or it failed."""

    verdict: Verdict | None
    report: str


def needs_review(run: Run, task: Task) -> bool:
    """Whether `review.when` asks for a review of this node's branch; a review node is none itself."""
    match run.settings.review.when:
        case "never":
            return False
        case "always":
            return not task.is_review
        case "auto":
            return not task.is_review and (task.risk in RISKY or task.scope in WIDE)


async def review_branch(work: Work, commit: str) -> ReviewEnded:
    """One review of `commit`, in a worktree of the reviewer's own whose changes are thrown away."""
    run = work.run
    work.enter(Stage.REVIEW, f"round {work.record.review_rounds + 1}")
    worktree = await run.thread(run.worktrees.open_detached, commit, "review")
    role = run.settings.role_for(REVIEW_LEVEL)
    log = run.log_path(work.task.id, f"review-{work.record.attempt}-{work.record.review_rounds + 1}")
    session = run.backend.open(describe_session(work, worktree, new_session(), role, log))
    try:
        text = await run.thread(run.reader.text, commit, work.task.path) or ""
        head = run.head.last_seen()
        prompt = prompts.write_review_prompt(work.task, text, work.branch, head)
        for number in range(1, run.settings.watch.nudges + 2):
            turn = TurnSpec(attempt=work.record.attempt, turn=number, target=head)
            end = await session.prompt(prompt, turn)
            facts = TurnFacts(
                end.status,
                end.answer,
                commit,
                has_work=False,
                is_timed_out=end.timed_out,
                error=end.error,
                is_review=True,
            )
            match decide_turn(facts):
                case Done(verdict):
                    return ReviewEnded(verdict, end.answer)
                case Unfinished(_, nudge):
                    prompt = nudge
                case other:
                    return ReviewEnded(None, f"The review failed: {other.reason}")
        return ReviewEnded(None, "The review ended without a verdict.")
    finally:
        await session.close()
        await run.thread(run.worktrees.release, worktree)
