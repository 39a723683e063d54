"""Decides whether a finished branch needs a review before it lands, and has it reviewed."""

from tasks_lib.git.commits.branch_state import count_changed_lines
from tasks_lib.landing.results import GivenBack
from tasks_lib.model import Stage
from tasks_lib.node.attempt_context import AttemptContext
from tasks_lib.node.branch_review import ReviewFailed, review_branch
from tasks_lib.prompts import agent_prompts
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


async def pass_review(context: AttemptContext, commit: str, reason: str) -> GivenBack | ReviewFailed | None:
    """Have `commit` reviewed because of `reason`; None if it may land, which an earlier run may have found out."""
    if context.record.acceptance.reviewed == commit:
        return None
    ended = await context.unless_stopped(review_branch(context, commit, reason))
    if isinstance(ended, ReviewFailed):
        return ended
    context.note(rounds=context.record.rounds.with_requested(ended.requested))
    if ended.objection:
        prompt = agent_prompts.write_changes_prompt(ended.answer, context.run.agents.instructions.templates)
        said = f" ({ended.summary})" if ended.summary else ""
        return GivenBack(f"{ended.objection}{said}", prompt, True)
    context.note(acceptance=context.record.acceptance.approve(commit))
    if ended.summary:
        context.enter(Stage.REVIEW, f"approved: {ended.summary}")
    return None
