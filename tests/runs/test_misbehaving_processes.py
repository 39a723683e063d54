"""Processes and locks that an agent leaves: each is ended, given time or removed, and the node still lands."""

import checker
import pytest
from run_harness import RunHarness

from tasks_lib.reporting.run_report import ExitCode

DAEMONS = """
(setsid sh -c 'trap "" TERM; while :; do date >> late.txt; sleep 0.01; done' > /dev/null 2>&1 &)
(env -u COORDINATOR_SESSION sleep 1000 > /dev/null 2>&1 &)
nohup setsid sleep 1000 > /dev/null 2>&1 &
for n in 1 2 3 4 5 6 7 8; do sh -c 'sleep 1000 & sleep 1000 & sleep 1000' & done
"""


async def test_daemons_are_ended_before_the_worktree_is_judged(harness: RunHarness) -> None:
    """One of them writes into the worktree endlessly: if it survived, the tree would never be clean again."""
    harness.make(
        {"a": {}},
        f"{DAEMONS}\necho late.txt > .gitignore; work; exec > /dev/null 2>&1 <&-; true",
        watch={"stop_seconds": 0.3},
    )
    before = checker.snapshot_user_state(harness.top)
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    assert checker.check(harness.top, before=before, meant=checker.Meant({"a": "completed"})) == []


@pytest.mark.parametrize(
    "deed",
    [
        "touch $(git rev-parse --git-dir)/index.lock",
        "git gc -q --prune=now; git reflog expire --expire=all --all; git repack -adq; git pack-refs --all --prune; git worktree prune",
        "mkdir ro; touch ro/ignored; echo ro > .gitignore; commit ignore; chmod -R a-w ro",
        "mkfifo pipe; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"s\")'",
    ],
    ids=["a lock on its index", "a collection of garbage", "files without rights", "a pipe and a socket"],
)  # fmt: skip
async def test_what_an_agent_leaves_in_its_worktree_stops_nobody(harness: RunHarness, deed: str) -> None:
    harness.make({"a": {}, "b": {"depends_on": ["a"]}}, f"work; [ $id = b ] || {{ {deed}; }}", verify=["true"])
    before = checker.snapshot_user_state(harness.top)
    worked = await harness.work()
    assert worked.names == {"a": "Merged", "b": "Merged"}
    meant = checker.Meant({"a": "completed", "b": "completed"}, verify=["true"])
    assert checker.check(harness.top, before=before, meant=meant) == []


async def test_locks_of_what_is_shared_are_named_and_stop_no_run(harness: RunHarness) -> None:
    """No run died, so nothing proves that a lock is stale: it stays, and whatever it blocks waits."""
    common = "$(git rev-parse --path-format=absolute --git-common-dir)"
    harness.make({"a": {}}, f"work; touch -d '1 minute ago' {common}/config.lock {common}/packed-refs.lock")
    assert (await harness.work()).names == {"a": "Merged"}
    assert harness.has("a.txt")
    again = await harness.work()
    assert again.code is ExitCode.COMPLETED
    assert any("feat/a has landed but could not be deleted" in line for line in again.view.messages)
    locks = sorted((harness.top / ".git").glob("*.lock"))
    assert [path.name for path in locks] == ["config.lock", "packed-refs.lock"]
    assert all(any(str(lock) in line for line in again.view.messages) for lock in locks)
    for lock in locks:
        lock.unlink()
    await harness.work()
    assert harness.leftovers() == []


async def test_agent_that_stops_at_once_has_its_attempts_and_no_more(harness: RunHarness) -> None:
    harness.make({"a": {}, "b": {}}, "[ $id = a ] || work; exit 0")
    worked = await harness.work()
    assert worked.names == {"a": "Blocked", "b": "Merged"}
    assert len([name for name in harness.journal.turns() if name.startswith("a")]) == 6


@pytest.mark.parametrize("state", ["stages", "merges", "makes many files", "a nested repository"])
async def test_what_is_not_committed_is_named_kept_and_never_landed(harness: RunHarness, state: str) -> None:
    deeds = {
        "stages": "work; echo staged > staged.txt; git add staged.txt",
        "merges": "work; git checkout -q -b y HEAD~1; echo z > a.txt; commit z; git checkout -q feat/a; git merge -q y || :",
        "makes many files": "work; mkdir many; (cd many; seq 5000 | xargs touch)",
        "a nested repository": "work; git init -q inner; echo 1 > inner/file",
    }
    harness.make(
        {"a": {}, "b": {}},
        f"if [ $id = b ]; then work; elif [ $turn = 1 ]; then {deeds[state]}; fi",
        retry={"attempts": 1},
    )
    worked = await harness.work()
    assert worked.names == {"a": "Blocked", "b": "Merged"}
    assert "paths are not committed" in worked.view.nodes["a"].reason
    assert len(worked.view.nodes["a"].reason) < 300
    assert harness.journal.turns() == ["a-1-1", "a-1-2", "a-1-3", "b-1-1"]
    assert not harness.has("a.txt")
