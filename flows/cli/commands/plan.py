"""`coordinator plan`: shows what can run in parallel, the critical path, a forecast, and what would start now."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console

from flows.cli.display.output import count, print_json, print_rows, say
from tasks_lib.graph.forecast import ForecastRow, forecast_table
from tasks_lib.graph.run_plan import Plan
from tasks_lib.graph.task_graph import Graph, build_graph
from tasks_lib.project.loading import Project, load_project
from tasks_lib.reporting.run_report import ExitCode
from tasks_lib.settings.review_choice import WorkFacts
from tasks_lib.settings.schema import Settings

SESSION_COUNTS = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True, slots=True)
class PlanSummary:
    """What is left to do. `groups` are the open ids by depth; `effort` is that of `critical_path`, in units.

    `reviewed` says why each open node is reviewed before it lands, as far as that is known before the work.
    """

    open: int
    completed: int
    groups: tuple[tuple[str, ...], ...]
    critical_path: tuple[str, ...]
    effort: int
    forecast: tuple[ForecastRow, ...]
    max_sessions: int
    starts_now: tuple[str, ...]
    ready_later: tuple[str, ...]
    waiting_for_person: tuple[str, ...]
    waits: dict[str, str]
    reviewed: dict[str, str]


def show_plan(path: Path, *, as_json: bool, console: Console) -> ExitCode:
    """Print the plan for the graph at the head. Raises InputError naming every fault."""
    project = load_project(path)
    outlook = look_ahead(project)
    if as_json:
        print_json(asdict(outlook))
        return ExitCode.COMPLETED
    for warning in project.warnings:
        say(console, str(warning), "yellow")
    print_outlook(outlook, project, console)
    return ExitCode.COMPLETED


def look_ahead(project: Project) -> PlanSummary:
    """Plan what is left to do at the project's head."""
    graph, sessions = project.graph, project.settings.max_sessions
    ahead = keep_open(graph)
    plan, path = Plan(graph), graph.critical_path()
    ready = plan.ready()
    return PlanSummary(
        open=len(ahead.tasks),
        completed=len(graph.tasks) - len(ahead.tasks),
        groups=ahead.generations(),
        critical_path=path,
        effort=sum(graph.tasks[task_id].cost for task_id in path),
        forecast=forecast_table(graph, choose_counts(graph, sessions)),
        max_sessions=sessions,
        starts_now=ready[:sessions],
        ready_later=ready[sessions:],
        waiting_for_person=plan.waiting_for_person(),
        waits=dict(plan.waits()),
        reviewed=explain_reviews(graph, path, project.settings),
    )


def explain_reviews(graph: Graph, path: Sequence[str], settings: Settings) -> dict[str, str]:
    """Why each open node is reviewed before it lands, as far as it is known without its diff; `path` is critical."""
    found: dict[str, str] = {}
    on_path = frozenset(path)
    for task_id, task in graph.tasks.items():
        facts = WorkFacts(len(graph.open_dependents(task_id)) if task_id in on_path else 0)
        if not task.is_completed and not task.is_human and (reason := settings.explain_review(task, facts)):
            found[task_id] = reason
    return found


def keep_open(graph: Graph) -> Graph:
    """The graph of the nodes that are not completed, without edges from completed ones."""
    left = {task_id: task for task_id, task in graph.tasks.items() if not task.is_completed}
    return build_graph(
        replace(task, depends_on=tuple(one for one in task.depends_on if one in left)) for task in left.values()
    )


def choose_counts(graph: Graph, sessions: int) -> Sequence[int]:
    """Choose the session counts to compare, up to the first that more sessions would not improve on."""
    counts = sorted({*SESSION_COUNTS, sessions})
    last = forecast_table(graph, [max(len(graph.tasks), 1)])[0].makespan
    enough = next((row.max_sessions for row in forecast_table(graph, counts) if row.makespan <= last), counts[-1])
    return [number for number in counts if number <= max(enough, sessions)]


def print_outlook(outlook: PlanSummary, project: Project, console: Console) -> None:
    """Print the plan as text."""
    say(console, f"{count(outlook.open, 'node')} open, {outlook.completed} completed on {project.where}.", "bold")
    if not outlook.open:
        return
    say(console, "\nGroups that can run in parallel, in this order:")
    rows = [(str(number), str(len(ids)), ", ".join(ids)) for number, ids in enumerate(outlook.groups, 1)]
    _print_groups(rows, console)
    say(console, f"\nCritical path, {count(outlook.effort, 'unit')} of effort:")
    say(console, "  " + " -> ".join(outlook.critical_path))
    say(console, "\nExpected finish if every first attempt lands (in units of effort; a `single` task is 1):")
    print_rows(
        console,
        ("sessions", "finish", "earliest possible"),
        [_write_forecast(row, outlook.max_sessions) for row in outlook.forecast],
    )
    _print_reviews(outlook, project, console)
    _print_now(outlook, project, console)


def _print_reviews(outlook: PlanSummary, project: Project, console: Console) -> None:
    open_tasks = [project.graph.tasks[task_id] for ids in outlook.groups for task_id in ids]
    is_open = any(project.settings.may_be_reviewed(one) for one in open_tasks if one.id not in outlook.reviewed)
    lines = project.settings.review.diff_lines if is_open else 0
    if outlook.reviewed:
        say(console, "\nReviewed before they land:")
        for task_id, reason in outlook.reviewed.items():
            say(console, f"  {task_id}: {reason}")
    if lines:
        who = "Others" if outlook.reviewed else "\nBranches"
        say(console, f"{who} are reviewed if they change at least {lines} lines.")


def _print_groups(rows: Sequence[tuple[str, str, str]], console: Console) -> None:
    for number, size, ids in rows:
        say(console, f"  {number.rjust(len(str(len(rows))))}. ({size}) {ids}")


def _write_forecast(row: ForecastRow, configured: int) -> tuple[str, str, str]:
    mark = " (configured)" if row.max_sessions == configured else ""
    return f"{row.max_sessions}{mark}", f"{row.makespan:g}", f"{row.bound:g}"


def _print_now(outlook: PlanSummary, project: Project, console: Console) -> None:
    tasks = project.graph.tasks
    say(console, "\nWould start now:" if outlook.starts_now else "\nNothing would start now.")
    for task_id in outlook.starts_now:
        say(console, f"  {task_id}: {tasks[task_id].name} (as {project.settings.role_of(tasks[task_id])})")
    if outlook.ready_later:
        say(console, f"Ready, but waiting for a free session: {', '.join(outlook.ready_later)}")
    if outlook.waiting_for_person:
        say(console, "Waiting for a person:")
        for task_id in outlook.waiting_for_person:
            say(console, f"  {task_id}: {tasks[task_id].name} ({tasks[task_id].path})")
    stuck = [task_id for task_id, reason in outlook.waits.items() if not reason.startswith("waits for")]
    if stuck:
        say(console, "Held:")
        for task_id in stuck:
            say(console, f"  {task_id} {outlook.waits[task_id]}")
