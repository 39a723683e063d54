"""Safe Exit in every convention, the commit that it adds to the head, and how a blocked node resumes."""

import sys

import pytest
from run_harness import RunHarness, Tasks, reach

from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.model import Blocked
from tasks_lib.reporting.run_report import ExitCode

NOTIFY = f"""
notify() {{
  {sys.executable} - "$@" <<'END'
import sys
from pathlib import Path
from flows.cli.commands.notify import notify
from tasks_lib.model import NoticeLevel
notify(Path(), NoticeLevel(sys.argv[1]), *sys.argv[2:])
END
}}
"""
BY_NOTICE = NOTIFY + "[ $id = a ] && [ $attempt = 1 ] && { notify blocking 'The key is missing.'; exit 0; }\nwork"
BY_COMMIT = (
    "[ $id = a ] && [ $attempt = 1 ] && "
    "{ git commit -q --allow-empty -m 'blocked(a): The key is missing.'; exit 0; }\nwork"
)
BY_FILE = """
[ $id = a ] && [ $attempt = 1 ] && {
  status blocked
  sed -i 's/^## Notes/## Notes\\nBlocked: The key is missing.\\nTried twice./' $COORDINATOR_TASK_FILE
  [ -n "$KEEP_DIRTY" ] || commit 'wip: note the blocker'
  exit 0
}
work
"""
BY_DIRTY_FILE = "KEEP_DIRTY=1\n" + BY_FILE
WAYS = {"notice": BY_NOTICE, "commit": BY_COMMIT, "file": BY_FILE, "dirty-file": BY_DIRTY_FILE}
GRAPH: Tasks = {"a": {}, "b": {"depends_on": ["a"]}, "c": {}}


@pytest.mark.parametrize("way", WAYS)
async def test_safe_exit_blocks_the_node_and_skips_its_dependents_alone(harness: RunHarness, way: str) -> None:
    harness.make(GRAPH, WAYS[way])
    worked = await harness.work()
    assert worked.outcomes["a"] == Blocked("The key is missing.", "resolve-a-1")
    assert worked.names == {"a": "Blocked", "c": "Merged"}
    assert worked.skips == {"b": "needs a, which is blocked"}
    assert worked.code is ExitCode.BLOCKED
    assert harness.journal.turns() == ["a-1-1", "c-1-1"]
    assert "status: blocked" in harness.show("tasks/a.md")


@pytest.mark.parametrize("way", WAYS)
async def test_node_that_is_unblocked_between_runs_is_worked_again(harness: RunHarness, way: str) -> None:
    """The first attempt's notice, commit or task file does not block the second attempt."""
    harness.make(GRAPH, WAYS[way])
    await harness.work()
    if way == "dirty-file":
        harness.write_agent("[ $attempt = 2 ] && git checkout -q -- tasks\nwork")
    harness.set_status("resolve-a-1", "completed")
    worked = await harness.work()
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert harness.trailer("Attempt", "main^") == "2"
    assert "The key is missing." in harness.journal.read("a-2-1")
    assert "This is attempt 2" in harness.journal.read("a-2-1")
    assert harness.leftovers() == []


async def test_node_that_is_unblocked_while_the_run_lives_is_worked_again_in_it(harness: RunHarness) -> None:
    agent = "[ $id = c ] && { await go; }\n" + BY_COMMIT
    harness.make(GRAPH, agent, signals=["go"])

    async def resolve(opened: OpenRun) -> None:
        await reach(opened, "a: Blocked")
        while not harness.has("tasks/resolve-a-1.md"):
            await opened.publisher.publish_now()
        harness.set_status("resolve-a-1", "completed")
        await reach(opened, "b: Merged")
        harness.signals["go"].send()

    worked = await harness.work(during=resolve)
    assert worked.names == {"a": "Merged", "b": "Merged", "c": "Merged"}
    assert worked.code is ExitCode.COMPLETED
    assert [name for name in harness.journal.turns() if name.startswith("a")] == ["a-1-1", "a-2-1"]


