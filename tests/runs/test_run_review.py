"""Review nodes, and the review of a branch where the policy requires one."""

import pytest
from run_harness import RunHarness

from tasks_lib.model import Blocked, Checked, Failed
from tasks_lib.reporting.run_report import ExitCode


def say(verdict: str) -> str:
    return f"[ $role = code-reviewer ] && {{ echo 'I read it.'; echo 'Verdict: {verdict}'; exit 0; }}\nwork"


@pytest.mark.parametrize("verdict", ["approved", "approved with changes"])
async def test_review_node_that_approves_is_checked_with_one_commit_of_its_file(
    harness: RunHarness, verdict: str
) -> None:
    harness.make({"r": {"level": "review"}}, say(verdict))
    worked = await harness.work()
    assert worked.outcomes == {"r": Checked(harness.at())}
    assert harness.git.text("show", "--format=%s", "--name-only", "main").split("\n") == [
        "Check r: Do r",
        "",
        "tasks/r.md",
    ]
    text = harness.show("tasks/r.md")
    assert "status: completed" in text
    assert "I read it." in text.split("## Summary")[1]
    assert harness.trailer("Reviewed") == verdict
    assert harness.trailer("Task") == "r"
    assert harness.leftovers() == []


async def test_review_node_whose_branch_a_killed_run_left_behind_the_head_is_checked(harness: RunHarness) -> None:
    harness.make({"r": {"level": "review"}}, say("approved"))
    harness.git.run("branch", "feat/r")
    harness.git.run("commit", "--quiet", "--allow-empty", "-m", "What landed before the run was killed")
    worked = await harness.work()
    assert worked.outcomes == {"r": Checked(harness.at())}
    assert harness.git.text("show", "-s", "--format=%s", "main") == "Check r: Do r"


async def test_review_without_a_verdict_is_no_approval(harness: RunHarness) -> None:
    harness.make({"r": {"level": "review"}}, "echo 'Verdict: approved'; echo 'Well, perhaps.'", retry={"attempts": 1})
    worked = await harness.work()
    assert worked.names == {"r": "Blocked"}
    assert harness.journal.turns() == ["r-1-1", "r-1-2", "r-1-3"]
    assert "Your review has no verdict" in harness.journal.read("r-1-2")


async def test_review_node_may_land_commits_of_its_own(harness: RunHarness) -> None:
    agent = "echo found > findings.md; commit 'Write what was found'; echo 'Verdict: approved'"
    harness.make({"r": {"level": "review"}}, agent)
    assert (await harness.work()).names == {"r": "Merged"}
    assert harness.has("findings.md")


async def test_risky_branch_is_reviewed_apart_before_it_lands(harness: RunHarness) -> None:
    harness.make({"a": {"risk": "high"}, "b": {}}, say("approved"))
    worked = await harness.work()
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert harness.journal.turns() == ["a-1-1", "a-1-1-review0", "b-1-1"]
    assert ".worktrees/.pool/" in harness.journal.read("a-1-1-review0", "cwd")
    assert "`feat/a` is checked out" in harness.journal.read("a-1-1-review0")
    reviewed = [
        line.strip() for line in harness.log("%s%(trailers:key=Reviewed,separator=)") if line.startswith("Merge")
    ]
    assert sorted(reviewed) == ["Merge feat/a: Do aReviewed: approved", "Merge feat/b: Do b"]


async def test_changes_requested_go_back_to_the_author_and_land_when_approved(harness: RunHarness) -> None:
    agent = """
if [ $role = code-reviewer ]; then
  echo stray > stray.txt
  [ "$(cat n.txt)" = 2 ] && echo 'Verdict: approved' || { echo 'Line 1 is wrong.'; echo 'Verdict: changes requested'; }
  exit 0
fi
echo $turn > n.txt; commit "feat(a): $turn"
"""
    harness.make({"a": {"scope": "broad"}}, agent, watch={"nudges": 0})
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    assert harness.show("n.txt") == "2\n"
    assert not harness.has("stray.txt")
    assert "Line 1 is wrong." in harness.journal.read("a-1-2")


