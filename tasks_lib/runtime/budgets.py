"""Tracks what the sessions of a run spend, during a turn and in total, and which budgets are exhausted."""

from collections.abc import Callable
from dataclasses import replace

from tasks_lib.graph.spawned_tasks import Tasks, list_spawned, list_spawners
from tasks_lib.session.attempt_record import Record, Spending
from tasks_lib.session.spending import NOTHING, Allowance, Budget, Spent, add_up, find_excess
from tasks_lib.settings.schema import BudgetLimits, BudgetSettings


class RunBudgets:
    """The budgets of one run. Spending is shown while a turn is running, and settled when it has ended.

    What a session has spawned counts toward the budget of its node too. `read_tasks` returns the tasks of the graph.
    """

    def __init__(self, budget: BudgetSettings, read_tasks: Callable[[], Tasks] = dict) -> None:
        self._attempt = _make_budget("budget.attempt", budget.attempt)
        self._node = _make_budget("budget.node", budget.node)
        self._run = _make_budget("budget.run", budget.run)
        self._read_tasks = read_tasks
        self._nodes: dict[str, Spending] = {}
        self._settled: Spent = NOTHING
        self._live: dict[str, tuple[str, Spent]] = {}

    @property
    def limits_nodes(self) -> bool:
        """Whether any budget of nodes has a limit."""
        return self._node != Budget(self._node.name)

    @property
    def total(self) -> Spent:
        """What all sessions of the run have spent so far."""
        return self._settled + add_up(spent for _, spent in self._live.values())

    def show(self, session: str, task_id: str, spent: Spent) -> None:
        """Record what `session` has spent so far in its current turn."""
        self._live[session] = (task_id, spent)

    def settle(self, session: str, spent: Spent) -> None:
        """Record that the turn of `session` has ended and used `spent`."""
        self._live.pop(session, None)
        self._settled += spent

    def note_node(self, task_id: str, spending: Spending) -> None:
        """Record what all turns of a node have used that have ended, in this run and before it."""
        self._nodes[task_id] = spending

    def list_allowances(self, record: Record, session: str) -> list[Allowance]:
        """Return a turn's allowances: of the attempt, of the node since it was last blocked, of the run.

        If the task was spawned, those of the nodes above it too.
        """
        others = self._settled + add_up(spent for name, (_, spent) in self._live.items() if name != session)
        nodes = self._list_node_allowances(record, session)
        return [Allowance(self._attempt, record.spending.attempt), *nodes, Allowance(self._run, others)]

    def list_run_allowances(self) -> list[Allowance]:
        """Return the allowances of a turn that is for no node, when no other turn is in progress: that of the run."""
        return [Allowance(self._run, self._settled)]

    def refuse_turn(self, record: Record, session: str) -> str:
        """Return why another turn may not begin, "" if it may."""
        return find_excess(self.list_allowances(record, session), Spent(turns=1))

    def find_run_excess(self, more: Spent = NOTHING) -> str:
        """Return which limit the run exceeds with `more` on top of its spending, "" if none."""
        return find_excess([Allowance(self._run, self.total)], more)

    def find_node_excess(self, record: Record, more: Spent = NOTHING) -> str:
        """Return which limit the node of `record`, or one above it, exceeds with `more` more, "" if none."""
        return find_excess(self._list_node_allowances(record, ""), more)

    def count_spawned(self, task_id: str, session: str = "") -> Spent:
        """Return what all tasks that `task_id` spawned have used, directly or not; without the turn of `session`."""
        below = set(list_spawned(self._read_tasks(), task_id)) if self.limits_nodes else set[str]()
        live = (spent for name, (one, spent) in self._live.items() if one in below and name != session)
        return add_up((*(self._nodes[one].node for one in below & self._nodes.keys()), *live))

    def _list_node_allowances(self, record: Record, session: str) -> list[Allowance]:
        task_id = record.task_id
        found = [Allowance(self._node, record.spending.since_unblocked + self.count_spawned(task_id, session))]
        for above in list_spawners(self._read_tasks(), task_id) if self.limits_nodes else ():
            own = self._nodes[above].since_unblocked if above in self._nodes else NOTHING
            live = add_up(spent for one, spent in self._live.values() if one == above)
            budget = replace(self._node, spender=f" by {above} and what it has spawned")
            found.append(Allowance(budget, own + live + self.count_spawned(above, session)))
        return found


def _make_budget(name: str, limits: BudgetLimits) -> Budget:
    return Budget(name, limits.tokens, limits.cost, limits.turns, limits.seconds)
