"""Tasks that are spawned while a run is in progress: bounds, aborts, and running again."""

import pytest
from checker import Meant, check, snapshot_user_state
from run_harness import RunHarness, until

from tasks_lib.cleanup.repository_audit import audit
from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.errors import InputError
from tasks_lib.git.repository_lock import RunLock
from tasks_lib.graph.spawned_tasks import list_spawned
from tasks_lib.landing.spawning import SpawnOrder, spawn_in_run, spawn_without_run
from tasks_lib.project.loading import load_project

LEAD = 'if [ "$id" = lead ]; then tell began; await go; fi\nwork'
ON = {"enabled": True}


def task_file(task_id: str, **front: str) -> str:
    rows = "".join(f"{key}: {value}\n" for key, value in front.items())
    return f"---\nid: {task_id}\nname: Do {task_id}\n{rows}---\n## Description\nWrite it.\n"


def completed(*ids: str) -> Meant:
    return Meant(dict.fromkeys(ids, "completed"))


async def spawn(opened: OpenRun, *texts: str, spawner: str = "lead") -> None:
    for text in texts:
        await spawn_in_run(opened.run, opened.merge_queue, SpawnOrder(text, spawner=spawner, session="s1"))


async def test_task_that_a_session_spawns_lands_in_the_same_run(harness: RunHarness) -> None:
    harness.make({"lead": {}, "rest": {}}, LEAD, signals=["began", "go"], spawn=ON)
    before = snapshot_user_state(harness.top)

    async def during(opened: OpenRun) -> None:
        await harness.signals["began"].wait()
        await spawn(opened, task_file("part"), task_file("more", depends_on="[part]"))
        await spawn_in_run(opened.run, opened.merge_queue, SpawnOrder(task_id="part", spawner="lead"))  # Asked again.
        await until(
            lambda: "more" in opened.run.nodes.graph.tasks and opened.run.nodes.graph.tasks["more"].is_completed
        )
        harness.signals["go"].send()

    result = await harness.work(only=["lead"], during=during)

    assert result.names == {"lead": "Merged", "part": "Merged", "more": "Merged"}
    assert result.code == 0
    assert (
        check(
            harness.top, before=before, meant=Meant({**completed("lead", "part", "more").statuses, "rest": "pending"})
        )
        == []
    )
    assert audit(load_project(harness.top, {}), 1000).violations == ()
    subjects = harness.log("%s|%(trailers:key=Parent,valueonly,separator=)", "--grep=^spawned(")
    assert subjects == ["spawned(more): Do more|lead", "spawned(part): Do part|lead"]
    assert "spawned_by: lead\n" in harness.show("tasks/part.md")


async def test_existing_task_is_given_to_the_session_that_spawns_it(harness: RunHarness) -> None:
    harness.make({"lead": {}, "part": {}}, LEAD, signals=["began", "go"], spawn=ON)
    before = snapshot_user_state(harness.top)

    async def during(opened: OpenRun) -> None:
        await harness.signals["began"].wait()
        await spawn_in_run(opened.run, opened.merge_queue, SpawnOrder(task_id="part", spawner="lead"))
        harness.signals["go"].send()

    result = await harness.work(only=["lead"], during=during)

    assert result.names == {"lead": "Merged", "part": "Merged"}
    assert check(harness.top, before=before, meant=completed("lead", "part")) == []


async def test_all_faults_of_a_spawn_are_named_and_nothing_is_committed(harness: RunHarness) -> None:
    harness.make({"lead": {}, "part": {}}, LEAD, signals=["began", "go"], spawn={**ON, "max_tasks": 1})
    wrong = task_file("part", status="completed", depends_on="[lost]", risk="huge", spawned_by="part")
    said: list[str] = []

    async def during(opened: OpenRun) -> None:
        await harness.signals["began"].wait()
        await spawn(opened, task_file("first"))
        for text in (wrong, "no front matter"):
            with pytest.raises(InputError) as caught:
                await spawn(opened, text)
            said.append(str(caught.value))
        harness.signals["go"].send()

    await harness.work(during=during)

    for fault in ('risk "huge"', "status is completed", "spawned_by is written by coordinator", '"lost"',
                  'id "part" is also used', "spawn.max_tasks is 1"):  # fmt: skip
        assert fault in said[0]
    assert "front matter" in said[1]
    assert len(harness.log("%H", "--grep=^spawned(")) == 1


