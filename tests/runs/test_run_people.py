"""People in a run: work that waits for a person to land it, and tasks that a person takes, works and lands."""

import pytest
from checker import Meant, check, snapshot_user_state
from persons_commands import ANN, BOB, commit_by_hand, land, permit, set_up, take
from run_harness import RunHarness, reach
from webhook_server import serving

from tasks_lib.cleanup.repository_audit import audit
from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.errors import InputError
from tasks_lib.git.runner import Git
from tasks_lib.node.landing_approval import list_permitted, request_landing
from tasks_lib.node.taking import Taker, take_in_run
from tasks_lib.project.loading import load_project
from tasks_lib.reporting.run_report import ExitCode

PERSON = {"assignee": "human"}
ASK = {"ask": True}


async def test_work_waits_for_a_person_and_lands_without_another_session(harness: RunHarness) -> None:
    harness.make({"a": {}, "b": {"depends_on": ["a"]}}, verify=["test -f a.txt"], land=ASK)
    before = snapshot_user_state(harness.top)
    waited = await harness.work()
    assert (waited.names, waited.code) == ({"a": "Waiting"}, ExitCode.WAITING)
    assert waited.view.nodes["a"].reason == "waits for a person to land it: `coordinator land a`"
    assert waited.skips == {"b": "needs a, which waits for a person"}
    again = await harness.work()
    assert (again.names, again.code) == ({"a": "Waiting"}, ExitCode.WAITING)
    landed = await land(harness, "a")
    assert landed.names["a"] == "Merged"
    assert harness.journal.turns() == ["a-1-1"]
    assert check(harness.top, before=before, meant=Meant({"a": "completed", "b": "pending"})) == []
    assert audit(load_project(harness.top, {}), 100).violations == ()


async def test_person_lands_work_in_a_run_while_every_slot_is_taken(harness: RunHarness) -> None:
    async def answer(opened: OpenRun) -> None:
        await reach(opened, "a: Waiting")
        await harness.signals["begun"].wait()
        refused = await request_landing(opened.run, "c")
        assert refused.sentence.startswith("c is not ready to land: it is at work in this run")
        assert (await request_landing(opened.run, "a")).is_done
        await reach(opened, "a: Merged")
        harness.signals["go"].send()

    agent = "[ $id = c ] && { tell begun; await go; }\nwork"
    harness.make({"a": {"priority": "high"}, "c": {}}, agent, signals=["begun", "go"], land=ASK)
    worked = await harness.work(max_sessions=1, during=answer)
    assert (worked.names, worked.code) == ({"a": "Merged", "c": "Waiting"}, ExitCode.WAITING)


async def test_work_that_conflicts_by_then_goes_back_and_is_asked_about_again(harness: RunHarness) -> None:
    agent = (
        "[ $turn = 2 ] && { git merge -q $COORDINATOR_TARGET; echo both > shared.txt; commit merged; exit 0; }\n"
        "echo $id > shared.txt; commit first"
    )
    harness.make({"a": {}}, agent, land=ASK)
    assert (await harness.work()).names == {"a": "Waiting"}
    harness.commit("By hand", {"shared.txt": "hand\n"})
    worked = await land(harness, "a")
    assert worked.names == {"a": "Waiting"}
    assert harness.show("shared.txt") == "hand\n"
    assert (await land(harness, "a")).names == {"a": "Merged"}
    assert harness.show("shared.txt") == "both\n"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a", "a has no verified work that waits for a person (`land.ask`)"),
        ("aa", '"aa" is not a task. Did you mean "a"?'),
        ("design", "nobody has taken design: `coordinator take design` prepares a worktree for it"),
        ("done", "done is completed already"),
    ],
)
async def test_what_cannot_land_says_why(harness: RunHarness, name: str, said: str) -> None:
    harness.make({"a": {}, "design": PERSON, "done": {"status": "completed"}})
    with pytest.raises(InputError) as caught:
        permit(harness, name)
    assert said in str(caught.value)


