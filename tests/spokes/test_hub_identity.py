"""Copies of a repository, and of the whole machine, do not take each other's sessions for their own."""

import json
import shutil
from pathlib import Path

from spoke_harness import SpokeHarness

from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.git.remote_sessions.session_remote import SESSION_REFS, find_session
from tasks_lib.git.repository import Repository
from tasks_lib.reporting.run_report import ExitCode
from tasks_lib.spokes import hub_identity
from tasks_lib.spokes.hub_identity import HUB_FILE, HubIdentity


def read(top: Path, machine: str = "") -> HubIdentity:
    return HubIdentity(Repository.open(top), machine)


def make_twin(spokes: SpokeHarness) -> Path:
    """Copy the repository so that its identity is that of the original, as in a copy of the whole machine."""
    twin = spokes.place / "twin"
    shutil.copytree(spokes.top, twin, symlinks=True)
    record = twin / ".git" / "coordinator" / HUB_FILE
    said = {**json.loads(record.read_text()), "inode": (twin / ".git").stat().st_ino}
    record.write_text(json.dumps(said))
    assert read(twin).name == read(spokes.top).name
    return twin


async def test_a_copy_of_the_whole_machine_leaves_the_sessions_of_the_original_alone(spokes: SpokeHarness) -> None:
    spokes.make({"a": {}, "b": {}}, 'if [ "$id" = a ]; then tell begun; await go; fi; work', signals=["begun", "go"])
    spokes.begin_sessions("before")
    twin = make_twin(spokes)

    async def run_the_copy(_: OpenRun) -> None:
        await spokes.signals["begun"].wait()
        [begun] = [name for name, run in spokes.link.runs.items() if run.order.node == "a"]
        result = await spokes.work(only=["b"], at=twin)
        assert result.code is ExitCode.COMPLETED, result.lines
        assert begun not in spokes.link.stopped
        published = {find_session(ref) for ref in spokes.list_published()}
        assert published == {spokes.link.runs[begun].order.session}, "that of the original is still there"
        spokes.signals["go"].send()

    result = await spokes.work(only=["a"], during=run_the_copy)

    assert result.code is ExitCode.COMPLETED, result.lines
    assert spokes.list_published() == []
    assert {run.order.hub for run in spokes.link.runs.values()} == {read(spokes.top).name}


async def test_a_branch_that_another_clone_works_on_is_refused_there(spokes: SpokeHarness) -> None:
    spokes.make({"a": {}}, "tell begun; await go; work", signals=["begun", "go"])
    other = spokes.place / "other"
    spokes.git.run("clone", "--quiet", str(spokes.remote.directory), str(other))

    async def run_the_other(_: OpenRun) -> None:
        await spokes.signals["begun"].wait()
        result = await spokes.work(at=other)
        assert result.names == {"a": "Failed"}
        assert "north has a session for feat/a of remote that another clone began" in str(result.outcomes["a"])
        spokes.signals["go"].send()

    result = await spokes.work(during=run_the_other)
    assert result.code is ExitCode.COMPLETED, result.lines
    assert len(spokes.journal.turns()) == 1


async def test_a_record_from_another_machine_does_not_continue_its_session(spokes: SpokeHarness) -> None:
    spokes.make({"a": {}}, "echo part > part.txt; tell begun; sleep 1000", signals=["begun"])

    async def stop(opened: OpenRun) -> None:
        await spokes.signals["begun"].wait()
        await opened.run.requests.abort("a")

    await spokes.work(during=stop)
    record = spokes.top / ".git" / "coordinator" / HUB_FILE
    former = json.loads(record.read_text())
    record.write_text(json.dumps({**former, "machine": "another"}))
    spokes.write_agent("cat part.txt; work")
    [left] = former["sessions"]
    spokes.git.run("push", "--quiet", "origin", f"HEAD:{SESSION_REFS}/{former['name']}/{left}/state")

    result = await spokes.work()

    assert result.code is ExitCode.COMPLETED, result.lines
    [said] = [message for message in result.view.messages if "left alone" in message]
    assert f"delete what is then left at origin: {SESSION_REFS}/{former['name']}/" in said
    assert [ref for ref in spokes.list_published() if find_session(ref) == left], "it may be the other machine's"
    hubs = [run.order.hub for run in spokes.link.runs.values()]
    assert hubs == [former["name"], read(spokes.top).name]
    assert former["name"] != read(spokes.top).name


def test_a_repository_keeps_its_name_where_it_is_moved_and_a_copy_gets_another(spokes: SpokeHarness) -> None:
    spokes.make({"a": {}})
    first = read(spokes.top)
    assert not (spokes.top / ".git" / "coordinator" / HUB_FILE).exists(), "reading changes nothing"
    first.add("s1")
    copy = spokes.place / "copy"
    shutil.copytree(spokes.top, copy, symlinks=True)
    assert (read(copy).name == first.name, read(copy).owns("s1")) == (False, False)
    assert "(sessions: 1) may belong to another copy" in read(copy).describe_former("origin: refs")
    moved = spokes.top.rename(spokes.place / "moved")
    assert (read(moved).name, read(moved).owns("s1")) == (first.name, True)
    assert read(moved).describe_former("origin: refs") == ""
    assert read(moved, machine="another").name != first.name
    moved.rename(spokes.top)


def test_an_ended_session_is_forgotten_after_some_days_unless_something_of_it_is_left(spokes: SpokeHarness) -> None:
    spokes.make({"a": {}})
    record = spokes.top / ".git" / "coordinator" / HUB_FILE
    read(spokes.top).add("new")
    said = json.loads(record.read_text())
    old = said["sessions"]["new"] - hub_identity.MEMORY_SECONDS - 1
    record.write_text(json.dumps({**said, "sessions": {**said["sessions"], "old": old, "left": old}}))
    read(spokes.top).forget_old({"left"})
    assert [read(spokes.top).owns(session) for session in ("new", "old", "left")] == [True, False, True]


def test_a_damaged_identity_is_replaced(spokes: SpokeHarness) -> None:
    spokes.make({"a": {}})
    read(spokes.top).add("s1")
    record = spokes.top / ".git" / "coordinator" / HUB_FILE
    for text in ("", "[]", "{}", '{"name": 1, "sessions": [2]}'):
        record.write_text(text)
        assert not read(spokes.top).owns("s1")
        assert read(spokes.top).describe_former("origin: refs") == ""
