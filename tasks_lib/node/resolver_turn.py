"""Asks a resolver about a blocker, in one turn with a worktree of its own whose changes are discarded."""

from dataclasses import replace

from tasks_lib.agents.backend import Session, TurnSpec
from tasks_lib.errors import AgentError, ShellError
from tasks_lib.model import RESOLVER
from tasks_lib.node.attempt_context import AttemptContext, new_session_id
from tasks_lib.node.provider_limits import prompt_until_answered
from tasks_lib.node.turn_loop import describe_session, set_up
from tasks_lib.prompts.resolver_prompt import write_resolver_prompt
from tasks_lib.session.blockers import Blocker, list_lines
from tasks_lib.session.resolver_answer import ResolverAnswer, parse_answer
from tasks_lib.settings.spoke_schema import Place


async def ask_resolver(context: AttemptContext, blocker: Blocker) -> ResolverAnswer | None:
    """Return the resolver's answer, None if it gave none: it failed, or nobody can read what it said."""
    run = context.run
    role = run.settings.role_for(RESOLVER)
    if run.agents.remote and Place.LOCAL not in run.settings.spokes.list_places(context.task, role):
        return None  # No agent may run on this machine.
    commit = await run.git.call(run.git.repository.branch_head, context.branch) or run.git.head.last_seen()
    worktree = await run.git.call(run.git.worktrees.open_detached, commit, "review")
    name = f"resolver-{context.record.attempt.number}"
    spec = describe_session(context, worktree, new_session_id(), role, run.log_path(context.task.id, name))
    spec = replace(
        spec,
        model=run.settings.agent.models.get(role, ""),
        is_read_only=True,
        turn_seconds=min(run.settings.safe_exit.resolver_seconds, run.settings.watch.turn_seconds),
    )
    session = run.agents.backend.open(spec)
    try:
        await set_up(context, worktree, run.log_path(context.task.id, f"setup-{name}"))
        return await _ask(context, session, commit, blocker)
    except (ShellError, AgentError) as error:
        run.board.say(f"{context.task.id}: the resolver could not be asked: {error}")
        return None
    finally:
        await session.close()
        await run.git.call(run.git.worktrees.take_out, worktree, context.task.id)
        await run.git.call(run.git.worktrees.release, worktree)


async def _ask(context: AttemptContext, session: Session, commit: str, blocker: Blocker) -> ResolverAnswer | None:
    run = context.run
    head = run.git.head.last_seen()
    text = await run.git.call(run.git.reader.text, head, context.task.path) or ""
    record = "\n".join([blocker.reason, "", *list_lines(blocker)])
    prompt = write_resolver_prompt(context.task, text, context.branch, head, record, blocker.text)
    turn = TurnSpec(attempt=context.record.attempt.number, turn=1, target=head)
    end = await prompt_until_answered(context, session, prompt, turn, run.settings.role_for(RESOLVER))
    return parse_answer(end.answer) if end.status == 0 and not end.timed_out and not end.stall else None
