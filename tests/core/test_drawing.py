"""Drawings of a graph are valid for any ids and names, complete, and free of overlaps."""

import re
from itertools import pairwise
from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st

from tasks_lib.graph.drawing import draw_dot, draw_mermaid, draw_svg
from tasks_lib.graph.task_graph import Graph, build_graph
from tasks_lib.model import Status, Task

SVG = "{http://www.w3.org/2000/svg}"
NASTY = 'He said "1 < 2 & 3 > 2" \\ `x` ]] ;\n#quot; \x00\x1b\ud800 -- é 漢字'


def make(task_id: str, *depends_on: str, name: str = "", status: str = "pending", human: bool = False) -> Task:
    assignee = "human" if human else None
    return Task(task_id, name or task_id, "p", status=Status(status), depends_on=depends_on, assignee=assignee)


def nasty() -> Graph:
    tasks = [
        make("graph/build-1.x", name=NASTY, status="in-progress"),
        make('a"b', "graph/build-1.x", name="- [x] _y_"),
    ]
    return build_graph([*tasks, make("end", 'a"b', "graph/build-1.x", status="blocked"), make("sign", human=True)])


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def boxes(svg: str) -> dict[str, tuple[float, float, float, float]]:
    """Map each box's title, without the state, to its left, top, right and bottom."""
    found: dict[str, tuple[float, float, float, float]] = {}
    for group in ElementTree.fromstring(svg).iter(f"{SVG}g"):
        title, rect = group.find(f"{SVG}title"), group.find(f"{SVG}rect")
        assert title is not None
        assert rect is not None
        x, y, width, height = (float(rect.get(key, "")) for key in ("x", "y", "width", "height"))
        found[re.split(r"[: ]", title.text or "")[0]] = (x, y, x + width, y + height)
    return found


def fills(svg: str) -> dict[str, str]:
    groups = ElementTree.fromstring(svg).iter(f"{SVG}g")
    return {(g.findtext(f"{SVG}title") or "").split()[0]: next(g.iter(f"{SVG}rect")).get("fill", "") for g in groups}


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    choice = draw(st.randoms(use_true_random=False))
    names = [f"n{number}" for number in range(choice.randint(0, 25))]
    tasks = [make(name, *choice.sample(names[:i], choice.randint(0, min(3, i)))) for i, name in enumerate(names)]
    return build_graph(tasks)


def test_dot_escapes_ids_and_names() -> None:
    lines = [line.strip() for line in draw_dot(nasty()).splitlines()]
    assert '"graph/build-1.x" -> "a\\"b";' in lines
    assert '"a\\"b" -> "end";' in lines
    assert any(
        line.startswith('"graph/build-1.x" [label="graph/build-1.x\\nHe said \\"1 < 2 & 3 > 2\\" \\\\ `x`')
        for line in lines
    )
    for line in lines:
        assert len(re.findall(r'(?<!\\)(?:\\\\)*"', line)) % 2 == 0


def test_dot_colours_nodes_by_status_and_has_a_legend() -> None:
    dot = draw_dot(nasty())
    legend = re.findall(r'"legend:([\w-]+)" \[label="([^"]+)", fillcolor="(#\w+)"', dot)
    assert [(state, word) for state, word, _ in legend] == [
        ("pending", "pending"),
        ("in-progress", "in progress"),
        ("blocked", "blocked"),
        ("person", "waits for a person"),
    ]
    blocked = next(fill for state, _, fill in legend if state == "blocked")
    assert re.search(rf'"end" \[label="end", fillcolor="{blocked}"', dot)


def test_mermaid_contains_no_syntax_from_names() -> None:
    text = draw_mermaid(nasty())
    assert text.startswith("flowchart LR\n")
    labels = re.findall(r'^  n\d+\["(.*)"\]:::\w+$', text, re.MULTILINE)
    assert len(labels) == 4
    for label in labels:
        assert not re.search(r'["<>&`\[\]\\;_]', re.sub(r"#\d+;|<br/>", "", label))
    assert "#45; #91;x#93; #95;y#95;" in text
    assert len(re.findall(r"^  n\d+ --> n\d+$", text, re.MULTILINE)) == 3


