"""With the real opencode, a conflict that is coming is told to the later session in its current turn, once."""

import asyncio

import pytest
from e2e.opencode_harness import OpencodeHarness, bash, commit, node, read_prompts
from run_harness import reach

from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.prompts.conflict_warning import FROM_COORDINATOR

pytestmark = pytest.mark.xdist_group("opencode")


def make_node(oc: OpencodeHarness, name: str) -> dict[str, object]:
    """A node that commits its own version of a file, waits, and takes both sides when it gets the conflict."""
    fix = bash("git merge -q $COORDINATOR_TARGET; echo both > shared.txt; git commit -qam 'fix: take both'")
    wait = bash(f"echo > {oc.signal_path(name)}; read -r _ < {oc.signal_path(f'go-{name}')}")
    made = node(commit(name, f"echo {name} > shared.txt"), wait, {"say": "Done."}, fix, {"say": "Fixed."})
    # The model follows the script of its own task; the warning quotes the description of the other one.
    return {**made, "body": f"Write {name}.\n\n## Script\n{made['body']}"}


async def test_conflict_is_told_to_the_later_session_in_its_turn_and_only_once(oc: OpencodeHarness) -> None:
    oc.make(
        {name: make_node(oc, name) for name in "ab"},
        signals=["a", "b", "go-a", "go-b"],
        files={"shared.txt": "base\n"},
        watch={"conflict_seconds": 1},
    )
    said: list[str] = []

    async def release(opened: OpenRun) -> None:
        opened.run.board.listen(lambda _, line: said.append(line) if "both change" in line else None)
        await asyncio.gather(
            oc.signals["a"].wait(), oc.signals["b"].wait(), reach(opened, "b: will conflict with a: shared.txt")
        )
        for name in "ab":
            oc.signals[f"go-{name}"].send()

    worked = await oc.work(during=release)

    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert oc.show("shared.txt") == "both\n"
    assert len(said) == 1
    later = next(name for name in "ab" if f"the session of {name} was told" in said[0])
    first = "b" if later == "a" else "a"
    told = [text for text in read_prompts(oc.requests(later)[-1]) if text.startswith(FROM_COORDINATOR)]
    assert len(told) == 1
    assert f"The other task is `{first}`: Do {first}" in told[0]
    assert f"Write {first}." in told[0]
    assert f"+{first}" in told[0]
    assert not any(FROM_COORDINATOR in text for body in oc.requests(first) for text in read_prompts(body))
    assert oc.leftovers() == []
