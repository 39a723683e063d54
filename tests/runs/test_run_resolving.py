"""A person resolves what blocks a node: in a run, whose merge queue makes the commit, and while no run is in progress."""

import asyncio

import pytest
from checker import Meant, check, snapshot_user_state
from run_harness import Ground, reach

from tasks_lib.cleanup.repository_audit import audit
from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.errors import InputError
from tasks_lib.git.repository_lock import RunLock
from tasks_lib.landing.resolution import Resolution, find_resolution_in_run, resolve_in_run, resolve_without_run
from tasks_lib.project.loading import load_project
from tasks_lib.reporting.run_report import ExitCode

BLOCKS_A = (
    "[ $id = a ] && [ $attempt = 1 ] && "
    "{ git commit -q --allow-empty -m 'blocked(a): The key is missing.'; exit 0; }\nwork"
)


def resolve(ground: Ground, name: str, guidance: str = "") -> Resolution:
    project = load_project(ground.top, {}, is_fetching=True)
    with RunLock(project.repository.state_dir, "resolve", keeps_record=True) as lock:
        return resolve_without_run(project, lock, name, guidance)


async def test_node_that_is_resolved_between_runs_is_told_so_and_lands(ground: Ground) -> None:
    ground.make({"a": {}, "b": {"depends_on": ["a"]}}, BLOCKS_A)
    before = snapshot_user_state(ground.top)
    await ground.work()
    found = resolve(ground, "a", "Use the sandbox key.")
    assert found == Resolution("resolve-a-1", ("a",), ground.at())
    assert ground.log("%s")[0] == "resolved(resolve-a-1): Use the sandbox key."
    assert ground.git.text("status", "--porcelain") == ""
    worked = await ground.work()
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert "### resolve-a-1: Resolve what blocks a\n\nUse the sandbox key." in ground.turn("a-2-1")
    statuses: dict[str, str] = dict.fromkeys(("a", "b", "resolve-a-1"), "completed")
    assert check(ground.top, before=before, meant=Meant(statuses)) == []
    assert audit(load_project(ground.top, {}), 100).violations == ()
    assert ground.leftovers() == []


async def test_node_that_is_resolved_in_a_run_runs_again_in_it(ground: Ground) -> None:
    ground.make(
        {"a": {}, "b": {"depends_on": ["a"]}, "c": {}}, "[ $id = c ] && { await go; }\n" + BLOCKS_A, signals=["go"]
    )
    before = snapshot_user_state(ground.top)
    found: list[Resolution] = []

    async def answer(opened: OpenRun) -> None:
        await reach(opened, "a: Blocked")
        found.append(await find_resolution_in_run(opened.run, "a"))
        found.append(await resolve_in_run(opened.run, opened.merge_queue, "a", "Use the sandbox key."))
        await reach(opened, "b: Merged")
        ground.signals["go"].send()

    worked = await ground.work(during=answer)
    assert (worked.code, worked.pending) == (ExitCode.COMPLETED, "")
    assert [(one.task_id, one.waiting, bool(one.commit)) for one in found] == [
        *(("resolve-a-1", ("a",), False), ("resolve-a-1", ("a",), True))
    ]
    assert "Use the sandbox key." in ground.turn("a-2-1")
    assert ground.git.text("log", "-n1", "--format=%(trailers:key=Run,valueonly)", found[1].commit).strip()
    statuses: dict[str, str] = dict.fromkeys(("a", "b", "c", "resolve-a-1"), "completed")
    assert check(ground.top, before=before, meant=Meant(statuses)) == []


async def test_resolving_waits_for_the_merge_that_is_being_verified(ground: Ground) -> None:
    """The commit is made after it, so neither of them is composed on a head that has moved."""
    verify = f"test ! -f c.txt || {{ echo > {ground.place}/signals/verifying; read -r _ < {ground.place}/signals/go; }}"
    agent = "[ $id = c ] && await start\n" + BLOCKS_A
    ground.make({"a": {}, "c": {}}, agent, verify=[verify], signals=["start", "verifying", "go"])

    async def answer(opened: OpenRun) -> None:
        await reach(opened, "a: Blocked")
        ground.signals["start"].send()
        await ground.signals["verifying"].wait()
        resolving = asyncio.create_task(resolve_in_run(opened.run, opened.merge_queue, "a", ""))
        assert (await find_resolution_in_run(opened.run, "a")).task_id == "resolve-a-1"
        assert not resolving.done()
        ground.signals["go"].send(8)
        assert (await resolving).commit

    worked = await ground.work(during=answer)
    assert worked.names == {"a": "Merged", "c": "Merged"}
    subjects = ground.log("%s")
    assert subjects.index("resolved(resolve-a-1): Resolve what blocks a") < subjects.index("Merge feat/c: Do c")


