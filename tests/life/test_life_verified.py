"""What was verified is what landed: the worktree holds the commit, and a gate that cannot run lands nothing."""

import subprocess

import pytest
from helpers import Ground

TESTED = {"tests/test_all.sh": "test ! -e bad.txt\n", "src/a.txt": "a\n"}
BAD = "echo x > bad.txt; commit bad; echo Done."


def sh(ground: Ground, lines: str) -> None:
    subprocess.run(["/bin/sh", "-ec", lines], cwd=ground.top, check=True)


@pytest.mark.parametrize("options", ["src tasks", "--no-cone '/*' '!/tests/'"])
async def test_sparse_checkout_of_a_person_leaves_no_test_out_and_stays_sparse(ground: Ground, options: str) -> None:
    verify = ["for one in tests/*.sh; do [ ! -e $one ] || sh $one; done"]
    ground.make(
        {"a": {}, "b": {}},
        f'[ -e tests/test_all.sh ]; [ "$id" = b ] && work || {{ {BAD}; }}',
        verify=verify,
        files=TESTED,
    )
    sh(ground, f"git sparse-checkout set {options}")
    worked = await ground.work()
    assert worked.names == {"a": "Blocked", "b": "Merged"}, worked.lines
    assert not ground.has("bad.txt")
    assert not (ground.top / "tests").exists()
    assert ground.git.text("ls-files", "-v").count("S tests/") == 1
    assert ground.git.text("status", "--porcelain") == ""
