"""Draws a graph as DOT, as Mermaid, and as an SVG that needs no layout program."""

import re
from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from unicodedata import east_asian_width

from tasks_lib.graph.task_graph import Graph
from tasks_lib.model import Task
from tasks_lib.text import fold


@dataclass(frozen=True, slots=True)
class _Look:
    """How a state is shown: its word in the legend, and two CSS colours on which dark text is readable."""

    word: str
    fill: str
    stroke: str


_LOOKS = {
    "pending": _Look("pending", "#f6f7f9", "#8a93a0"),
    "in-progress": _Look("in progress", "#dbeafe", "#2563eb"),
    "completed": _Look("completed", "#dcf5e3", "#1a8a45"),
    "blocked": _Look("blocked", "#fdefc3", "#b7791f"),
    "failed": _Look("failed", "#fde2e1", "#cf3030"),
    "aborted": _Look("aborted", "#f1e4fd", "#8a3fd1"),
    "skipped": _Look("skipped", "#e3e5e9", "#5b6470"),
    "person": _Look("waits for a person", "#d5f3f4", "#0e7f88"),
}
_OUTCOMES = {"merged": "completed", "checked": "completed", "running": "in-progress"}
"""The outcomes that are shown as the state of another name."""
_INK, _EDGE, _PAPER = "#1c2128", "#7d8794", "#ffffff"

_CHAR_WIDTH, _BOLD_WIDTH = 7.0, 8.0
"""The average width in pixels of a 12 px character in DejaVu Sans, the widest of the listed fonts."""
_TEXT_COLUMNS = (14, 28)
"""The minimum and maximum width of a box, in characters."""
_BOX_HEIGHT, _TRUNK_HEIGHT, _GAP_X, _GAP_Y, _MARGIN, _PADDING, _LEGEND = 42.0, 2.0, 64.0, 14.0, 20.0, 10.0, 34.0
_SWEEPS = 12
"""Barycentre sweeps converge after a few rounds; the best order found is kept."""

_Vertex = tuple[int, str]
"""(layer, id): the box of a node in its own layer, or in a later layer the shared trunk of its edges."""


def draw_dot(graph: Graph) -> str:
    """The nodes of `graph` as a Graphviz digraph, left to right, with a legend."""
    lines = ["digraph tasks {", "  rankdir=LR;", '  node [shape=box, style="rounded,filled", fontname="sans-serif"];']
    for task_id, task in graph.tasks.items():
        label = f"{_quote_dot(task_id)}\\n{_quote_dot(task.name)}" if task.name != task_id else _quote_dot(task_id)
        lines.append(f'  "{_quote_dot(task_id)}" [label="{label}", {_style_dot(_find_state(task))}];')
    for before, after in _list_edges(graph):
        lines.append(f'  "{_quote_dot(before)}" -> "{_quote_dot(after)}";')
    lines += ["  subgraph cluster_legend {", '    label="status"; fontname="sans-serif"; color="#8a93a0";']
    for state in _list_states(map(_find_state, graph.tasks.values())):
        # No id contains a colon, because git does not allow one in a branch name.
        lines.append(f'    "legend:{state}" [label="{_LOOKS[state].word}", {_style_dot(state)}];')
    return "\n".join([*lines, "  }", "}", ""])


def draw_mermaid(graph: Graph) -> str:
    """The nodes of `graph` as a Mermaid flowchart, left to right, with a legend."""
    names = {task_id: f"n{number}" for number, task_id in enumerate(graph.order())}
    states = {task_id: _find_state(task) for task_id, task in graph.tasks.items()}
    used = _list_states(states.values())
    lines = ["flowchart LR"]
    for task_id, name in names.items():
        title = graph.tasks[task_id].name
        label = _quote_mermaid(task_id) + (f"<br/>{_quote_mermaid(title)}" if title != task_id else "")
        lines.append(f'  {name}["{label}"]:::{_name_class(states[task_id])}')
    lines += [f"  {names[before]} --> {names[after]}" for before, after in _list_edges(graph)]
    lines.append('  subgraph legend["status"]')
    lines += [f'    l{number}["{_LOOKS[state].word}"]:::{_name_class(state)}' for number, state in enumerate(used)]
    lines.append("  end")
    for state in used:
        look = _LOOKS[state]
        lines.append(f"  classDef {_name_class(state)} fill:{look.fill},stroke:{look.stroke},color:{_INK}")
    return "\n".join([*lines, ""])


