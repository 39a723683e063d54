"""Keeps what the sessions of a run have spent, at this moment and in all, and which budget that uses up."""

from tasks_lib.session.attempt_record import Record
from tasks_lib.session.spending import NOTHING, Allowance, Budget, Spent, add_up, find_excess
from tasks_lib.settings.schema import BudgetLimits, BudgetSettings


class RunBudgets:
    """The budgets of one run. A session's spending is shown while a turn goes on, and settled when it has ended."""

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
        """`session` has spent so much in the turn that goes on."""
        self._live[session] = spent

    def settle(self, session: str, spent: Spent) -> None:
        """The turn of `session` is over, and has used `spent`."""
        self._live.pop(session, None)
        self._settled += spent

    def list_allowances(self, record: Record, session: str) -> list[Allowance]:
        """What a turn of `session` may spend: of the attempt, of the node since it was last blocked, of the run."""
        others = self._settled + add_up(spent for name, spent in self._live.items() if name != session)
        return [
            Allowance(self._attempt, record.spending.attempt),
            Allowance(self._node, record.spending.since_unblocked),
            Allowance(self._run, others),
        ]

    def refuse_turn(self, record: Record, session: str) -> str:
        """Why another turn may not begin, "" if it may."""
        return find_excess(self.list_allowances(record, session), Spent(turns=1))

    def find_run_excess(self, more: Spent = NOTHING) -> str:
        """What the run as a whole has used up, "" while something is left; `more` is asked for besides."""
        return find_excess([Allowance(self._run, self.total)], more)

    def find_node_excess(self, record: Record, more: Spent = NOTHING) -> str:
        """What the node of `record` has used up, "" while something is left; `more` is asked for besides."""
        return find_excess([Allowance(self._node, record.spending.since_unblocked)], more)


def _make_budget(name: str, limits: BudgetLimits) -> Budget:
    return Budget(name, limits.tokens, limits.cost, limits.turns, limits.seconds)
