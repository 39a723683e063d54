"""A person resolves what blocks a node: in a run, whose merge queue makes the commit, and while no run is in progress."""

import asyncio

import pytest
from checker import Meant, check, snapshot_user_state
from run_harness import RunHarness, reach

from flows.node_requests import resolve_node
from tasks_lib.cleanup.repository_audit import audit
from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.errors import InputError
from tasks_lib.git.repository_lock import RunLock
from tasks_lib.landing.resolution import Resolution, find_resolution_in_run, resolve_in_run, resolve_without_run
from tasks_lib.model import PersonsWord
from tasks_lib.project.loading import load_project
from tasks_lib.reporting.run_report import ExitCode

BLOCKS_A = (
    "[ $id = a ] && [ $attempt = 1 ] && "
    "{ git commit -q --allow-empty -m 'blocked(a): The key is missing.'; exit 0; }\nwork"
)


def resolve(harness: RunHarness, name: str, guidance: str = "", *, role: str = "", model: str = "") -> Resolution:
    project = load_project(harness.top, {}, is_fetching=True)
    with RunLock(project.repository.state_dir, "resolve", keeps_record=True) as lock:
        return resolve_without_run(project, lock, name, PersonsWord(guidance, role, model))


async def test_node_that_is_resolved_between_runs_is_told_so_and_lands(harness: RunHarness) -> None:
    harness.make({"a": {}, "b": {"depends_on": ["a"]}}, BLOCKS_A)
    before = snapshot_user_state(harness.top)
    await harness.work()
    found = resolve(harness, "a", "Use the sandbox key.")
    assert found == Resolution("resolve-a-1", ("a",), harness.at())
    assert harness.log("%s")[0] == "resolved(resolve-a-1): Use the sandbox key."
    assert harness.git.text("status", "--porcelain") == ""
    worked = await harness.work()
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert "### resolve-a-1: Resolve what blocks a\n\nUse the sandbox key." in harness.journal.read("a-2-1")
    statuses: dict[str, str] = dict.fromkeys(("a", "b", "resolve-a-1"), "completed")
    assert check(harness.top, before=before, meant=Meant(statuses)) == []
    assert audit(load_project(harness.top, {}), 100).violations == ()
    assert harness.leftovers() == []


async def test_node_that_is_retried_gets_the_other_role_and_keeps_the_rest_of_its_file(harness: RunHarness) -> None:
    harness.make(
        {"a": {}, "b": {"depends_on": ["a"]}}, BLOCKS_A + '\n[ $id = b ] || { echo "$role" > role.txt; commit role; }'
    )
    await harness.work()
    blocked = harness.show("tasks/a.md")
    resolve(harness, "a", "Use the sandbox key.", role="architect")
    assert harness.show("tasks/a.md") == blocked.replace("\nstatus:", "\nrole: architect\nstatus:", 1)
    worked = await harness.work()
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert harness.show("role.txt") == "architect\n"
    assert "Use the sandbox key." in harness.journal.read("a-2-1")
    assert audit(load_project(harness.top, {}), 100).violations == ()
    assert harness.leftovers() == []


async def test_node_that_is_retried_in_a_run_runs_again_in_it_with_the_other_role(harness: RunHarness) -> None:
    agent = "[ $id = c ] && { await go; }\n" + BLOCKS_A + '\n[ $id = c ] || { echo "$role" > role.txt; commit role; }'
    harness.make({"a": {}, "c": {}}, agent, signals=["go"])

    async def answer(opened: OpenRun) -> None:
        await reach(opened, "a: Blocked")
        await resolve_in_run(opened.run, opened.merge_queue, "resolve-a-1", PersonsWord(role="architect"))
        await reach(opened, "a: Merged")
        harness.signals["go"].send()

    assert (await harness.work(during=answer)).code is ExitCode.COMPLETED
    assert harness.show("role.txt") == "architect\n"


