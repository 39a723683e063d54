"""Others push to the same branch during a run: both sides' work lands, and only verified commits are pushed."""

import asyncio
import contextlib
import json
from collections.abc import Mapping

import pytest
from push.remote_harness import Person, RemoteHarness, add_mirror, asking_for_a_password, completed, start_run
from run_harness import reach, until

from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.errors import InputError
from tasks_lib.git.runner import Git

WAIT = "[ $id = a ] || await go\nwork"


async def test_somebody_who_pushes_all_the_time_loses_nothing_and_holds_nothing_up(shared: RemoteHarness) -> None:
    ids = [f"n{number}" for number in range(8)]
    verify = ["test ! -f broken", "test -f README.md"]
    shared.make({one: {} for one in ids}, verify=verify)
    ann = shared.join("ann")

    async def push_whenever_something_happens(opened: OpenRun) -> None:
        something = asyncio.Event()
        opened.run.board.listen(lambda node_id, line: something.set() if node_id else None)
        left = set(ids)
        opened.run.board.listen(lambda node_id, line: left.discard(node_id) if line == "Merged" else None)
        while left:
            await something.wait()
            something.clear()
            await asyncio.to_thread(ann.share, "By Ann", {f"ann/{len(ann.pushed)}.txt": "x\n"})

    worked = await shared.work(during=push_whenever_something_happens)
    assert worked.names == dict.fromkeys(ids, "Merged")
    if worked.pending:  # It may have lost every race; then the next run, undisturbed, pushes what is pending.
        worked = await shared.work()
    assert worked.pending == ""
    assert len(ann.pushed) > 4
    assert set(ann.pushed) <= set(shared.hub.text("rev-list", "--first-parent", "main").splitlines())
    assert shared.judge(completed(*ids), verify=verify, foreign=ann.pushed) == []
    assert shared.leftovers() == []


async def test_merge_that_conflicts_with_what_was_pushed_first_goes_back_to_its_agent(shared: RemoteHarness) -> None:
    resolve = "git merge -q $COORDINATOR_TARGET || :; echo both > a.txt; commit 'Resolve'"
    agent = f"[ -f a.txt ] && {{ {resolve}; exit 0; }}\nwork"
    shared.make({"a": {}}, agent, verify=["true"])
    refuse_once(shared, shared.join("ann").commit("By Ann", {"a.txt": "ann\n"}))
    worked = await shared.work()
    assert worked.names == {"a": "Merged"}
    assert worked.started == ["a", "a"]
    assert "a: its merge was undone" in worked.lines
    assert shared.hub.text("show", "main:a.txt") == "both"
    assert shared.hub_log() == ["Merge feat/a: Do a", "By Ann", "Begin"]
    assert shared.leftovers() == []


def refuse_once(shared: RemoteHarness, commit: str) -> None:
    """Have the first push arrive just after a push of `commit`, which is in Ann's clone."""
    Person(shared.place / "ann").git.run("push", "--quiet", "origin", f"{commit}:refs/hidden/ann")
    move = f"unset GIT_QUARANTINE_PATH; git update-ref refs/heads/main {commit} $2; git update-ref -d refs/hidden/ann"
    shared.hook("update", f"git rev-parse -q --verify refs/hidden/ann >/dev/null || exit 0\n{move}")


async def test_merge_that_is_red_on_what_was_pushed_first_is_never_pushed(shared: RemoteHarness) -> None:
    agent = "[ -f a.txt ] && { git merge -q $COORDINATOR_TARGET; : > fixed; commit 'Fix'; exit 0; }\nwork"
    shared.make({"a": {}}, agent, verify=["test ! -f limit -o ! -f a.txt -o -f fixed"])
    refuse_once(shared, shared.join("ann").commit("Limit", {"limit": "x\n"}))
    worked = await shared.work()
    assert worked.names == {"a": "Merged"}
    assert shared.hub_log() == ["Merge feat/a: Do a", "Limit", "Begin"]
    assert shared.hub_has("fixed")
    assert (
        shared.judge(
            completed("a"), verify=["test ! -f limit -o ! -f a.txt -o -f fixed"], foreign=[shared.at_hub("main^")]
        )
        == []
    )


