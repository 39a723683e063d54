"""What is told of a failed attempt, and of the wait for the next one."""

from run_harness import RunHarness

from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.model import Stage

FAIL_ONCE = '[ "$attempt" = 2 ] || exit 7\nwork'


async def test_failed_attempt_is_told_and_its_wait_is_not_shown_as_a_session(harness: RunHarness) -> None:
    harness.make({"a": {}}, FAIL_ONCE)
    stages: list[str] = []

    async def look(opened: OpenRun) -> None:
        def hear(node_id: str, line: str) -> None:
            node = opened.run.board.node(node_id)
            if node and "failed" in line:
                stages.append(node.stage)

        opened.run.board.listen(hear)

    result = await harness.work(during=look)
    assert result.names == {"a": "Merged"}
    (line,) = [one for one in result.lines if "attempt 1 failed" in one]
    assert line.startswith("a: retrying: attempt 1 failed: ")
    assert "exited with 7" in line
    assert line.endswith("; the next one begins at once")
    assert stages == [Stage.RETRYING]