async def test_task_of_a_person_is_taken_worked_and_landed(harness: RunHarness) -> None:
    tasks = {"a": {}, "design": {**PERSON, "depends_on": ["a"]}, "b": {"depends_on": ["design"]}}
    harness.make(tasks, verify=["true"], setup=["true"])
    before = snapshot_user_state(harness.top)
    assert (await harness.work()).code is ExitCode.WAITING
    said = take(harness, "design")
    assert said.startswith(f"design is yours: {harness.top}/.worktrees/feat/design, on branch feat/design.")
    brief = (harness.top / ".git/coordinator/logs/design/brief.md").read_text()
    assert "### a: Do a" in brief
    assert "`coordinator land design`" in brief
    commit_by_hand(harness, "design", "design.md", "Round.\n")
    assert (await harness.work()).code is ExitCode.WAITING
    landed = await land(harness, "design")
    assert (landed.names, landed.code) == ({"design": "Merged"}, ExitCode.COMPLETED)
    assert "Ann <ann@example.org>" in harness.git.text("log", "--format=%an <%ae>")
    worked = await harness.work()
    assert worked.names == {"b": "Merged"}
    assert harness.journal.turns() == ["a-1-1", "b-1-1"]
    assert check(harness.top, before=before, meant=Meant(dict.fromkeys(tasks, "completed"))) == []
    assert audit(load_project(harness.top, {}), 100).violations == ()
    assert harness.leftovers() == []


async def test_task_is_taken_and_landed_during_a_run_without_a_slot(harness: RunHarness) -> None:
    async def work_by_hand(opened: OpenRun) -> None:
        await harness.signals["begun"].wait()
        assert (await take_in_run(opened.run, "design", ANN)).is_done
        commit_by_hand(harness, "design", "design.md", "Round.\n")
        assert (await request_landing(opened.run, "design")).is_done
        await reach(opened, "b: session")
        harness.signals["go"].send()

    agent = "[ $id = a ] && { tell begun; await go; }\nwork"
    tasks = {"a": {}, "design": PERSON, "b": {"depends_on": ["design"]}}
    harness.make(tasks, agent, signals=["begun", "go"])
    worked = await harness.work(max_sessions=2, during=work_by_hand)
    assert (set(worked.names.values()), worked.code) == ({"Merged"}, ExitCode.COMPLETED)
    assert harness.leftovers() == []


def test_setup_prepares_a_taken_worktree_once_and_what_it_leaves_is_not_the_persons(harness: RunHarness) -> None:
    setup = ["echo $COORDINATOR_SLOT > made.txt", "test -f local.txt", "test ! -f red.txt"]
    harness.make({"design": PERSON}, setup=setup, copy=["local.txt"])
    (harness.top / "local.txt").write_text("copied\n")
    take(harness, "design")
    worktree = harness.top / ".worktrees/feat/design"
    (worktree / "red.txt").write_text("red\n")
    failure = set_up(harness, "design")
    assert failure.startswith("`test ! -f red.txt` exited with 1 (log: ")
    assert (worktree / "red.txt").read_text() == "red\n"
    (worktree / "red.txt").unlink()
    (worktree / "local.txt").write_text("changed\n")
    take(harness, "design")
    assert set_up(harness, "design") == ""
    assert (worktree / "local.txt").read_text() == "changed\n", "it was copied before, and a person has changed it"
    (worktree / "design.md").write_text("Round.\n")
    with pytest.raises(InputError, match=r"has uncommitted changes: design\.md\. Commit"):
        permit(harness, "design")
    (worktree / "made.txt").write_text("mine\n")
    take(harness, "design")
    assert set_up(harness, "design") == ""
    assert (worktree / "made.txt").read_text() == "mine\n", "it has passed, and does not run again"
    with pytest.raises(InputError, match=r"uncommitted changes: design\.md, made\.txt\."):
        permit(harness, "design")


async def test_second_person_is_told_who_has_the_task(harness: RunHarness) -> None:
    harness.make({"design": PERSON})
    take(harness, "design")
    worktree = commit_by_hand(harness, "design", "design.md", "Round.\n")
    assert take(harness, "design").startswith("design is yours")
    with pytest.raises(InputError, match=r"design was taken by Ann <ann@example\.org> at 20.*--force` takes it over"):
        take(harness, "design", BOB)
    assert take(harness, "design", Taker(BOB.by, is_forced=True)).startswith("design is yours")
    assert (worktree / "design.md").read_text() == "Round.\n"
    with pytest.raises(InputError, match="taken by Bob"):
        take(harness, "design")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("later", "later cannot be begun yet: it waits for design"),
        ("a", "a is an agent's task. To work on it yourself, write `assignee: human` into tasks/a.md, and commit that"),
        ("desing", '"desing" is not a task. Did you mean "design"?'),
        ("done", "done is completed already"),
    ],
)
async def test_what_cannot_be_taken_says_why(harness: RunHarness, name: str, said: str) -> None:
    done = {"status": "completed"}
    harness.make({"a": {}, "design": PERSON, "later": {**PERSON, "depends_on": ["design"]}, "done": {**PERSON, **done}})
    with pytest.raises(InputError) as caught:
        take(harness, name)
    assert said in str(caught.value)