def draw_svg(graph: Graph, outcomes: Mapping[str, str] | None = None) -> str:
    """The nodes of `graph` as one SVG document with its own background, in layers of equal depth from left to right.

    `outcomes` maps ids to the name of an `Outcome` or to `running`, which override the status in the task file.
    """
    states = {task_id: _find_state(task, (outcomes or {}).get(task_id, "")) for task_id, task in graph.tasks.items()}
    longest = max((_measure(text) for task in graph.tasks.values() for text in (task.id, task.name)), default=0)
    box_width = min(max(longest, _TEXT_COLUMNS[0]), _TEXT_COLUMNS[1]) * _BOLD_WIDTH + 2 * _PADDING
    layout = _Layout(graph)
    edges = [_draw_edge(route, layout, box_width) for route in layout.routes]
    boxes = [_draw_box(graph.tasks[i], states[i], layout, box_width) for i in graph.order()]
    legend, legend_width = _draw_legend(_list_states(states.values()))
    layers = layout.layers
    width = max(legend_width, 2 * _MARGIN + len(layers) * box_width + max(len(layers) - 1, 0) * _GAP_X)
    body = "\n".join([legend, *edges, *boxes])
    return _SVG.format(width=f"{width:.0f}", height=f"{layout.bottom + _MARGIN:.0f}", body=body)


