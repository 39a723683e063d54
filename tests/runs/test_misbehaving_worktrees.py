"""Agents that break their worktree or its git metadata: one attempt fails, and no other node is affected."""

import os

import checker
import pytest
from run_harness import RunHarness

from tasks_lib.git.session_record import MAX_NOTICES_BYTES, append_notice, read_notices, read_record
from tasks_lib.model import Notice, NoticeLevel
from tasks_lib.reporting.run_report import ExitCode

ONCE = "if [ $id = a ] && [ $attempt = 1 ]; then\n{deed}\nelse work; fi"
LEFT_BRANCH = "the worktree is on {} instead of feat/a; its state is kept under refs/coordinator/kept/feat-a"
DAMAGED = "the agent {}; the commits on feat/a are kept, and the next attempt continues from there"
PARTIAL = "echo 1 > part.txt; commit 'feat(a): part'"
WAYS = {
    "commits on a branch of its own": ("git checkout -q -b mine; echo 1 > part.txt; commit Part", LEFT_BRANCH.format("mine")),
    "commits on no branch": ("git checkout -q --detach; echo 1 > part.txt; commit Part", LEFT_BRANCH.format("no branch")),
    "renames its branch": ("git branch -m other", LEFT_BRANCH.format("other")),
    "deletes its branch": ("git checkout -q --detach; git branch -q -D feat/a", LEFT_BRANCH.format("no branch")),
    "deletes .git": ("rm .git", DAMAGED.format("deleted or changed the .git of its worktree")),
    "links .git to the person's": ("ln -sf ../../../.git .git", DAMAGED.format("deleted or changed the .git of its worktree")),
    "makes .git a pipe": ("rm .git; mkfifo .git", DAMAGED.format("deleted or changed the .git of its worktree")),
    "makes a repository of its own": (
        "rm .git; git init -q .; git add -A; git commit -qm Own",
        DAMAGED.format("replaced its worktree's .git with a repository of its own"),
    ),
    "deletes its worktree": ("cd ..; rm -rf a", DAMAGED.format("deleted or moved its worktree")),
    "moves its worktree": ("cd ..; mv a b2", DAMAGED.format("deleted or moved its worktree")),
    "moves its worktree with git": (
        "git worktree move . ../../elsewhere",
        DAMAGED.format("deleted or moved its worktree"),
    ),
    "removes its worktree with git": (
        "top=$PWD; cd ../../..; git worktree remove --force $top",
        DAMAGED.format("deleted or moved its worktree"),
    ),
    "deletes what git knows of it": (
        "rm -rf $(git rev-parse --git-dir)",
        DAMAGED.format("deleted git's administrative files for its worktree"),
    ),
    "breaks its index": (
        "git read-tree --empty; head -c 100 /dev/zero > $(git rev-parse --git-dir)/index",
        DAMAGED.format("left its worktree so that git cannot read it (error: bad signature 0x00000000)"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
async def test_agent_that_breaks_its_worktree_fails_its_attempt_and_harms_nobody(harness: RunHarness, way: str) -> None:
    deed, reason = WAYS[way]
    harness.make({"a": {}, "b": {}}, ONCE.format(deed=f"{PARTIAL}\n{deed}"), files={"person.txt": "1\n"})
    (harness.top / "person.txt").write_text("2\n")
    (harness.top / "new.txt").write_text("A person's.\n")
    harness.git.run("add", "new.txt")
    before = checker.snapshot_user_state(harness.top)
    worked = await harness.work()
    assert worked.retries == [("a", reason)]
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert harness.trailer("Attempt", ":/^Merge feat/a") == "2"
    refs = harness.git.text("for-each-ref", "--format=%(refname)").split()
    assert any(harness.has("part.txt", ref) for ref in refs)
    meant = checker.Meant({"a": "completed", "b": "completed"})
    assert checker.check(harness.top, before=before, meant=meant) == []


async def test_link_in_the_place_of_a_worktree_leads_nothing_of_ours_elsewhere(harness: RunHarness) -> None:
    elsewhere = harness.place / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("untracked\n")
    deed = f"cd ..; mv a {harness.place}/moved; ln -s {elsewhere} a"
    harness.make({"a": {}}, ONCE.format(deed=deed))
    worked = await harness.work()
    assert worked.retries == [("a", DAMAGED.format(f"replaced its worktree with a link to {elsewhere}"))]
    assert worked.names == {"a": "Merged"}
    assert [path.name for path in elsewhere.iterdir()] == ["precious"]
    assert harness.leftovers() == []


async def test_uncommitted_files_survive_what_is_done_to_the_link(harness: RunHarness) -> None:
    harness.make(
        {"a": {}}, ONCE.format(deed="echo half > half.txt; rm .git").replace("else work", "else cat half.txt; work")
    )
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    assert harness.show("half.txt") == "half\n"


async def test_worktree_of_another_node_that_an_agent_removes_is_made_anew(harness: RunHarness) -> None:
    agent = """
case $id-$attempt in
a-1) tell ready; await gone; exit 0;;
b-1) await ready; git worktree remove --force ../a; git worktree prune; work; tell gone;;
*) work;;
esac
"""
    harness.make({"a": {}, "b": {}}, agent, signals=["ready", "gone"])
    worked = await harness.work()
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert [task_id for task_id, _ in worked.retries] == ["a"]
    assert harness.leftovers() == []


async def test_attempts_are_bounded_whatever_an_agent_writes_into_its_record(harness: RunHarness) -> None:
    forge = (
        'f=$(git rev-parse --git-dir)/coordinator.json; sed -i "s/\\"attempt\\": [0-9]*/\\"attempt\\": 0/" $f; exit 1'
    )
    harness.make({"a": {}}, forge)
    worked = await harness.work()
    assert worked.names == {"a": "Blocked"}
    assert harness.journal.turns() == ["a-1-1", "a-2-1"]


@pytest.mark.parametrize("name", ["coordinator.json", "coordinator-notices.jsonl"])
@pytest.mark.parametrize(
    "deed",
    [
        # The coordinator may write the file anew at any moment.
        *(f"until {make} $f 2> /dev/null; do rm -f $f; done" for make in ("mkfifo", "mkdir")),
        "ln -sf /dev/zero $f",
        "echo '[[[' > $f",
    ],
    ids=["mkfifo", "mkdir", "link", "garbage"],
)
async def test_what_an_agent_puts_in_the_place_of_our_files_holds_nobody_up(
    harness: RunHarness, name: str, deed: str
) -> None:
    harness.make({"a": {}}, f"if [ $attempt = 1 ]; then f=$(git rev-parse --git-dir)/{name}; {deed}; exit 1; fi\nwork")
    worked = await harness.work()
    assert worked.retries == [("a", "`sh` exited with 1")]
    assert worked.names == {"a": "Merged"}
    assert worked.code is ExitCode.COMPLETED
    assert harness.leftovers() == []


async def test_flood_of_notices_is_bounded_and_a_block_is_heard_all_the_same(harness: RunHarness) -> None:
    flood = """
d=$(git rev-parse --git-dir); cd ../../..
head -c 9000000 /dev/zero | tr '\\0' 'x' > $d/coordinator-notices.jsonl
i=0; while [ $i -lt 200 ]; do i=$((i+1)); printf '\\n{"level": "info", "text": "flood %s", "turn": 1}\\n' $i; done >> $d/coordinator-notices.jsonl
printf '\\n{"level": "blocking", "text": "no way", "turn": 1}\\n' >> $d/coordinator-notices.jsonl
"""
    harness.make({"a": {}}, flood.replace("\\\\", "\\"))
    worked = await harness.work()
    assert worked.names == {"a": "Blocked"}
    assert worked.view.nodes["a"].reason == "no way"
    assert sum("flood" in line for line in worked.lines) == 50


def test_notices_file_does_not_grow_for_ever_and_a_block_still_fits(harness: RunHarness) -> None:
    for _ in range(MAX_NOTICES_BYTES // 16_000 + 1):
        append_notice(harness.place, Notice(NoticeLevel.INFO, "x" * 1_000_000, 1))
    with pytest.raises(OSError, match="too many notices were reported"):
        append_notice(harness.place, Notice(NoticeLevel.INFO, "x", 1))
    append_notice(harness.place, Notice(NoticeLevel.BLOCKING, "no way", 1))
    assert read_notices(harness.place)[-1].text == "no way"


def test_record_is_no_pipe(harness: RunHarness) -> None:
    os.mkfifo(harness.place / "coordinator.json")
    assert read_record(harness.place) is None
