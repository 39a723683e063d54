"""Resolutions of conflicts that drop changes: named once, then a person decides; and those that drop nothing."""

from collections.abc import Sequence

import pytest
from run_harness import During, RunHarness, Tasks, reach, until

from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.model import Blocked
from tasks_lib.reporting.run_report import ExitCode

GRAPH: Tasks = {"a": {}, "b": {}}
CLASH = """
if [ $turn = 1 ] && [ $attempt = 1 ]; then
  sed -i "s/^rate = .*/rate = rate_of_$id/" shop.txt; commit "feat($id): rate"; [ $id = a ] || await landed; exit 0
fi
merge() { git merge -q "$@" $COORDINATOR_TARGET || :; }
take() { git checkout -q --$1 shop.txt; commit "Merge"; }
both() { printf 'begin\\nrate = rate_of_a + rate_of_b\\nend\\n' > shop.txt; commit 'Resolve'; }
"""
SHOP = {"shop.txt": "begin\nrate = 1\nend\n"}
OURS = "resolving a conflict dropped 1 change: shop.txt:2 (task a)"
OWN = "resolving a conflict dropped 1 change: shop.txt:2 (its own)"


def after_a(harness: RunHarness) -> During:
    async def release(opened: OpenRun) -> None:
        await reach(opened, "a: Merged")
        harness.signals["landed"].send()

    return release


def after_publication(harness: RunHarness) -> During:
    async def release(_: OpenRun) -> None:
        await until(lambda: harness.has("a.txt"))
        harness.signals["landed"].send()

    return release


def make(harness: RunHarness, agent: str, give_backs: int = 3, signals: Sequence[str] = ("landed",)) -> None:
    land = {"give_backs": give_backs}
    harness.make(GRAPH, CLASH + agent, signals=signals, files=SHOP, land=land)


async def test_resolution_that_keeps_both_lands_at_once(harness: RunHarness) -> None:
    make(harness, "merge; both")
    worked = await harness.work(during=after_a(harness))
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert harness.journal.turns() == ["a-1-1", "b-1-1", "b-1-2"]
    assert harness.leftovers() == []


async def test_dropped_change_is_named_once_with_its_task_and_lands_when_put_back(harness: RunHarness) -> None:
    make(harness, "[ $turn = 2 ] && { merge; take ours; exit 0; }\nboth")
    worked = await harness.work(during=after_a(harness))
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert harness.show("shop.txt") == "begin\nrate = rate_of_a + rate_of_b\nend\n"
    prompt = harness.journal.read("b-1-3")
    assert "1. shop.txt:2, by task a:\n```diff\n-rate = 1\n+rate = rate_of_a\n```" in prompt
    assert "Dropped: <path>: <why>" in prompt
    assert f"b: given back: {OURS}" in worked.lines
    assert harness.journal.turns() == ["a-1-1", "b-1-1", "b-1-2", "b-1-3"]
    assert harness.leftovers() == []


@pytest.mark.parametrize(
    ("deed", "reason"),
    [
        ("merge -X ours", OURS),
        ("merge -s ours", OURS),
        ("merge; echo x > other.txt; take theirs", OWN),
        ("git reset -q --hard $COORDINATOR_TARGET; echo x > other.txt; commit 'Begin again'", OWN),
        ("git rebase -q -X theirs $COORDINATOR_TARGET", OURS),
        ("git rebase -q -X ours $COORDINATOR_TARGET || git rebase --skip; echo x > o.txt; commit Other", OWN),
        ("merge; take ours; git reset -q --soft $COORDINATOR_TARGET; git commit -q -m 'One commit'", OURS),
    ],
)
async def test_drop_is_found_however_it_was_resolved(harness: RunHarness, deed: str, reason: str) -> None:
    make(harness, f"[ $turn = 2 ] && {{ {deed}; exit 0; }}\nboth")
    worked = await harness.work(during=after_a(harness))
    assert f"b: given back: {reason}" in worked.lines
    assert worked.names == {"a": "Merged", "b": "Merged"}


