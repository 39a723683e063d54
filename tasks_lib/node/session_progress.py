"""Shows what a node's running session does and spends on the board, and counts what its turns have used."""

from tasks_lib.agents.backend import SessionView
from tasks_lib.model import Stage
from tasks_lib.node.attempt_context import MAX_NOTES, NO_VIEW, AttemptContext
from tasks_lib.runtime.status_board import HEARD, SILENT
from tasks_lib.session.spending import NOTHING, Spent


def show_session(context: AttemptContext, view: SessionView) -> None:
    """Update the board and the budgets with the state of a session, the author's or a reviewer's."""
    context.view = view
    context.run.budgets.show(context.record.attempt.session, context.task.id, view.spent)
    todo = f"{view.todos_done}/{view.todos} {view.todo}".strip() if view.todos else ""
    board = context.run.board
    board.show(context.task.id, activity=view.activity, active_at=view.active_at, todo=todo)
    if view.machine:
        _show_machine(context, view)
    _show_spending(context, view.spent)


def _show_machine(context: AttemptContext, view: SessionView) -> None:
    """Show where the session runs, once also in the node's log, and what it has changed there."""
    board, node = context.run.board, context.run.board.node(context.task.id)
    if node and node.machine != view.machine:
        board.enter(node.id, Stage(node.stage), f"{node.detail}, on {view.machine}", machine=view.machine)
    _show_silence(context, view)
    if view.diffstat:
        board.show(context.task.id, diffstat=view.diffstat)


def _show_silence(context: AttemptContext, view: SessionView) -> None:
    """Say when nothing is heard of the session any more, and when it is heard of again."""
    board, node = context.run.board, context.run.board.node(context.task.id)
    detail = f"{SILENT}: {view.silence}" if view.silence else f"{HEARD}, on {view.machine}"
    if node and node.detail != detail and (view.silence or node.detail.startswith(SILENT)):
        board.enter(node.id, Stage(node.stage), detail)


def note_excess(context: AttemptContext, sentence: str) -> None:
    """Tell the user, and the node's next attempt, that one of its processes was ended because of its memory."""
    context.run.board.say(f"{context.task.id}: {sentence}.")
    context.note(notes=(*context.record.notes, f"{sentence}. Use less memory.")[-MAX_NOTES:])


def count_spending(context: AttemptContext, spent: Spent) -> None:
    """Count what a turn has used toward the attempt, the node and the run."""
    context.run.budgets.settle(context.record.attempt.session, spent)
    context.note(spending=context.record.spending.add(spent))
    context.run.budgets.note_node(context.task.id, context.record.spending)
    context.view = NO_VIEW
    context.run.board.show(context.task.id, activity="", todo="")
    _show_spending(context, NOTHING)


def _show_spending(context: AttemptContext, live: Spent) -> None:
    spent, total = context.record.spending.node + live, context.run.budgets.total
    context.run.board.show(context.task.id, tokens=spent.tokens, cost=spent.cost)
    context.run.board.show("", tokens=total.tokens, cost=total.cost)
