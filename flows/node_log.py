"""Writes what happens to a node to its log in Prefect: a line for each stage, with how long the one before took."""

import time
from collections.abc import Generator
from contextlib import contextmanager

from prefect import get_run_logger

from tasks_lib.runtime.status_board import Board


@contextmanager
def logging_node(board: Board, node_id: str) -> Generator[None]:
    """Copy the board's lines about a node to Prefect's log while the block runs: of its task run, or the flow run."""
    logger = get_run_logger()
    stage, began, start = "", 0.0, time.monotonic()

    def tell(about: str, line: str) -> None:
        nonlocal stage, began
        if about != node_id:
            return
        now, node = time.monotonic(), board.node(node_id)
        logger.info(f"{line} ({stage} took {write_seconds(now - began)})" if stage else line)
        stage, began = (node.stage if node else ""), now

    board.listen(tell)
    try:
        yield
    finally:
        board.ignore(tell)
        now = time.monotonic()
        if stage:
            logger.info(f"{stage} took {write_seconds(now - began)}, the whole attempt {write_seconds(now - start)}")


def write_seconds(seconds: float) -> str:
    """Write a duration for people: 0.4 s, 12 s, 3 min 5 s, 2 h 10 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
