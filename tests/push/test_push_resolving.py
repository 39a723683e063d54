"""A person resolves a blocker while no run is in progress, and the work lands on a remote."""

import pytest
from push.remote_harness import RemoteHarness, add_mirror, completed
from push.test_push_moving_base import ALWAYS, count
from run_harness import RunHarness

from tasks_lib.errors import InputError
from tasks_lib.git.repository_lock import RunLock
from tasks_lib.landing.resolution import Resolution, describe_without_run, resolve_without_run
from tasks_lib.model import PersonsWord
from tasks_lib.project.loading import load_project

FIRST_TWICE = f'[ "$(git rev-list --count "$1")" -ge "$(cat limit)" ] || {{ {ALWAYS}\n}}'
"""A hook of the remote that puts another commit first until there are as many as the file `limit` says."""
BLOCKS_A = "[ $attempt = 1 ] && { git commit -q --allow-empty -m 'blocked(a): no key'; exit 0; }\nwork"


def resolve(harness: RunHarness, guidance: str) -> Resolution:
    project = load_project(harness.top, {}, is_fetching=True)
    with RunLock(project.repository.state_dir, "resolve", keeps_record=True) as lock:
        return resolve_without_run(project, lock, "a", PersonsWord(guidance))


async def test_resolution_is_pushed_and_the_local_branch_follows(shared: RemoteHarness) -> None:
    shared.make({"a": {}}, BLOCKS_A)
    await shared.work()
    person = shared.join("ben")
    foreign = person.share("Add the key", {"key.txt": "1\n"})
    found = resolve(shared, "It is in key.txt.")
    assert (found.pending, found.notes) == ("", ())
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


async def test_further_address_that_refuses_what_was_resolved_is_named(shared: RemoteHarness) -> None:
    shared.make({"a": {}}, BLOCKS_A)
    await shared.work()
    mirror = add_mirror(shared).parents[1]
    found = resolve(shared, "Go on.")
    assert found.pending == ""
    [note] = found.notes
    assert note.startswith(f"origin has what landed, but file://{mirror} does not: ask Bo")
    assert shared.at_hub("main") == found.commit


async def test_local_branch_that_cannot_follow_is_said(shared: RemoteHarness) -> None:
    shared.make({"a": {}}, BLOCKS_A)
    await shared.work()
    (shared.top / ".git" / "index.lock").touch()
    found = resolve(shared, "Go on.")
    assert found.pending == ""
    assert "The local main was not updated" in found.notes[0]
    assert shared.at_hub("main") == found.commit


async def test_resolution_is_made_again_on_what_others_push_first(shared: RemoteHarness) -> None:
    shared.make({"a": {}}, BLOCKS_A)
    await shared.work()
    commits = len(shared.hub_log("%H"))
    (shared.hub_path / "limit").write_text(str(commits + 2))
    shared.hook("update", FIRST_TWICE)
    found = resolve(shared, "Go on.")
    assert (found.pending, found.notes) == ("", ())
    assert shared.hub_log()[:3] == ["resolved(resolve-a-1): Go on.", "Other", "Other"]
    assert shared.at() == shared.at_hub("main") == found.commit
    assert not shared.git.resolve("refs/coordinator/queue/main")
    assert (await shared.work()).names == {"a": "Merged"}


async def test_remote_where_others_are_always_first_leaves_it_to_the_next_run(shared: RemoteHarness) -> None:
    shared.make({"a": {}}, BLOCKS_A)
    await shared.work()
    shared.hook("update", ALWAYS)
    found = resolve(shared, "Go on.")
    assert found.pending.startswith("others pushed to origin first")
    assert shared.at("refs/coordinator/queue/main") == found.commit
    assert count(shared.hub_log(), "Other") < 10
    project = load_project(shared.top, {}, is_fetching=True)
    said = describe_without_run(found, project)
    assert "the commit waits at refs/coordinator/queue/main, and the next `coordinator run` publishes it" in said
    shared.unhook("update")
    assert (await shared.work()).names == {"a": "Merged"}
    assert "resolved(resolve-a-1): Go on." in shared.hub_log()


async def test_unpublished_work_is_left_to_a_run_if_others_push_first(shared: RemoteHarness) -> None:
    shared.make({"a": {}, "b": {}}, BLOCKS_A.replace("[ $attempt = 1 ]", "[ $id = a ] && [ $attempt = 1 ]"))
    shared.hook("pre-receive", "echo 'not today' >&2; exit 1")
    await shared.work()
    waiting = shared.at("refs/coordinator/queue/main")
    shared.unhook("pre-receive")
    shared.hook("update", ALWAYS)
    found = resolve(shared, "Go on.")
    assert found.pending.startswith("others pushed to origin first")
    assert shared.at("refs/coordinator/queue/main~1") == waiting
    assert count(shared.hub_log(), "Other") == 1
    shared.unhook("update")
    assert (await shared.work()).names == {"a": "Merged"}
    assert shared.hub_has("tasks/resolve-a-1.md")


async def test_what_somebody_else_resolved_first_stays_theirs(shared: RemoteHarness) -> None:
    shared.make({"a": {}}, BLOCKS_A)
    await shared.work()
    person = shared.join("ben")
    text = (person.top / "tasks/resolve-a-1.md").read_text()
    theirs = person.commit("Decide", {"tasks/resolve-a-1.md": text.replace("status: pending", "status: completed")})
    assert person.push(f"{theirs}:refs/heads/decided")
    shared.hook(
        "update", f'[ "$1" != refs/heads/main ] || {{ unset GIT_QUARANTINE_PATH; git update-ref "$1" {theirs}; }}'
    )
    with pytest.raises(InputError, match="is already completed"):
        resolve(shared, "Go on.")
    assert shared.at_hub("main") == theirs
    assert not shared.git.resolve("refs/coordinator/queue/main")
    shared.unhook("update")
    assert (await shared.work()).names == {"a": "Merged"}
