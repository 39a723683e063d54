"""Prints how a run ended: a table of its nodes, the reasons why some did not land, and the run's messages."""

from collections.abc import Sequence

from rich.console import Console

from flows.cli.display.output import print_rows, say
from flows.cli.display.progress_table import STYLES, count_nodes, is_problem, sum_up
from tasks_lib.runtime.status_board import NodeView, RunView
from tasks_lib.text import tell_rest

HEADINGS = ("node", "ended", "attempt", "commit", "what")
MOST_ROWS = 40
"""How many nodes a terminal shows; of more, those that somebody has to look at, and as many others as fit."""


def print_summary(view: RunView, console: Console) -> None:
    """Print a row for each node, then each reason in full, then each message, oldest first.

    In a terminal, of more than `MOST_ROWS` nodes, those that landed, were skipped or wait may only be counted.
    """
    nodes = list(view.nodes.values())
    shown = choose_rows(nodes) if console.is_terminal else nodes
    rows = [
        (n.id, n.outcome or n.stage or "waiting", str(n.attempt or ""), n.commit[:10], n.reason or n.name)
        for n in shown
    ]
    print_rows(console, HEADINGS, rows, [STYLES.get(node.outcome, "") for node in shown])
    if rest := tell_rest(len(nodes), len(shown), "… and "):
        known = {node.id for node in shown}
        hidden = count_nodes(node for node in nodes if node.id not in known)
        say(console, f"{rest}: {hidden}; `coordinator status --json` lists them all", "dim")
    say(console, sum_up(nodes, view), "bold")
    for node in shown:
        if node.reason:
            say(console, f"{node.id}: {node.outcome}: {node.reason}", STYLES.get(node.outcome))
    for message in view.messages:
        say(console, f"! {message}", "yellow")


def choose_rows(nodes: Sequence[NodeView]) -> list[NodeView]:
    """Return the nodes to list, in their order: all problems, and others up to `MOST_ROWS` in all."""
    left = MOST_ROWS - sum(is_problem(node) for node in nodes)
    shown = list[NodeView]()
    for node in nodes:
        if is_problem(node):
            shown.append(node)
        elif left > 0:
            shown.append(node)
            left -= 1
    return shown
