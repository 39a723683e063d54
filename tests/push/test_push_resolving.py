"""A person resolves a blocker while no run is in progress, and the work lands on a remote."""

import pytest
from push.remote_harness import RemoteHarness, completed
from run_harness import RunHarness

from tasks_lib.errors import InputError
from tasks_lib.git.repository_lock import RunLock
from tasks_lib.landing.resolution import Resolution, resolve_without_run
from tasks_lib.project.loading import load_project

BLOCKS_A = "[ $attempt = 1 ] && { git commit -q --allow-empty -m 'blocked(a): no key'; exit 0; }\nwork"


def resolve(harness: RunHarness, guidance: str) -> Resolution:
    project = load_project(harness.top, {}, is_fetching=True)
    with RunLock(project.repository.state_dir, "resolve", keeps_record=True) as lock:
        return resolve_without_run(project, lock, "a", guidance)


async def test_resolution_is_pushed_and_the_local_branch_follows(shared: RemoteHarness) -> None:
    shared.make({"a": {}}, BLOCKS_A)
    await shared.work()
    person = shared.join("ben")
    foreign = person.share("Add the key", {"key.txt": "1\n"})
    found = resolve(shared, "It is in key.txt.")
    assert (found.pending, found.note) == ("", "")
    assert shared.hub_log()[:2] == ["resolved(resolve-a-1): It is in key.txt.", "Add the key"]
    assert shared.at() == shared.at_hub("main") == found.commit
    assert (await shared.work()).names == {"a": "Merged"}
    assert shared.judge(completed("a", "resolve-a-1"), foreign=[foreign]) == []
    assert shared.leftovers() == []


async def test_push_that_is_refused_waits_and_the_next_run_pushes(shared: RemoteHarness) -> None:
    shared.make({"a": {}}, BLOCKS_A)
    await shared.work()
    shared.hook("pre-receive", "echo 'not today' >&2; exit 1")
    found = resolve(shared, "Go on.")
    assert "origin refuses the push: not today" in found.pending
    assert shared.at("refs/coordinator/queue/main") == found.commit
    shared.unhook("pre-receive")
    with pytest.raises(InputError, match="is already completed"):
        resolve(shared, "Go on.")
    assert (await shared.work()).names == {"a": "Merged"}
    assert "resolved(resolve-a-1): Go on." in shared.hub_log()


async def test_local_branch_that_cannot_follow_is_said(shared: RemoteHarness) -> None:
    shared.make({"a": {}}, BLOCKS_A)
    await shared.work()
    (shared.top / ".git" / "index.lock").touch()
    found = resolve(shared, "Go on.")
    assert found.pending == ""
    assert "The local main was not updated" in found.note
    assert shared.at_hub("main") == found.commit
