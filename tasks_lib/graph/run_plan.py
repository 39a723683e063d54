"""Decides which nodes may start and why the others wait; it starts nothing itself."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from tasks_lib.errors import InputError
from tasks_lib.graph.graph_changes import Changes, add_dependents, compare, find_changed, find_open, moves_ranks
from tasks_lib.graph.holds import CAUSES_SHOWN, Hold, describe_ending, explain_blocked, tell_causes
from tasks_lib.graph.spawned_tasks import list_spawned, list_spawners
from tasks_lib.graph.task_graph import Graph
from tasks_lib.loop_limits import MAX_IN_A_ROW
from tasks_lib.model import Aborted, Blocked, Checked, Failed, Merged, Outcome, Status, Task, Waiting
from tasks_lib.naming import is_resolve_task
from tasks_lib.suggestions import find_nearest

_TAKEN_BACK = Failed(f"its merge was undone {MAX_IN_A_ROW} times because other commits came first; the work is kept")

Rank = tuple[int, int, str]


def rank(graph: Graph) -> Mapping[str, Rank]:
    """Map each id to its sort key in the queue: longest remaining path first, then most dependents, then id."""
    remaining = graph.remaining()
    return {task_id: (-remaining[task_id], -len(graph.dependents(task_id)), task_id) for task_id in graph.tasks}


@dataclass(frozen=True, slots=True)
class _Setback:
    """What was known about a node when it blocked; it waits until that differs, or until it depends on `waits_for`."""

    blob: str
    status: Status | None
    resolved: frozenset[str]
    waits_for: str = ""


class Plan:
    """The state of one run over a graph: which nodes run, how the others ended, and so which may start.

    `graph` is always read from the head, and it alone says which nodes are completed: `finish` never makes a dependent
    ready; only `update` with a graph in which the prerequisite is completed does. Not thread-safe.
    """

    def __init__(self, graph: Graph, only: Collection[str] = ()) -> None:
        """Plan to run the ids in `only`, or all nodes if it is empty. Raises InputError naming each unknown id."""
        _check_only(graph, only)
        self._graph: Graph = graph
        self._only: frozenset[str] = frozenset(only)
        self._ranks: Mapping[str, Rank] = rank(graph)
        self._running: set[str] = set()
        self._landing: set[str] = set()
        self._outcomes: dict[str, Outcome] = {}
        self._setbacks: dict[str, _Setback] = {}
        self._taken_back: set[str] = set()
        self._times_taken_back: Counter[str] = Counter()
        self._ready: set[str] = set()
        self._line: tuple[str, ...] | None = None
        self._update_ready(graph.tasks)

    @property
    def graph(self) -> Graph:
        """The graph of the last `update`."""
        return self._graph

    @property
    def only(self) -> frozenset[str]:
        """The ids that this run is limited to, with the tasks that they spawned; empty for all."""
        return self._only and frozenset(i for i in self._graph.tasks if self._is_wanted(i))

    @property
    def running(self) -> frozenset[str]:
        """The ids that were started and have not finished."""
        return frozenset(self._running)

    @property
    def outcomes(self) -> Mapping[str, Outcome]:
        """The last outcome of each id that finished in this run, in the order they first finished."""
        return dict(self._outcomes)

    def priority(self, task_id: str) -> int:
        """The longest remaining path from the open node `task_id`, in units of effort; raises KeyError if unknown."""
        return -self._ranks[task_id][0]

    def ready(self) -> tuple[str, ...]:
        """The ids that may start now, most urgent first."""
        if self._line is None:
            self._line = tuple(sorted(self._ready, key=self._ranks.__getitem__))
        return self._line

    def start(self, task_id: str) -> None:
        """Record that `task_id` is running now. Raises ValueError unless it is ready."""
        if task_id not in self._ready:
            raise ValueError(f"{task_id} is not ready and cannot be started")
        self._running.add(task_id)
        self._setbacks.pop(task_id, None)
        self._taken_back.discard(task_id)
        self._update_ready((task_id,))

    def finish(self, task_id: str, outcome: Outcome) -> None:
        """Record how `task_id` ended. Raises ValueError unless it is running.

        May be called before or after `update` with the graph that shows the ending; the resulting plan is the same.
        """
        if task_id not in self._running:
            raise ValueError(f"{task_id} is not running and cannot finish")
        self._running.remove(task_id)
        self._landing.discard(task_id)
        self._outcomes[task_id] = outcome
        self._drop_taken_back(task_id)
        if isinstance(outcome, Blocked):
            self._setbacks[task_id] = self._record_setback(task_id, outcome)
        is_aborted = isinstance(outcome, Aborted)
        self._update_ready((task_id, *(list_spawned(self._graph.tasks, task_id) if is_aborted else ())))

    def land(self, task_id: str) -> bool:
        """Let the work on `task_id` land, which a person asked for; return whether it may start now.

        It may be a person's task, and one that this run was not limited to.
        """
        self._landing.add(task_id)
        if isinstance(self._outcomes.get(task_id), Waiting | Failed):
            del self._outcomes[task_id]
        self._update_ready((task_id,))
        return task_id in self._ready

    def update(self, graph: Graph) -> Changes:
        """Continue with `graph`, in which nodes may be new, edited, gone, completed or unblocked; return what differs.

        A node that was completed and no longer is had its merge undone: the base was moved by something else and the
        work no longer merges. Its outcome Merged or Checked is dropped and it may start again; after `MAX_IN_A_ROW`
        times it fails in this run.
        """
        before, self._graph = self._graph, graph
        changed = find_changed(before, graph)
        # What a node waits for depends only on itself, on its prerequisites, and on how it ended in this run.
        affected = add_dependents(changed, before, graph)
        was_blocked = {i for i in affected if i in before.tasks and self._is_blocked(before.tasks[i], before)}
        if not graph.shares_edges_with(before) or moves_ranks(changed, before, graph):
            self._ranks = rank(graph)
        unblocked = {i for i in was_blocked if i in graph.tasks and not self._is_blocked(graph.tasks[i], graph)}
        self._refresh_setbacks()
        self._take_back(before, changed)
        self._update_ready(affected)
        return compare(before, graph, changed, unblocked)

    def waits(self) -> Mapping[str, str]:
        """Say why each open node that is neither running nor ready waits, as one sentence without its subject."""
        ready = set(self.ready())
        idle = (i for i in self._graph.order() if i not in self._running and i not in ready)
        return {i: self._explain_wait(self._graph.tasks[i]) for i in idle if not self._graph.tasks[i].is_completed}

    def skips(self) -> Mapping[str, str]:
        """Say for each node of this run that never started which root cause kept it from starting.

        For the end of a run. Nodes for a person (see `waiting_for_person`) are left out, and so are the ready nodes of
        an interrupted run, because nothing kept them from starting.
        """
        causes = self._trace_causes()
        ready = set(self.ready())
        skipped: dict[str, str] = {}
        for task_id in self._graph.order():
            task = self._graph.tasks[task_id]
            is_ours = self._is_wanted(task_id) and not task.is_completed and not task.is_human
            if is_ours and task_id not in self._outcomes and task_id not in self._running and task_id not in ready:
                hold = self._find_hold(task)
                skipped[task_id] = hold.wait if hold else tell_causes(causes[task_id])
        return skipped

    def waiting_for_person(self) -> tuple[str, ...]:
        """The open nodes that this run needs and only a person can do, in topological order."""
        tasks = self._graph.tasks
        needed = set(self.only or tasks)
        for task_id in reversed(self._graph.order()):
            if task_id in needed and not tasks[task_id].is_completed:
                needed.update(self._graph.prerequisites(task_id))
        return tuple(i for i in self._graph.order() if i in needed and tasks[i].is_human and not tasks[i].is_completed)

    def _is_wanted(self, task_id: str) -> bool:
        if not self._only or task_id in self._landing:
            return True
        return any(i in self._only for i in (task_id, *list_spawners(self._graph.tasks, task_id)))

    def _update_ready(self, task_ids: Iterable[str]) -> None:
        """Update whether each of `task_ids` is ready; call it for all nodes that something new may affect."""
        self._line = None
        for task_id in task_ids:
            task = self._graph.tasks.get(task_id)
            if task and self._is_ready(task):
                self._ready.add(task_id)
            else:
                self._ready.discard(task_id)

    def _is_ready(self, task: Task) -> bool:
        if task.is_completed or task.id in self._running or find_open(task, self._graph):
            return False
        return self._find_hold(task) is None

    def _is_blocked(self, task: Task, graph: Graph) -> bool:
        """Whether `task` is blocked: in this run with nothing new since, or because its file says so."""
        has_setback = task.id in self._setbacks
        if task.is_completed or not (has_setback or task.status is Status.BLOCKED):
            return False
        if has_setback and not self._has_news(task, graph):
            return True
        resolves = _find_resolves(task)
        return task.status is Status.BLOCKED and not (resolves and all(graph.tasks[i].is_completed for i in resolves))

    def _has_news(self, task: Task, graph: Graph) -> bool:
        setback = self._setbacks[task.id]
        is_edited = task.status is not Status.BLOCKED and (task.blob, task.status) != (setback.blob, setback.status)
        resolved = (i for i in _find_resolves(task) if graph.tasks[i].is_completed)
        is_waiting = setback.waits_for in task.depends_on
        return is_waiting or is_edited or any(task_id not in setback.resolved for task_id in resolved)

    def _record_setback(self, task_id: str, outcome: Blocked) -> _Setback:
        task = self._graph.tasks.get(task_id)
        if task is None:
            return _Setback("", None, frozenset())
        resolved = {i for i in _find_resolves(task) if self._graph.tasks[i].is_completed} - {outcome.resolve_id}
        return _Setback(task.blob, task.status, frozenset(resolved), outcome.waits_for)

    def _refresh_setbacks(self) -> None:
        """Update what each blocked node is compared with, once the graph shows it as blocked.

        From then on, undoing that status counts as new, whatever the file said before. So does completing a resolve
        task that was completed when the node blocked and was reopened since.
        """
        tasks = self._graph.tasks
        for task_id, setback in self._setbacks.items():
            resolved = frozenset(i for i in setback.resolved if i in tasks and tasks[i].is_completed)
            self._setbacks[task_id] = replace(setback, resolved=resolved)
            task = tasks.get(task_id)
            if task and task.status is Status.BLOCKED and not self._has_news(task, self._graph):
                self._setbacks[task_id] = _Setback(task.blob, task.status, resolved)

    def _take_back(self, before: Graph, changed: Iterable[str]) -> None:
        tasks = self._graph.tasks
        for task_id in changed:
            if (task := tasks.get(task_id)) is None:
                continue
            if task.is_completed:
                self._taken_back.discard(task_id)
            elif task_id in before.tasks and before.tasks[task_id].is_completed:
                self._taken_back.add(task_id)
                self._times_taken_back[task_id] += 1
                self._drop_taken_back(task_id)

    def _drop_taken_back(self, task_id: str) -> None:
        if task_id in self._taken_back and isinstance(self._outcomes.get(task_id), Merged | Checked):
            del self._outcomes[task_id]
            if self._times_taken_back[task_id] >= MAX_IN_A_ROW:
                self._outcomes[task_id] = _TAKEN_BACK

    def _find_hold(self, task: Task) -> Hold | None:
        """Why `task` itself may not start, apart from its prerequisites; None if only they can keep it waiting."""
        hold = self._find_own_hold(task)
        if self._is_wanted(task.id):
            return hold
        return Hold("is not in --only", hold.cause if hold else "is not in --only")

    def _find_own_hold(self, task: Task) -> Hold | None:
        outcome = self._outcomes.get(task.id)
        if task.is_human and task.id not in self._landing and task.id not in self._outcomes:
            return Hold("waits for a person (assignee: human)", "waits for a person")
        if self._is_blocked(task, self._graph):
            return Hold(explain_blocked(task, outcome, self._graph), "is blocked")
        if outcome and not isinstance(outcome, Blocked):
            return describe_ending(outcome)
        for above in list_spawners(self._graph.tasks, task.id):
            if isinstance(self._outcomes.get(above), Aborted):
                return Hold(f"was spawned by {above}, which was aborted in this run", f"was spawned by {above}")
        if task.status is Status.FAILED:
            return Hold("status is failed; set it to pending to run it again", "has status failed")
        return None

    def _explain_wait(self, task: Task) -> str:
        hold = self._find_hold(task)
        return hold.wait if hold else f"waits for {', '.join(find_open(task, self._graph))}"

    def _trace_causes(self) -> Mapping[str, Sequence[tuple[str, str]]]:
        """Map each open id to its first few root causes as (id, clause); a node can be its own root cause."""
        causes: dict[str, Sequence[tuple[str, str]]] = {}
        for task_id in self._graph.order():
            task = self._graph.tasks[task_id]
            if task.is_completed:
                continue
            hold = self._find_hold(task)
            inherited = dict.fromkeys(cause for i in find_open(task, self._graph) for cause in causes[i])
            if hold or task_id in self._running or not inherited:
                started = "is still running" if task_id in self._running else "was not started"
                causes[task_id] = [(task_id, hold.cause if hold and task_id not in self._running else started)]
            else:
                causes[task_id] = list(inherited)[: CAUSES_SHOWN + 1]
        return causes


def _check_only(graph: Graph, only: Collection[str]) -> None:
    faults: list[str] = []
    for task_id in sorted(set(only).difference(graph.tasks)):
        near = find_nearest(task_id, graph.tasks)
        advice = f'Did you mean "{near}"?' if near else "`coordinator graph` lists all ids."
        faults.append(f'--only names "{task_id}", which no task file has. {advice}')
    if faults:
        raise InputError(faults)


def _find_resolves(task: Task) -> list[str]:
    return [task_id for task_id in task.depends_on if is_resolve_task(task_id)]
