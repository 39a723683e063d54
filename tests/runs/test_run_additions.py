"""Task files that planning nodes add: they join the graph, or are returned to the session that wrote them."""

from run_harness import RunHarness, reach

from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.model import Blocked

ADD = """
add() { printf -- '---\\nid: %s\\nname: Do %s\\nstatus: pending\\ndepends_on: [%s]\\n---\\n' $1 $1 $2 > tasks/$1.md; }
"""


async def test_added_task_file_joins_the_run(harness: RunHarness) -> None:
    harness.make(
        {"plan": {"level": "planning"}}, ADD + "[ $id = plan ] || { work; exit 0; }\nadd new plan; commit plan"
    )
    assert (await harness.work()).names == {"plan": "Merged", "new": "Merged"}


async def test_added_task_files_that_make_no_graph_go_back_to_their_session(harness: RunHarness) -> None:
    agent = '[ $id = plan ] || { work; exit 0; }\n[ $turn = 2 ] && add new plan || add new nowhere; commit "plan $turn"'
    harness.make({"plan": {"level": "planning"}}, ADD + agent, verify=[f"ls tasks >> {harness.place}/verified"])
    worked = await harness.work()
    assert worked.names == {"plan": "Merged", "new": "Merged"}
    assert 'tasks/new.md:5: depends_on names "nowhere", which no task file has.' in harness.journal.read("plan-1-2")
    assert harness.git.text("log", "--format=%s", "main").count("Merge feat/plan") == 1


async def test_added_task_file_that_cannot_be_read_is_a_fault_and_no_conflict(harness: RunHarness) -> None:
    wrong = r"printf -- '---\nid: new\nstatus: todo\n---\n' > tasks/new.md"
    agent = f'[ $turn = 2 ] && rm tasks/new.md || {wrong}; echo $turn > n.txt; commit "plan $turn"'
    harness.make({"plan": {"level": "planning"}}, agent)
    worked = await harness.work()
    assert worked.names == {"plan": "Merged"}
    prompt = harness.journal.read("plan-1-2")
    assert "your task files do not form a valid graph" in prompt
    assert "- tasks/new.md:3: " in prompt
    assert [line for line in worked.lines if "given back: its task files do not form a valid graph: tasks/new" in line]
    assert not [line for line in worked.lines if "conflict" in line]


async def test_fault_of_an_added_task_file_is_told_with_a_conflict_and_removing_the_file_drops_nothing(
    harness: RunHarness,
) -> None:
    wrong = r"printf -- '---\nid: new\nstatus: todo\n---\n' > tasks/new.md"
    agent = f"""
[ $id = a ] && {{ echo a > same.txt; commit a; exit 0; }}
[ $turn = 1 ] && {{ {wrong}; echo plan > same.txt; commit plan; await landed; exit 0; }}
git merge -q $COORDINATOR_TARGET || :; printf 'a\\nplan\\n' > same.txt; rm tasks/new.md; commit both
"""

    async def release(opened: OpenRun) -> None:
        await reach(opened, "a: Merged")
        harness.signals["landed"].send()

    harness.make({"a": {}, "plan": {"level": "planning"}}, agent, signals=["landed"])
    worked = await harness.work(during=release)
    assert worked.names == {"a": "Merged", "plan": "Merged"}
    prompt = harness.journal.read("plan-1-2")
    assert "- same.txt" in prompt
    assert "Also fix these faults in the task files of your branch:\n- tasks/new.md:1: " in prompt
    assert "\n- tasks/new.md:3: " in prompt
    assert harness.show("same.txt") == "a\nplan\n"


async def test_added_task_files_that_stay_wrong_never_land(harness: RunHarness) -> None:
    agent = 'add new other; add other new; echo $turn > n.txt; commit "plan $turn"'
    harness.make({"plan": {"level": "decomposition"}}, ADD + agent, land={"give_backs": 1})
    outcome = (await harness.work()).outcomes["plan"]
    assert isinstance(outcome, Blocked)
    assert outcome.reason.startswith(
        "its task files do not form a valid graph: tasks/new.md:5: depends_on closes the cycle"
    )
    assert not harness.has("tasks/new.md")


async def test_fault_that_the_head_has_already_blames_no_session(harness: RunHarness) -> None:
    agent = "tell begun; await go; add new plan; commit plan"
    harness.make({"plan": {"level": "planning"}}, ADD + agent, signals=["begun", "go"])

    async def break_one(_: object) -> None:
        await harness.signals["begun"].wait()
        text = (
            harness.show("tasks/plan.md").replace("id: plan", "id: odd").replace("status:", "depends_on: [x]\nstatus:")
        )
        harness.commit("Break", {"tasks/odd.md": text})
        harness.signals["go"].send()

    await harness.work(during=break_one)
    assert harness.journal.turns() == ["plan-1-1"]
    assert harness.has("tasks/new.md")


async def test_planning_that_adds_more_planning_each_time_comes_to_an_end(harness: RunHarness) -> None:
    make = "printf -- '---\\nid: %s\\nname: Do %s\\nstatus: pending\\nlevel: planning\\n---\\n' $1 $1 > tasks/$1.md"
    agent = f'add() {{ {make}; }}\nadd ${{id}}x; [ $turn = 1 ] || echo $turn > $id.txt; commit "plan $id $turn"'
    harness.make({"p": {"level": "planning"}}, agent, land={"give_backs": 1}, retry={"attempts": 1})
    worked = await harness.work()
    assert worked.started == ["p", "px", "pxx", "pxxx", "pxxxx"]
    last = worked.outcomes["pxxxx"]
    assert isinstance(last, Blocked)
    assert "added 4 planning steps below a task that a person wrote" in last.reason
    assert "Planning has been delegated too often" in harness.journal.read("pxxxx-1-2")
