"""Prints how a run ended: the table of its nodes, and what was said aloud."""

from rich.console import Console
from rich.table import Table

from flows.progress import STYLES, count_nodes
from tasks_lib.life.board import RunView


def print_summary(view: RunView, console: Console) -> None:
    """The table of every node of the run, and each message, oldest first."""
    for message in view.messages:
        console.print(f"! {message}", style="yellow", markup=False, highlight=False)
    table = Table(title=count_nodes(view.nodes.values()), title_justify="left", title_style="bold", expand=True)
    for heading, ratio in (("node", 3), ("ended", None), ("attempt", None), ("commit", None), ("why", 5)):
        table.add_column(heading, ratio=ratio, overflow="fold")
    for node in view.nodes.values():
        attempt = str(node.attempt) if node.attempt else ""
        ended = node.outcome or node.stage or "waits"
        table.add_row(node.id, ended, attempt, node.commit[:10], node.reason, style=STYLES.get(node.outcome, ""))
    console.print(table)
