"""Commits that must not land: rewritten history, other people's work, huge files, unintended tree entries."""

import pytest
from run_harness import RunHarness

from tasks_lib.model import Blocked

TWICE = "if [ $turn = 1 ]; then {deed}; else {fix}; fi"
FRESH = "git reset -q --hard {fork}; work"
AGAIN = "echo more >> more.txt; commit 'feat(a): more'"
MARKS = "printf '<<<<<<< HEAD\\na\\n=======\\nb\\n>>>>>>> other\\n' > notes.txt"
REWRITTEN = "feat/a no longer contains {fork:.10}, the commit that it started from: its history was rewritten"


async def land_after_one_nudge(harness: RunHarness, deed: str, fix: str, **more: str) -> str:
    """Run one node whose first turn does `deed` and whose second does `fix`; return the second turn's prompt."""
    harness.make({"a": {}}, "exit 1", files={"old.txt": "1\n"})
    fork = harness.commit("Second", {"second.txt": "2\n"})
    harness.write_agent(TWICE.format(deed=deed, fix=fix.format(fork=fork)))
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    assert harness.journal.turns() == ["a-1-1", "a-1-2"]
    # Commits that the agent dropped from its history are kept.
    assert [ref for ref in harness.leftovers() if not ref.startswith("refs/coordinator/kept/a/")] == []
    return harness.journal.read("a-1-2")


@pytest.mark.parametrize(
    "deed",
    [
        "git commit -q --amend -m 'Not the second'; work",
        "git reset -q --hard HEAD~1; work",
        "git checkout -q --orphan mine; git commit -qm Anew; git branch -qf feat/a 2>&1 || :; git symbolic-ref HEAD refs/heads/feat/a; git update-ref HEAD mine; git branch -qD mine; work",
    ],
    ids=["amends the base", "goes back before it", "begins an unrelated history"],
)  # fmt: skip
async def test_branch_that_lost_the_commit_it_began_at_is_given_back(harness: RunHarness, deed: str) -> None:
    prompt = await land_after_one_nudge(harness, deed, FRESH)
    assert REWRITTEN.format(fork=harness.at("main^1^{/Second}")) in prompt
    assert harness.git.text("rev-list", "--count", "main^1..main") == "2"


@pytest.mark.parametrize("way", ["git merge -q --no-edit $COORDINATOR_TARGET", "git rebase -q $COORDINATOR_TARGET"])
async def test_branch_that_takes_in_the_head_is_nobodys_fault(harness: RunHarness, way: str) -> None:
    agent = f"if [ $turn = 1 ]; then echo $id > same.txt; commit $id; else {way} || :; echo both > same.txt; git add -A; GIT_EDITOR=true git rebase --continue || commit both; fi"
    harness.make({"a": {}, "b": {}}, agent, verify=["true"])
    worked = await harness.work()
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert len(harness.journal.turns()) == 3


@pytest.mark.parametrize(
    "way", ["merge -q --no-edit", "merge -q --no-ff -m Take", "reset -q --hard", "cherry-pick --ff"]
)
async def test_unfinished_work_of_another_node_does_not_land_with_this_one(harness: RunHarness, way: str) -> None:
    agent = f"""
case $id-$turn in
a-1) work; tell made; await go;;
b-1) await made; git {way} feat/a; work;;
b-2) tell go; git reset -q --hard $(git merge-base HEAD main); work;;
esac
"""
    harness.make({"a": {}, "b": {}}, agent, signals=["made", "go"])
    worked = await harness.work()
    assert worked.names == {"a": "Merged", "b": "Merged"}
    prompt = harness.journal.read("b-1-2")
    assert "it contains 1 commits of feat/a, which has not landed" in prompt
    assert harness.journal.turns() == ["a-1-1", "b-1-1", "b-1-2"]
    assert harness.git.text("rev-list", "--count", "main") == "5"


async def test_huge_file_is_found_in_the_range_and_not_only_in_the_last_commit(harness: RunHarness) -> None:
    huge = "truncate -s 2M huge.bin; commit huge; git rm -q huge.bin; git commit -qm 'Remove it'; work"
    harness.make({"a": {}}, "exit 1", land={"max_file_mb": 1})
    fix = f"{AGAIN}; [ $turn = 2 ] || {{ {FRESH.format(fork=harness.at())}; }}"
    harness.write_agent(TWICE.format(deed=huge, fix=fix))
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    said = "huge.bin has 2 MiB, more than land.max_file_mb allows (1); it was removed later, but commit"
    assert said in harness.journal.read("a-1-2")
    assert said in harness.journal.read("a-1-3")
    assert "huge.bin" not in harness.git.text("rev-list", "--objects", "main")


