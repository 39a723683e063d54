"""Landing on a remote, by the command line: what is refused is pending, said, and pushed by the next run."""

from pathlib import Path

import pytest
from e2e.conftest import Coordinator
from push.remote_harness import RemoteHarness
from user_isolation import isolate_user_settings

pytestmark = pytest.mark.xdist_group("prefect")


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RemoteHarness:
    """A repository and its remote, with one task."""
    isolate_user_settings(monkeypatch, tmp_path)
    harness = RemoteHarness(tmp_path)
    harness.make({"a": {}})
    return harness


def test_refused_push_is_pending_with_0_and_the_next_run_pushes(
    coordinator: Coordinator, shared: RemoteHarness
) -> None:
    shared.hook("pre-receive", "echo main is protected >&2; exit 1")
    code, output = coordinator.run("run", shared.top)
    assert code == 0, output
    assert "origin refuses the push: main is protected" in output
    assert shared.hub_log() == ["Begin"]
    assert "waits to be published to origin/main" in coordinator.run("status", shared.top)[1]
    shared.unhook("pre-receive")

    code, output = coordinator.run("run", shared.top)

    assert code == 0, output
    assert shared.hub_log() == ["Merge feat/a: Do a", "Begin"]
    assert shared.at() == shared.at_hub("main")
    assert shared.leftovers() == []


def test_commands_that_read_ask_no_remote_and_say_so_while_run_and_doctor_do(
    coordinator: Coordinator, shared: RemoteHarness
) -> None:
    assert "ok   remote: origin accepts a push from you" in coordinator.run("doctor", shared.top)[1]
    shared.hub_path.rename(shared.place / "away")
    for command in (("plan",), ("status",), ("validate", "--head"), ("run", "--dry-run")):
        assert "origin/main as it was last fetched" in coordinator.run(*command, shared.top)[1], command
    assert "fail remote: origin does not answer" in coordinator.run("doctor", shared.top)[1]
    code, output = coordinator.run("run", shared.top)
    assert code == 2
    assert len(output.strip().splitlines()) == 1
    assert "origin does not answer" in output
