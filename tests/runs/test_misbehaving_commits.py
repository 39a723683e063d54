"""Commits that must not land: rewritten history, other people's work, huge files, unintended tree entries."""

import pytest
from run_harness import Ground

from tasks_lib.model import Blocked

TWICE = "if [ $turn = 1 ]; then {deed}; else {mend}; fi"
FRESH = "git reset -q --hard {fork}; work"
AGAIN = "echo more >> more.txt; commit 'feat(a): more'"
MARKS = "printf '<<<<<<< HEAD\\na\\n=======\\nb\\n>>>>>>> other\\n' > notes.txt"
REWRITTEN = "feat/a no longer contains {fork:.10}, the commit that it started from: its history was rewritten"


async def land_after_one_nudge(ground: Ground, deed: str, mend: str, **more: str) -> str:
    """Run one node whose first turn does `deed` and whose second does `mend`; return the second turn's prompt."""
    ground.make({"a": {}}, "exit 1", files={"old.txt": "1\n"})
    fork = ground.commit("Second", {"second.txt": "2\n"})
    ground.write_agent(TWICE.format(deed=deed, mend=mend.format(fork=fork)))
    worked = await ground.work()
    assert worked.names == {"a": "Merged"}
    assert ground.turns() == ["a-1-1", "a-1-2"]
    # Commits that the agent dropped from its history are kept.
    assert [ref for ref in ground.leftovers() if not ref.startswith("refs/coordinator/kept/a/")] == []
    return ground.turn("a-1-2")


@pytest.mark.parametrize(
    "deed",
    [
        "git commit -q --amend -m 'Not the second'; work",
        "git reset -q --hard HEAD~1; work",
        "git checkout -q --orphan mine; git commit -qm Anew; git branch -qf feat/a 2>&1 || :; git symbolic-ref HEAD refs/heads/feat/a; git update-ref HEAD mine; git branch -qD mine; work",
    ],
    ids=["amends the base", "goes back before it", "begins an unrelated history"],
)  # fmt: skip
async def test_branch_that_lost_the_commit_it_began_at_is_given_back(ground: Ground, deed: str) -> None:
    prompt = await land_after_one_nudge(ground, deed, FRESH)
    assert REWRITTEN.format(fork=ground.at("main^1^{/Second}")) in prompt
    assert ground.git.text("rev-list", "--count", "main^1..main") == "2"


@pytest.mark.parametrize("way", ["git merge -q --no-edit $COORDINATOR_TARGET", "git rebase -q $COORDINATOR_TARGET"])
async def test_branch_that_takes_in_the_head_is_nobodys_fault(ground: Ground, way: str) -> None:
    agent = f"if [ $turn = 1 ]; then echo $id > same.txt; commit $id; else {way} || :; echo both > same.txt; git add -A; GIT_EDITOR=true git rebase --continue || commit both; fi"
    ground.make({"a": {}, "b": {}}, agent, verify=["true"])
    worked = await ground.work()
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert len(ground.turns()) == 3


@pytest.mark.parametrize(
    "way", ["merge -q --no-edit", "merge -q --no-ff -m Take", "reset -q --hard", "cherry-pick --ff"]
)
async def test_unfinished_work_of_another_node_does_not_land_with_this_one(ground: Ground, way: str) -> None:
    agent = f"""
case $id-$turn in
a-1) work; tell made; await go;;
b-1) await made; git {way} feat/a; work;;
b-2) tell go; git reset -q --hard $(git merge-base HEAD main); work;;
esac
"""
    ground.make({"a": {}, "b": {}}, agent, signals=["made", "go"])
    worked = await ground.work()
    assert worked.names == {"a": "Merged", "b": "Merged"}
    prompt = ground.turn("b-1-2")
    assert "it contains 1 commits of feat/a, which has not landed" in prompt
    assert ground.turns() == ["a-1-1", "b-1-1", "b-1-2"]
    assert ground.git.text("rev-list", "--count", "main") == "5"


async def test_huge_file_is_found_in_the_range_and_not_only_in_the_last_commit(ground: Ground) -> None:
    huge = "truncate -s 2M huge.bin; commit huge; git rm -q huge.bin; git commit -qm 'Remove it'; work"
    ground.make({"a": {}}, "exit 1", land={"max_file_mb": 1})
    mend = f"{AGAIN}; [ $turn = 2 ] || {{ {FRESH.format(fork=ground.at())}; }}"
    ground.write_agent(TWICE.format(deed=huge, mend=mend))
    worked = await ground.work()
    assert worked.names == {"a": "Merged"}
    said = "huge.bin has 2 MiB, more than land.max_file_mb allows (1); it was removed later, but commit"
    assert said in ground.turn("a-1-2")
    assert said in ground.turn("a-1-3")
    assert "huge.bin" not in ground.git.text("rev-list", "--objects", "main")


