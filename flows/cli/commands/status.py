"""`coordinator status`: shows the state of a run during and after it; the head decides what is completed."""

import time
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from flows.cli.commands.option_values import UP_PORT
from flows.cli.commands.repository_snapshot import Snapshot, read_snapshot
from flows.cli.commands.status_codes import judge, judge_unreadable
from flows.cli.display.next_steps import find_here, print_next_steps
from flows.cli.display.output import count, drop_empty, print_json, print_rows, say
from flows.cli.display.progress_table import (
    HEADINGS,
    can_redraw,
    describe,
    elapsed,
    is_problem,
    make_table,
    name_group,
    sort_for_screen,
    sum_up,
)
from flows.data_directory import data_dir
from flows.loopback import LOOPBACK
from flows.server_sharing import read_running
from flows.standard_streams import is_output_gone
from tasks_lib.errors import InputError
from tasks_lib.git.repository import Repository
from tasks_lib.git.repository_lock import Holder
from tasks_lib.git.taken_tasks import list_taken
from tasks_lib.graph.run_plan import Plan
from tasks_lib.model import OutcomeName, Task
from tasks_lib.moments import find_moment
from tasks_lib.naming import is_resolve_task
from tasks_lib.project.loading import Project
from tasks_lib.reporting.run_report import EXIT_SENTENCES, ExitCode
from tasks_lib.runtime.absent_nodes import find_new_name
from tasks_lib.runtime.status_board import NodeView, find_last_activity

HIDDEN = ("nodes", "messages", "place", "inode", "is_mounted")
"""Fields of a run's view that are shown elsewhere, or that only the next run needs."""
WATCH_SECONDS = 1.0
OTHER_ROWS = 10
"""Lines of the screen that a watched table leaves free for the lines around it."""


@dataclass(frozen=True, slots=True)
class RepositoryStatus:
    """The state of a repository: `nodes` in topological order, then those that only the run knows.

    `code` is what `status` exits with: 0 during a run. `run_code` is what that run would end with as things stand;
    without a run in progress it is `code`.
    """

    snapshot: Snapshot
    nodes: tuple[NodeView, ...]
    code: ExitCode
    run_code: ExitCode
    is_publication_pending: bool


def show_status(path: Path, *, is_watched: bool, as_json: bool, console: Console) -> ExitCode:
    """Print the state of the repository; if watched, until the current run ends or the user presses Ctrl-C."""
    if is_watched and as_json:
        raise InputError(["--watch and --json cannot be used together; run `status --json` as often as you need"])
    standing = find_status(read_snapshot(path))
    if is_watched and standing.snapshot.is_alive:
        standing = watch(path, standing, console)
    if as_json:
        print_json(describe_standing(standing))
    else:
        print_standing(standing, console)
    return standing.code


def find_status(snapshot: Snapshot) -> RepositoryStatus:
    """Combine the head and the last run; only the head decides what is completed."""
    project = snapshot.project
    if project is None:
        nodes = tuple(snapshot.view.nodes.values()) if snapshot.view else ()
        code, run_code = judge_unreadable(snapshot)
        return RepositoryStatus(snapshot, nodes, code, run_code, False)
    plan = Plan(project.graph)
    seen: Mapping[str, NodeView] = snapshot.view.nodes if snapshot.view else {}
    waits, ready = {**plan.waits(), **_tell_people(snapshot.repository, plan)}, set(plan.ready())
    nodes = [
        _find_node(seen.get(task_id), snapshot, project.graph.tasks[task_id], waits.get(task_id, ""), task_id in ready)
        for task_id in project.graph.order()
    ]
    gone = (node for node in seen.values() if node.id not in project.graph.tasks)
    nodes += [replace(node, detail=_explain_gone(node, seen, project)) for node in gone]
    is_pending = project.open_head().is_pending()
    code, run_code = judge(snapshot, project.graph, ready)
    return RepositoryStatus(snapshot, tuple(nodes), code, run_code, is_pending)


def _explain_gone(node: NodeView, seen: Mapping[str, NodeView], project: Project) -> str:
    name = find_new_name(node.id, seen, project.graph.tasks)
    return f"was renamed to {name}" if name else "no task file at the head"


def _tell_people(repository: Repository, plan: Plan) -> dict[str, str]:
    """Map each task of a person that can begin to what it waits for: somebody to take it, or the person who has."""
    taken = list_taken(repository)
    found: dict[str, str] = {}
    for task_id in plan.waiting_for_person():
        is_ready = all(plan.graph.tasks[one].is_completed for one in plan.graph.tasks[task_id].depends_on)
        if who := taken.get(task_id):
            found[task_id] = f"waits for {who.by}, who took it at {who.at}: `coordinator land {task_id}`"
        elif is_ready and not is_resolve_task(task_id):
            found[task_id] = f"waits for a person (assignee: human): `coordinator take {task_id}`"
    return found