async def test_approval_that_names_a_blocking_finding_is_none_and_the_next_review_looks_at_it_again(
    harness: RunHarness,
) -> None:
    agent = """
if [ $role = code-reviewer ]; then
  if grep -q "What the last review found" "$J.prompt"; then
    echo '- [answered] 1'; echo '- [met] It is there'
  else
    echo '- [blocking] n.txt:1: says 1'; echo '- [not met] It is there: only half of it'
  fi
  echo 'Verdict: approved'
  exit 0
fi
echo $turn > n.txt; commit "feat(a): $turn"
"""
    harness.make({"a": {"risk": "high"}}, agent)
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    assert harness.journal.turns() == ["a-1-1", "a-1-1-review0", "a-1-1-review1", "a-1-2"]
    objection = "the review approves, but names 1 blocking finding and 1 acceptance criterion not met"
    assert [line for line in worked.lines if f"a: given back: {objection} (0 of 1 criterion met" in line]
    assert "- [blocking] n.txt:1: says 1" in harness.journal.read("a-1-2")
    assert "1. n.txt:1: says 1" in harness.journal.read("a-1-1-review1")
    summary = "approved: 1 of 1 criterion met, 1 of 1 earlier finding answered"
    assert [line for line in worked.lines if f"a: review: {summary}" in line]


async def test_finding_that_is_still_open_returns_the_work(harness: RunHarness) -> None:
    agent = """
if [ $role = code-reviewer ]; then
  grep -q "What the last review found" "$J.prompt" && echo '- [open] 1: still there' || echo '- [blocking] Bad name'
  echo 'Verdict: approved'
  exit 0
fi
echo $turn > n.txt; commit "feat(a): $turn"
"""
    harness.make({"a": {"risk": "high"}}, agent, review={"max_rounds": 2})
    worked = await harness.work()
    assert worked.names == {"a": "Blocked"}
    assert "1. Bad name" in harness.journal.read("a-1-1-review2")
    assert "Still open from the last review:\n1. Bad name\n" in harness.journal.read("a-1-3")


async def test_reviewer_that_is_never_content_blocks_the_node_after_max_rounds(harness: RunHarness) -> None:
    agent = "[ $role = code-reviewer ] && { echo 'Verdict: changes requested'; exit 0; }\necho $turn > n.txt; commit x"
    harness.make({"a": {}}, agent, review={"when": "always", "max_rounds": 2})
    worked = await harness.work()
    reason = "the review asks for changes; it went through 2 rounds of review"
    assert worked.outcomes == {"a": Blocked(reason, "resolve-a-1")}
    assert [name for name in harness.journal.turns() if "review" not in name] == ["a-1-1", "a-1-2", "a-1-3"]
    assert len([name for name in harness.journal.turns() if "review" in name]) == 3
    assert worked.code is ExitCode.BLOCKED
    assert not harness.has("n.txt")


async def test_policy_never_asks_for_no_review(harness: RunHarness) -> None:
    harness.make({"a": {"risk": "critical"}}, say("changes requested"), review={"when": "never"})
    assert (await harness.work()).names == {"a": "Merged"}
    assert harness.journal.turns() == ["a-1-1"]


async def test_big_diff_is_reviewed_and_the_reason_is_shown(harness: RunHarness) -> None:
    agent = """
[ $role = code-reviewer ] && { echo 'Verdict: approved'; exit 0; }
seq $([ $id = big ] && echo 25 || echo 24) > $id.txt; commit "feat($id): write"
"""
    harness.make({"big": {}, "small": {}}, agent, review={"diff_lines": 25})
    worked = await harness.work()
    assert worked.names == {"big": "Merged", "small": "Merged"}
    assert harness.journal.turns() == ["big-1-1", "big-1-1-review0", "small-1-1"]
    reason = "its diff has 25 changed lines; review.diff_lines is 25"
    assert f"big: review: round 1: {reason}" in worked.lines


async def test_node_on_the_critical_path_that_others_wait_for_is_reviewed(harness: RunHarness) -> None:
    tasks = {"a": {}, "b": {"depends_on": ["a"]}, "aside": {}}
    harness.make(tasks, say("approved"), review={"critical_path": True})
    worked = await harness.work()
    assert worked.names == dict.fromkeys(tasks, "Merged")
    assert [turn for turn in harness.journal.turns() if "review" in turn] == ["a-1-1-review0"]
    assert "a: review: round 1: it is on the critical path, and 1 node waits for it" in worked.lines


async def test_levels_choose_what_is_reviewed(harness: RunHarness) -> None:
    harness.make({"a": {"level": "research"}, "b": {}}, say("approved"), review={"levels": ["research"]})
    await harness.work()
    assert [turn for turn in harness.journal.turns() if "review" in turn] == ["a-1-1-review0"]


