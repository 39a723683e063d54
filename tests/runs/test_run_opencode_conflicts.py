"""A conflict with the real opencode: given back with the other task's intent, a dropped change named, and landed."""

import pytest
from e2e.opencode_harness import OpencodeHarness, bash, commit, node, read_prompts
from run_harness import reach

from tasks_lib.engine.run_lifecycle import OpenRun

pytestmark = pytest.mark.xdist_group("opencode")


async def test_dropped_change_is_named_and_put_back_in_the_same_session(oc: OpencodeHarness) -> None:
    careless = bash("git merge -q -X ours $COORDINATOR_TARGET; git log -1 --format=%s")
    careful = bash("echo 'rate = left + right' > shared.txt; git commit -qam 'fix: keep both'")
    begun, landed = (oc.signal_path(name) for name in ("begun", "landed"))
    tasks = {
        "base": node(commit("base", "echo 'rate = 1' > shared.txt")),
        "left": node(
            commit("left", "echo 'rate = left' > shared.txt"), {"say": "The rate is left."}, depends_on=["base"]
        ),
        "right": node(
            commit("right", f"echo > {begun}", "echo 'rate = right' > shared.txt", f"read -r _ < {landed}"),
            {"say": "The rate is right."},
            careless,
            {"say": "Merged."},
            careful,
            {"say": "Kept both."},
            depends_on=["base"],
        ),
    }
    oc.make(tasks, signals=["begun", "landed"], watch={"conflict_seconds": 0})  # Else it may be told in its first turn.

    async def release(opened: OpenRun) -> None:
        await reach(opened, "left: Merged")
        oc.signals["landed"].send()

    worked = await oc.work(during=release)

    assert worked.names == dict.fromkeys(tasks, "Merged")
    assert oc.show("shared.txt") == "rate = left + right\n"
    first, conflict, dropped = read_prompts(oc.requests("right")[-1])
    assert first.startswith("# Task right")
    assert "- shared.txt: changed on both sides" in conflict
    assert "### Task left: Do left" in conflict
    assert "Its report:\n> The rate is left." in conflict
    assert "1. shared.txt:1, by task left:\n```diff\n-rate = 1\n+rate = left\n```" in dropped
    (said,) = (line for line in worked.lines if line.startswith("right: given back: resolving"))
    assert said == "right: given back: resolving a conflict dropped 1 change: shared.txt:1 (task left)"
    assert oc.trailer("Attempt") == "1"
    assert oc.leftovers() == []