def _find_node(seen: NodeView | None, snapshot: Snapshot, task: Task, wait: str, is_ready: bool) -> NodeView:
    node = replace(seen, name=task.name) if seen else NodeView(task.id, task.name)
    if task.is_completed:
        is_shown = node.outcome.is_landed
        return node if is_shown else replace(node, outcome=OutcomeName.LANDED, reason="", detail=task.name)
    if node.outcome.is_landed:
        # It had landed, but is no longer at the head: someone reverted it.
        node = NodeView(task.id, task.name)
    if node.outcome is OutcomeName.BLOCKED and is_ready and not snapshot.holder:
        return NodeView(task.id, task.name, detail=f"is ready again; was blocked: {node.reason}", attempt=node.attempt)
    if node.is_running and not snapshot.holder:
        reason = f"was at {node.stage} when the run ended; its work is kept"
        return replace(node, outcome=OutcomeName.INTERRUPTED, reason=reason)
    return node if node.stage else replace(node, detail=wait or "is ready")


def write_headline(standing: RepositoryStatus) -> list[str]:
    """Write what is running, or how the last run ended, in a few lines."""
    snapshot, view = standing.snapshot, standing.snapshot.view
    lines: list[str] = []
    if snapshot.holder:
        lines.append(f"In progress: {_write_holder(snapshot.holder)}.")
        lines.append(f"Running for {elapsed(view.started)}." if view else "The run is starting.")
    elif snapshot.is_alive:
        lines.append("A run is starting; it has not begun to work on the repository yet.")
    elif view is None:
        lines.append("Nothing has been run here yet.")
    elif snapshot.was_killed:
        lines.append(f"The last run (process {view.pid} on {view.host}) was killed or crashed; nothing is lost.")
        lines.append("To continue it: coordinator run")
    else:
        lines.append(f"The last run ended {_write_time(view.ended)} with exit code {view.exit_code}.")
    return [*lines, *_write_link(view.link, is_alive=snapshot.is_alive)] if view and view.link else lines


def _write_link(link: str, *, is_alive: bool) -> list[str]:
    """Where the run is shown: its own server may have ended with it, but a later one has the same history."""
    parts = urlsplit(link)
    if is_alive or parts.hostname != LOOPBACK:
        return [f"In Prefect's UI: {link}"]
    if server := read_running(data_dir() / "prefect"):
        return [f"In Prefect's UI: http://{LOOPBACK}:{server.port}{parts.path}"]
    return [f"In Prefect's UI, while `coordinator up` runs: http://{LOOPBACK}:{UP_PORT}{parts.path}"]


def _write_holder(holder: Holder) -> str:
    since = f", since {_write_time(holder.started)}" if holder.started else ""
    return f"run {holder.run or '?'}, process {holder.pid or '?'} on {holder.host or '?'}{since}"


def _write_time(moment: str) -> str:
    return f"{datetime.fromisoformat(moment).astimezone():%Y-%m-%d %H:%M:%S}" if moment else ""


def write_ending(standing: RepositoryStatus) -> list[str]:
    """Write what the exit code means here, and what is left to do."""
    snapshot = standing.snapshot
    if snapshot.project is None:
        return ["The configuration or the task files at the head are not valid:", *map(str, snapshot.faults)]
    if snapshot.is_alive:
        return []
    is_done = standing.code is ExitCode.COMPLETED
    lines = ["Every node is completed." if is_done else EXIT_SENTENCES[standing.code]]
    has_failed = any(node.outcome in (OutcomeName.BLOCKED, OutcomeName.FAILED) for node in standing.nodes)
    if standing.code is ExitCode.BLOCKED and not has_failed:
        open_nodes = sum(not node.outcome.is_landed for node in standing.nodes)
        lines = [f"{count(open_nodes, 'node')} not completed, and no run in progress. To continue: coordinator run"]
    if standing.is_publication_pending:
        where = snapshot.project.base_name
        lines.append(f"Verified work waits to be published to {where}; the next run tries again.")
    return lines


def print_standing(standing: RepositoryStatus, console: Console) -> None:
    """Print the whole state as text."""
    for line in write_headline(standing):
        say(console, line)
    if (project := standing.snapshot.project) and project.is_remote:
        say(console, f"Completed nodes are read from {project.where}.")
    for message in standing.snapshot.view.messages if standing.snapshot.view else ():
        say(console, f"! {message}", "yellow")
    if standing.nodes:
        say(console, sum_up(standing.nodes, standing.snapshot.view), "bold")
        print_nodes(standing.nodes, console)
    for line in write_ending(standing):
        say(console, line, "bold")
    if project and not standing.snapshot.is_alive:
        outcomes = {node.id: node.outcome for node in standing.nodes}
        is_pending = standing.is_publication_pending
        print_next_steps(
            project.repository, Plan(project.graph), outcomes, console, here=find_here(), is_pending=is_pending
        )


