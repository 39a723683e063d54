"""Submodules: a pointer lands only if its commit persists, and objects only in a worktree's store are kept."""

import subprocess

import pytest
from run_harness import RunHarness

from tasks_lib.git.commits.isolated_git import IsolatedGit
from tasks_lib.git.commits.merge_tree import Conflict, merge_trees
from tasks_lib.git.objects.object_database import Objects

FILL = "git -c protocol.file.allow=always submodule --quiet update --init --recursive"
SETUP = [FILL]
WRITE = "cd lib; git config user.name A; git config user.email a@b; echo 2 >> x; git commit -q -a -m two; cd ..;"
POINT = "git add lib; git commit -q -m point; echo Done."


def sh(harness: RunHarness, lines: str, *, at: str = ".") -> str:
    prelude = "export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=protocol.file.allow GIT_CONFIG_VALUE_0=always\n"
    done = subprocess.run(["/bin/sh", "-ec", prelude + lines], cwd=harness.top / at, check=True, capture_output=True)
    return done.stdout.decode().strip()


def make(harness: RunHarness, agent: str, setup: list[str] = SETUP) -> None:
    """Make a repository with the submodule lib, whose remote is next to it."""
    harness.make({"a": {}}, agent, setup=setup, verify=["true"])
    sh(
        harness,
        "git init -q -b main ../library; cd ../library; git config user.name A; git config user.email a@b;"
        "git config receive.denyCurrentBranch ignore; echo 1 > x; git add x; git commit -q -m one",
    )
    sh(harness, f"git submodule --quiet add {harness.place}/library lib; git commit -q -m Lib")


def find_pointer(harness: RunHarness) -> str:
    return harness.git.text("rev-parse", "main:lib")


@pytest.mark.parametrize("is_filled", [True, False])
async def test_commit_of_a_submodule_made_in_a_worktree_lands_and_lasts(harness: RunHarness, is_filled: bool) -> None:
    make(harness, WRITE + POINT)
    if not is_filled:
        sh(harness, "rm -rf lib .git/modules; mkdir lib; git config --remove-section submodule.lib")
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}, "\n".join(worked.lines)
    assert sum("which is not on any remote yet; it is kept in" in line for line in worked.lines) == 1
    sh(harness, "git submodule --quiet update --init")
    assert sh(harness, "git rev-parse HEAD; cat x", at="lib").split() == [find_pointer(harness), "1", "2"]
    assert harness.leftovers() == []


async def test_commit_of_a_submodule_that_its_agent_pushed_lands_and_nothing_is_kept(harness: RunHarness) -> None:
    make(harness, f"{WRITE} git -C lib push -q origin HEAD:refs/heads/two; {POINT}")
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}, "\n".join(worked.lines)
    assert not any("is kept in" in line for line in worked.lines)
    assert sh(harness, "git rev-parse two", at="../library") == find_pointer(harness)
    assert sh(harness, "git for-each-ref refs/coordinator", at=".git/modules/lib") == ""


async def test_commit_of_a_submodule_inside_a_submodule_lasts(harness: RunHarness) -> None:
    inner = WRITE.replace("cd lib", "cd lib/deep").replace("cd ..", "cd ../..").replace("x;", "y;")
    make(
        harness,
        f"{inner} cd lib; git config user.name A; git config user.email a@b; git commit -q -a -m d; cd ..; {POINT}",
    )
    sh(
        harness,
        "git init -q -b main ../deep; cd ../deep; git config user.name A; git config user.email a@b;"
        "echo 1 > y; git add y; git commit -q -m deep",
    )
    sh(harness, f"git submodule --quiet add {harness.place}/deep deep; git commit -q -m Deep", at="../library")
    sh(harness, "cd lib; git pull -q origin main; cd ..; git add lib; git commit -q -m Newer")
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}, "\n".join(worked.lines)
    sh(harness, "git submodule --quiet update --init --recursive")
    assert sh(harness, "cat lib/deep/y").split() == ["1", "2"]


async def test_pointer_to_a_commit_that_is_nowhere_is_given_back(harness: RunHarness) -> None:
    make(
        harness,
        f"git update-index --cacheinfo 160000,{'1' * 40},lib; git commit -q -m point; echo Done.",
        setup=[],
    )
    worked = await harness.work()
    assert worked.names == {"a": "Blocked"}, "\n".join(worked.lines)
    assert "a commit that is not on any remote of the submodule" in harness.journal.read("a-1-2")


async def test_pointer_that_the_remote_gives_away_lands(harness: RunHarness) -> None:
    make(
        harness,
        f"git update-index --cacheinfo 160000,$(cat {harness.place}/newer),lib; git commit -q -m point; echo Done.",
        setup=[],
    )
    sh(harness, "echo 3 >> x; git commit -q -a -m three; git rev-parse HEAD > ../newer", at="../library")
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}, "\n".join(worked.lines)
    assert find_pointer(harness) == (harness.place / "newer").read_text().strip()


async def test_work_in_a_submodule_that_was_not_committed_above_is_kept(harness: RunHarness) -> None:
    """A submodule branch that no pointer refers to, and a file that was never added."""
    agent = (
        "cd lib; git config user.name A; git config user.email a@b; git checkout -q -b idea; echo idea > idea;"
        "git add idea; git commit -q -m idea; git checkout -q main; echo loose > loose; cd ..; work; "
        "git -C lib stash -q -u"
    )
    make(harness, agent.replace("echo loose > loose", "echo loose >> x"))
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}, "\n".join(worked.lines)
    kept = harness.git.text("for-each-ref", "--format=%(objectname)", "refs/coordinator/kept/feat-a-lib").split()
    assert any(harness.git.run("cat-file", "-e", f"{one}:idea", accept=range(256)).status == 0 for one in kept)
    assert any(harness.git.run("cat-file", "blob", f"{one}:x").stdout == b"1\nloose\n" for one in kept)


async def test_both_sides_of_a_pointer_are_a_conflict_whatever_the_checkout_has(harness: RunHarness) -> None:
    """Git would take the newer commit if the checkout's own store has both, but not otherwise."""
    make(harness, POINT)
    base = harness.at()
    sh(harness, "git config user.name A; git config user.email a@b", at="lib")
    one = sh(harness, "echo 2 >> x; git commit -q -a -m two; git rev-parse HEAD", at="lib")
    two = sh(harness, "echo 3 >> x; git commit -q -a -m three; git rev-parse HEAD", at="lib")
    sides: list[str] = []
    for oid in (one, two):
        sh(
            harness,
            f"git checkout -q --detach {base}; git update-index --cacheinfo 160000,{oid},lib; git commit -q -m side",
        )
        sides.append(harness.at("HEAD"))
    with Objects(harness.git) as objects:
        merged = merge_trees(IsolatedGit(harness.git), objects, *sides)
    assert not isinstance(merged, Conflict)
    assert merged.conflicted == ("lib",)
