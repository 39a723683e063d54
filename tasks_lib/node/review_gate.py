"""Decides whether a finished branch needs a review before it lands, and has it verified and reviewed."""

from tasks_lib.git.commits.branch_state import count_changed_lines
from tasks_lib.git.compose.commit_composer import Landing
from tasks_lib.landing.results import CompletedElsewhere, GivenBack, Held, Verified
from tasks_lib.model import Stage
from tasks_lib.node.attempt_context import AttemptContext
from tasks_lib.node.branch_review import ReviewFailed, review_branch
from tasks_lib.node.session_place import acquire_place
from tasks_lib.prompts import agent_prompts
from tasks_lib.runtime.agent_requirements import require_reviewer
from tasks_lib.settings.review_choice import WorkFacts


async def find_review_reason(context: AttemptContext, commit: str) -> str:
    """Why the branch, finished at `commit`, is reviewed before it lands; "" if it is not."""
    settings, task = context.run.settings, context.task
    if (reason := settings.explain_review(task)) or not settings.may_be_reviewed(task):
        return reason
    return settings.explain_review(task, await context.run.git.call(_read_facts, context, commit))


def _read_facts(context: AttemptContext, commit: str) -> WorkFacts:
    run, graph, task_id = context.run, context.run.nodes.graph, context.task.id
    is_critical = run.settings.review.critical_path and task_id in graph.critical_path()
    return WorkFacts(
        len(graph.open_dependents(task_id)) if is_critical else 0,
        count_changed_lines(run.git.repository.git, run.git.head.last_seen(), commit),
    )


async def pass_review(
    context: AttemptContext, landing: Landing, rank: float, reason: str
) -> GivenBack | Held | CompletedElsewhere | ReviewFailed | None:
    """Have the work of `landing` reviewed because of `reason`, once its merge is green; None if it may land.

    What an earlier run has approved is not reviewed again.
    """
    if context.record.acceptance.reviewed == landing.commit:
        return None
    verified = await verify_early(context, landing, rank, "before its review")
    if not isinstance(verified, Verified | None):
        return verified
    if verified:
        if not context.run.agents.places.free:
            context.run.board.enter(context.task.id, Stage.REVIEW, "waits for a place for its reviewer")
        await acquire_place(context.run, context.task, context.slot_lease)
    if context.task.is_human:
        await require_reviewer(context.run)
    ended = await context.unless_stopped(review_branch(context, landing.commit, reason, verified))
    if isinstance(ended, ReviewFailed):
        return ended
    context.note(rounds=context.record.rounds.with_requested(ended.requested))
    if ended.objection:
        prompt = agent_prompts.write_changes_prompt(ended.answer, context.run.agents.instructions.templates)
        said = f" ({ended.summary})" if ended.summary else ""
        facts = f"The reviewer's report:\n{agent_prompts.quote_end(ended.answer)}"
        return GivenBack(f"{ended.objection}{said}", prompt, True, facts)
    context.note(acceptance=context.record.acceptance.approve(landing.commit))
    if ended.summary:
        context.enter(Stage.REVIEW, f"approved: {ended.summary}")
    return None


async def verify_early(
    context: AttemptContext, landing: Landing, rank: float, before: str
) -> Verified | GivenBack | Held | CompletedElsewhere | None:
    """Verify the merge of the branch, so that nobody reads what is red; None without `verify`.

    The node has no session slot from then on. Nothing is recorded: after a kill, the next run verifies once more.
    """
    run = context.run
    if not run.settings.verify:
        return None
    context.slot_lease.release()
    run.changed.set()  # The scheduler, which waits for this event, can start another node in the free slot.
    context.enter(Stage.VERIFY, before)
    return await context.unless_stopped(context.merge_queue.verify_early(landing, rank))