async def test_model_of_a_retried_node_is_written_and_one_that_is_none_is_refused(harness: RunHarness) -> None:
    harness.make({"a": {}}, BLOCKS_A)
    await harness.work()
    with pytest.raises(InputError) as raised:
        resolve_node(harness.top, "a", PersonsWord(role="../x", model="fast"))
    assert len(raised.value.faults) == 2
    resolve(harness, "a", model="scripted/m2")
    resolved = load_project(harness.top, {}).graph.tasks["a"]
    assert (resolved.model, resolved.role) == ("scripted/m2", "")


async def test_uncommitted_edit_of_a_node_that_is_retried_is_refused_and_stays(harness: RunHarness) -> None:
    harness.make({"a": {}}, BLOCKS_A)
    await harness.work()
    path = harness.top / "tasks" / "a.md"
    edited = path.read_text() + "\nMine.\n"
    path.write_text(edited)
    with pytest.raises(InputError, match="has uncommitted changes"):
        resolve(harness, "a", role="architect")
    assert path.read_text() == edited


async def test_answer_is_in_the_prompt_of_a_node_with_many_prerequisites(harness: RunHarness) -> None:
    done: dict[str, dict[str, str]] = {f"p{number}": {"status": "completed"} for number in range(25)}
    harness.make({**done, "a": {"depends_on": list(done)}}, BLOCKS_A)
    await harness.work()
    resolve(harness, "a", "Use the sandbox key.")
    await harness.work()
    assert "### resolve-a-1: Resolve what blocks a\n\nUse the sandbox key." in harness.journal.read("a-2-1")


async def test_node_that_is_resolved_in_a_run_runs_again_in_it(harness: RunHarness) -> None:
    harness.make(
        {"a": {}, "b": {"depends_on": ["a"]}, "c": {}}, "[ $id = c ] && { await go; }\n" + BLOCKS_A, signals=["go"]
    )
    before = snapshot_user_state(harness.top)
    found: list[Resolution] = []

    async def answer(opened: OpenRun) -> None:
        await reach(opened, "a: Blocked")
        found.append(await find_resolution_in_run(opened.run, "a", PersonsWord()))
        found.append(await resolve_in_run(opened.run, opened.merge_queue, "a", PersonsWord("Use the sandbox key.")))
        await reach(opened, "b: Merged")
        harness.signals["go"].send()

    worked = await harness.work(during=answer)
    assert (worked.code, worked.pending) == (ExitCode.COMPLETED, "")
    assert [(one.task_id, one.waiting, bool(one.commit)) for one in found] == [
        *(("resolve-a-1", ("a",), False), ("resolve-a-1", ("a",), True))
    ]
    assert "Use the sandbox key." in harness.journal.read("a-2-1")
    assert harness.git.text("log", "-n1", "--format=%(trailers:key=Run,valueonly)", found[1].commit).strip()
    statuses: dict[str, str] = dict.fromkeys(("a", "b", "c", "resolve-a-1"), "completed")
    assert check(harness.top, before=before, meant=Meant(statuses)) == []


async def test_resolving_waits_for_the_merge_that_is_being_verified(harness: RunHarness) -> None:
    """The commit is made after it, so neither of them is composed on a head that has moved."""
    verify = (
        f"test ! -f c.txt || {{ echo > {harness.place}/signals/verifying; read -r _ < {harness.place}/signals/go; }}"
    )
    agent = "[ $id = c ] && await start\n" + BLOCKS_A
    harness.make({"a": {}, "c": {}}, agent, verify=[verify], signals=["start", "verifying", "go"])

    async def answer(opened: OpenRun) -> None:
        await reach(opened, "a: Blocked")
        harness.signals["start"].send()
        await harness.signals["verifying"].wait()
        resolving = asyncio.create_task(resolve_in_run(opened.run, opened.merge_queue, "a", PersonsWord("")))
        assert (await find_resolution_in_run(opened.run, "a", PersonsWord())).task_id == "resolve-a-1"
        assert not resolving.done()
        harness.signals["go"].send(8)
        assert (await resolving).commit

    worked = await harness.work(during=answer)
    assert worked.names == {"a": "Merged", "c": "Merged"}
    subjects = harness.log("%s")
    assert subjects.index("resolved(resolve-a-1): Resolve what blocks a") < subjects.index("Merge feat/c: Do c")