async def test_blocker_is_one_commit_of_task_files_alone(harness: RunHarness) -> None:
    harness.make(
        {"team/a": {}},
        "echo x > x.txt; commit 'wip: half'; git commit -q --allow-empty -m \"blocked($id): no key\"; echo 'I tried.'",
    )
    worked = await harness.work()
    assert worked.outcomes == {"team/a": Blocked("no key", "resolve-team-a-1")}
    assert harness.log("%s") == ["blocked(team/a): no key", "Begin"]
    changed = harness.git.text("show", "--format=", "--name-status", "main").splitlines()
    assert changed == ["A\ttasks/resolve-team-a-1.md", "M\ttasks/team/a.md"]
    text = harness.show("tasks/team/a.md")
    assert "status: blocked" in text
    assert "resolve-team-a-1" in text.split("---")[1]
    assert "Blocked: no key" in text.split("## Notes")[1]
    resolve = harness.show("tasks/resolve-team-a-1.md")
    assert "assignee: human" in resolve
    assert "status: pending" in resolve
    assert harness.trailer("Task") == "team/a"
    assert harness.trailer("Attempt") == "1"
    assert harness.git.text("log", "-n1", "--format=%s", "feat/team/a~1") == "wip: half"


async def test_blocking_notice_counts_whatever_the_exit_status(harness: RunHarness) -> None:
    harness.make({"a": {}}, NOTIFY + "notify warning 'Odd.'; notify blocking 'No network.'; exit 1")
    worked = await harness.work()
    assert worked.outcomes == {"a": Blocked("No network.", "resolve-a-1")}


async def test_notices_below_blocking_end_nothing(harness: RunHarness) -> None:
    harness.make({"a": {}}, NOTIFY + "notify info 'Half way.'; notify warning 'Odd.'; work")
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    told = [line for line in worked.lines if "notice" in line]
    assert told == ["a: notice (info): Half way.", "a: notice (warning): Odd."]


async def test_notice_is_said_while_its_session_is_still_at_work(harness: RunHarness) -> None:
    harness.make({"a": {}}, NOTIFY + "notify warning 'Odd.'; await go; work", signals=["go"])

    async def hear(opened: OpenRun) -> None:
        await reach(opened, ": a: notice (warning): Odd.")
        harness.signals["go"].send()

    worked = await harness.work(during=hear)
    assert worked.lines.count("a: notice (warning): Odd.") == 1


async def test_notices_of_a_turn_that_a_stop_ended_are_not_said_again(harness: RunHarness) -> None:
    agent = "[ $turn = 1 ] && [ ! -f seen.tmp ] && { : > seen.tmp; notify info 'Half way.'; await never; }\nwork"
    harness.make({"a": {}}, NOTIFY + agent, signals=["never"], files={".gitignore": "*.tmp\n"})

    async def stop(opened: OpenRun) -> None:
        await reach(opened, ": a: notice (info): Half way.")
        opened.run.stopping.request()

    await harness.work(during=stop)
    assert not [line for line in (await harness.work()).lines if "notice" in line]


async def test_blocked_resolve_node_makes_no_further_resolve_node(harness: RunHarness) -> None:
    harness.make({"resolve-x-1": {}}, 'git commit -q --allow-empty -m "blocked($id): not me"')
    worked = await harness.work()
    assert worked.outcomes == {"resolve-x-1": Blocked("not me")}
    assert harness.git.text("ls-tree", "--name-only", "main", "tasks/") == "tasks/resolve-x-1.md"


async def test_blocked_node_is_not_dispatched_again_without_news(harness: RunHarness) -> None:
    harness.make({"a": {}}, BY_COMMIT)
    await harness.work()
    worked = await harness.work()
    assert worked.outcomes == {}
    assert worked.code is ExitCode.BLOCKED
    assert harness.journal.turns() == ["a-1-1"]


async def test_blocker_on_the_head_does_not_vouch_for_a_red_base(harness: RunHarness) -> None:
    """A blocker needs no verify, but neither does it prove that the source below it is green."""
    agent = (
        "[ $id = a ] && { git commit -q --allow-empty -m 'blocked(a): no'; exit 0; }\n[ $turn = 1 ] && await go\nwork"
    )
    harness.make({"a": {}, "b": {}}, agent, verify=["false"], signals=["go"])

    async def let_b_go_after_a(opened: OpenRun) -> None:
        await reach(opened, "a: Blocked")
        harness.signals["go"].send()

    worked = await harness.work(during=let_b_go_after_a)
    assert worked.names == {"a": "Blocked", "b": "Failed"}
    assert [name for name in harness.journal.turns() if name.startswith("b")] == ["b-1-1"]
