"""Which of some processes still run."""

from collections.abc import Iterable

import psutil


def list_running(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those that have not ended. An orphan that has is a zombie until init reaps it, which may take its time."""
    return [process for process in processes if _is_running(process)]


def _is_running(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