def test_mermaid_defines_each_class_that_it_uses() -> None:
    text = draw_mermaid(nasty())
    used = set(re.findall(r":::(\w+)", text))
    assert (
        used == set(re.findall(r"classDef (\w+) ", text)) == {"is_pending", "is_in_progress", "is_blocked", "is_person"}
    )


def test_svg_is_well_formed_and_shows_ids_names_and_a_legend() -> None:
    shown = texts(draw_svg(nasty()))
    assert {"graph/build-1.x", 'a"b', "- [x] _y_", "end", "in progress", "waits for a person"} <= set(shown)
    assert any(text.startswith('He said "1 < 2 & 3') and text.endswith("…") for text in shown)


def test_svg_cuts_long_ids_at_the_start_and_names_at_the_end() -> None:
    task = make(
        "implementation/graph/construction/of/the/index", name="Construct the index of the graph from task files"
    )
    shown = texts(draw_svg(build_graph([task])))
    assert shown[1].startswith("…")
    assert shown[1].endswith("construction/of/the/index")
    assert shown[2] == "Construct the index of the grap…"


def test_wide_characters_are_cut_by_their_width() -> None:
    shown = texts(draw_svg(build_graph([make("a", name="漢字" * 20)])))
    assert shown[2] == "漢字" * 7 + "漢…"


def test_svg_prefers_outcomes_to_the_status_in_files() -> None:
    graph = build_graph([make(i) for i in ("merged", "checked", "running", "skipped", "odd", "plain")])
    outcomes = {"merged": "Merged", "checked": "Checked", "running": "running", "skipped": "Skipped", "odd": "strange"}
    shown = fills(draw_svg(graph, outcomes))
    done = fills(draw_svg(build_graph([make("done", status="completed"), make("busy", status="in-progress")])))
    assert shown["merged"] == shown["checked"] == done["done"]
    assert shown["running"] == done["busy"]
    assert shown["odd"] == shown["plain"]
    assert len({shown["skipped"], shown["plain"], shown["running"], shown["merged"]}) == 4


def test_empty_graph_is_drawn() -> None:
    graph = build_graph([])
    assert texts(draw_svg(graph)) == ["There are no task files."]
    assert draw_dot(graph).startswith("digraph tasks {")
    assert draw_mermaid(graph).startswith("flowchart LR\n")


def test_order_of_boxes_avoids_needless_crossings() -> None:
    names = ["a", "b", "c"]
    graph = build_graph([*map(make, names), make("x", "c"), make("y", "b"), make("z", "a")])
    found = boxes(draw_svg(graph))
    assert sorted("abc", key=lambda i: found[i][1]) == sorted(
        "abc", key=lambda i: found[{"a": "z", "b": "y", "c": "x"}[i]][1]
    )


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_boxes_never_overlap_and_edges_run_to_the_right(graph: Graph) -> None:
    svg = draw_svg(graph)
    root, found = ElementTree.fromstring(svg), boxes(svg)
    assert found.keys() == graph.tasks.keys()
    assert all(found[i][2] < found[task.id][0] for task in graph.tasks.values() for i in task.depends_on)
    columns: dict[float, list[tuple[float, float]]] = {}
    for left, top, right, bottom in found.values():
        assert 0 < left < right < float(root.get("width", ""))
        assert 34 < top < bottom < float(root.get("height", ""))
        columns.setdefault(left, []).append((top, bottom))
    assert all(above[1] < below[0] for column in columns.values() for above, below in pairwise(sorted(column)))
    paths = [path for path in root.iter(f"{SVG}path") if path.get("marker-end")]
    assert len(paths) == sum(len(graph.prerequisites(i)) for i in graph.tasks)


@given(graphs())
def test_drawing_is_deterministic(graph: Graph) -> None:
    again = build_graph(reversed(list(graph.tasks.values())))
    assert (draw_svg(graph), draw_dot(graph), draw_mermaid(graph)) == (
        draw_svg(again),
        draw_dot(again),
        draw_mermaid(again),
    )