async def test_second_drop_waits_for_a_person_with_the_facts_and_lands_when_resolved(harness: RunHarness) -> None:
    again = "echo $turn > other.txt; commit 'Something else'; echo 'Dropped: shop.txt: the rate of a is wrong'"
    make(harness, f"[ $attempt = 2 ] && exit 0; [ $turn = 2 ] && {{ merge -s ours; exit 0; }}\n{again}")
    worked = await harness.work(during=after_a(harness))
    assert worked.outcomes["b"] == Blocked(f"{OURS}; only a person may let that land", "resolve-b-1")
    assert worked.code is ExitCode.BLOCKED
    assert harness.journal.turns() == ["a-1-1", "b-1-1", "b-1-2", "b-1-3"]
    resolve = harness.show("tasks/resolve-b-1.md")
    assert "Kind: decision" in resolve
    assert "-rate = 1\n+rate = rate_of_a\n" in resolve
    assert "- shop.txt: the rate of a is wrong" in resolve
    assert "git diff refs/heads/main...refs/heads/feat/b" in resolve
    harness.set_status("resolve-b-1", "completed")
    worked = await harness.work()
    assert worked.names == {"b": "Merged"}
    assert harness.show("shop.txt") == "begin\nrate = rate_of_b\nend\n"
    assert harness.leftovers() == []


async def test_another_drop_than_the_allowed_one_is_named_again(harness: RunHarness) -> None:
    then = (
        "[ $attempt = 2 ] && [ $turn = 1 ] && { git checkout -q $COORDINATOR_TARGET shop.txt; commit 'Other'; exit 0; }"
    )
    make(harness, f"{then}; [ $attempt = 2 ] && {{ both; exit 0; }}; merge -s ours; echo $turn > o.txt; commit Again")
    assert (await harness.work(during=after_a(harness))).names["b"] == "Blocked"
    harness.set_status("resolve-b-1", "completed")
    worked = await harness.work()
    assert f"b: given back: {OWN}" in worked.lines
    assert worked.names == {"b": "Merged"}


async def test_drop_is_not_given_back_beyond_the_limit(harness: RunHarness) -> None:
    make(harness, "merge -s ours", give_backs=1)
    worked = await harness.work(during=after_a(harness))
    assert worked.outcomes["b"] == Blocked(f"{OURS}; only a person may let that land", "resolve-b-1")
    assert harness.journal.turns() == ["a-1-1", "b-1-1", "b-1-2"]


async def test_check_is_made_after_a_stop_between_the_conflict_and_the_next_turn(harness: RunHarness) -> None:
    once = 'await stopped; echo > "${J%/*}/dropped"; merge; take ours; exit 0'  # The stopped turn may have begun.
    make(harness, f'[ -e "${{J%/*}}/dropped" ] || {{ {once}; }}\nboth', signals=("landed", "stopped"))

    async def stop(opened: OpenRun) -> None:
        await reach(opened, "a: Merged")
        harness.signals["landed"].send()
        await reach(opened, "b: given back")
        opened.run.stopping.request()

    assert (await harness.work(during=stop)).names["b"] == "Aborted"
    assert harness.record("feat/b").conflicts.commits == (harness.at("refs/heads/feat/b"),)
    harness.signals["stopped"].send()
    worked = await harness.work()
    assert f"b: given back: {OURS}" in worked.lines
    assert worked.names == {"b": "Merged"}


MERGES = """
if [ $turn = 1 ]; then
  sed -i "s/^rate = .*/rate = rate_of_$id/" shop.txt; echo x > $id.txt; commit "feat($id): rate"
  [ $id = a ] || { await landed; git merge -q HOW main; }
  exit 0
fi
[ -f a.txt ] || git checkout -q $COORDINATOR_TARGET a.txt
printf 'begin\\nrate = rate_of_a + rate_of_b\\nend\\n' > shop.txt; commit 'Resolve'
"""


@pytest.mark.parametrize(("how", "reason"), [("-s ours", OURS), ("-X ours", OURS), ("-X theirs", OWN)])
async def test_merge_that_the_agent_made_by_itself_is_checked_too(harness: RunHarness, how: str, reason: str) -> None:
    harness.make(GRAPH, MERGES.replace("HOW", how), signals=["landed"], files=SHOP)
    worked = await harness.work(during=after_publication(harness))
    (given_back,) = (line for line in worked.lines if line.startswith("b: given back: resolving a conflict dropped"))
    assert reason.rpartition(": ")[2] in given_back
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert harness.show("shop.txt") == "begin\nrate = rate_of_a + rate_of_b\nend\n"


async def test_merge_without_a_conflict_is_not_judged(harness: RunHarness) -> None:
    """What the agent undoes in a commit of its own is its work, for a reviewer to judge."""
    undo = "[ $id = a ] || { await landed; git merge -q main; git rm -q a.txt; commit 'Undo'; }"
    harness.make(GRAPH, f"echo $id > $id.txt; commit Own; {undo}", signals=["landed"])
    worked = await harness.work(during=after_publication(harness))
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert harness.journal.turns() == ["a-1-1", "b-1-1"]