async def test_approval_by_a_reviewer_who_changed_the_work_does_not_count(harness: RunHarness) -> None:
    agent = f"""
if [ $role = code-reviewer ]; then
  [ -e {harness.place}/tried ] || {{ : > {harness.place}/tried; echo b > a.txt; git commit -qam 'Fix it'; }}
  echo 'Verdict: approved'
  exit 0
fi
work
"""
    harness.make({"a": {"risk": "high"}}, agent)
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    assert harness.show("a.txt") == "a\n"
    assert harness.journal.turns() == ["a-1-1", "a-1-1-review0", "a-1-1-review1"]
    assert "a: the reviewer changed a.txt in its worktree; that is discarded." in worked.view.messages
    again = "round 1 again: the review approved a.txt as the reviewer itself had changed it"
    assert f"a: review: {again}" in worked.lines


async def test_reviewer_that_changed_other_files_is_reported_and_its_verdict_counts(harness: RunHarness) -> None:
    agent = "[ $role = code-reviewer ] && { echo x >> README.md; echo 'Verdict: approved'; exit 0; }\nwork"
    harness.make({"a": {"risk": "high"}}, agent, setup=["echo y >> lock.txt"], files={"lock.txt": ""})
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    assert harness.show("README.md") == "# X\n"
    assert "a: the reviewer changed README.md in its worktree; that is discarded." in worked.view.messages


BROKEN = {
    "crashes": ("exit 3", "failed: `sh` exited with 3"),
    "says nothing": ("echo 'Well.'; exit 0", "ended without a verdict"),
}


@pytest.mark.parametrize("way", BROKEN)
async def test_broken_reviewer_is_replaced_once_and_never_the_fault_of_the_author(
    harness: RunHarness, way: str
) -> None:
    breaks, reason = BROKEN[way]
    agent = f"[ $role = code-reviewer ] && {{ {breaks}; }}\nwork"
    harness.make({"a": {"risk": "high"}}, agent, review={"max_rounds": 1}, watch={"nudges": 0})
    worked = await harness.work()
    assert worked.outcomes == {
        "a": Failed(f"the review {reason}; the work is kept, and the next run continues with its review")
    }
    assert harness.journal.turns() == ["a-1-1", "a-1-1-review0", "a-1-1-review1"]
    record = harness.record("feat/a")
    assert (record.acceptance.finished, record.rounds.review, record.acceptance.refused) == (
        harness.at("feat/a"),
        0,
        "",
    )
    harness.write_agent(say("approved"))
    assert (await harness.work()).names == {"a": "Merged"}
    assert harness.journal.turns() == ["a-1-1", "a-1-1-review0", "a-1-1-review1", "a-1-1-review2"]


async def test_second_reviewer_decides_when_the_first_one_broke(harness: RunHarness) -> None:
    agent = f"[ $role = code-reviewer ] && mkdir {'{journal}'}/broken && exit 1\n".replace(
        "{journal}", str(harness.journal.path)
    ) + say("approved")
    harness.make({"a": {"risk": "high"}}, agent)
    assert (await harness.work()).names == {"a": "Merged"}
    assert harness.journal.turns() == ["a-1-1", "a-1-1-review0", "a-1-1-review1"]


async def test_reviewer_has_what_setup_makes_and_the_files_that_are_copied(harness: RunHarness) -> None:
    agent = "[ $role = code-reviewer ] && { test -f built.tmp; test -f .env; }\n" + say("approved")
    harness.make(
        {"a": {"risk": "high"}}, agent, setup=["echo x > built.tmp"], copy=[".env"],
        files={".gitignore": "*.tmp\n"},
    )  # fmt: skip
    (harness.top / ".env").write_text("KEY=1\n")
    assert (await harness.work()).names == {"a": "Merged"}
    assert harness.journal.turns() == ["a-1-1", "a-1-1-review0"]


async def test_setup_that_fails_for_the_reviewer_costs_the_author_no_attempt(harness: RunHarness) -> None:
    harness.make({"a": {"risk": "high"}}, say("approved"), setup=["test ! -f a.txt"])
    outcome = (await harness.work()).outcomes["a"]
    assert isinstance(outcome, Failed)
    assert outcome.reason.startswith("the review could not start: setup failed: `test ! -f a.txt` exited with 1")
    assert (harness.record("feat/a").attempt.number, harness.record("feat/a").acceptance.finished) == (
        1,
        harness.at("feat/a"),
    )
