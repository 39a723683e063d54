"""The gate that holds sessions back while the machine has too little memory or disk left."""

import os
from pathlib import Path

import pytest
from run_harness import RunHarness

from tasks_lib.process.host_resources import HostResources, read_group_memory, read_host_resources
from tasks_lib.reporting.run_report import ExitCode
from tasks_lib.runtime import start_gate
from tasks_lib.runtime.start_gate import StartGate, describe_shortage
from tasks_lib.settings.time_schema import WatchSettings

PLENTY = 10**9
"""Megabytes that no machine has."""


@pytest.mark.parametrize(
    ("memory", "disk", "names"),
    [(511, 2000, "watch.free_memory_mb"), (2000, 1023, "watch.free_disk_mb"), (512, 1024, ""), (0, 0, "memory")],
)
def test_shortage_names_what_is_missing_and_its_key(memory: int, disk: int, names: str) -> None:
    said = describe_shortage(HostResources(memory, disk), WatchSettings())
    assert (names in said, bool(said)) == (True, bool(names))


async def test_gate_says_once_that_sessions_wait_and_once_that_they_start_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start_gate, "LOOK_SECONDS", 0.0)
    left = iter([2000, 100, 200, 2000, 2000])
    said: list[str] = []
    gate = StartGate(WatchSettings(), tmp_path, said.append, lambda _: HostResources(next(left), 2000))
    assert [bool(await gate.find_shortage()) for _ in range(5)] == [False, True, True, False, False]
    assert [line.split()[0] for line in said] == ["Only", "There"]


def test_what_is_left_is_read_for_a_directory_that_is_not_made_yet(tmp_path: Path) -> None:
    found = read_host_resources(tmp_path / "missing" / "deep")
    assert 0 < found.memory_mb < PLENTY
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize / 1_000_000
    assert free / 2 < found.disk_mb < free * 2


@pytest.mark.parametrize("key", ["free_memory_mb", "free_disk_mb"])
async def test_run_that_cannot_begin_a_session_stops_with_the_reason_and_loses_nothing(
    harness: RunHarness, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setattr(start_gate, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(start_gate, "ALONE_SECONDS", 0.2)
    harness.make({"a": {}, "b": {}}, watch={key: PLENTY})
    worked = await harness.work()
    assert worked.code is ExitCode.BLOCKED
    assert worked.started == []
    [said] = [line for line in worked.view.messages if line.startswith("The run is stopping: ")]
    assert f"watch.{key} asks for {PLENTY}" in said
    assert harness.journal.turns() == []


@pytest.mark.parametrize(("limit", "left"), [("200000000", 90_000_000), ("max", None), ("100000000", 0)])
def test_limit_of_a_control_group_counts_and_cached_files_do_not(tmp_path: Path, limit: str, left: int | None) -> None:
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text("150000000\n")
    (tmp_path / "memory.stat").write_text("anon 110000000\nactive_file 10000000\ninactive_file 30000000\n")
    assert read_group_memory(tmp_path) == left