async def test_what_cannot_be_resolved_in_a_run_is_said_and_moves_nothing(harness: RunHarness) -> None:
    harness.make({"a": {}, "c": {}}, "[ $id = c ] && { await go; }\n" + BLOCKS_A, signals=["go"])
    said: list[str] = []

    async def answer(opened: OpenRun) -> None:
        await reach(opened, "a: Blocked")
        head = opened.run.git.head.current()
        for name in ("c", "resolve-b-1"):
            with pytest.raises(InputError) as raised:
                await resolve_in_run(opened.run, opened.merge_queue, name, PersonsWord(""))
            said.append(str(raised.value))
        assert opened.run.git.head.current() == head
        harness.signals["go"].send()

    assert (await harness.work(during=answer)).code is ExitCode.BLOCKED
    assert "c is not blocked" in said[0]
    assert 'Did you mean "resolve-a-1"?' in said[1]


async def test_uncommitted_edit_of_the_resolve_file_is_refused_and_stays(harness: RunHarness) -> None:
    harness.make({"a": {}}, BLOCKS_A)
    await harness.work()
    file = harness.top / "tasks/resolve-a-1.md"
    edited = file.read_text().replace("status: pending", "status: completed")
    file.write_text(edited)
    head = harness.at()
    with pytest.raises(
        InputError, match=r"tasks/resolve-a-1\.md: has uncommitted changes in .*; commit them, or discard"
    ):
        resolve(harness, "a")
    assert (file.read_text(), harness.at()) == (edited, head)


async def test_publication_that_has_to_wait_is_said_and_the_next_run_makes_up_for_it(harness: RunHarness) -> None:
    harness.make({"a": {}}, BLOCKS_A)
    await harness.work()
    base = harness.at()
    (harness.top / ".git" / "index.lock").touch()
    found = resolve(harness, "a", "Go on.")
    assert "index.lock" in found.pending
    assert (harness.at(), harness.at("refs/coordinator/queue/main")) == (base, found.commit)
    with pytest.raises(InputError, match="is already completed"):
        resolve(harness, "a")
    (harness.top / ".git" / "index.lock").unlink()
    assert (await harness.work()).names == {"a": "Merged"}
    assert harness.leftovers() == []


async def test_resolution_that_waits_is_made_again_on_what_a_person_commits(harness: RunHarness) -> None:
    harness.make({"a": {}}, BLOCKS_A)
    await harness.work()
    lock = harness.top / ".git" / "index.lock"
    lock.touch()
    resolve(harness, "a", "Go on.")
    lock.unlink()
    harness.commit("Add the key", {"key.txt": "1\n"})
    assert (await harness.work()).names == {"a": "Merged"}
    assert harness.log("%s")[1:3] == ["resolved(resolve-a-1): Go on.", "Add the key"]


async def test_resolution_that_a_persons_own_edit_contradicts_is_taken_back(harness: RunHarness) -> None:
    harness.make({"a": {}}, BLOCKS_A)
    await harness.work()
    lock = harness.top / ".git" / "index.lock"
    lock.touch()
    resolve(harness, "a", "Go on.")
    lock.unlink()
    harness.set_status("resolve-a-1", "blocked")
    worked = await harness.work()
    assert worked.names == {}
    said = "resolve-a-1 could not be completed on main, where its file was changed too; resolve it again."
    assert said in worked.view.messages


async def test_repository_that_was_moved_is_left_to_a_run(harness: RunHarness) -> None:
    harness.make({"a": {}}, BLOCKS_A)
    await harness.work()
    harness.top.rename(harness.place / "elsewhere")
    moved = load_project(harness.place / "elsewhere", {})
    with (
        RunLock(moved.repository.state_dir, "resolve") as lock,
        pytest.raises(InputError, match="was moved or copied from"),
    ):
        resolve_without_run(moved, lock, "a", PersonsWord(""))
    (harness.place / "elsewhere").rename(harness.top)
