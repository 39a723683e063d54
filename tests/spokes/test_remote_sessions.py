"""Sessions on other machines end as local ones do: what they did is judged, merged and cleaned up by the run."""

from spoke_harness import SpokeHarness

from tasks_lib.reporting.run_report import ExitCode


async def test_a_session_on_another_machine_lands_like_a_local_one(spokes: SpokeHarness) -> None:
    spokes.make({"a": {}, "b": {"depends_on": ["a"]}}, verify=["test -f a.txt"])
    result = await spokes.work()
    assert result.code is ExitCode.COMPLETED, result.lines
    assert result.names == {"a": "Merged", "b": "Merged"}
    assert spokes.show("b.txt") == "b\n"
    assert "north" in spokes.journal.read("a-1-1", "cwd")
    assert spokes.leftovers() == ["refs/remotes/origin/main"]
    assert spokes.list_left("north") == []
    assert spokes.list_published() == []
