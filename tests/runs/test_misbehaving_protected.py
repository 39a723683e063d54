"""Branches that change the coordinator's configuration or protected paths: they wait for the user."""

import pytest
from run_harness import RunHarness

from tasks_lib.model import Blocked

REASON = "it changes {}, which only a person may approve"


@pytest.mark.parametrize(
    ("deed", "said"),
    [
        ("echo 'verify: []' >> coordinator.yaml", "coordinator.yaml"),
        ("git rm -q coordinator.yaml", "coordinator.yaml"),
        ("mkdir -p ci/deep; echo x > ci/deep/run.sh", "ci/deep/run.sh"),
        ("git rm -qr ci; ln -s elsewhere ci; git add ci", "it changes ci,"),
        ("echo x > CI/a 2> /dev/null || { mkdir CI; echo x > CI/a; }", "CI/a"),
    ],
)
async def test_protected_change_waits_for_a_person_and_others_land(harness: RunHarness, deed: str, said: str) -> None:
    agent = f"[ $id = b ] || {{ {deed}; }}\nwork"
    harness.make({"a": {}, "b": {}}, agent, protected_paths=["ci/"], files={"ci/old.sh": "true\n"})
    settings = harness.show("coordinator.yaml")
    worked = await harness.work()
    assert worked.names == {"a": "Blocked", "b": "Merged"}
    assert said in worked.view.nodes["a"].reason
    assert "which only a person may approve" in worked.view.nodes["a"].reason
    assert "git diff refs/heads/main...refs/heads/feat/a" in harness.show("tasks/resolve-a-1.md")
    assert harness.show("coordinator.yaml") == settings
    assert harness.show("ci/old.sh") == "true\n"
    assert not harness.has("a.txt")


async def test_exactly_what_a_person_allowed_lands(harness: RunHarness) -> None:
    agent = "[ $attempt = 1 ] || { [ -f $id.txt ] && exit 0; }\necho '# mine' >> coordinator.yaml; work"
    harness.make({"a": {}}, agent)
    worked = await harness.work()
    assert worked.outcomes["a"] == Blocked(REASON.format("coordinator.yaml"), "resolve-a-1")
    harness.set_status("resolve-a-1", "completed")
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    assert harness.show("coordinator.yaml").endswith("# mine\n")
    assert harness.leftovers() == []


async def test_another_change_than_the_allowed_one_waits_again(harness: RunHarness) -> None:
    harness.make({"a": {}}, 'echo "# $attempt" >> coordinator.yaml; echo $attempt > a.txt; commit Work')
    await harness.work()
    harness.set_status("resolve-a-1", "completed")
    worked = await harness.work()
    assert worked.outcomes["a"] == Blocked(REASON.format("coordinator.yaml"), "resolve-a-2")
    assert "# 1" not in harness.show("coordinator.yaml")


async def test_own_configuration_of_a_run_is_never_read_from_a_branch(harness: RunHarness) -> None:
    """A change of `verify` in a worktree affects neither its own branch nor the next node of the same run."""
    harness.make({"a": {}, "b": {}}, "echo 'verify: [\"false\"]' > coordinator.yaml; work", verify=["true"])
    worked = await harness.work()
    assert worked.names == {"a": "Blocked", "b": "Blocked"}
    assert REASON.format("coordinator.yaml") == worked.view.nodes["b"].reason