@pytest.mark.parametrize("policy", ["abort-dependents", "continue-running"])
async def test_abort_of_a_session_ends_what_it_spawned_or_lets_it_continue(harness: RunHarness, policy: str) -> None:
    harness.make(
        {"lead": {}, "rest": {}},
        'case "$id" in rest|later) ;; *) tell "$id"; await "$id-go" ;; esac\nwork',
        signals=["lead", "lead-go", "part", "part-go"],
        spawn=ON,
    )

    async def during(opened: OpenRun) -> None:
        await harness.signals["lead"].wait()
        await spawn(opened, task_file("part"), task_file("later", depends_on="[part]"))
        await harness.signals["part"].wait()
        tasks = opened.run.nodes.graph.tasks
        below = list_spawned(tasks, "lead") if policy == "abort-dependents" else ()
        assert (await opened.run.requests.abort("lead", below)).is_done
        await until(lambda: opened.run.board.view.nodes["lead"].outcome != "")
        harness.signals["part-go"].send()

    result = await harness.work(during=during)

    part = "Aborted" if policy == "abort-dependents" else "Merged"
    assert result.names == {"lead": "Aborted", "part": part, "rest": "Merged"}
    assert result.skips.keys() == {"later"}
    for name in ("lead-go", "part-go"):
        harness.signals[name].send(2)
    again = await harness.work()
    assert again.code == 0


async def test_task_is_spawned_while_there_is_no_run(harness: RunHarness) -> None:
    harness.make({"lead": {}})
    project = load_project(harness.top)
    project.repository.prepare()
    with RunLock(project.repository.state_dir, "spawn", keeps_record=True) as lock:
        made = spawn_without_run(project, lock, SpawnOrder(task_file("part")))
        known = spawn_without_run(load_project(harness.top), lock, SpawnOrder(task_id="part"))

    assert (made.commit, made.pending) == (harness.at(), "")
    assert (known.task_id, known.commit) == ("part", "")
    assert "spawned_by" not in harness.show("tasks/part.md")
    assert (harness.top / "tasks/part.md").is_file()
    assert (await harness.work()).names == {"lead": "Merged", "part": "Merged"}


async def test_what_a_session_spawns_counts_toward_its_budget_also_in_the_next_run(harness: RunHarness) -> None:
    agent = "if [ $id = lead ]; then tell began; await go; fi; if [ $id = greedy ]; then echo nothing; else work; fi"
    harness.make({"lead": {}}, agent, signals=["began", "go"], spawn=ON, budget={"node": {"turns": 3}})

    async def during(opened: OpenRun) -> None:
        await harness.signals["began"].wait()
        await spawn(opened, task_file("part"), task_file("greedy", depends_on="[part]"))
        await until(lambda: opened.run.board.view.nodes["greedy"].outcome != "" if has_begun(opened) else False)
        harness.signals["go"].send()

    first = await harness.work(during=during)
    harness.write_agent("work")
    harness.set_status("resolve-greedy-1", "completed")
    second = await harness.work()

    assert first.names == {"part": "Merged", "greedy": "Blocked", "lead": "Merged"}
    assert "budget.node.turns is 3, but 4 were spent by lead and what it has spawned" in str(first.outcomes["greedy"])
    assert second.names == {"greedy": "Blocked"}  # What landed counts by its trailer: the lead, and the part.


def has_begun(opened: OpenRun) -> bool:
    return "greedy" in opened.run.board.view.nodes
