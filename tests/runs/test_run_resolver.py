"""A resolver answers a blocker in each way that it may, once; nonsense and repetition go to a person."""

import json

import pytest
from checker import Meant, check, snapshot_user_state
from run_harness import RunHarness, reach

from tasks_lib.cleanup.repository_audit import audit
from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.model import Blocked
from tasks_lib.project.loading import load_project
from tasks_lib.reporting.run_report import ExitCode

RESOLVER = """
if [ $role = resolver ]; then
  echo stray > stray.txt
  printf '%s\\n' "{answer}"
  exit 0
fi
"""
BLOCK = "git commit -q --allow-empty -m \"blocked($id): no rate\"; printf 'Kind: context\\nError: E7\\n'; exit 0"
ALWAYS = {"resolver": "always"}


def answer(text: str, agent: str) -> str:
    return RESOLVER.format(answer=text) + agent


async def test_context_is_carried_by_one_new_attempt(harness: RunHarness) -> None:
    agent = answer("Resolution: context\nContext: it is 19, see docs", f"[ $attempt = 1 ] && {{ {BLOCK}; }}\nwork")
    harness.make({"a": {}, "b": {"depends_on": ["a"]}}, agent, safe_exit=ALWAYS, retry={"attempts": 1})
    worked = await harness.work()
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert harness.trailer("Attempt", "main^") == "2"
    prompt = harness.journal.read("a-2-1")
    assert "it is 19, see docs" in prompt
    assert "Attempt 1 stopped: no rate" in prompt
    asked = harness.journal.read("a-1-1-review0")
    assert "no rate" in asked
    assert "- Error: E7" in asked
    assert not harness.has("stray.txt")
    assert harness.leftovers() == []
    assert not harness.has("tasks/resolve-a-1.md")


@pytest.mark.parametrize(
    "text", ["I have no idea.", "Resolution: dependency\nDepends on: nowhere", "Resolution: scope"]
)
async def test_answer_that_cannot_be_used_goes_to_a_person_without_an_attempt(harness: RunHarness, text: str) -> None:
    harness.make({"a": {}}, answer(text, BLOCK), safe_exit=ALWAYS)
    worked = await harness.work()
    assert worked.outcomes == {"a": Blocked("no rate", "resolve-a-1")}
    assert harness.journal.turns() == ["a-1-1", "a-1-1-review0"]
    assert "assignee: human" in harness.show("tasks/resolve-a-1.md")


async def test_answer_that_does_not_help_costs_one_attempt(harness: RunHarness) -> None:
    harness.make({"a": {}}, answer("Context: try harder", BLOCK), safe_exit={**ALWAYS, "resolver_turns": 5})
    worked = await harness.work()
    assert worked.outcomes == {"a": Blocked("no rate", "resolve-a-1")}
    assert harness.journal.turns() == ["a-1-1", "a-1-1-review0", "a-2-1"]
    assert "Nothing that it depends on has changed" in harness.show("tasks/resolve-a-1.md")
    assert len(harness.log("%s")) == 2  # One commit for the blocker.


async def test_turns_of_resolvers_are_limited_until_a_person_speaks(harness: RunHarness) -> None:
    agent = answer("Context: try harder", f"echo $attempt > n.txt; commit wip; {BLOCK}")
    harness.make({"a": {}}, agent, safe_exit=ALWAYS)
    await harness.work()
    assert harness.journal.turns() == ["a-1-1", "a-1-1-review0", "a-2-1"]
    assert "safe_exit.resolver_turns allows no more" in harness.show("tasks/resolve-a-1.md")
    harness.set_status("resolve-a-1", "completed")
    await harness.work()
    assert harness.journal.turns() == [
        "a-1-1", "a-1-1-review0", "a-2-1", "a-3-1", "a-3-1-review1", "a-4-1",
    ]  # fmt: skip


async def test_scope_is_narrowed_by_follow_up_tasks(harness: RunHarness) -> None:
    body = "Write it.\n\n## Acceptance Criteria\n- [ ] There is a report\n- [ ] It is in French\n\n## Other"
    agent = answer("Resolution: scope\nDrop: - [ ] It is in French", f"[ $id$attempt = a1 ] && {{ {BLOCK}; }}\nwork")
    harness.make({"a": {"level": "implementation"}}, agent, safe_exit=ALWAYS, files={"tasks/a.md": task_with(body)})
    before = snapshot_user_state(harness.top)
    worked = await harness.work()
    assert worked.names == {"a": "Merged", "follow-up-a-1": "Merged"}
    assert worked.code is ExitCode.COMPLETED
    text = harness.show("tasks/a.md")
    assert "It is in French" not in text.split("## Notes")[0]
    assert "- follow-up-a-1: It is in French" in text
    assert "- [ ] It is in French" in harness.show("tasks/follow-up-a-1.md")
    assert any("follow-up-a-1" in message for message in worked.view.messages)
    assert worked.started.index("a") < worked.started.index("follow-up-a-1")
    assert check(harness.top, before=before, meant=Meant(dict.fromkeys(worked.names, "completed"))) == []
    assert audit(load_project(harness.top, {}), 1000).violations == ()


def task_with(body: str) -> str:
    return (
        f"---\nid: a\nname: Do a\nstatus: pending\nlevel: implementation\n---\n\n## Description\n{body}\n\n## Notes\n"
    )