_SVG = f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {{width}} {{height}}" width="{{width}}" \
height="{{height}}" role="img" fill="{_INK}" font-size="12" \
font-family="system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif">
<title>Task graph</title>
<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" \
markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0.5 L7.5 4 L0 7.5 Z" fill="{_EDGE}"/></marker></defs>
<rect width="100%" height="100%" rx="6" fill="{_PAPER}"/>
{{body}}
</svg>
"""


class _Layout:
    """Where boxes and edges go: `layers` left to right, each top to bottom; `y` is a vertex's centre in pixels."""

    def __init__(self, graph: Graph) -> None:
        self.depth: dict[str, int] = {i: number for number, group in enumerate(graph.generations()) for i in group}
        self.routes: list[list[_Vertex]] = [self._route(*edge) for edge in _list_edges(graph)]
        # Lists, not sets: the order in which floats are summed changes the last digit, and so the drawing.
        self._left: defaultdict[_Vertex, list[_Vertex]] = defaultdict(list)
        self._right: defaultdict[_Vertex, list[_Vertex]] = defaultdict(list)
        for before, after in dict.fromkeys(link for route in self.routes for link in pairwise(route)):
            self._right[before].append(after)
            self._left[after].append(before)
        self.layers: list[list[_Vertex]] = self._order_layers()
        self.y: dict[_Vertex, float] = self._place()
        lowest = max((y + self.measure(vertex) / 2 for vertex, y in self.y.items()), default=0.0)
        self.bottom: float = max(lowest, _MARGIN + _LEGEND)

    def is_box(self, vertex: _Vertex) -> bool:
        return self.depth[vertex[1]] == vertex[0]

    def measure(self, vertex: _Vertex) -> float:
        return _BOX_HEIGHT if self.is_box(vertex) else _TRUNK_HEIGHT

    def _route(self, before: str, after: str) -> list[_Vertex]:
        """Route an edge between the boxes of the layers that it crosses; the edges of one node share a trunk."""
        passed = range(self.depth[before], self.depth[after])
        return [*((layer, before) for layer in passed), (self.depth[after], after)]

    def _order_layers(self) -> list[list[_Vertex]]:
        vertices = {(layer, task_id) for task_id, layer in self.depth.items()}.union(*self.routes)
        layers: list[list[_Vertex]] = [[] for _ in range(max(self.depth.values(), default=-1) + 1)]
        for vertex in sorted(vertices):
            layers[vertex[0]].append(vertex)
        best, fewest = layers, self._count_crossings(layers)
        for sweep in range(_SWEEPS):
            layers = self._sweep(layers, is_rightward=sweep % 2 == 0)
            crossings = self._count_crossings(layers)
            if crossings < fewest:
                best, fewest = layers, crossings
        return best

    def _sweep(self, layers: Sequence[Sequence[_Vertex]], *, is_rightward: bool) -> list[list[_Vertex]]:
        """Move every vertex to the mean position of its neighbours on one side, layer by layer."""
        links = self._left if is_rightward else self._right
        place: dict[_Vertex, float] = {}
        swept: list[list[_Vertex]] = []
        for layer in layers if is_rightward else reversed(layers):
            size = max(len(layer), 1)
            own = {vertex: index / size for index, vertex in enumerate(layer)}
            means = {vertex: _mean([place[other] for other in links[vertex]], own[vertex]) for vertex in layer}
            swept.append(sorted(layer, key=lambda vertex, means=means, own=own: (means[vertex], own[vertex])))
            place |= {vertex: index / size for index, vertex in enumerate(swept[-1])}
        return swept if is_rightward else swept[::-1]

    def _count_crossings(self, layers: Sequence[Sequence[_Vertex]]) -> int:
        crossings = 0
        for before, after in pairwise(layers):
            place = {vertex: index for index, vertex in enumerate(after)}
            ends: list[int] = []
            for vertex in before:
                targets = [place[other] for other in self._right[vertex]]
                crossings += sum(len(ends) - bisect_right(ends, target) for target in targets)
                for target in targets:
                    insort(ends, target)
        return crossings

    def _place(self) -> dict[_Vertex, float]:
        y: dict[_Vertex, float] = {}
        for layer in self.layers:
            y |= self._stack(layer, [0.0] * len(layer))
        for sweep in range(_SWEEPS):
            is_rightward = sweep % 2 == 0
            for layer in self.layers if is_rightward else reversed(self.layers):
                links = self._left if is_rightward else self._right
                y |= self._stack(layer, [_mean([y[other] for other in links[v]], y[v]) for v in layer])
        highest = min((y[vertex] - self.measure(vertex) / 2 for vertex in y), default=0.0)
        return {vertex: middle - highest + _MARGIN + _LEGEND for vertex, middle in y.items()}

    def _stack(self, layer: Sequence[_Vertex], wanted: Sequence[float]) -> dict[_Vertex, float]:
        """Place `layer` as close to `wanted` as its order and gaps allow (least squares).

        After subtracting the space above each vertex this is isotonic regression, solved by merging blocks.
        """
        room, rooms = 0.0, list[float]()
        for index, vertex in enumerate(layer):
            room += (self.measure(layer[index - 1]) + self.measure(vertex)) / 2 + _GAP_Y if index else 0.0
            rooms.append(room)
        blocks: list[tuple[float, int]] = []
        for value, above in zip(wanted, rooms, strict=True):
            total, count = value - above, 1
            while blocks and blocks[-1][0] / blocks[-1][1] > total / count:
                last_total, last_count = blocks.pop()
                total, count = total + last_total, count + last_count
            blocks.append((total, count))
        levels = [total / count for total, count in blocks for _ in range(count)]
        return {vertex: level + above for vertex, level, above in zip(layer, levels, rooms, strict=True)}


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _find_x(layer: int, box_width: float) -> float:
    return _MARGIN + layer * (box_width + _GAP_X)


def _draw_edge(route: Sequence[_Vertex], layout: _Layout, box_width: float) -> str:
    x, y = _find_x(route[0][0], box_width) + box_width, layout.y[route[0]]
    steps = [f"M{x:.1f} {y:.1f}"]
    for vertex in route[1:]:
        left, middle = _find_x(vertex[0], box_width), layout.y[vertex]
        bend = (x + left) / 2
        steps.append(f"C{bend:.1f} {y:.1f} {bend:.1f} {middle:.1f} {left:.1f} {middle:.1f}")
        x, y = left, middle
        if not layout.is_box(vertex):
            x = left + box_width
            steps.append(f"H{x:.1f}")
    return f'<path d="{" ".join(steps)}" fill="none" stroke="{_EDGE}" stroke-width="1.3" marker-end="url(#arrow)"/>'


