"""Writes an after-action report as markdown: the four sections of its form, then the figures as tables."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from tasks_lib.reporting.after_action import AfterActionReport
from tasks_lib.reporting.after_action_lines import CAUSES, Line
from tasks_lib.reporting.report_summary import Summary
from tasks_lib.reporting.run_facts import SHORT, Evidence
from tasks_lib.reporting.run_figures import Figures, Headline
from tasks_lib.session.spending import Spent
from tasks_lib.text import cut, fold

MOST_EVIDENCE = 4
"""How much evidence a line shows; all of it is in the JSON form."""
MOST_LINES = 30
MOST_ROWS = 20
CELL_CHARS = 200


def write_markdown(report: AfterActionReport) -> str:
    """The report as markdown."""
    runs = ", ".join(one[:SHORT] for one in report.runs)
    code = "" if report.exit_code is None else f", exit code {report.exit_code}"
    lines = [f"# AAR: {report.name}", "", f"Run {runs}, {_time(report.started)} to {_time(report.ended)}{code}.", ""]
    if report.missing:
        lines += ["Not all records were there:", "", *(f"- {one}" for one in report.missing), ""]
    lines += _write_summary(report.summary) if report.summary else ()
    sections: Sequence[tuple[str, Sequence[Line]]] = (
        ("What Went Right", report.went_right),
        ("What Went Wrong", report.went_wrong),
        ("What Could Be Better", report.could_be_better),
    )
    for title, found in sections:
        lines += [f"## {title}", "", *(f"- {_write_line(one.text, one.evidence)}" for one in found[:MOST_LINES])]
        lines += [f"- {len(found) - MOST_LINES} more lines are in the JSON form"] if len(found) > MOST_LINES else []
        lines += ["" if found else "- nothing that was recorded\n"]
    lines += ["## Action Items", ""]
    items = [_write_line(f"{one.text}. {one.why}", one.evidence) for one in report.action_items]
    lines += [f"{number}. {item}" for number, item in enumerate(items, 1)] or ["None."]
    lines += ["", "## Figures", "", *_write_figures(report.figures), *_write_earlier(report)]
    return "\n".join(lines).rstrip() + "\n"


def _write_summary(summary: Summary) -> Iterator[str]:
    model = f" with the model {fold(summary.model)}" if summary.model else ""
    said = f"An agent with the role {fold(summary.role)}{model} wrote this; all that follows it is generated."
    yield from ("## Summary", "", _write_line(said, summary.evidence), "")
    yield from (f"> {line}".rstrip() for line in summary.text.splitlines())
    yield ""


def _time(text: str) -> str:
    return f"{text[:10]} {text[11:19]}" if text else "unknown"


def _write_line(text: str, evidence: Sequence[Evidence]) -> str:
    shown = [str(one) for one in evidence[:MOST_EVIDENCE]]
    more = [f"{len(evidence) - MOST_EVIDENCE} more"] if len(evidence) > MOST_EVIDENCE else []
    return f"{fold(text)} [{', '.join([*shown, *more])}]" if shown else fold(text)


def _write_figures(figures: Figures) -> Iterator[str]:
    yield from _write_times(figures)
    spending = figures.spending
    for title, found in (("role", spending.by_role), ("model", spending.by_model), ("node", spending.by_node)):
        yield from _write_spending(title, found, figures)
    lines = sum(figures.lines.values())
    if lines:
        each = f", {figures.tokens_a_line:.1f} tokens a line" if figures.spending.total.tokens else ""
        yield from (f"{lines} lines landed{each}.", "")
    yield from _write_files(figures)
    yield from _write_estimates(figures)
    touches = [(one.about, one.node, one.what, _join(one.evidence)) for one in figures.trouble.touches]
    yield from _table(("by a person", "node", "what", "evidence"), touches)


def _write_times(figures: Figures) -> Iterator[str]:
    makespan, together = figures.makespan, figures.parallelism
    bounds = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in makespan.bounds.items())
    yield f"The run took {makespan.seconds:.1f} s. Lower bounds: {bounds or 'none'}."
    yield f"Sessions: at most {together.peak}, {together.mean:.1f} on average, {together.allowed} allowed."
    yield ""
    chain = makespan.by_cause
    causes = [cause for cause in CAUSES if figures.waits.get(cause, 0) or chain.get(cause, 0)]
    rows = [(CAUSES[cause], f"{figures.waits.get(cause, 0):.1f}", f"{chain.get(cause, 0):.1f}") for cause in causes]
    yield from _table(("seconds", "of all nodes", "of the chain that the run waited for"), rows)


def _write_spending(title: str, found: Mapping[str, Spent], figures: Figures) -> Iterator[str]:
    headings = (title, "turns", "seconds", "tokens", "cost")
    rows = [
        (f"{name}", f"{one.turns}", f"{one.seconds:.1f}", f"{one.tokens}", f"${one.cost:.4f}")
        for name, one in found.items()
    ]
    if title == "node":
        headings = (*headings, "attempts", "lines")
        rows = [(*row, f"{figures.attempts.get(row[0], '')}", f"{figures.lines.get(row[0], '')}") for row in rows]
    yield from _table(headings, rows)


def _write_files(figures: Figures) -> Iterator[str]:
    files = [(one.path, f"{one.conflicts}", ", ".join(one.nodes), _join(one.evidence)) for one in figures.trouble.files]
    yield from _table(("file", "conflicts", "changed by", "evidence"), files)


def _write_estimates(figures: Figures) -> Iterator[str]:
    rows = [
        (
            f"{one.key} {one.value}",
            f"{one.nodes}",
            "" if one.expected is None else f"{one.expected:.0%}",
            f"{one.actual:.0%}",
            f"{one.median_seconds:.1f}",
            f"{one.tokens}",
        )
        for one in figures.estimates
    ]
    yield from _table(("estimate", "nodes", "expected", "actual", "seconds a node", "tokens"), rows)


def _write_earlier(report: AfterActionReport) -> Iterator[str]:
    if not report.earlier:
        yield from ("There is no earlier run to compare with.", "")
        return
    headings = ("run", "started", "seconds", "landed", "s a node", "peak", "tokens", "cost", "given back", "blocked")
    yield from ("The runs before, newest first:", "")
    yield from _table(headings, [_write_headline(one) for one in report.earlier])


def _write_headline(one: Headline) -> tuple[str, ...]:
    return (
        one.run[:SHORT],
        _time(one.started),
        f"{one.seconds:.1f}",
        f"{one.landed}",
        f"{one.seconds_a_node:.1f}",
        f"{one.peak}",
        f"{one.tokens}",
        f"${one.cost:.4f}",
        f"{one.given_back}",
        f"{one.blockers}",
    )


def _join(evidence: Sequence[Evidence]) -> str:
    return ", ".join(str(one) for one in evidence[:MOST_EVIDENCE])


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A table, of at most MOST_ROWS rows; nothing without rows."""
    found = list(rows)
    if not found:
        return
    yield f"| {' | '.join(headings)} |"
    yield f"|{'---|' * len(headings)}"
    for row in found[:MOST_ROWS]:
        yield "| " + " | ".join(cut(fold(cell), CELL_CHARS).replace("|", "\\|") for cell in row) + " |"
    yield ""
    if len(found) > MOST_ROWS:
        yield from (f"{len(found) - MOST_ROWS} more rows are in the JSON form.", "")