async def test_node_waits_for_a_task_that_it_turns_out_to_need(harness: RunHarness) -> None:
    agent = answer(
        "Resolution: dependency\nDepends on: b",
        f"[ $id$attempt = a1 ] && {{ {BLOCK}; }}\n[ $id = b ] && await go\nwork",
    )
    harness.make({"a": {}, "b": {}}, agent, safe_exit=ALWAYS, signals=["go"])
    before = snapshot_user_state(harness.top)

    async def go(opened: OpenRun) -> None:
        await reach(opened, "a: Blocked")
        harness.signals["go"].send()

    worked = await harness.work(during=go)
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert "depends_on: [b]" in harness.show("tasks/a.md")
    assert check(harness.top, before=before, meant=Meant(dict.fromkeys(worked.names, "completed"))) == []
    assert audit(load_project(harness.top, {}), 1000).violations == ()
    assert [name for name in harness.journal.turns() if name.startswith("a")] == ["a-1-1", "a-1-1-review0", "a-2-1"]


async def test_dependency_that_would_be_a_cycle_goes_to_a_person(harness: RunHarness) -> None:
    harness.make({"a": {}, "b": {"depends_on": ["a"]}}, answer("Depends on: b", BLOCK), safe_exit=ALWAYS)
    worked = await harness.work()
    assert worked.outcomes == {"a": Blocked("no rate", "resolve-a-1")}
    assert "depends_on: [b]" not in harness.show("tasks/a.md")


async def test_work_for_an_agent_is_done_in_the_same_run(harness: RunHarness) -> None:
    agent = answer("Resolution: work\nWork: Add the rate.", f"[ $id$attempt = a1 ] && {{ {BLOCK}; }}\nwork")
    harness.make({"a": {}}, agent, safe_exit=ALWAYS)
    worked = await harness.work()
    assert worked.names == {"a": "Merged", "resolve-a-1": "Merged"}
    assert worked.code is ExitCode.COMPLETED
    assert "Add the rate." in harness.journal.read("resolve-a-1-1-1")


async def test_agents_that_only_give_work_to_each_other_end(harness: RunHarness) -> None:
    agent = answer("Resolution: work\nWork: Add the rate.", f"[ $id = a ] && {{ {BLOCK}; }}\nwork")
    harness.make({"a": {}}, agent, safe_exit=ALWAYS)
    worked = await harness.work()
    assert worked.outcomes["a"] == Blocked("no rate", "resolve-a-2")
    assert "assignee: human" in harness.show("tasks/resolve-a-2.md")
    assert [name for name in harness.journal.turns() if name.startswith("a-")] == ["a-1-1", "a-1-1-review0", "a-2-1"]


async def test_program_is_not_asked_unless_the_settings_say_so(harness: RunHarness) -> None:
    harness.make({"a": {}}, answer("Context: 19", BLOCK), safe_exit={"resolver": "auto"})
    assert (await harness.work()).names == {"a": "Blocked"}
    assert harness.journal.turns() == ["a-1-1"]


async def test_what_only_a_person_may_decide_is_not_asked(harness: RunHarness) -> None:
    agent = answer("Context: 19", "echo 'target: other' > coordinator.yaml; commit x")
    harness.make({"a": {}}, agent, safe_exit=ALWAYS)
    assert (await harness.work()).names == {"a": "Blocked"}
    assert harness.journal.turns() == ["a-1-1"]


async def test_resolver_that_was_interrupted_is_asked_again_and_the_turn_is_not_repeated(harness: RunHarness) -> None:
    waits = RESOLVER.format(answer="Context: 19").replace("  echo stray", "  tell asked; await go\n  echo stray")
    agent = waits + f"[ $attempt = 1 ] && {{ {BLOCK}; }}\nwork"
    harness.make({"a": {}}, agent, safe_exit=ALWAYS, signals=["asked", "go"])

    async def stop(opened: OpenRun) -> None:
        await harness.signals["asked"].wait()
        opened.run.stopping.request()

    await harness.work(during=stop)
    harness.signals["go"].send()
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    assert harness.journal.turns() == ["a-1-1", "a-1-1-review0", "a-1-1-review1", "a-2-1"]


@pytest.mark.parametrize(
    "resolution", ["Resolution: scope\nDrop: It is in French", "Resolution: dependency\nDepends on: b"]
)
async def test_answer_on_the_head_counts_although_a_kill_kept_it_from_the_record(
    harness: RunHarness, resolution: str
) -> None:
    body = "Write it.\n\n## Acceptance Criteria\n- [ ] There is a report\n- [ ] It is in French\n\n## Other"
    agent = answer(resolution, f"[ $id$attempt = a1 ] && {{ {BLOCK}; }}\n[ $id = a ] && exit 0\nwork")
    harness.make({"a": {}, "b": {}}, agent, safe_exit=ALWAYS, files={"tasks/a.md": task_with(body)})
    record = harness.top / ".git/worktrees/a/coordinator.json"
    before: list[dict[str, object]] = []

    async def remember(opened: OpenRun) -> None:
        await reach(opened, "a: resolver")
        before.append(json.loads(record.read_text()))
        await reach(opened, "a: worktree" if "scope" in resolution else "a: Blocked")
        opened.run.stopping.request()

    await harness.work(during=remember, only=["a"])
    record.write_text(json.dumps(before[0]))
    harness.write_agent(answer("I was asked twice.", "work"))
    worked = await harness.work(only=["a", "b"])
    assert worked.names["a"] == "Merged"
    assert "a-2-1" in harness.journal.turns()
    assert [name for name in harness.journal.turns() if "review" in name] == ["a-1-1-review0"]
