"""The typed record of a blocker: on the head, in the resolve file, and where users look, whatever said it."""

import json
from typing import Any

import pytest
from run_harness import RunHarness

from tasks_lib.model import BlockerKind

LINES = "Kind: decision\\nError: E404 for 2027\\nTried: the archive\\nSuggested: name the rate for 2027"
SAID = "No rate for 2027.\n" + LINES.replace("\\n", "\n")
NOTICE = json.dumps({"level": "blocking", "text": SAID, "turn": 1})
BY_NOTICE = f"""cat >> "$(git rev-parse --git-dir)/coordinator-notices.jsonl" <<'END'\n{NOTICE}\nEND"""
BY_COMMIT = f"""printf 'blocked(a): No rate for 2027.\\n\\n{LINES}\\n' | git commit -q --allow-empty -F -"""
BY_FILE = f"""
status blocked
printf 'Blocked: No rate for 2027.\\n\\n{LINES}\\n' > note
sed -i '/^## Notes/r note' $COORDINATOR_TASK_FILE
rm note
commit 'wip: note the blocker'
"""
BY_ANSWER = f"""git commit -q --allow-empty -m 'blocked(a): No rate for 2027.'; printf '{LINES}\\n'"""


@pytest.mark.parametrize(
    "agent", [BY_NOTICE, BY_COMMIT, BY_FILE, BY_ANSWER], ids=["notice", "commit", "file", "answer"]
)
async def test_fields_reach_the_head_the_resolve_file_and_the_view(harness: RunHarness, agent: str) -> None:
    harness.make({"a": {}}, agent)
    worked = await harness.work()
    node = worked.view.nodes["a"]
    assert (node.reason, node.blocker_kind) == ("No rate for 2027.", "decision")
    notes = harness.show("tasks/a.md").split("## Notes")[1]
    recorded = ["Blocked: No rate for 2027.", "- Kind: decision", "- Error: E404 for 2027", "- Tried: the archive"]
    assert "\n".join([*recorded, "- Suggested: name the rate for 2027"]) in notes
    assert LINES.replace("\\n", "\n") in notes  # The agent's own words.
    resolve = harness.show("tasks/resolve-a-1.md")
    assert "Kind: decision" in resolve
    assert "- [ ] name the rate for 2027" in resolve.split("## Acceptance Criteria")[1]
    assert "Tried: the archive" in resolve.split("## Acceptance Criteria")[0]


COUNTED: dict[str, tuple[str, dict[str, Any], BlockerKind, str]] = {
    "attempts": ("exit 3", {}, BlockerKind.ENVIRONMENT, "(attempt 2; 2 allowed)"),
    "landing rounds": (
        "echo x >> x; commit x",
        {"land": {"give_backs": 0}, "verify": ["test ! -e x"]},
        BlockerKind.CONTEXT,
        "given back",
    ),
    "approval": ("echo 'target: other' > coordinator.yaml; commit x", {}, BlockerKind.DECISION, "only a person"),
    "budget": ("exit 3", {"budget": {"node": {"turns": 1}}}, BlockerKind.DECISION, "budget.node.turns"),
}


@pytest.mark.parametrize("case", COUNTED)
async def test_counted_failure_is_a_blocker_of_a_kind(harness: RunHarness, case: str) -> None:
    agent, settings, kind, said = COUNTED[case]
    harness.make({"a": {}}, agent, **settings)
    worked = await harness.work()
    node = worked.view.nodes["a"]
    assert said in node.reason
    assert node.blocker_kind == kind
    assert f"- Kind: {kind}" in harness.show("tasks/a.md")


async def test_report_that_repeats_the_notes_is_recorded_once(harness: RunHarness) -> None:
    harness.make({"a": {}}, f"{BY_FILE}\nprintf 'Blocked: No rate for 2027.\\n\\n{LINES}\\n'; echo 'That is all.'")
    await harness.work()
    for path in ("tasks/a.md", "tasks/resolve-a-1.md"):
        notes = harness.show(path).split("## Notes")[1]
        assert notes.count("\nKind: decision\n") == 1
        assert "That is all." in notes
