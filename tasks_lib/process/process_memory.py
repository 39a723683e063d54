"""Measures the memory of a session's processes, and ends the largest of them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from tasks_lib.process.host_resources import MEGABYTE
from tasks_lib.process.process_activity import TABLE
from tasks_lib.process.process_table import Claim, Row, is_alive, select


@dataclass(frozen=True, slots=True)
class Memory:
    """What processes use together, and the largest of them, in megabytes; `command` is that of the largest."""

    total_mb: int
    largest: Row
    largest_mb: int
    command: str


def measure_memory(marker: str, limit_mb: int, max_age_seconds: float) -> Memory | None:
    """What the processes with the session's `marker`, and all that they started, use if it is more than `limit_mb`.

    Memory that processes share counts once. None within the limit. Takes about 0.1 ms for each process.
    """
    rows = select(TABLE.rows(max_age_seconds), Claim((), marker, is_watched=False), os.getpid())
    if _sum_resident(rows) <= limit_mb:
        return None
    measured = [(row, used) for row in rows if (used := _read_share(row)) is not None]
    total = sum(used for _, used in measured)
    if total <= limit_mb * MEGABYTE:
        return None
    largest, used = max(measured, key=lambda pair: pair[1])
    return Memory(total // MEGABYTE, largest, used // MEGABYTE, _read_command(largest))


def end_largest(found: Memory) -> bool:
    """Kill the largest process at once, before the machine runs out of memory; False if it has ended by itself."""
    if not is_alive(found.largest):
        return False
    try:
        psutil.Process(found.largest.pid).kill()
    except psutil.Error:
        return False
    return True


def _sum_resident(rows: Sequence[Row]) -> int:
    """An upper bound, in megabytes, that is quick to read."""
    total = 0
    for row in rows:
        try:
            total += psutil.Process(row.pid).memory_info().rss
        except psutil.Error:
            continue
    return total // MEGABYTE


def _read_share(row: Row) -> int | None:
    """The process's memory in bytes, with its share of what it shares where the system tells; None if it has ended."""
    try:
        process = psutil.Process(row.pid)
        try:
            return int(getattr(process.memory_full_info(), "pss", 0)) or process.memory_info().rss
        except psutil.AccessDenied:
            return process.memory_info().rss
    except psutil.Error:
        return None


def _read_command(row: Row) -> str:
    try:
        return " ".join(psutil.Process(row.pid).cmdline()) or psutil.Process(row.pid).name()
    except psutil.Error:
        return f"process {row.pid}"
