"""Agents that move refs they do not own: the queue's ref, the target, branches and tags."""

import pytest
from run_harness import RunHarness

QUEUE = "refs/coordinator/queue/main"
EVIL = "echo evil > evil.txt; git add evil.txt; new=$(git commit-tree -p {parent} -m Evil $(git write-tree))"


@pytest.mark.parametrize(
    "deed",
    [
        f"git update-ref {QUEUE} $new",
        f"git update-ref {QUEUE} $new; git pack-refs --all",
        f"git update-ref refs/heads/evil $new; git symbolic-ref {QUEUE} refs/heads/evil",
    ],
    ids=["moves it", "packs it", "makes it a symbolic ref"],
)
async def test_commit_that_an_agent_puts_into_the_queue_is_never_published(harness: RunHarness, deed: str) -> None:
    evil = f"{EVIL.format(parent='main')}; {deed}; git reset -q --hard; tell moved; work"
    agent = f"if [ $id = b ]; then work; exit 0; fi\n{evil}"
    harness.make({"a": {}, "b": {"depends_on": ["a"]}}, agent, verify=["test ! -f evil.txt"], signals=["moved"])
    worked = await harness.work()
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert harness.log("%s") == ["Merge feat/b: Do b", "Merge feat/a: Do a", "Begin"]
    said = [message for message in worked.view.messages if "by something else" in message]
    assert len(said) == 1
    kept = harness.git.text("for-each-ref", "--format=%(refname)", "refs/coordinator/kept/queue-main").split()
    assert kept[0] in said[0]
    assert harness.has("evil.txt", kept[0])
    assert [ref for ref in harness.leftovers() if "evil" not in ref] == kept


async def test_commit_that_verify_itself_puts_into_the_queue_is_never_published(harness: RunHarness) -> None:
    """The head moves by compare-and-swap; an unexpected commit there is kept, and the head is restored."""
    other = (
        f"if ! test -f {{top}}/.git/once; then touch {{top}}/.git/once; "
        f"new=$(git -C {{top}} commit-tree -p main -m Other main^{{{{tree}}}}); git -C {{top}} update-ref {QUEUE} $new; fi"
    )
    harness.make({"a": {}}, verify=[other.format(top=harness.top)])
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    assert harness.log("%s") == ["Merge feat/a: Do a", "Begin"]
    assert harness.leftovers() == ["refs/coordinator/kept/queue-main/1"]


async def test_queue_that_an_agent_deletes_is_put_back_with_all_that_landed(harness: RunHarness) -> None:
    """The user's file in the way keeps the first merge unpublished."""
    agent = f"[ $id = a ] || git update-ref -d {QUEUE}\nwork"
    harness.make({"a": {}, "b": {"depends_on": ["a"]}}, agent)
    (harness.top / "a.txt").write_text("in the way\n")
    worked = await harness.work()
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert any("was deleted by something else" in message for message in worked.view.messages)
    assert harness.log("%s", QUEUE) == ["Merge feat/b: Do b", "Merge feat/a: Do a", "Begin"]