def _draw_box(task: Task, state: str, layout: _Layout, box_width: float) -> str:
    layer = layout.depth[task.id]
    x, y = _find_x(layer, box_width), layout.y[layer, task.id] - _BOX_HEIGHT / 2
    has_name = bool(_clean(task.name)) and task.name != task.id
    title = f"{task.id}: {task.name} ({_LOOKS[state].word})" if has_name else f"{task.id} ({_LOOKS[state].word})"
    room = box_width - 2 * _PADDING
    short_id = _cut(task.id, int(room / _BOLD_WIDTH), keeps_end=True)
    shown = [_draw_text(x + _PADDING, y + (18 if has_name else 25), short_id, "600")]
    if has_name:
        shown.append(_draw_text(x + _PADDING, y + 33, _cut(task.name, int(room / _CHAR_WIDTH)), "400"))
    box = _draw_rect(x, y, box_width, _BOX_HEIGHT, _LOOKS[state])
    return f"<g><title>{_quote_xml(title)}</title>{box}{''.join(shown)}</g>"


def _draw_text(x: float, y: float, text: str, weight: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-weight="{weight}">{_quote_xml(text)}</text>'


def _draw_rect(x: float, y: float, width: float, height: float, look: _Look) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect {place} rx="5" fill="{look.fill}" stroke="{look.stroke}" stroke-width="1.5"/>'


def _draw_legend(states: Sequence[str]) -> tuple[str, float]:
    """The legend in one row, and its width."""
    x = _MARGIN
    shown: list[str] = [] if states else [_draw_text(x, _MARGIN + 12, "There are no task files.", "400")]
    for state in states:
        look = _LOOKS[state]
        shown += [_draw_rect(x, _MARGIN, 18, 14, look), _draw_text(x + 25, _MARGIN + 11.5, look.word, "400")]
        x += 25 + len(look.word) * _CHAR_WIDTH + 18
    return "\n".join(shown), max(x, 200.0)


def _find_state(task: Task, outcome: str = "") -> str:
    word = outcome.casefold()
    if (state := _OUTCOMES.get(word, word)) in _LOOKS:
        return state
    return "person" if task.is_human and not task.is_completed else task.status.value


def _list_states(states: Iterable[str]) -> list[str]:
    used = set(states)
    return [state for state in _LOOKS if state in used]


def _list_edges(graph: Graph) -> list[tuple[str, str]]:
    return [(before, after) for before in graph.order() for after in graph.dependents(before)]


def _style_dot(state: str) -> str:
    look = _LOOKS[state]
    return f'fillcolor="{look.fill}", color="{look.stroke}", fontcolor="{_INK}"'


def _name_class(state: str) -> str:
    return "is_" + state.replace("-", "_")


def _clean(text: str) -> str:
    """`text` on one line, printable characters only: XML does not allow most others, even escaped."""
    return "".join(char for char in fold(text) if char.isprintable())


def _quote_xml(text: str) -> str:
    return escape(_clean(text))


def _quote_dot(text: str) -> str:
    return _clean(text).replace("\\", "\\\\").replace('"', '\\"')


def _quote_mermaid(text: str) -> str:
    """Write punctuation as character codes, because Mermaid reads much of it as syntax, Markdown or HTML."""
    return re.sub(r"[^\w /,-]|_|^-", lambda found: f"#{ord(found.group())};", _clean(text))


def _measure(text: str) -> int:
    return sum(2 if east_asian_width(char) in "WF" else 1 for char in _clean(text))


def _cut(text: str, columns: int, *, keeps_end: bool = False) -> str:
    """`text` at most `columns` wide; `keeps_end` is for ids, which often start alike."""
    shown = _clean(text)
    if _measure(shown) <= columns:
        return shown
    while _measure(shown) > columns - 1:
        shown = shown[1:] if keeps_end else shown[:-1]
    return "…" + shown.lstrip() if keeps_end else shown.rstrip() + "…"