async def test_what_is_not_committed_does_not_land_and_is_not_lost(harness: RunHarness) -> None:
    harness.make({"design": PERSON})
    take(harness, "design")
    with pytest.raises(InputError, match=r"feat/design has no commits of its own\. Commit your work in"):
        permit(harness, "design")
    worktree = commit_by_hand(harness, "design", "design.md", "Round.\n")
    (worktree / "draft.md").write_text("Not yet.\n")
    with pytest.raises(InputError, match=r"has uncommitted changes: draft\.md\. Commit or discard them"):
        permit(harness, "design")
    (worktree / "draft.md").rename(harness.place / "draft.md")
    permit(harness, "design")
    (worktree / "draft.md").write_text("Meanwhile.\n")
    worked = await harness.work(only=["design"])
    assert worked.names == {"design": "Waiting"}
    assert "its worktree has changed since" in worked.view.nodes["design"].reason
    assert (worktree / "draft.md").read_text() == "Meanwhile.\n"


async def test_red_work_and_conflicts_go_back_to_the_person(harness: RunHarness) -> None:
    with serving() as webhook:
        harness.make({"design": PERSON}, verify=["! test -f red.txt"], notify={"webhook": webhook.url})
        take(harness, "design")
        worktree = commit_by_hand(harness, "design", "red.txt", "red\n")
        red = await land(harness, "design")
        assert (red.names, red.code) == ({"design": "Waiting"}, ExitCode.WAITING)
        assert "did not land: verify is red as merged" in red.view.nodes["design"].reason
        assert "It is back with Ann <ann@example.org>: fix that in" in red.view.nodes["design"].reason
        assert [one.split()[0] for one in webhook.ids] == ["person", "returned"]
    (worktree / "red.txt").rename(worktree / "shared.txt")
    commit_by_hand(harness, "design", "README.md", "# Mine\n")
    harness.commit("By hand", {"README.md": "# Theirs\n"})
    conflict = await land(harness, "design")
    assert "conflicts with the head in README.md" in conflict.view.nodes["design"].reason
    assert "merge main into it" in conflict.view.nodes["design"].reason
    assert harness.journal.turns() == []
    assert worktree.is_dir()
    assert (await harness.work()).code is ExitCode.WAITING


async def test_changes_that_a_person_drops_in_a_conflict_are_named_once_and_they_decide(harness: RunHarness) -> None:
    harness.make({"design": PERSON, "other": {}}, "echo theirs > shop.txt; commit Theirs", files={"shop.txt": "old\n"})
    take(harness, "design")
    worktree = commit_by_hand(harness, "design", "shop.txt", "mine\n")
    assert (await harness.work()).names == {"other": "Merged"}
    assert "merge main into it" in (await land(harness, "design")).view.nodes["design"].reason
    git = Git(worktree)
    git.run("-c", "user.name=Ann", "-c", "user.email=ann@example.org", "merge", "-q", "-s", "ours", "main")
    named = await land(harness, "design")
    said = named.view.nodes["design"].reason
    assert "did not land: resolving a conflict dropped 1 change: shop.txt:1 (task other)." in said
    assert f"put back what is missing in {worktree} or leave it out, then `coordinator land design`" in said
    assert named.code is ExitCode.WAITING
    take(harness, "design")
    brief = (harness.top / ".git/coordinator/logs/design/brief.md").read_text()
    assert "1. shop.txt:1, by task other:\n```diff\n-old\n+theirs\n```" in brief
    landed = await land(harness, "design")
    assert landed.names == {"design": "Merged"}
    assert harness.show("shop.txt") == "mine\n"
    assert harness.leftovers() == []