async def test_red_base_holds_the_queue_and_takes_no_merge_back(shared: RemoteHarness) -> None:
    shared.make({"a": {}, "b": {}}, WAIT, verify=["test ! -f broken"], signals=["go"])
    ann = shared.join("ann")
    refuse_once(shared, ann.commit("Break", {"broken": "x\n"}))

    async def fix(opened: OpenRun) -> None:
        await reach(opened, ": origin/main has not been updated yet: origin/main itself is red")
        assert shared.hub_log() == ["Break", "Begin"]
        assert opened.run.board.view.nodes["a"].outcome == "Merged"
        ann.git.run("rm", "--quiet", "broken")
        await asyncio.to_thread(ann.share, "Fix", {"fixed": "x\n"})
        ann.git.run("rm", "--quiet", "broken")
        ann.git.run("commit", "--quiet", "-m", "Really fix")
        ann.git.run("push", "--quiet", "origin", "main")
        shared.signals["go"].send()

    worked = await shared.work(during=fix)
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert worked.started == ["a", "b"]
    assert shared.hub_log()[2:] == ["Really fix", "Fix", "Break", "Begin"]


async def test_remote_is_looked_at_once_more_before_work_fails_for_a_red_base(shared: RemoteHarness) -> None:
    land, files = {"fetch_seconds": 1000}, {"broken": "x\n"}
    shared.make({"a": {}}, WAIT, land=land, verify=["test ! -f broken"], files=files, signals=["go"])
    ann = shared.join("ann")

    async def fix(opened: OpenRun) -> None:
        await reach(opened, "a: session: turn 1")
        ann.git.run("rm", "--quiet", "broken")
        ann.git.run("commit", "--quiet", "--message", "Fix")
        assert ann.push()
        shared.signals["go"].send()

    worked = await shared.work(during=fix)
    assert worked.names == {"a": "Merged"}
    assert worked.started == ["a"]
    assert shared.hub_log() == ["Merge feat/a: Do a", "Fix", "Begin"]


async def test_remote_that_always_loses_the_race_is_tried_three_times_and_then_waited_for(
    shared: RemoteHarness,
) -> None:
    shared.make({"a": {}}, land={"fetch_seconds": 1000})
    lose = (
        "echo . >> lost; [ $(wc -l < lost) -le 3 ] || exit 0; unset GIT_QUARANTINE_PATH\n"
        "export GIT_AUTHOR_NAME=x GIT_AUTHOR_EMAIL=x GIT_COMMITTER_NAME=x GIT_COMMITTER_EMAIL=x\n"
        'git update-ref "$1" $(git commit-tree -p "$1" -m Other "$1^{tree}")'
    )
    shared.hook("update", lose)

    async def see(opened: OpenRun) -> None:
        await reach(opened, ": origin/main has not been updated yet: others pushed first, 3 times in a row")
        assert (shared.hub_path / "lost").read_text().count(".") == 3
        opened.run.stopping.request()  # The pause is long; this also shows that a stopped run does not wait for it.

    worked = await shared.work(during=see)
    assert worked.names == {"a": "Merged"}
    assert shared.hub_log()[1:] == ["Other"] * 3 + ["Begin"] or worked.pending
    again = await shared.work()
    assert again.pending == ""
    assert shared.hub_log() == ["Merge feat/a: Do a", "Other", "Other", "Other", "Begin"]