async def test_huge_file_that_stays_never_lands(ground: Ground) -> None:
    agent = "[ $id = b ] || truncate -s 2M 'huge file.bin'; echo $attempt-$turn >> $id.txt; commit Work"
    ground.make({"a": {}, "b": {}}, agent, land={"max_file_mb": 1})
    worked = await ground.work()
    said = "huge file.bin has 2 MiB, more than land.max_file_mb allows (1), after 2 nudges"
    assert worked.names["b"] == "Merged"
    assert worked.retries == [("a", said)]
    assert worked.outcomes["a"] == Blocked(f"{said} (attempt 2; 2 allowed)", "resolve-a-1")


async def test_conflict_markers_are_given_back_with_their_files(ground: Ground) -> None:
    prompt = await land_after_one_nudge(ground, f"{MARKS}; work", "echo ab > notes.txt; commit mended")
    assert "conflict markers are committed in notes.txt." in prompt
    assert ground.show("notes.txt") == "ab\n"


async def test_conflict_markers_that_are_meant_land_after_they_were_told_once(ground: Ground) -> None:
    await land_after_one_nudge(ground, f"{MARKS}; work", "true")
    assert ground.show("notes.txt").startswith("<<<<<<< HEAD")


async def test_headings_and_markers_that_were_there_before_are_no_fault(ground: Ground) -> None:
    ground.make(
        {"a": {}},
        "printf 'Title\\n=======\\n' > t.rst; echo end >> m.txt; work",
        files={"m.txt": "<<<<<<< a\n=======\n>>>>>>> b\n"},
    )
    worked = await ground.work()
    assert worked.names == {"a": "Merged"}
    assert ground.turns() == ["a-1-1"]


async def test_repository_added_by_accident_is_given_back(ground: Ground) -> None:
    inner = "git init -q inner; (cd inner; echo 1 > file; git add -A; git commit -qm Inner)"
    mend = "rm -rf inner/.git; git rm -q --cached inner; commit 'As files'"
    prompt = await land_after_one_nudge(ground, f"{inner}; work 2>&1", mend)
    assert "inner: a repository inside the worktree; only a link to it is committed" in prompt
    assert ground.show("inner/file") == "1\n"


async def test_link_out_of_the_repository_is_told_once(ground: Ground) -> None:
    links = "ln -s /etc/passwd out; ln -s ../up up; mkdir d; ln -s ../README.md d/fine; ln -s .git/config config"
    prompt = await land_after_one_nudge(ground, f"{links}; work", "true")
    assert "config, out, up: a symbolic link that points outside the repository" in prompt


async def test_entry_that_git_would_not_check_out_is_given_back(ground: Ground) -> None:
    evil = (
        "work; h=$(echo 'echo pwned' | git hash-object -w --stdin); "
        't=$(printf "100755 blob $h\\tpost-checkout\\n" | git mktree); '
        't=$( { git ls-tree HEAD; printf "040000 tree $t\\t.GIT\\n"; } | git mktree); '
        "git reset -q --soft $(git commit-tree -p HEAD -m Evil $t); git update-index -q --refresh || :; "
        "git symbolic-ref HEAD > /dev/null"
    )
    ground.make({"a": {}}, TWICE.format(deed=evil, mend="git reset -q --hard HEAD~1; " + AGAIN))
    worked = await ground.work()
    assert worked.names == {"a": "Merged"}
    assert "post-checkout" not in ground.git.text("rev-list", "--objects", "main")


async def test_strange_but_lawful_names_and_modes_land(ground: Ground) -> None:
    agent = """
touch "$(printf 'new\\nline')" 'back\\\\slash' -- '-option' ':(top)' "$(printf 'escape\\033[31m')" .gitt
mkdir -p deep/er; touch deep/er/x; chmod 755 README.md; work
"""
    ground.make({"a": {}}, agent)
    worked = await ground.work()
    assert worked.names == {"a": "Merged"}
    assert ground.turns() == ["a-1-1"]
    names = ground.git.run("ls-tree", "-r", "-z", "--name-only", "main").stdout.split(b"\0")
    assert {b"new\nline", b"-option", b":(top)", b"escape\x1b[31m"} < set(names)