async def test_persons_work_is_reviewed_as_an_agents_is(harness: RunHarness) -> None:
    agent = 'echo "Verdict: approved"'
    harness.make({"design": {**PERSON, "risk": "high"}}, agent)
    take(harness, "design")
    commit_by_hand(harness, "design", "design.md", "Round.\n")
    assert (await land(harness, "design")).names == {"design": "Merged"}
    assert [turn for turn in harness.journal.turns() if "review" in turn]


async def test_run_that_died_before_it_landed_is_continued_by_the_next(harness: RunHarness) -> None:
    harness.make({"design": PERSON})
    take(harness, "design")
    commit_by_hand(harness, "design", "design.md", "Round.\n")
    permit(harness, "design")
    project = load_project(harness.top, {})
    assert list_permitted(project.repository, project.graph.tasks) == ["design"]
    assert (await harness.work()).names == {"design": "Merged"}
    assert harness.leftovers() == []


async def test_run_lands_no_more_than_it_may_and_the_next_lands_the_rest(harness: RunHarness) -> None:
    harness.make({"a": {}, "b": {}, "c": {}, "d": {"depends_on": ["a"]}})
    first = await harness.work(max_sessions=2, max_landings=1)
    assert sorted(set(first.names.values())) == ["Merged", "Waiting"]
    assert list(first.names.values()).count("Merged") == 1
    assert first.code is ExitCode.WAITING
    (said,) = (line for line in first.lines if "--max-landings allows" in line)
    assert said.startswith("1 node has landed, as many as --max-landings allows: no more are started")
    done = harness.journal.turns()
    second = await harness.work(max_landings=2)
    assert (list(second.names.values()).count("Merged"), second.code) == (2, ExitCode.WAITING)
    third = await harness.work(max_landings=2)
    assert third.code is ExitCode.COMPLETED
    assert len(harness.journal.turns()) == 4
    assert set(done) <= set(harness.journal.turns())
    assert harness.leftovers() == []


async def test_run_that_may_land_no_more_is_blocked_if_something_is(harness: RunHarness) -> None:
    agent = "[ $id = a ] && { git commit -q --allow-empty -m 'blocked(a): Why?'; exit 0; }\nwork"
    harness.make({"a": {}, "b": {}, "c": {}}, agent)
    assert (await harness.work(max_sessions=1, max_landings=1)).code is ExitCode.BLOCKED


async def test_worktree_that_a_person_has_taken_is_left_alone_whatever_is_in_it(harness: RunHarness) -> None:
    harness.make({"a": {}, "design": PERSON})
    take(harness, "design")
    worktree = commit_by_hand(harness, "design", "design.md", "Round.\n")
    git = Git(worktree)
    (worktree / "design.md").write_text("Square.\n")
    git.run("stash")
    git.run("worktree", "add", "-q", "-b", "mine", str(worktree / "inner"))
    (worktree / "design.md").write_text("Oval.\n")
    await harness.work()
    assert (worktree / "design.md").read_text() == "Oval.\n"
    assert (worktree / "inner" / "design.md").is_file()
    assert git.text("stash", "list").startswith("stash@{0}: WIP on feat/design")
    harness.set_status("design", "completed")
    await harness.work()
    assert (worktree / "design.md").read_text() == "Oval.\n"
    assert audit(load_project(harness.top, {}), 100).violations == ()


async def test_task_that_was_completed_in_another_way_leaves_no_worktree(harness: RunHarness) -> None:
    harness.make({"a": {}, "design": PERSON})
    take(harness, "design")
    worktree = commit_by_hand(harness, "design", "design.md", "Round.\n")
    made = harness.at("refs/heads/feat/design")
    harness.set_status("design", "completed")
    await harness.work()
    assert not worktree.exists()
    assert made in harness.git.text("rev-list", "--all").split()


async def test_work_that_is_to_be_done_differently_starts_anew(harness: RunHarness) -> None:
    harness.make({"a": {}}, land=ASK)
    await harness.work()
    harness.git.run("worktree", "remove", "--force", ".worktrees/feat/a")
    harness.git.run("branch", "-D", "feat/a")
    harness.write_agent("echo other > a.txt; commit other")
    assert (await harness.work()).names == {"a": "Waiting"}
    assert harness.show("a.txt", "refs/heads/feat/a") == "other\n"
