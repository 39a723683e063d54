"""Agents that make worktrees, stashes and repositories of their own: kept when the node ends, without leftovers."""

import checker
import pytest
from run_harness import RunHarness
from test_run_blocking import NOTIFY

from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.git.runner import Git

FUNCTIONS = (
    NOTIFY
    + """
inside() { (cd "$1"; echo "inner of $1" > inner.txt; git add inner.txt; git commit -qm "Inner"; echo "loose of $1" > loose.txt); }
"""
)
IGNORED = ".claude/worktrees/x"
PLACES = {
    "detached in an ignored folder": f"git worktree add -q --detach {IGNORED}; inside {IGNORED}",
    "detached in a folder that is not ignored": "git worktree add -q --detach sub; inside sub",
    "on a branch of its own": "git worktree add -q -b wip sub; inside sub",
    "in its own .worktrees": "git worktree add -q --detach .worktrees/x; inside .worktrees/x",
    "locked": f"git worktree add -q --detach --lock --reason mine {IGNORED}; inside {IGNORED}",
    "whose link is broken": f"git worktree add -q --detach {IGNORED}; inside {IGNORED}; rm {IGNORED}/.git",
    "with settings of its own": (
        f"git worktree add -q --detach {IGNORED}; inside {IGNORED}; git config extensions.worktreeConfig true; "
        f"git -C {IGNORED} config --worktree user.name Sub"
    ),
    "moved by hand": "git worktree add -q --detach .claude/y; inside .claude/y; mv .claude/y .claude/z",
    "moved by git": "git worktree add -q --detach sub; inside sub; mkdir -p .claude; git worktree move sub .claude/y",
    "on the branch of the node": f"git worktree add -q --force {IGNORED} feat/a; echo loose > {IGNORED}/loose.txt",
}
SECOND = f"git worktree add -q --detach {IGNORED}; inside {IGNORED}; git -C {IGNORED} worktree add -q --detach deep; inside {IGNORED}/deep"


def kept_files(harness: RunHarness) -> dict[str, str]:
    """Map each path to its content, over all kept states."""
    found: dict[str, str] = {}
    for ref in harness.git.text("for-each-ref", "--format=%(refname)", "refs/coordinator/kept").splitlines():
        for path in harness.git.text("ls-tree", "-r", "--name-only", ref).splitlines():
            found[path] = harness.show(path, ref)
    return found


def entries(harness: RunHarness) -> list[str]:
    """The names of git's worktree entries."""
    place = harness.top / ".git" / "worktrees"
    return sorted(path.name for path in place.iterdir()) if place.exists() else []


def held(harness: RunHarness, subject: str) -> int:
    """The number of commits with that subject that are reachable from a ref."""
    return len(harness.git.text("log", "--all", "--format=%H", f"--grep=^{subject}$").splitlines())


@pytest.mark.parametrize("way", PLACES)
async def test_worktree_inside_a_worktree_is_kept_and_gone_when_its_node_has_landed(
    harness: RunHarness, way: str
) -> None:
    harness.make(
        {"a": {}, "b": {}}, f"{FUNCTIONS}work; [ $id = b ] || {{ {PLACES[way]}; }}", files={".gitignore": ".claude/\n"}
    )
    before = checker.snapshot_user_state(harness.top)
    worked = await harness.work()
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert worked.retries == []
    assert kept_files(harness)["loose.txt"].startswith("loose")
    assert held(harness, "Inner") == (1 if "branch of the node" not in way else 0)
    assert entries(harness) == []
    assert [line for line in harness.leftovers() if "/kept/" not in line and not line.endswith("/wip")] == []
    (said,) = [line for line in worked.lines if "inside the worktree of a" in line]
    assert "refs/coordinator/kept/a/1" in said
    assert said in worked.view.messages
    meant = checker.Meant({"a": "completed", "b": "completed"})
    assert checker.check(harness.top, before=before, meant=meant) == []