async def test_lock_that_stays_on_the_remote_is_told_in_its_words_and_not_as_a_race(shared: RemoteHarness) -> None:
    shared.make({"a": {}})
    lock = shared.hub_path / "refs/heads/main.lock"
    lock.touch()

    async def see(opened: OpenRun) -> None:
        await reach(opened, ": origin/main has not been updated yet: origin does not take the push, although nobody")
        lock.unlink()

    worked = await shared.work(during=see)
    assert (worked.names, worked.pending) == ({"a": "Merged"}, "")
    assert any("main.lock': File exists" in line for line in worked.lines)
    assert shared.hub_log() == ["Merge feat/a: Do a", "Begin"]


async def test_refusal_is_shown_in_the_remotes_own_words_and_stops_publishing_alone(shared: RemoteHarness) -> None:
    shared.make({"a": {}, "b": {"depends_on": ["a"]}})
    say = r"printf '\033[31mmain is protected:\033[0m ask Bo\n\n' >&2; echo no >> ../refusals; exit 1"
    shared.hook("pre-receive", say)
    worked = await shared.work()
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert worked.code == 0
    assert "main is protected: ask Bo" in worked.pending
    said = [line for line in worked.lines if "ask Bo" in line]
    assert len(said) == 1
    assert "\033" not in said[0]
    assert (shared.place / "refusals").read_text() == "no\n"
    assert shared.hub_log() == ["Begin"]
    shared.unhook("pre-receive")
    again = await shared.work()
    assert (again.pending, again.started) == ("", [])
    assert shared.hub_log() == ["Merge feat/b: Do b", "Merge feat/a: Do a", "Begin"]
    assert shared.leftovers() == []


async def test_hook_that_refuses_the_target_alone_and_a_hub_without_force_are_understood(shared: RemoteHarness) -> None:
    shared.make({"a": {}})
    shared.hub.run("config", "receive.denyNonFastForwards", "true")
    shared.hook("update", '[ "$1" != refs/heads/main ] || { echo "only by review"; exit 1; }')
    worked = await shared.work()
    assert "only by review" in worked.pending
    assert worked.code == 0
    assert shared.hub_log() == ["Begin"]


async def test_remote_that_is_away_for_a_while_is_tried_again_and_said_once(shared: RemoteHarness) -> None:
    shared.make({"a": {}, "b": {}}, "[ $id = a ] && tell begun; await go; work", signals=["begun", "go"])
    away = shared.hub_path.with_name("away")

    async def take_away(opened: OpenRun) -> None:
        await shared.signals["begun"].wait()
        shared.hub_path.rename(away)
        shared.signals["go"].send()
        await reach(opened, ": origin/main has not been updated yet: origin does not answer")
        away.rename(shared.hub_path)
        await until(lambda: len(shared.hub_log()) > 1)
        shared.signals["go"].send()

    worked = await shared.work(during=take_away)
    assert set(worked.names.values()) == {"Merged"}
    assert worked.pending == ""
    assert len(shared.hub_log()) == 3
    assert sum("The run retries" in line for line in worked.lines) <= 1
    assert shared.leftovers() == []


