"""The after-action report as a value: what went right and wrong in a run, what to improve, and the figures."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from tasks_lib.reporting.action_items import ActionItem, list_action_items
from tasks_lib.reporting.after_action_lines import Line, list_better, list_right, list_wrong
from tasks_lib.reporting.journal_events import JournalEvent
from tasks_lib.reporting.report_summary import Summary, find_summary
from tasks_lib.reporting.run_facts import RunFacts, write_time
from tasks_lib.reporting.run_figures import Figures, Headline, measure


@dataclass(frozen=True, slots=True)
class AfterActionReport:
    """The report on the run, or the milestone, `name`. `earlier` are the runs before it, the newest first.

    Times are ISO 8601, UTC; `exit_code` is None if the run was never judged. `missing` says what could not be found.
    `summary` is what an agent wrote about it, None if none did; all else is generated.
    """

    name: str
    runs: tuple[str, ...]
    started: str
    ended: str
    exit_code: int | None
    went_right: tuple[Line, ...]
    went_wrong: tuple[Line, ...]
    could_be_better: tuple[Line, ...]
    action_items: tuple[ActionItem, ...]
    figures: Figures
    earlier: tuple[Headline, ...] = ()
    missing: tuple[str, ...] = ()
    summary: Summary | None = None

    def to_json(self) -> dict[str, object]:
        """The whole report as JSON values."""
        found = asdict(self)
        figures, makespan = self.figures, self.figures.makespan
        found["figures"]["tokens_a_line"] = round(figures.tokens_a_line, 3)
        found["figures"]["makespan"] |= {
            "bound": makespan.bound,
            "bound_seconds": makespan.bound_seconds,
            "by_cause": dict(makespan.by_cause),
        }
        return found


def write_after_action(name: str, facts: RunFacts, earlier: Sequence[Headline] = ()) -> AfterActionReport:
    """Make the report on the run, or the milestone, `name`."""
    figures = measure(facts)
    judged = list(facts.of(JournalEvent.JUDGED))
    return AfterActionReport(
        name,
        facts.runs,
        write_time(facts.entries[0].at) if facts.entries else "",
        write_time(facts.entries[-1].at) if facts.entries else "",
        int(judged[-1].number("exit_code")) if judged else None,
        tuple(list_right(figures, facts)),
        tuple(list_wrong(figures)),
        tuple(list_better(figures, facts, earlier)),
        list_action_items(figures.trouble, figures.makespan, facts.sessions),
        figures,
        tuple(earlier),
        facts.missing,
        find_summary(facts) if name in facts.runs else None,
    )
