"""Describes the work that is to land, with the agent's report on it."""

from dataclasses import replace

from tasks_lib.git.commits.branch_state import read_line
from tasks_lib.git.compose.commit_composer import Landing
from tasks_lib.node.attempt_context import MAX_NOTE_CHARS, AttemptContext
from tasks_lib.session.blockers import Blocker, parse_blocker
from tasks_lib.session.closing_words import find_closing_words
from tasks_lib.settings.schema import digest_verify
from tasks_lib.text import cut

TURNS_APART = "\n\n\f\n\n"
"""Separates the reports of several turns; an agent's own form feeds are escaped."""


async def describe_landing(context: AttemptContext, commit: str, reviewed: str) -> Landing:
    """Describe the work on the node's branch at `commit`, with the report that becomes its task's Summary."""
    run, record = context.run, context.record
    is_without_commits = context.task.is_review and commit == record.attempt.base
    summary = _write_summary(context)
    if not summary and not is_without_commits:
        line = await run.git.call(read_line, run.git.objects, record.attempt.base, commit)
        summary = "\n".join(f"- {subject}" for subject in line.subjects)
    return Landing(
        task=run.nodes.graph.tasks.get(context.task.id, context.task),
        branch=record.branch,
        commit="" if is_without_commits else commit,
        attempt=record.attempt.number,
        run=run.id,
        session=record.attempt.session,
        verified=digest_verify(run.settings),
        reviewed=reviewed,
        summary=summary,
        identity=run.agents.identity,
        spent=str(record.spending.node),
    )


def extend_report(context: AttemptContext, said: str) -> str:
    """Append what an agent `said` about a fix to its earlier report, which describes the work; cut to a bound."""
    before, said = context.record.acceptance.answer.strip(), said.strip()
    if not before or not said or said in before:
        return before or said
    parts = [*before.split(TURNS_APART), said]
    if len(TURNS_APART.join(parts)) > MAX_NOTE_CHARS and _is_output(context):
        parts = [find_closing_words(part) for part in parts]
    return cut(TURNS_APART.join(parts), MAX_NOTE_CHARS)


def shorten_answer(context: AttemptContext, text: str) -> str:
    """Return of a program's output, which is all that it answers, what it says at the end; other answers stay as is."""
    text = text.strip()
    said = find_closing_words(text) if _is_output(context) else text
    return said if said == text else f"{said}\n\n{_name_log(context)}"


def shorten_blocker(context: AttemptContext, reason: str, answer: str, notes: str) -> Blocker:
    """Read a blocker from all of an agent's `answer`, and quote of that only what it says at the end."""
    unwritten = answer.replace(notes, "") if notes else answer  # An agent often repeats what it has written there.
    quoted = parse_blocker(reason, shorten_answer(context, unwritten), notes=notes)
    return replace(parse_blocker(reason, answer, notes=notes), text=quoted.text)


def _is_output(context: AttemptContext) -> bool:
    """Whether an answer is all that a program printed; of a reviewer's, the findings are wanted too."""
    return context.run.settings.agent.answers_in_output and not context.task.is_review


def _write_summary(context: AttemptContext) -> str:
    reports = context.record.acceptance.answer.split(TURNS_APART)
    if all(shorten_answer(context, report) == report.strip() for report in reports):
        return "\n\n".join(report.strip() for report in reports).strip()
    closings = dict.fromkeys(find_closing_words(report) for report in reports)
    return "\n\n".join([*closings, _name_log(context)])


def _name_log(context: AttemptContext) -> str:
    number = context.record.attempt.number
    return f"(The end of its output; all of it: `coordinator logs {context.task.id} --attempt {number}`.)"