async def test_nested_worktree_that_became_a_folder_of_the_branch_stays_for_the_next_attempt(
    harness: RunHarness,
) -> None:
    """Since a repository inside its worktree cannot land, the agent removes the link and commits the files."""
    make = "git worktree add -q --detach sub; inside sub; rm sub/.git; echo more > sub/more.txt; git add sub; git commit -qm Sub; exit 3"
    harness.make(
        {"a": {}}, f"{FUNCTIONS}[ $attempt = 1 ] && {{ {make}; }}\ncat sub/loose.txt; git status --short; work"
    )
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    assert harness.has("sub/loose.txt")
    assert entries(harness) == []


async def test_worktree_inside_a_worktree_inside_a_worktree_is_kept_too(harness: RunHarness) -> None:
    harness.make({"a": {}}, f"{FUNCTIONS}work; {SECOND}", files={".gitignore": ".claude/\n"})
    assert (await harness.work()).names == {"a": "Merged"}
    assert held(harness, "Inner") == 2
    assert entries(harness) == []


COMMITTED = {
    "deleted by hand": f"rm -rf {IGNORED}",
    "reset": f"git -C {IGNORED} reset -q --hard HEAD~1",
    "amended": f"git -C {IGNORED} commit -q --amend -m Other",
    "in a rebase that stopped": (
        f"(cd {IGNORED}; git checkout -q -B side; GIT_COMMITTER_DATE=2030-01-01T00:00:00Z "
        "GIT_SEQUENCE_EDITOR='sed -i 1s/pick/edit/' git rebase -q -i --force-rebase HEAD~1; "
        "git commit -q --amend -m Changed; git branch -f side HEAD~1 2> /dev/null || :)"
    ),
    "on a branch that is deleted": f"git -C {IGNORED} checkout -q -b side; git -C {IGNORED} checkout -q --detach HEAD~1; git branch -q -D side",
}


@pytest.mark.parametrize("deed", COMMITTED)
async def test_commit_that_only_a_nested_worktree_knew_is_held(harness: RunHarness, deed: str) -> None:
    make = f"git worktree add -q --detach {IGNORED}; inside {IGNORED}; rm {IGNORED}/loose.txt"
    harness.make({"a": {}}, f"{FUNCTIONS}work; {make}; {COMMITTED[deed]}", files={".gitignore": ".claude/\n"})
    assert (await harness.work()).names == {"a": "Merged"}
    assert held(harness, "Inner") == (2 if "rebase" in deed else 1), "with the copy that a rebase makes"
    assert entries(harness) == []


async def test_what_was_staged_in_a_nested_worktree_and_deleted_is_kept(harness: RunHarness) -> None:
    make = f"git worktree add -q --detach {IGNORED}; (cd {IGNORED}; echo staged > staged.txt; git add staged.txt; rm staged.txt)"
    harness.make({"a": {}}, f"{FUNCTIONS}work; {make}", files={".gitignore": ".claude/\n"})
    assert (await harness.work()).names == {"a": "Merged"}
    assert harness.show("staged.txt", "refs/coordinator/kept/a/1^2") == "staged\n"


async def test_nested_worktree_with_nothing_of_its_own_goes_without_a_word_of_keeping(harness: RunHarness) -> None:
    harness.make({"a": {}}, f"work; git worktree add -q --detach {IGNORED}", files={".gitignore": ".claude/\n"})
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    assert harness.leftovers() == []
    (said,) = [line for line in worked.lines if "inside the worktree of a" in line]
    assert "kept" not in said


ENDS = {
    "blocked": "notify blocking 'No key.'; exit 0",
    "failed": "exit 3",
    "damaged": "rm .git",
    "elsewhere": "git checkout -q --detach",
    "deleted": "cd ..; rm -rf a",
    "moved": "cd ..; mv a b2",
    "unknown": "rm -rf $(git rev-parse --git-dir)",
    "unreadable": "head -c 100 /dev/zero > $(git rev-parse --git-dir)/index",
}


@pytest.mark.parametrize("end", ENDS)
async def test_nested_worktree_goes_with_the_attempt_that_made_it(harness: RunHarness, end: str) -> None:
    make = f"git worktree add -q --detach {IGNORED}; inside {IGNORED}"
    harness.make(
        {"a": {}}, f"{FUNCTIONS}{make}; {ENDS[end]}", files={".gitignore": ".claude/\n"}, retry={"attempts": 1}
    )
    assert (await harness.work()).names == {"a": "Blocked"}
    assert held(harness, "Inner") == 1
    assert entries(harness) == ["a"]
    if end != "deleted":
        assert kept_files(harness)["loose.txt"].startswith("loose")


