"""Reads how much memory and disk this machine has left, as far as this process may use it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

MEGABYTE = 1_000_000
_CONTROL_GROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class HostResources:
    """What is available now, in megabytes of 1,000,000 bytes."""

    memory_mb: int
    disk_mb: int


def choose_memory_limit(wanted_mb: int | None) -> int:
    """The limit for one session's processes in megabytes: `wanted_mb`, or half of this machine's memory if None."""
    return psutil.virtual_memory().total // MEGABYTE // 2 if wanted_mb is None else wanted_mb


def read_host_resources(directory: Path) -> HostResources:
    """What is left of the memory of this machine, or of its control groups, and of the disk of `directory`."""
    memory = min([psutil.virtual_memory().available, *_list_group_memory()])
    there = next(place for place in (directory, *directory.parents) if place.exists())
    return HostResources(memory // MEGABYTE, psutil.disk_usage(str(there)).free // MEGABYTE)


def _list_group_memory() -> Iterator[int]:
    """Yield what each control group (version 2) of this process has left; a container's limit is one of them."""
    try:
        own = Path("/proc/self/cgroup").read_text(encoding="utf-8")
    except OSError:
        return
    name = next((line.removeprefix("0::") for line in own.splitlines() if line.startswith("0::")), "")
    group = _CONTROL_GROUPS / name.lstrip("/")
    for place in (group, *group.parents):
        if not place.is_relative_to(_CONTROL_GROUPS):
            return
        if (left := read_group_memory(place)) is not None:
            yield left


def read_group_memory(place: Path) -> int | None:
    """What the control group at `place` has left, in bytes; None if it has no limit."""
    try:
        limit = (place / "memory.max").read_text(encoding="ascii").strip()
        used = int((place / "memory.current").read_text(encoding="ascii"))
        statistics = (place / "memory.stat").read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return None
    # The kernel takes back cached files before anything of the group is killed.
    cached = sum(int(line.split()[1]) for line in statistics if line.startswith(("inactive_file ", "active_file ")))
    return None if limit == "max" else max(0, int(limit) - used + cached)
