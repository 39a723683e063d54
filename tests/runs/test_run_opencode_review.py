"""Reviews with the real opencode and a scripted model: of a branch by another model, and as a node of the graph."""

from collections import Counter

import pytest
from checker import Meant, check, snapshot_user_state
from e2e.opencode_harness import (
    OTHER_MODEL,
    REVIEWING,
    SUMMARIZING,
    OpencodeHarness,
    bash,
    commit,
    node,
    read_prompts,
    read_system,
)

from flows.demo.model_script import Step
from flows.demo.model_server import Body
from tasks_lib.cleanup.repository_audit import audit
from tasks_lib.project.after_action import gather
from tasks_lib.project.loading import load_project
from tasks_lib.reporting.after_action_text import write_markdown
from tasks_lib.reporting.run_report import ExitCode

pytestmark = pytest.mark.xdist_group("opencode")


def list_conversations(oc: OpencodeHarness, task_id: str, *, is_review: bool) -> list[Body]:
    """The last request of each conversation about a task, oldest first: those of its reviewers, or of its agents."""
    found: dict[str, Body] = {}
    for body in oc.requests(task_id):
        first = read_prompts(body)[0]
        if (REVIEWING in first) is is_review:
            found[first] = body
    return list(found.values())


async def test_another_model_reviews_and_its_findings_go_to_the_live_session(oc: OpencodeHarness) -> None:
    """A role writes the report's summary, too, with the model that its own file names."""
    oc.agent = {"models": {"code-reviewer": OTHER_MODEL}}
    oc.mind.reviews = [
        bash("cat a.txt"),
        {"say": "- [blocking] a.txt:1: says a\n- [not met] It is there: half\n\nVerdict: changes requested"},
    ]
    oc.mind.second_reviews = [{"say": "- [answered] 1: it says b\n- [met] It is there\n\nVerdict: approved"}]
    fix = bash("echo b > a.txt; git commit -qam 'fix: say b'")
    oc.make(
        {"a": node(commit("a"), {"say": "Wrote it."}, fix, {"say": "Fixed."}, risk="high")},
        verify=["echo it passes"],
        report={"summary_role": "writer"},
    )
    write_role(oc, "writer", "m2")
    oc.mind.summaries = [commit("stray"), {"say": "## What Went Right\nEverything, [see](http://a.example)."}]
    before = snapshot_user_state(oc.top)

    worked = await oc.work()

    assert worked.names == {"a": "Merged"}
    assert (oc.show("a.txt"), oc.trailer("Reviewed"), oc.trailer("Attempt")) == ("b\n", "approved", "1")
    first, second = list_conversations(oc, "a", is_review=True)
    assert {body["model"] for body in (first, second)} == {"m2"}
    assert "You are a code reviewer" in read_system(first)
    assert "- `echo it passes`" in read_prompts(first)[0]
    assert "1. a.txt:1: says a" in read_prompts(second)[0]
    [author] = list_conversations(oc, "a", is_review=False)
    told = read_prompts(author)
    assert author["model"] == "m1"
    assert len(told) == 2
    assert "- [blocking] a.txt:1: says a" in told[1]
    assert "a: review: round 1: its risk is high" in worked.lines
    summary = "approved: 1 of 1 criterion met, 1 of 1 earlier finding answered"
    assert f"a: review: {summary}" in worked.lines
    assert check(oc.top, before=before, meant=Meant({"a": "completed"}, ["echo it passes"])) == []
    check_report(oc)


def write_role(oc: OpencodeHarness, name: str, model: str) -> None:
    path = oc.top / ".opencode" / "agents" / f"{name}.md"
    path.parent.mkdir(parents=True)
    path.write_text(f"---\ndescription: writes\nmode: all\nmodel: scripted/{model}\n---\nYou write.\n")
    oc.git.run("add", ".opencode")
    oc.git.run("commit", "-q", "-m", "Add a role")


def check_report(oc: OpencodeHarness) -> None:
    """The report has what the model itself counted, by node, role and model, and the summary."""
    writing = [body for body in oc.model.requests if read_prompts(body)[0].startswith(SUMMARIZING)]
    assert {body["model"] for body in writing} == {"m2"}
    assert "The sessions" not in read_prompts(writing[0])[0]
    assert "Reviews of a asked for: a.txt:1: says a" in read_prompts(writing[0])[0]
    report = gather(load_project(oc.top, {}))
    assert report.summary is not None
    assert (report.summary.role, report.summary.model) == ("writer", "scripted/m2")
    assert report.summary.text == "What Went Right\n\nEverything, (see)(http://a.example)."
    spending = report.figures.spending
    asked = Counter(f"scripted/{body['model']}" for body in oc.model.requests)
    assert {name: one.calls for name, one in spending.by_model.items()} == asked
    reviewing = sum(REVIEWING in read_prompts(body)[0] for body in oc.model.requests)
    own = asked.total() - reviewing - len(writing)
    by_role = {"implementation-specialist": own, "code-reviewer": reviewing, "writer": len(writing)}
    assert {name: one.calls for name, one in spending.by_role.items()} == by_role
    by_node = {"a": asked.total() - len(writing), "(the report)": len(writing)}
    assert {name: one.calls for name, one in spending.by_node.items()} == by_node
    usual = Step()
    for one in (spending.total, *spending.by_model.values(), *spending.by_role.values(), *spending.by_node.values()):
        assert one.tokens == one.calls * (usual.tokens_in + usual.tokens_out)
        assert abs(one.cost - one.calls * (usual.tokens_in + 2 * usual.tokens_out) / 1e6) < 1e-9
    text = write_markdown(report)
    total = spending.by_model["scripted/m2"]
    assert f"| scripted/m2 | {total.turns} | {total.seconds:.1f} | {total.tokens} | ${total.cost:.4f} |" in text


async def test_findings_of_a_review_node_are_worked_on_and_then_it_approves(oc: OpencodeHarness) -> None:
    oc.mind.reviews = [{"say": "- [blocking] a.txt:1: says a\n\nVerdict: changes requested"}]
    oc.mind.second_reviews = [bash("cat a.txt"), {"say": "- [answered] 1\n\nVerdict: approved"}]
    oc.mind.follow_ups = [bash("echo b > a.txt; git commit -qam 'fix: say b'"), {"say": "It says b."}]
    tasks = {
        "a": node(commit("a")),
        "r": {"level": "review", "depends_on": ["a"]},
        "after": node(commit("after"), depends_on=["r"]),
    }
    oc.make(tasks)
    before = snapshot_user_state(oc.top)

    worked = await oc.work()

    assert worked.code is ExitCode.COMPLETED
    assert worked.names == {"a": "Merged", "follow-up-r-1": "Merged", "r": "Checked", "after": "Merged"}
    assert oc.show("a.txt") == "b\n"
    merge = oc.git.text("log", "--format=%H", "--grep=^Merge feat/a:", "main")
    first, second = list_conversations(oc, "r", is_review=True)
    assert f"- a: `git diff {merge[:12]}^1 {merge[:12]}`" in read_prompts(first)[0]
    asked = read_prompts(second)[0]
    assert "1. a.txt:1: says a" in asked
    assert "It says b." in asked
    [fixer] = list_conversations(oc, "follow-up-r-1", is_review=False)
    assert "- [ ] a.txt:1: says a" in read_prompts(fixer)[0]
    statuses = dict.fromkeys(worked.names, "completed")
    assert check(oc.top, before=before, meant=Meant(statuses)) == []
    assert audit(load_project(oc.top, {}), 1000).violations == ()
    assert oc.leftovers() == []