async def test_huge_file_that_stays_never_lands(harness: RunHarness) -> None:
    agent = "[ $id = b ] || truncate -s 2M 'huge file.bin'; echo $attempt-$turn >> $id.txt; commit Work"
    harness.make({"a": {}, "b": {}}, agent, land={"max_file_mb": 1})
    worked = await harness.work()
    said = "huge file.bin has 2 MiB, more than land.max_file_mb allows (1), after 2 nudges"
    assert worked.names["b"] == "Merged"
    assert worked.retries == [("a", said)]
    assert worked.outcomes["a"] == Blocked(f"{said} (attempt 2; 2 allowed)", "resolve-a-1")


async def test_conflict_markers_are_given_back_with_their_files(harness: RunHarness) -> None:
    prompt = await land_after_one_nudge(harness, f"{MARKS}; work", "echo ab > notes.txt; commit fixed")
    assert "conflict markers are committed in notes.txt." in prompt
    assert harness.show("notes.txt") == "ab\n"


async def test_conflict_markers_that_are_meant_land_after_they_were_told_once(harness: RunHarness) -> None:
    await land_after_one_nudge(harness, f"{MARKS}; work", "true")
    assert harness.show("notes.txt").startswith("<<<<<<< HEAD")


async def test_headings_and_markers_that_were_there_before_are_no_fault(harness: RunHarness) -> None:
    harness.make(
        {"a": {}},
        "printf 'Title\\n=======\\n' > t.rst; echo end >> m.txt; work",
        files={"m.txt": "<<<<<<< a\n=======\n>>>>>>> b\n"},
    )
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    assert harness.journal.turns() == ["a-1-1"]


async def test_repository_added_by_accident_is_given_back(harness: RunHarness) -> None:
    inner = "git init -q inner; (cd inner; echo 1 > file; git add -A; git commit -qm Inner)"
    fix = "rm -rf inner/.git; git rm -q --cached inner; commit 'As files'"
    prompt = await land_after_one_nudge(harness, f"{inner}; work 2>&1", fix)
    assert "inner: a repository inside the worktree; only a link to it is committed" in prompt
    assert harness.show("inner/file") == "1\n"


async def test_link_out_of_the_repository_is_told_once(harness: RunHarness) -> None:
    links = "ln -s /etc/passwd out; ln -s ../up up; mkdir d; ln -s ../README.md d/fine; ln -s .git/config config"
    prompt = await land_after_one_nudge(harness, f"{links}; work", "true")
    assert "config, out, up: a symbolic link that points outside the repository" in prompt


async def test_entry_that_git_would_not_check_out_is_given_back(harness: RunHarness) -> None:
    evil = (
        "work; h=$(echo 'echo pwned' | git hash-object -w --stdin); "
        't=$(printf "100755 blob $h\\tpost-checkout\\n" | git mktree); '
        't=$( { git ls-tree HEAD; printf "040000 tree $t\\t.GIT\\n"; } | git mktree); '
        "git reset -q --soft $(git commit-tree -p HEAD -m Evil $t); git update-index -q --refresh || :; "
        "git symbolic-ref HEAD > /dev/null"
    )
    harness.make({"a": {}}, TWICE.format(deed=evil, fix="git reset -q --hard HEAD~1; " + AGAIN))
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    assert "post-checkout" not in harness.git.text("rev-list", "--objects", "main")


async def test_strange_but_lawful_names_and_modes_land(harness: RunHarness) -> None:
    agent = """
touch "$(printf 'new\\nline')" 'back\\\\slash' -- '-option' ':(top)' "$(printf 'escape\\033[31m')" .gitt
mkdir -p deep/er; touch deep/er/x; chmod 755 README.md; work
"""
    harness.make({"a": {}}, agent)
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    assert harness.journal.turns() == ["a-1-1"]
    names = harness.git.run("ls-tree", "-r", "-z", "--name-only", "main").stdout.split(b"\0")
    assert {b"new\nline", b"-option", b":(top)", b"escape\x1b[31m"} < set(names)