async def test_what_cannot_be_resolved_in_a_run_is_said_and_moves_nothing(ground: Ground) -> None:
    ground.make({"a": {}, "c": {}}, "[ $id = c ] && { await go; }\n" + BLOCKS_A, signals=["go"])
    said: list[str] = []

    async def answer(opened: OpenRun) -> None:
        await reach(opened, "a: Blocked")
        head = opened.run.git.head.current()
        for name in ("c", "resolve-b-1"):
            with pytest.raises(InputError) as raised:
                await resolve_in_run(opened.run, opened.merge_queue, name, "")
            said.append(str(raised.value))
        assert opened.run.git.head.current() == head
        ground.signals["go"].send()

    assert (await ground.work(during=answer)).code is ExitCode.BLOCKED
    assert "c is not blocked" in said[0]
    assert 'Did you mean "resolve-a-1"?' in said[1]


async def test_uncommitted_edit_of_the_resolve_file_is_refused_and_stays(ground: Ground) -> None:
    ground.make({"a": {}}, BLOCKS_A)
    await ground.work()
    file = ground.top / "tasks/resolve-a-1.md"
    edited = file.read_text().replace("status: pending", "status: completed")
    file.write_text(edited)
    head = ground.at()
    with pytest.raises(
        InputError, match=r"tasks/resolve-a-1\.md: has uncommitted changes in .*; commit them, or discard"
    ):
        resolve(ground, "a")
    assert (file.read_text(), ground.at()) == (edited, head)


async def test_publication_that_has_to_wait_is_said_and_the_next_run_makes_up_for_it(ground: Ground) -> None:
    ground.make({"a": {}}, BLOCKS_A)
    await ground.work()
    base = ground.at()
    (ground.top / ".git" / "index.lock").touch()
    found = resolve(ground, "a", "Go on.")
    assert "index.lock" in found.pending
    assert (ground.at(), ground.at("refs/coordinator/queue/main")) == (base, found.commit)
    with pytest.raises(InputError, match="is already completed"):
        resolve(ground, "a")
    (ground.top / ".git" / "index.lock").unlink()
    assert (await ground.work()).names == {"a": "Merged"}
    assert ground.leftovers() == []


async def test_resolution_that_waits_is_made_again_on_what_a_person_commits(ground: Ground) -> None:
    ground.make({"a": {}}, BLOCKS_A)
    await ground.work()
    lock = ground.top / ".git" / "index.lock"
    lock.touch()
    resolve(ground, "a", "Go on.")
    lock.unlink()
    ground.commit("Add the key", {"key.txt": "1\n"})
    assert (await ground.work()).names == {"a": "Merged"}
    assert ground.log("%s")[1:3] == ["resolved(resolve-a-1): Go on.", "Add the key"]


async def test_resolution_that_a_persons_own_edit_contradicts_is_taken_back(ground: Ground) -> None:
    ground.make({"a": {}}, BLOCKS_A)
    await ground.work()
    lock = ground.top / ".git" / "index.lock"
    lock.touch()
    resolve(ground, "a", "Go on.")
    lock.unlink()
    ground.set_status("resolve-a-1", "blocked")
    worked = await ground.work()
    assert worked.names == {}
    said = "resolve-a-1 could not be completed on main, where its file was changed too; resolve it again."
    assert said in worked.view.messages


async def test_repository_that_was_moved_is_left_to_a_run(ground: Ground) -> None:
    ground.make({"a": {}}, BLOCKS_A)
    await ground.work()
    ground.top.rename(ground.place / "elsewhere")
    moved = load_project(ground.place / "elsewhere", {})
    with (
        RunLock(moved.repository.state_dir, "resolve") as lock,
        pytest.raises(InputError, match="was moved or copied from"),
    ):
        resolve_without_run(moved, lock, "a", "")
    (ground.place / "elsewhere").rename(ground.top)
