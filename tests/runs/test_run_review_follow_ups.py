"""A review node that asks for changes gets them in the same run, from follow-up tasks, and then reviews again."""

import json

from checker import Meant, check, snapshot_user_state
from run_harness import RunHarness, reach

from tasks_lib.cleanup.repository_audit import audit
from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.model import Blocked
from tasks_lib.project.after_action import gather
from tasks_lib.project.loading import load_project
from tasks_lib.reporting.run_report import ExitCode

REVIEW = {"level": "review", "depends_on": ["a", "b"]}
TASKS = {"a": {"level": "research"}, "b": {}, "r": REVIEW, "next": {"depends_on": ["r"]}}


def asking(*lines: str, until: str = "[ $attempt = 2 ]") -> str:
    """An agent whose reviews ask for changes in `lines`, and approve as soon as `until` is true."""
    said = "\n".join(f"echo '{line}'" for line in lines)
    return f"""
if [ $role = code-reviewer ]; then
  if {until}; then echo 'All is well.'; echo 'Verdict: approved'; exit 0; fi
  {said}
  echo 'Verdict: changes requested'
  exit 0
fi
work
"""


def list_rounds(harness: RunHarness) -> list[str]:
    return [subject for subject in harness.log("%s") if subject.startswith("requested(")]


async def test_findings_become_tasks_that_are_worked_on_and_the_review_is_repeated(harness: RunHarness) -> None:
    lines = (
        "- [blocking] a.txt:1: says a",
        "- [note] b.txt:1: short",
        "- [blocking] b.txt:1: says b",
        "- [blocking] No test",
    )
    harness.make(TASKS, asking(*lines))
    before = snapshot_user_state(harness.top)
    worked = await harness.work()
    made = ["follow-up-r-1", "follow-up-r-2", "follow-up-r-3"]
    assert worked.names == {**dict.fromkeys(("a", "b", *made, "next"), "Merged"), "r": "Checked"}
    assert worked.code is ExitCode.COMPLETED
    [commit] = harness.git.text("log", "--format=%H", "--grep=^requested(r)", "main").split()
    changed = harness.git.text("show", "--format=%s", "--name-only", commit).split("\n")
    assert changed == [f"requested(r): {', '.join(made)}", "", *(f"tasks/{one}.md" for one in made), "tasks/r.md"]
    first, third = harness.show("tasks/follow-up-r-1.md"), harness.show("tasks/follow-up-r-3.md")
    assert "level: research\ndepends_on: [a]" in first
    assert "asks for changes about the work of task `a` (Do a)." in first
    assert "## Acceptance Criteria\n- [ ] a.txt:1: says a\n" in first
    assert "depends_on: [a, b]" in third
    assert "- [ ] No test\n" in third
    text = harness.show("tasks/r.md")
    assert "\n".join(["depends_on:", *(f"- {one}" for one in ("a", "b", *made)), "---"]) in text
    assert f"Round 1 of 2: the review asks for changes. It waits for {', '.join(made)}" in text.split("## Notes")[1]
    assert any(
        line.startswith("r: the review asks for changes; the run works on follow-up-r-1")
        for line in worked.view.messages
    )
    again = harness.journal.read("r-2-1")
    assert "1. a.txt:1: says a\n2. b.txt:1: short\n3. b.txt:1: says b\n4. No test" in again
    assert "### follow-up-r-1: Follow up r: a.txt:1: says a" in again
    report = gather(load_project(harness.top, {}))
    [line] = [one for one in report.could_be_better if one.text.startswith("Reviews of r ")]
    assert "a.txt:1: says a; b.txt:1: short; b.txt:1: says b; No test (to be done by follow-up-r-1" in line.text
    assert [one.kind for one in line.evidence] == ["event", "commit"]
    assert [one.about for one in report.figures.trouble.reviews] == ["changes requested", "approved"]
    assert harness.leftovers() == []
    assert check(harness.top, before=before, meant=Meant(dict.fromkeys(worked.names, "completed"))) == []
    assert audit(load_project(harness.top, {}), 1000).violations == ()


async def test_review_is_told_which_commits_it_covers(harness: RunHarness) -> None:
    harness.make(TASKS, asking(until="true"))
    await harness.work()
    prompt = harness.journal.read("r-1-1")
    for task_id in ("a", "b"):
        merge = harness.git.text(
            "log", "--format=%H", f"--grep=^Merge feat/{task_id}:", "--grep=^Merge research/a:", "main"
        )
        assert any(f"- {task_id}: `git diff {one[:12]}^1 {one[:12]}`" in prompt for one in merge.split())
    assert "- [blocking] path/to/file:12" in prompt