async def test_next_attempt_is_told_where_the_nested_worktree_of_the_last_one_is(harness: RunHarness) -> None:
    make = f"git worktree add -q --detach {IGNORED}; inside {IGNORED}; exit 3"
    harness.make({"a": {}}, f"{FUNCTIONS}[ $attempt = 1 ] && {{ {make}; }}\nwork", files={".gitignore": ".claude/\n"})
    assert (await harness.work()).names == {"a": "Merged"}
    assert f"{IGNORED}" in harness.journal.read("a-2-1")
    assert "refs/coordinator/kept/a/1" in harness.journal.read("a-2-1")


async def test_nested_worktree_lasts_from_turn_to_turn(harness: RunHarness) -> None:
    agent = "[ $turn = 1 ] && { git worktree add -q --detach sub; inside sub; exit 0; }\ngit merge -q $(git -C sub rev-parse HEAD); git worktree remove --force sub; work"
    harness.make({"a": {}}, FUNCTIONS + agent)
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    assert harness.has("inner.txt")
    assert not [line for line in worked.lines if "paths are not committed" in line]
    assert harness.leftovers() == []


async def test_nested_worktree_of_a_stopped_run_is_kept(harness: RunHarness) -> None:
    make = f"git worktree add -q --detach {IGNORED}; inside {IGNORED}; tell made; await never"
    harness.make(
        {"a": {}},
        f"{FUNCTIONS}[ -e once.tmp ] && {{ work; exit 0; }}; : > once.tmp; {make}",
        signals=["made", "never"],
        files={".gitignore": ".claude/\n*.tmp\n"},
    )

    async def stop(opened: OpenRun) -> None:
        await harness.signals["made"].wait()
        opened.run.stopping.request()

    assert (await harness.work(during=stop)).names == {"a": "Aborted"}
    assert entries(harness) == ["a"]
    assert kept_files(harness)["loose.txt"].startswith("loose")
    assert (await harness.work()).names == {"a": "Merged"}


async def test_nested_worktree_that_a_killed_run_left_is_kept_by_the_next(harness: RunHarness) -> None:
    harness.make(
        {"a": {}},
        FUNCTIONS + "[ $attempt = 1 ] && exit 3\nwork",
        retry={"attempts": 1},
        files={".gitignore": ".claude/\n"},
    )
    await harness.work()
    place = harness.top / ".worktrees" / "feat" / "a" / ".claude" / "x"
    harness.git.run("worktree", "add", "--quiet", "--detach", str(place))
    (place / "loose.txt").write_text("loose\n")
    harness.git.run("worktree", "lock", str(place))
    worked = await harness.work()
    assert entries(harness) == ["a"]
    assert kept_files(harness)["loose.txt"] == "loose\n"
    assert any(".claude/x" in line and "refs/coordinator/kept/a/1" in line for line in worked.view.messages)


async def test_nested_worktree_of_a_reviewer_is_kept(harness: RunHarness) -> None:
    agent = f"""
[ "$role" = code-reviewer ] && {{ git worktree add -q --detach {IGNORED}; inside {IGNORED}; echo 'Verdict: approved'; exit 0; }}
work
"""
    harness.make({"a": {}}, FUNCTIONS + agent, review={"when": "always"}, files={".gitignore": ".claude/\n"})
    assert (await harness.work()).names == {"a": "Merged"}
    assert entries(harness) == []
    assert kept_files(harness)["loose.txt"].startswith("loose")
    assert held(harness, "Inner") == 1


async def test_listed_copies_in_a_nested_worktree_are_not_kept(harness: RunHarness) -> None:
    make = f"git worktree add -q --detach {IGNORED}; inside {IGNORED}; cp secret.env {IGNORED}"
    harness.make(
        {"a": {}},
        f"{FUNCTIONS}rm -f x; {make}; mv secret.env ..; work; mv ../secret.env .",
        copy=["secret.env"],
        files={".gitignore": ".claude/\n"},
    )
    (harness.top / "secret.env").write_text("secret\n")
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    assert "secret.env" not in kept_files(harness)


