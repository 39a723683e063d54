"""Tracks what the sessions of a run spend, during a turn and in total, and which budgets are exhausted."""

from tasks_lib.session.attempt_record import Record
from tasks_lib.session.spending import NOTHING, Allowance, Budget, Spent, add_up, find_excess
from tasks_lib.settings.schema import BudgetLimits, BudgetSettings


class RunBudgets:
    """The budgets of one run. Spending is shown while a turn is running, and settled when it has ended."""

    def __init__(self, budget: BudgetSettings) -> None:
        self._attempt = _make_budget("budget.attempt", budget.attempt)
        self._node = _make_budget("budget.node", budget.node)
        self._run = _make_budget("budget.run", budget.run)
        self._settled: Spent = NOTHING
        self._live: dict[str, Spent] = {}

    @property
    def total(self) -> Spent:
        """What all sessions of the run have spent so far."""
        return self._settled + add_up(self._live.values())

    def show(self, session: str, spent: Spent) -> None:
        """Record what `session` has spent so far in its current turn."""
        self._live[session] = spent

    def settle(self, session: str, spent: Spent) -> None:
        """Record that the turn of `session` has ended and used `spent`."""
        self._live.pop(session, None)
        self._settled += spent

    def list_allowances(self, record: Record, session: str) -> list[Allowance]:
        """Return a turn's allowances: of the attempt, of the node since it was last blocked, of the run."""
        others = self._settled + add_up(spent for name, spent in self._live.items() if name != session)
        return [
            Allowance(self._attempt, record.spending.attempt),
            Allowance(self._node, record.spending.since_unblocked),
            Allowance(self._run, others),
        ]

    def refuse_turn(self, record: Record, session: str) -> str:
        """Return why another turn may not begin, "" if it may."""
        return find_excess(self.list_allowances(record, session), Spent(turns=1))

    def find_run_excess(self, more: Spent = NOTHING) -> str:
        """Return which limit the run exceeds with `more` on top of its spending, "" if none."""
        return find_excess([Allowance(self._run, self.total)], more)

    def find_node_excess(self, record: Record, more: Spent = NOTHING) -> str:
        """Return which limit the node of `record` exceeds with `more` on top of its spending, "" if none."""
        return find_excess([Allowance(self._node, record.spending.since_unblocked)], more)


def _make_budget(name: str, limits: BudgetLimits) -> Budget:
    return Budget(name, limits.tokens, limits.cost, limits.turns, limits.seconds)