async def test_report_without_findings_becomes_one_task_with_the_report(harness: RunHarness) -> None:
    harness.make({"r": {"level": "review"}}, asking("I do not like it."))
    worked = await harness.work()
    assert worked.names == {"r": "Checked", "follow-up-r-1": "Merged"}
    text = harness.show("tasks/follow-up-r-1.md")
    assert "```\nI do not like it.\nVerdict: changes requested\n```" in text
    assert "- [ ] What the report asks for is done" in text


async def test_approval_that_names_a_blocking_finding_is_none(harness: RunHarness) -> None:
    agent = asking(until="[ $attempt = 2 ]").replace(
        "'Verdict: changes requested'", "'- [blocking] Bad'; echo 'Verdict: approved'"
    )
    harness.make({"r": {"level": "review"}}, agent)
    worked = await harness.work()
    assert worked.names == {"r": "Checked", "follow-up-r-1": "Merged"}
    assert "names 1 blocking finding" in harness.show("tasks/r.md")


async def test_review_that_is_never_content_asks_a_person_after_max_rounds(harness: RunHarness) -> None:
    harness.make({"r": {"level": "review"}}, asking("- [blocking] Bad", until="false"), review={"max_rounds": 2})
    worked = await harness.work()
    assert worked.outcomes["r"] == Blocked("the review asks for changes", "resolve-r-1")
    assert list_rounds(harness) == ["requested(r): follow-up-r-2", "requested(r): follow-up-r-1"]
    assert worked.started.count("r") == 3
    assert "- [blocking] Bad" in harness.show("tasks/r.md").split("## Notes")[1]
    assert "assignee: human" in harness.show("tasks/resolve-r-1.md")
    harness.set_status("resolve-r-1", "completed")
    worked = await harness.work()
    assert worked.outcomes["r"] == Blocked("the review asks for changes", "resolve-r-2")
    assert len(list_rounds(harness)) == 4


async def test_follow_up_that_blocks_keeps_the_review_from_running_again(harness: RunHarness) -> None:
    agent = asking("- [blocking] Bad").replace(
        "work\n", '[ $id = b ] && work || git commit -q --allow-empty -m "blocked($id): no"\n'
    )
    harness.make({"b": {}, "r": {"level": "review", "depends_on": ["b"]}}, agent)
    worked = await harness.work()
    assert worked.outcomes["follow-up-r-1"] == Blocked("no", "resolve-follow-up-r-1-1")
    assert worked.started.count("r") == 1
    assert worked.outcomes["r"] == Blocked(
        "the review asks for changes; it waits for follow-up-r-1", waits_for="follow-up-r-1"
    )
    assert "status: pending" in harness.show("tasks/r.md")
    assert worked.code is ExitCode.BLOCKED


async def test_tasks_on_the_head_count_although_a_kill_kept_the_record_from_saying_so(harness: RunHarness) -> None:
    agent = f"[ $id = r ] || await go\n{asking('- [blocking] Bad', until='[ -e follow-up-r-1.txt ]')}"
    harness.make({"r": {"level": "review"}}, agent, signals=["go"])
    record = harness.top / ".git/worktrees/r/coordinator.json"
    before: list[dict[str, object]] = []

    async def remember(opened: OpenRun) -> None:
        await reach(opened, "r: session")
        before.append(json.loads(record.read_text()))
        await reach(opened, "r: Blocked")
        opened.run.stopping.request()

    await harness.work(during=remember)
    record.write_text(json.dumps(before[0]))
    harness.signals["go"].send(2)
    worked = await harness.work()
    assert worked.names == {"r": "Checked", "follow-up-r-1": "Merged"}
    assert len(list_rounds(harness)) == 1


async def test_review_that_is_stopped_before_it_has_asked_is_repeated(harness: RunHarness) -> None:
    agent = asking("- [blocking] Bad").replace(
        "if [ $role = code-reviewer ]; then",
        "if [ $role = code-reviewer ]; then\n  [ -e {0} ] || {{ : > {0}; await go; }}".format(harness.place / "begun"),
    )
    harness.make({"r": {"level": "review"}}, agent, signals=["go"])

    async def stop(opened: OpenRun) -> None:
        await reach(opened, "r: session")
        opened.run.stopping.request()

    await harness.work(during=stop)
    (harness.place / "begun").touch()
    assert (await harness.work()).names == {"r": "Checked", "follow-up-r-1": "Merged"}
