"""Prints how a run ended: a table of its nodes, the reasons why some did not land, and the run's messages."""

from rich.console import Console

from flows.cli.display.output import print_rows, say
from flows.cli.display.progress_table import STYLES, sum_up
from tasks_lib.runtime.status_board import RunView

HEADINGS = ("node", "ended", "attempt", "commit", "what")


def print_summary(view: RunView, console: Console) -> None:
    """Print a row for each node, then each reason in full, then each message, oldest first."""
    nodes = list(view.nodes.values())
    rows = [
        (n.id, n.outcome or n.stage or "waiting", str(n.attempt or ""), n.commit[:10], n.reason or n.name)
        for n in nodes
    ]
    print_rows(console, HEADINGS, rows, [STYLES.get(node.outcome, "") for node in nodes])
    say(console, sum_up(nodes, view), "bold")
    for node in nodes:
        if node.reason:
            say(console, f"{node.id}: {node.outcome}: {node.reason}", STYLES.get(node.outcome))
    for message in view.messages:
        say(console, f"! {message}", "yellow")
