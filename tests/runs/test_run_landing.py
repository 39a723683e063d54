"""A node that lands: what stays in the repository, and what does not."""

import json

import pytest
from run_harness import RunHarness

from tasks_lib.model import Merged
from tasks_lib.project.loading import load_project
from tasks_lib.reporting.run_report import ExitCode
from tasks_lib.settings.schema import digest_verify

MOST_COMMANDS = 55
"""For a run of one node. Each start of git costs two milliseconds of CPU time, which is what most of a node costs."""


async def test_node_lands_as_one_merge_commit_with_its_trailers(harness: RunHarness) -> None:
    harness.make({"a": {}}, verify=["test -f a.txt"])
    begin = harness.at()
    worked = await harness.work()
    assert worked.outcomes == {"a": Merged(harness.at())}
    assert worked.code is ExitCode.COMPLETED
    assert harness.log("%s") == ["Merge feat/a: Do a", "Begin"]
    parents = harness.git.text("log", "-n1", "--format=%P").split()
    assert len(parents) == 2
    assert parents[0] == begin
    assert harness.git.text("log", "-n1", "--format=%s", parents[1]) == "feat(a): write a.txt"
    variables = harness.journal.variables("a-1-1")
    assert harness.trailer("Task") == "a"
    assert harness.trailer("Attempt") == "1"
    assert harness.trailer("Run") == worked.view.run
    assert harness.trailer("Session") == variables["COORDINATOR_SESSION"]
    assert harness.trailer("Verified") == digest_verify(load_project(harness.top, {}).settings)