async def test_remote_that_stays_away_costs_no_work_and_the_next_run_pushes(shared: RemoteHarness) -> None:
    shared.make({"a": {}}, "mv $HUB $HUB.away; work", land={"fetch_seconds": 0.1}, env={"agent": ["HUB"]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUB", str(shared.hub_path))
        worked = await shared.work()
    assert (worked.names, worked.code) == ({"a": "Merged"}, 0)
    assert "does not answer" in worked.pending
    shared.hub_path.with_name("hub.git.away").rename(shared.hub_path)
    assert (await shared.work()).pending == ""
    assert shared.hub_log() == ["Merge feat/a: Do a", "Begin"]
    assert shared.leftovers() == []


async def test_target_that_is_rewritten_by_force_stops_landing_and_is_never_overwritten(shared: RemoteHarness) -> None:
    shared.make({"a": {}, "b": {}}, WAIT, signals=["go"])
    ann = shared.join("ann")

    async def rewrite(opened: OpenRun) -> None:
        await until(lambda: len(shared.hub_log()) == 2)
        await opened.publisher.publish_now()
        ann.git.run("commit", "--quiet", "--amend", "--message", "Rewritten")
        ann.git.run("push", "--quiet", "--force", "origin", "main")
        await reach(opened, ": origin/main was rewritten")
        shared.signals["go"].send()

    worked = await shared.work(during=rewrite)
    assert worked.names["b"] == "Failed"
    assert "origin/main was rewritten" in worked.view.nodes["b"].reason
    assert shared.hub_log() == ["Rewritten"]


async def test_target_that_was_wound_back_by_force_does_not_get_back_what_was_dropped(shared: RemoteHarness) -> None:
    shared.make({"a": {}, "b": {}}, WAIT, signals=["go"], land={"fetch_seconds": 1000})
    ann = shared.join("ann")
    dropped = ann.share("A secret", {"secret": "x\n"})

    async def wind_back(opened: OpenRun) -> None:
        await until(lambda: len(shared.hub_log()) == 3)
        await opened.publisher.publish_now()
        ann.git.run("push", "--quiet", "--force", "origin", f"{dropped}^:main")
        shared.signals["go"].send()

    worked = await shared.work(during=wind_back)
    assert shared.hub_log() == ["Begin"]
    assert "was rewritten" in worked.pending


@pytest.mark.parametrize("is_first", [True, False])
async def test_further_address_that_refuses_is_named_and_holds_nothing_up(
    shared: RemoteHarness, *, is_first: bool
) -> None:
    shared.make({"a": {}, "b": {"depends_on": ["a"]}})
    hook = add_mirror(shared, is_first=is_first)
    mirror = hook.parents[1]
    worked = await shared.work()
    assert (worked.names, worked.pending) == ({"a": "Merged", "b": "Merged"}, "")
    said = [line for line in worked.lines if "ask Bo" in line]
    assert len(said) == 1
    assert f"origin has what landed, but file://{mirror} does not: ask Bo" in said[0]
    hook.unlink()
    shared.join("ann").share("Plan c", {"tasks/c.md": "---\nid: c\nname: Do c\nstatus: pending\ndepends_on: []\n---\n"})
    assert (await shared.work()).names["c"] == "Merged"
    assert Git(mirror).text("rev-parse", "main") == shared.at_hub("main")


async def test_mirror_that_is_fetched_from_and_lags_behind_is_not_taken_for_a_rewritten_target(
    shared: RemoteHarness,
) -> None:
    shared.make({"a": {}, "b": {"depends_on": ["a"]}})
    mirror = shared.place / "mirror.git"
    Git(shared.place).run("clone", "--quiet", "--bare", str(shared.hub_path), str(mirror))
    shared.git.run("remote", "set-url", "--push", "origin", shared.url)
    shared.git.run("remote", "set-url", "origin", f"file://{mirror}")
    worked = await shared.work()
    assert (worked.names, worked.pending) == ({"a": "Merged", "b": "Merged"}, "")
    assert shared.hub_log() == ["Merge feat/b: Do b", "Merge feat/a: Do a", "Begin"]
    again = await shared.work()
    assert (again.started, again.pending) == ([], "")
    theirs = shared.join("ann").share("By Ann", {"ann.txt": "x\n"})
    Git(mirror).run("fetch", "--quiet", str(shared.hub_path), "main:main")
    await shared.work()
    assert shared.at("refs/remotes/origin/main") == theirs


async def test_two_coordinators_on_two_clones_land_each_node_once(shared: RemoteHarness) -> None:
    ids = ["a", "b", "c"]
    shared.make({one: {} for one in ids}, "work", verify=["true"])
    second = RemoteHarness(shared.place / "second")
    second.place.mkdir()
    second.journal.path.mkdir()
    second.top.symlink_to(shared.join("twin").top)

    # In a process of its own, since a run's processes are identified by a marker on the process that starts them.
    other = start_run(second.place)
    worked = await shared.work()
    output, _ = await asyncio.to_thread(other.communicate, timeout=300)

    theirs = json.loads(output.splitlines()[-1])
    assert set(worked.names.values()) | set(theirs["names"].values()) == {"Merged"}
    assert (worked.pending, theirs["pending"]) == ("", "")
    trailers = shared.hub.text("log", "--first-parent", "--format=%(trailers:key=Task,valueonly,separator=)", "main")
    assert sorted(trailers.split()) == ids
    assert shared.judge(completed(*ids), verify=["true"]) == []
    assert shared.hub_branches() == ["main"]


async def test_node_that_somebody_else_completed_is_given_up_and_its_work_is_kept(shared: RemoteHarness) -> None:
    agent = "tell begun; work; echo half > half.txt; await never"
    shared.make(
        {"a": {}, "b": {"depends_on": ["a"]}}, f"[ $id = b ] && {{ work; exit; }}\n{agent}", signals=["begun", "never"]
    )
    ann = shared.join("ann")

    async def complete(opened: OpenRun) -> None:
        await shared.signals["begun"].wait()
        await until((shared.top / ".worktrees/feat/a/half.txt").exists)
        await asyncio.to_thread(
            ann.share, "Do it by hand", {"tasks/a.md": shared.show("tasks/a.md").replace("pending", "completed")}
        )

    worked = await shared.work(during=complete)
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert shared.hub_log() == ["Merge feat/b: Do b", "Do it by hand", "Begin"]
    assert shared.leftovers() == ["refs/coordinator/kept/a/1"]
    assert shared.show("half.txt", "refs/coordinator/kept/a/1") == "half\n"
    assert shared.show("a.txt", "refs/coordinator/kept/a/1") == "a\n"
    assert any(line.startswith("a was completed by someone else") for line in worked.lines)


async def test_merge_of_a_node_that_somebody_else_completed_first_is_dropped_and_kept(shared: RemoteHarness) -> None:
    shared.make({"a": {}})
    by_hand = {"tasks/a.md": shared.show("tasks/a.md").replace("pending", "completed")}
    refuse_once(shared, shared.join("ann").commit("By hand", by_hand))
    worked = await shared.work()
    assert (worked.names, worked.started, worked.pending) == ({"a": "Merged"}, ["a"], "")
    assert shared.hub_log() == ["By hand", "Begin"]
    assert worked.view.nodes["a"].commit == shared.at_hub("main")
    assert shared.leftovers() == ["refs/coordinator/kept/a/1"]
    assert shared.show("a.txt", "refs/coordinator/kept/a/1") == "a\n"


FAULTS: Mapping[str, tuple[Mapping[str, str], str]] = {
    "no such remote": (
        {"remote": "orign"},
        'land.remote is "orign", which is not a remote of this repository. Did you mean "origin"?',
    ),
    "no such branch": ({}, "origin no longer has the branch main, so there is nothing to land on; if it was renamed"),
    "cannot be reached": ({}, "origin does not answer: "),
    "wants a password": ({}, "origin does not answer: could not read Username"),
}


@pytest.mark.parametrize("what", FAULTS)
async def test_remote_that_cannot_be_used_is_one_line_and_nothing_is_started(shared: RemoteHarness, what: str) -> None:
    land, said = FAULTS[what]
    shared.make({"a": {}}, land=land)
    with contextlib.ExitStack() as stack:
        if what == "no such branch":
            shared.hub.run("branch", "-m", "main", "other")
        elif what == "cannot be reached":
            shared.git.run("remote", "set-url", "origin", f"{shared.url}-not-there")
        elif what == "wants a password":
            shared.git.run("remote", "set-url", "origin", stack.enter_context(asking_for_a_password()))
        with pytest.raises(InputError) as caught:
            await shared.work()
    assert len(caught.value.faults) == 1
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)
    assert shared.journal.turns() == []
    assert not (shared.top / ".git/coordinator/run.json").exists()