def print_nodes(nodes: Sequence[NodeView], console: Console) -> None:
    """Print a row for each node: cut to the terminal's width, or in full outside a terminal.

    If they do not fit on the screen, problems and running nodes come first, and the others are cut off and counted.
    """
    if console.is_terminal:
        urgent, room = sum(node.is_running or is_problem(node) for node in nodes), max(5, console.height - OTHER_ROWS)
        is_cut = len(nodes) > max(room, urgent)
        shown = sort_for_screen(nodes) if is_cut else nodes
        console.print(make_table(shown, max(room, urgent), console.width))
        if is_cut:
            say(console, "Not all nodes are shown; `coordinator status | cat` lists them.", "dim")
        return
    headings, rows = drop_empty(HEADINGS, [describe(node, is_wide=True) for node in nodes])
    print_rows(console, headings, rows)


def watch(path: Path, standing: RepositoryStatus, console: Console) -> RepositoryStatus:
    """Show the run until it ends or the user presses Ctrl-C; returns the last state."""
    try:
        with _open_screen(console) as screen:
            while standing.snapshot.is_alive and not is_output_gone():
                screen.show(standing)
                time.sleep(WATCH_SECONDS)
                standing = find_status(read_snapshot(path))
    except KeyboardInterrupt:
        say(console, "Stopped watching; the run continues.")
    return standing


class _Screen:
    """Shows the state as it changes: redrawn in a terminal, elsewhere as a line for each change."""

    def __init__(self, console: Console, live: Live | None) -> None:
        self._console = console
        self._live = live
        self._shown: dict[str, str] = {}

    def show(self, standing: RepositoryStatus) -> None:
        if self._live:
            rows = max(5, self._console.height - OTHER_ROWS)
            self._live.update(_render(standing, rows, self._console.width), refresh=True)
            return
        for node in standing.nodes:
            line = f"{node.outcome or node.stage}{f': {node.reason}' if node.reason else ''}"
            if line and line != self._shown.get(node.id):
                say(self._console, f"{datetime.now().astimezone():%H:%M:%S} {node.id}: {line}")
            self._shown[node.id] = line


@contextmanager
def _open_screen(console: Console) -> Generator[_Screen]:
    if not can_redraw(console):
        yield _Screen(console, None)
        return
    with Live(console=console, transient=True, auto_refresh=False) as live:
        yield _Screen(console, live)


def _render(standing: RepositoryStatus, rows: int, width: int) -> Group:
    """Render problems first, then running nodes, the latest to end, and waiting ones; as many as fit."""
    messages: Sequence[str] = standing.snapshot.view.messages[-3:] if standing.snapshot.view else ()
    return Group(
        *(Text(line) for line in write_headline(standing)),
        *(Text(f"! {message}", style="yellow") for message in messages),
        Text(sum_up(standing.nodes, standing.snapshot.view), style="bold"),
        make_table(sort_for_screen(standing.nodes), rows, width),
    )


def describe_standing(standing: RepositoryStatus) -> dict[str, object]:
    """Return the whole state as plain values."""
    snapshot, view, project = standing.snapshot, standing.snapshot.view, standing.snapshot.project
    run: dict[str, object] | None = None
    if view:
        run = {key: value for key, value in asdict(view).items() if key not in HIDDEN}
        run["was_killed"] = snapshot.was_killed
    return {
        "repository": str(snapshot.repository.top),
        "target": project.target if project else view.target if view else None,
        "base": project.base_name if project else None,
        "head": project.head if project else None,
        "is_alive": snapshot.holder is not None,
        "is_starting": snapshot.run.is_starting,
        "holder": asdict(snapshot.holder) if snapshot.holder else None,
        "run": run,
        "exit_code": int(standing.run_code),
        "is_publication_pending": standing.is_publication_pending,
        "messages": list(view.messages) if view else [],
        "faults": [asdict(fault) for fault in snapshot.faults],
        "counts": Counter(map(name_group, standing.nodes)),
        "nodes": [_describe_node(node, project) for node in standing.nodes],
    }


def _describe_node(node: NodeView, project: Project | None) -> dict[str, object]:
    task = project.graph.tasks.get(node.id) if project else None
    seen = find_last_activity(node) if node.is_running else None
    return {
        **asdict(node),
        "status": task.status.value if task else None,
        "depends_on": list(task.depends_on) if task else [],
        "last_activity": None if seen is None else find_moment(seen).isoformat(),
    }