async def test_worktree_elsewhere_is_named_and_left_alone(harness: RunHarness) -> None:
    mine, theirs = harness.place / "mine", harness.place / "theirs"
    harness.make({"a": {}}, f"work; git worktree add -q --detach {theirs}; git worktree remove --force {mine}")
    harness.git.run("worktree", "add", "--quiet", "--detach", str(mine))
    Git(mine).run("commit", "--quiet", "--allow-empty", "--message", "Mine")
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    assert theirs.is_dir()
    assert entries(harness) == ["theirs"]
    (said,) = [line for line in worked.lines if "Shared git state" in line]
    # A long path is truncated in the middle.
    assert f"{theirs.name} (created)" in said
    assert f"{mine.name} (removed; it is kept at refs/coordinator/kept/worktree-mine/1)" in said
    assert held(harness, "Mine") == 1


# Stashes.


STASHES = {
    "stash": "echo loose > loose.txt; git stash -qu",
    "stash with words": "echo loose > loose.txt; git add loose.txt; git stash push -q -m 'On: hold'",
    "two stashes": "echo other > other.txt; git stash -qu; echo loose > loose.txt; git stash -qu",
    "on a branch of a nested worktree": f"git worktree add -q -b wip {IGNORED}; (cd {IGNORED}; echo loose > loose.txt; git stash -qu)",
}


def stash_list(harness: RunHarness) -> list[str]:
    return harness.git.text("stash", "list", "--format=%H").splitlines()


@pytest.mark.parametrize(("way", "is_mine"), [*((way, True) for way in STASHES), ("stash", False)], ids=str)
async def test_stash_of_an_agent_is_kept_and_leaves_the_persons_list(
    harness: RunHarness, way: str, is_mine: bool
) -> None:
    harness.make({"a": {}}, f"work; {STASHES[way]}", files={".gitignore": ".claude/\n"})
    if is_mine:
        (harness.top / "mine.txt").write_text("mine\n")
        harness.git.run("stash", "--include-untracked", "--quiet")
    mine = stash_list(harness)
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    assert stash_list(harness) == mine
    assert any(
        "loose.txt" in harness.git.text("stash", "show", "--include-untracked", "--name-only", ref)
        for ref in kept_refs(harness)
    )
    assert [line for line in worked.lines if line.endswith("kept/a/1.") and "The stash" in line]
    assert (harness.git.resolve("refs/stash") is not None) == is_mine


async def test_stash_lasts_from_turn_to_turn(harness: RunHarness) -> None:
    harness.make({"a": {}}, "[ $turn = 1 ] && { echo 1 > s.txt; git stash -qu; exit 0; }\ngit stash pop -q; work")
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    assert harness.has("s.txt")


@pytest.mark.parametrize(
    "deed", ["git stash clear", "git stash drop -q stash@{1}", "git stash drop -q; git stash drop -q"]
)
async def test_stash_of_a_person_that_an_agent_drops_is_kept(harness: RunHarness, deed: str) -> None:
    harness.make({"a": {}}, f"work; {deed}")
    for name in ("one", "two"):
        (harness.top / f"{name}.txt").write_text(name)
        harness.git.run("stash", "push", "--include-untracked", "--quiet", "--message", name)
    mine = stash_list(harness)
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    refs = [harness.at(ref) for ref in kept_refs(harness)]
    assert set(mine) <= {*refs, *stash_list(harness)}
    assert [line for line in worked.lines if "stash" in line]


async def test_stash_that_a_person_made_on_a_branch_of_that_name_stays(harness: RunHarness) -> None:
    harness.make({"a": {}}, "work")
    harness.git.run("checkout", "--quiet", "-b", "feat/a")
    (harness.top / "mine.txt").write_text("mine\n")
    harness.git.run("stash", "--include-untracked", "--quiet", environment={"GIT_COMMITTER_DATE": "@1700000000 +0000"})
    harness.git.run("checkout", "--quiet", "main")
    harness.git.run("branch", "--quiet", "-D", "feat/a")
    mine = stash_list(harness)
    assert (await harness.work()).names == {"a": "Merged"}
    assert stash_list(harness) == mine


def kept_refs(harness: RunHarness) -> list[str]:
    return harness.git.text("for-each-ref", "--format=%(refname)", "refs/coordinator/kept").splitlines()