async def test_node_lands_with_few_git_commands(harness: RunHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    harness.make({"a": {}})
    trace = harness.place / "trace"
    monkeypatch.setenv("GIT_TRACE2_EVENT", str(trace))
    worked = await harness.work()
    monkeypatch.delenv("GIT_TRACE2_EVENT")
    assert worked.names == {"a": "Merged"}
    lines = [json.loads(line) for line in trace.read_text().splitlines()]
    # Those that git itself starts have another in their id.
    told = [line["argv"][1:] for line in lines if line["event"] == "start" and "/" not in line["sid"]]
    assert 20 < len(told) <= MOST_COMMANDS, told


async def test_landed_task_file_is_completed_with_the_report_and_otherwise_unchanged(harness: RunHarness) -> None:
    harness.make({"a": {"priority": "high", "odd_key": "kept"}})
    before = harness.show("tasks/a.md")
    await harness.work()
    after = harness.show("tasks/a.md")
    assert after.split("## Summary")[0] == before.split("## Summary")[0].replace("pending", "completed")
    assert after.split("## Summary")[1].strip() == "Wrote a.txt."


NOISE = "for at in $(seq 200); do printf 'step %s of the build\\n' $at; done; echo; printf '\\033[32mDone.\\033[0m\\n'"


async def test_summary_is_the_last_paragraph_of_what_a_program_prints(harness: RunHarness) -> None:
    """Neither the task file nor the commit gets its whole output, which is in the log."""
    harness.make({"a": {}}, f"work > /dev/null; {NOISE}; echo 'It adds a.txt.'")
    await harness.work()
    summary = harness.show("tasks/a.md").split("## Summary")[1].strip()
    named = "(The end of its output; all of it: `coordinator logs a --attempt 1`.)"
    assert summary == f"Done.\nIt adds a.txt.\n\n{named}"
    message = harness.git.text("log", "-n1", "--format=%B", "main")
    assert ("It adds a.txt." in message, "step 7" in message) == (True, False), message
    log = harness.top / ".git" / "coordinator" / "logs" / "a" / "session-1.log"
    assert "step 7 of the build" in log.read_text()


async def test_what_a_program_printed_before_it_failed_is_quoted_in_part(harness: RunHarness) -> None:
    harness.make({"a": {}}, f"{NOISE}; echo 'No compiler.'; exit 3", retry={"attempts": 1})
    await harness.work()
    for file in ("tasks/a.md", "tasks/resolve-a-1.md"):
        text = harness.show(file)
        assert ("No compiler." in text, "coordinator logs a --attempt 1" in text, "step 7" in text) == (
            True,
            True,
            False,
        )


async def test_nothing_of_a_landed_node_is_left(harness: RunHarness) -> None:
    harness.make({"a": {}, "b": {"depends_on": ["a"]}, "c": {}}, verify=["true"])
    worked = await harness.work()
    assert worked.names == {"a": "Merged", "b": "Merged", "c": "Merged"}
    assert harness.leftovers() == []
    assert harness.git.text("status", "--porcelain") == ""


async def test_dependent_starts_after_its_prerequisite_landed_and_is_told_what_it_changed(harness: RunHarness) -> None:
    harness.make({"a": {}, "b": {"depends_on": ["a"]}}, agent="[ $id = a ] || test -f a.txt\nwork")
    worked = await harness.work()
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert worked.started == ["a", "b"]
    prompt = harness.journal.read("b-1-1")
    assert "### a: Do a\n\nWrote a.txt." in prompt
    assert "a.txt" in prompt.split("Wrote a.txt.")[1].split("## How to finish")[0]


async def test_agent_that_completes_its_own_task_file_keeps_its_summary_and_notes(harness: RunHarness) -> None:
    agent = """
echo a > a.txt
status completed
sed -i 's/^## Summary/I was here.\\n\\n## Summary\\nMy own words./' $COORDINATOR_TASK_FILE
commit 'feat(a): everything'
echo 'Another report.'
"""
    harness.make({"a": {}}, agent)
    await harness.work()
    text = harness.show("tasks/a.md")
    assert "status: completed" in text
    assert "I was here." in text
    assert text.split("## Summary")[1].strip() == "My own words."


async def test_edits_of_other_task_files_are_dropped(harness: RunHarness) -> None:
    agent = "echo more >> tasks/b.md; echo more >> tasks/done.md; git rm -q tasks/human.md; work"
    harness.make(
        {"a": {}, "b": {"assignee": "human"}, "done": {"status": "completed"}, "human": {"assignee": "human"}}, agent
    )
    before = {name: harness.show(f"tasks/{name}.md") for name in ("b", "done", "human")}
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    assert {name: harness.show(f"tasks/{name}.md") for name in before} == before
    assert worked.code is ExitCode.WAITING


async def test_only_levels_that_plan_may_add_task_files(harness: RunHarness) -> None:
    agent = """
case $id in
  new-*) ;;
  *) sed "s/^id: .*/id: new-$id/; /^level:/d" $COORDINATOR_TASK_FILE > tasks/new-$id.md ;;
esac
work
"""
    tasks = {
        name: {"level": name} for name in ("planning", "decomposition", "architecture", "implementation", "research")
    }
    harness.make(tasks, agent)
    worked = await harness.work()
    new = {f"new-{level}" for level in ("planning", "decomposition", "architecture")}
    assert set(worked.names) == {*tasks, *new}
    assert set(worked.names.values()) == {"Merged"}
    assert not harness.has("tasks/new-implementation.md")
    assert not harness.has("tasks/new-research.md")
    assert harness.journal.variables("research-1-1")["COORDINATOR_BRANCH"] == "research/research"
    assert harness.journal.variables("planning-1-1")["COORDINATOR_ROLE"] == "decomposer"
    assert harness.leftovers() == []


async def test_red_work_never_lands_because_verify_runs_on_the_merge_itself(harness: RunHarness) -> None:
    """Each of the two is green alone; a queue that skips verify, or verifies branches, lands both."""
    harness.make(
        {"a": {}, "b": {}},
        "case $turn in 1) work ;; *) exit 3 ;; esac",
        verify=["! { test -f a.txt && test -f b.txt; }"],
        retry={"attempts": 1, "delay_seconds": 0},
    )
    worked = await harness.work()
    assert sorted(worked.names.values()) == ["Blocked", "Merged"]
    assert not (harness.has("a.txt") and harness.has("b.txt"))
