"""Builds the graph of task files, or lists its faults, and answers questions about its shape."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import rustworkx as rx

from tasks_lib.errors import Fault, InputError
from tasks_lib.model import Task
from tasks_lib.naming import MAX_MESSAGE, show
from tasks_lib.suggestions import find_nearest

_CYCLES_SHOWN = 10
"""A strongly connected component can contain far too many cycles to list; these are enough to start fixing it."""
_COMPARISONS = 50_000
"""Finding a close match costs about 10 µs per id; beyond this many, faults are reported without a suggestion."""

_Digraph = rx.PyDiGraph[str, None]


@dataclass(frozen=True, slots=True)
class Graph:
    """An immutable acyclic graph of tasks. `tasks` maps ids to tasks, sorted by id.

    Edges run prerequisite -> dependent. Every method raises KeyError for an id that is not in `tasks`.
    """

    tasks: Mapping[str, Task]
    _dependents: Mapping[str, tuple[str, ...]] = field(repr=False, compare=False)
    _order: tuple[str, ...] = field(repr=False, compare=False)
    _digraph: _Digraph = field(repr=False, compare=False)
    _indices: Mapping[str, int] = field(repr=False, compare=False)

    def prerequisites(self, task_id: str) -> tuple[str, ...]:
        """The ids that `task_id` depends on directly, in the order of its file, each once."""
        return tuple(dict.fromkeys(self.tasks[task_id].depends_on))

    def dependents(self, task_id: str) -> tuple[str, ...]:
        """The ids that depend directly on `task_id`, sorted."""
        return self._dependents[task_id]

    def order(self) -> tuple[str, ...]:
        """All ids in topological order; ties are broken by id."""
        return self._order

    def shares_edges_with(self, other: "Graph") -> bool:
        """Whether one graph was built `like` the other, so that only the content of their tasks can differ."""
        return self._order is other._order

    def generations(self) -> tuple[tuple[str, ...], ...]:
        """The ids by depth: each group depends only on earlier groups. Sorted within a group."""
        layers = rx.topological_generations(self._digraph)
        return tuple(tuple(sorted(self._digraph[index] for index in layer)) for layer in layers)

    def ancestors(self, task_id: str) -> frozenset[str]:
        """The ids that must be completed before `task_id`, directly or not, without itself."""
        return frozenset(self._digraph[i] for i in rx.ancestors(self._digraph, self._indices[task_id]))

    def descendants(self, task_id: str) -> frozenset[str]:
        """The ids that depend on `task_id`, directly or not, without itself."""
        return frozenset(self._digraph[i] for i in rx.descendants(self._digraph, self._indices[task_id]))

    def remaining(self, weights: Mapping[str, int] | None = None) -> Mapping[str, int]:
        """Map each id to the weight of the heaviest path from it to an end, including itself, in units of effort.

        `weights` replaces `Task.cost` for the ids it contains. Completed nodes weigh nothing, and paths of open nodes
        do not lead through them, because dependents of a completed node no longer wait for its prerequisites.
        """
        given = weights or {}
        closed = {task_id for task_id, task in self.tasks.items() if task.is_completed}
        paths: dict[str, int] = {}
        for task_id in reversed(self._order):
            after, own = self._dependents[task_id], 0
            if task_id not in closed:
                after = [dependent for dependent in after if dependent not in closed]
                own = given[task_id] if task_id in given else self.tasks[task_id].cost
            paths[task_id] = own + max([paths[dependent] for dependent in after], default=0)
        return paths

    def critical_path(self) -> tuple[str, ...]:
        """The heaviest path of open nodes, first to last, ties by id. Empty if all nodes are completed."""
        paths = self.remaining()
        choices: Collection[str] = [task_id for task_id, task in self.tasks.items() if not task.is_completed]
        path: list[str] = []
        while choices:
            path.append(min(choices, key=lambda task_id: (-paths[task_id], task_id)))
            choices = self.open_dependents(path[-1])
        return tuple(path)

    def open_dependents(self, task_id: str) -> tuple[str, ...]:
        """The ids that depend directly on `task_id` and are not completed, sorted."""
        return tuple(i for i in self._dependents[task_id] if not self.tasks[i].is_completed)


def build_graph(tasks: Iterable[Task], like: Graph | None = None) -> Graph:
    """Build the graph of `tasks`, given in any order. Raises InputError with the errors that `check_graph` finds.

    The edges of the graph `like` are reused if they are the same, as they usually are from one merge to the next.
    """
    given = tuple(tasks)
    by_id = {task.id: task for task in sorted(given, key=lambda task: task.id)}
    if like and len(by_id) == len(given) and _has_edges_of(like.tasks, by_id):
        return replace(like, tasks=by_id)
    digraph, indices = _make_digraph(by_id)
    is_sound = len(by_id) == len(given) and digraph.num_edges() == _count_edges(by_id)
    if not is_sound or not rx.is_directed_acyclic_graph(digraph):
        raise InputError(fault for fault in check_graph(given) if not fault.is_warning)
    dependents: dict[str, list[str]] = {task_id: [] for task_id in by_id}
    for task_id, task in by_id.items():  # Ids come sorted, so each list is sorted too.
        for prerequisite in dict.fromkeys(task.depends_on):
            dependents[prerequisite].append(task_id)
    order = tuple(rx.lexicographical_topological_sort(digraph, key=str))
    return Graph(by_id, {task_id: tuple(ids) for task_id, ids in dependents.items()}, order, digraph, indices)


def _has_edges_of(old: Mapping[str, Task], new: Mapping[str, Task]) -> bool:
    """Whether both mappings, sorted by id, have the same ids with the same dependencies in the same order."""
    return len(old) == len(new) and all(
        one is other or (one.id == other.id and one.depends_on == other.depends_on)
        for one, other in zip(old.values(), new.values(), strict=True)
    )


def _count_edges(by_id: Mapping[str, Task]) -> int:
    return sum(len(set(task.depends_on)) for task in by_id.values())


def _make_digraph(by_id: Mapping[str, Task]) -> tuple[_Digraph, dict[str, int]]:
    """A digraph with an edge for each dependency that exists; unknown ones are left out."""
    digraph: _Digraph = rx.PyDiGraph(multigraph=False)
    indices = dict(zip(by_id, digraph.add_nodes_from(list(by_id)), strict=True))
    edges = [
        (indices[prerequisite], indices[task_id])
        for task_id, task in by_id.items()
        for prerequisite in dict.fromkeys(task.depends_on)
        if prerequisite in indices
    ]
    digraph.add_edges_from_no_data(edges)  # pyright: ignore[reportArgumentType] - Its edges are typed as the caller's.
    return digraph, indices


def check_graph(tasks: Iterable[Task]) -> tuple[Fault, ...]:
    """Find every fault that keeps `tasks` from forming a valid graph, sorted by place.

    Errors: duplicate ids, unknown dependencies, cycles. Warnings: ids that differ only by case.
    """
    given = sorted(tasks, key=lambda task: (task.id, task.path))
    by_id: dict[str, Task] = {}
    for task in given:
        by_id.setdefault(task.id, task)
    faults = (*_find_duplicates(given), *_find_unknown(given, by_id), *_find_cycles(by_id), *_find_twins(by_id))
    # The message of a cycle of thousands of ids is cut in the middle.
    return tuple(sorted(replace(fault, message=show(fault.message, MAX_MESSAGE)) for fault in faults))


def _find_duplicates(tasks: Iterable[Task]) -> Iterator[Fault]:
    holders: defaultdict[str, list[Task]] = defaultdict(list)
    for task in tasks:
        holders[task.id].append(task)
    for task_id, same in holders.items():
        for position, task in enumerate(same):
            others = [other.path for index, other in enumerate(same) if index != position]
            if others:
                message = f'id "{task_id}" is also used in {_join(others)}. Give each file a unique id.'
                yield Fault(task.path, task.lines.get("id", 0), message)


def _find_unknown(tasks: Iterable[Task], by_id: Mapping[str, Task]) -> Iterator[Fault]:
    nearest: dict[str, str | None] = {}
    for task in tasks:
        for name in dict.fromkeys(task.depends_on):
            if name in by_id:
                continue
            if name not in nearest:
                is_affordable = (len(nearest) + 1) * len(by_id) <= _COMPARISONS
                nearest[name] = find_nearest(name, by_id) if is_affordable else None
            near = nearest[name]
            advice = f'Did you mean "{near}"?' if near else "Remove it, or add that task file."
            message = f'depends_on names "{name}", which no task file has. {advice}'
            yield Fault(task.path, _find_line(task, name), message)


def _find_cycles(by_id: Mapping[str, Task]) -> Iterator[Fault]:
    digraph, _ = _make_digraph(by_id)
    if rx.is_directed_acyclic_graph(digraph):
        return
    for component in rx.strongly_connected_components(digraph):
        knot = digraph.subgraph(list(component))
        cycles = [[knot[index] for index in cycle] for cycle in islice(rx.simple_cycles(knot), _CYCLES_SHOWN + 1)]
        for cycle in cycles[:_CYCLES_SHOWN]:
            yield _describe_cycle(cycle, by_id)
        if len(cycles) > _CYCLES_SHOWN:
            first = by_id[min(knot.nodes())]
            more = f"{knot.num_nodes()} task files depend on each other in more than the {_CYCLES_SHOWN} cycles listed."
            yield Fault(first.path, 0, f"{more} Break these and check again.")


def _describe_cycle(cycle: Sequence[str], by_id: Mapping[str, Task]) -> Fault:
    """Describe a cycle, starting at its smallest id, so that it always reads the same."""
    start = cycle.index(min(cycle))
    path = [*cycle[start:], *cycle[:start]]
    task = by_id[path[0]]
    shown = " -> ".join([*path, path[0]])
    message = f"depends_on closes the cycle {shown}, so none of these can ever start. Remove one dependency."
    return Fault(task.path, _find_line(task, path[-1]), message)


def _find_twins(by_id: Mapping[str, Task]) -> Iterator[Fault]:
    groups: defaultdict[str, list[Task]] = defaultdict(list)
    for task_id, task in by_id.items():
        groups[task_id.casefold()].append(task)
    for first, *others in groups.values():
        for task in others:
            message = f'id "{task.id}" differs from "{first.id}" ({first.path}) only by case. Rename one of them.'
            yield Fault(task.path, task.lines.get("id", 0), message, is_warning=True)


def _find_line(task: Task, prerequisite: str) -> int:
    whole = task.lines.get("depends_on") or task.lines.get("dependsOn") or 0
    return task.dependency_lines.get(prerequisite) or whole


def _join(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
