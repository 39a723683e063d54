"""Submodules: a pointer lands only if its commit persists, and objects only in a worktree's store are kept."""

import subprocess

import pytest
from run_harness import Ground

from tasks_lib.git.commits.isolated_git import IsolatedGit
from tasks_lib.git.commits.merge_tree import Conflict, merge_trees
from tasks_lib.git.objects.object_database import Objects

FILL = "git -c protocol.file.allow=always submodule --quiet update --init --recursive"
SETUP = [FILL]
WRITE = "cd lib; git config user.name A; git config user.email a@b; echo 2 >> x; git commit -q -a -m two; cd ..;"
POINT = "git add lib; git commit -q -m point; echo Done."


def sh(ground: Ground, lines: str, *, at: str = ".") -> str:
    prelude = "export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=protocol.file.allow GIT_CONFIG_VALUE_0=always\n"
    done = subprocess.run(["/bin/sh", "-ec", prelude + lines], cwd=ground.top / at, check=True, capture_output=True)
    return done.stdout.decode().strip()


def make(ground: Ground, agent: str, setup: list[str] = SETUP) -> None:
    """Make a repository with the submodule lib, whose remote is next to it."""
    ground.make({"a": {}}, agent, setup=setup, verify=["true"])
    sh(
        ground,
        "git init -q -b main ../library; cd ../library; git config user.name A; git config user.email a@b;"
        "git config receive.denyCurrentBranch ignore; echo 1 > x; git add x; git commit -q -m one",
    )
    sh(ground, f"git submodule --quiet add {ground.place}/library lib; git commit -q -m Lib")


def find_pointer(ground: Ground) -> str:
    return ground.git.text("rev-parse", "main:lib")


@pytest.mark.parametrize("is_filled", [True, False])
async def test_commit_of_a_submodule_made_in_a_worktree_lands_and_lasts(ground: Ground, is_filled: bool) -> None:
    make(ground, WRITE + POINT)
    if not is_filled:
        sh(ground, "rm -rf lib .git/modules; mkdir lib; git config --remove-section submodule.lib")
    worked = await ground.work()
    assert worked.names == {"a": "Merged"}, "\n".join(worked.lines)
    assert sum("which is not on any remote yet; it is kept in" in line for line in worked.lines) == 1
    sh(ground, "git submodule --quiet update --init")
    assert sh(ground, "git rev-parse HEAD; cat x", at="lib").split() == [find_pointer(ground), "1", "2"]
    assert ground.leftovers() == []


async def test_commit_of_a_submodule_that_its_agent_pushed_lands_and_nothing_is_kept(ground: Ground) -> None:
    make(ground, f"{WRITE} git -C lib push -q origin HEAD:refs/heads/two; {POINT}")
    worked = await ground.work()
    assert worked.names == {"a": "Merged"}, "\n".join(worked.lines)
    assert not any("is kept in" in line for line in worked.lines)
    assert sh(ground, "git rev-parse two", at="../library") == find_pointer(ground)
    assert sh(ground, "git for-each-ref refs/coordinator", at=".git/modules/lib") == ""


async def test_commit_of_a_submodule_inside_a_submodule_lasts(ground: Ground) -> None:
    inner = WRITE.replace("cd lib", "cd lib/deep").replace("cd ..", "cd ../..").replace("x;", "y;")
    make(
        ground,
        f"{inner} cd lib; git config user.name A; git config user.email a@b; git commit -q -a -m d; cd ..; {POINT}",
    )
    sh(
        ground,
        "git init -q -b main ../deep; cd ../deep; git config user.name A; git config user.email a@b;"
        "echo 1 > y; git add y; git commit -q -m deep",
    )
    sh(ground, f"git submodule --quiet add {ground.place}/deep deep; git commit -q -m Deep", at="../library")
    sh(ground, "cd lib; git pull -q origin main; cd ..; git add lib; git commit -q -m Newer")
    worked = await ground.work()
    assert worked.names == {"a": "Merged"}, "\n".join(worked.lines)
    sh(ground, "git submodule --quiet update --init --recursive")
    assert sh(ground, "cat lib/deep/y").split() == ["1", "2"]


async def test_pointer_to_a_commit_that_is_nowhere_is_given_back(ground: Ground) -> None:
    make(
        ground,
        f"git update-index --cacheinfo 160000,{'1' * 40},lib; git commit -q -m point; echo Done.",
        setup=[],
    )
    worked = await ground.work()
    assert worked.names == {"a": "Blocked"}, "\n".join(worked.lines)
    assert "a commit that is not on any remote of the submodule" in ground.turn("a-1-2")


async def test_pointer_that_the_remote_gives_away_lands(ground: Ground) -> None:
    make(
        ground,
        f"git update-index --cacheinfo 160000,$(cat {ground.place}/newer),lib; git commit -q -m point; echo Done.",
        setup=[],
    )
    sh(ground, "echo 3 >> x; git commit -q -a -m three; git rev-parse HEAD > ../newer", at="../library")
    worked = await ground.work()
    assert worked.names == {"a": "Merged"}, "\n".join(worked.lines)
    assert find_pointer(ground) == (ground.place / "newer").read_text().strip()


async def test_work_in_a_submodule_that_was_not_committed_above_is_kept(ground: Ground) -> None:
    """A submodule branch that no pointer refers to, and a file that was never added."""
    agent = (
        "cd lib; git config user.name A; git config user.email a@b; git checkout -q -b idea; echo idea > idea;"
        "git add idea; git commit -q -m idea; git checkout -q main; echo loose > loose; cd ..; work; "
        "git -C lib stash -q -u"
    )
    make(ground, agent.replace("echo loose > loose", "echo loose >> x"))
    worked = await ground.work()
    assert worked.names == {"a": "Merged"}, "\n".join(worked.lines)
    kept = ground.git.text("for-each-ref", "--format=%(objectname)", "refs/coordinator/kept/feat-a-lib").split()
    assert any(ground.git.run("cat-file", "-e", f"{one}:idea", accept=range(256)).status == 0 for one in kept)
    assert any(ground.git.run("cat-file", "blob", f"{one}:x").stdout == b"1\nloose\n" for one in kept)


async def test_both_sides_of_a_pointer_are_a_conflict_whatever_the_checkout_has(ground: Ground) -> None:
    """Git would take the newer commit if the checkout's own store has both, but not otherwise."""
    make(ground, POINT)
    base = ground.at()
    sh(ground, "git config user.name A; git config user.email a@b", at="lib")
    one = sh(ground, "echo 2 >> x; git commit -q -a -m two; git rev-parse HEAD", at="lib")
    two = sh(ground, "echo 3 >> x; git commit -q -a -m three; git rev-parse HEAD", at="lib")
    sides: list[str] = []
    for oid in (one, two):
        sh(
            ground,
            f"git checkout -q --detach {base}; git update-index --cacheinfo 160000,{oid},lib; git commit -q -m side",
        )
        sides.append(ground.at("HEAD"))
    with Objects(ground.git) as objects:
        merged = merge_trees(IsolatedGit(ground.git), objects, *sides)
    assert not isinstance(merged, Conflict)
    assert merged.conflicted == ("lib",)
