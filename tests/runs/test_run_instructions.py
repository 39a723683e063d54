"""A repository's instructions for agents, read from one commit, and the prompts that result."""

import asyncio
import json
import re
from pathlib import Path

import pytest
from run_harness import RunHarness

from flows.cli.commands.option_values import PromptKind
from flows.cli.commands.prompt import find_prompt
from tasks_lib.agents.opencode.config.config_directory import make_configuration
from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.errors import InputError
from tasks_lib.git.objects.object_database import Objects
from tasks_lib.project.agent_instructions import MAX_BYTES, NO_INSTRUCTIONS, Instructions, read_instructions
from tasks_lib.project.loading import load_project
from tasks_lib.prompts.agent_prompts import InstructionFile
from tasks_lib.settings.schema import read_settings

OPENCODE = "agent: {backend: opencode}\n"
TABS = InstructionFile("AGENTS.md", "Use tabs.\n")


def read(harness: RunHarness, settings: str = OPENCODE) -> Instructions:
    with Objects(harness.git) as objects:
        return read_instructions(objects, harness.at(), read_settings(settings, "coordinator.yaml", {}))


def show(harness: RunHarness, task_id: str, kind: PromptKind = PromptKind.TASK) -> str:
    return find_prompt(load_project(harness.top, {}), task_id, kind).prompt


def test_nothing_there_is_nothing_to_say(harness: RunHarness) -> None:
    harness.make({})
    assert read(harness) == NO_INSTRUCTIONS


def test_what_is_committed_is_read_and_what_is_not_is_not(harness: RunHarness) -> None:
    files = {
        "AGENTS.md": "Use tabs.\n",
        ".opencode/agents/team/scout.md": "Look.\n",
        ".opencode/agent/old.md": "Old.\n",
        ".opencode/agents/notes.txt": "no role",
        "prompts/red.md": "$command: $tail\n",
    }
    harness.make({}, files=files)
    (harness.top / "AGENTS.md").write_text("not committed")
    found = read(harness, OPENCODE + "prompts: {red: prompts/red.md}\n")
    assert found.files == (TABS,)
    assert found.roles == {".opencode/agents/team/scout.md": "Look.\n", ".opencode/agent/old.md": "Old.\n"}
    assert found.templates.texts["red"] == "$command: $tail\n"


@pytest.mark.parametrize(
    "settings", ["agent: {command: [x]}\n", "agent: {backend: opencode, url: 'http://127.0.0.1:4096'}\n"]
)
def test_agents_that_find_agents_md_in_the_worktree_are_not_told_it_twice(harness: RunHarness, settings: str) -> None:
    harness.make({}, files={"AGENTS.md": "Use tabs.\n"})
    assert read(harness, settings).files == ()


def test_a_link_is_followed_as_long_as_it_stays_in_the_repository(harness: RunHarness) -> None:
    harness.make({}, files={"docs/agents/all.md": "Use tabs.\n"})
    for name, target in (("AGENTS.md", "docs/ours.md"), ("docs/ours.md", "agents/all.md")):
        (harness.top / name).symlink_to(target)
    harness.git.run("add", "AGENTS.md", "docs/ours.md")
    harness.git.run("commit", "--quiet", "--message", "Link")
    assert read(harness).files == (TABS,)
    for target in ("../outside.md", "/etc/passwd", "AGENTS.md"):
        (harness.top / "AGENTS.md").unlink()
        (harness.top / "AGENTS.md").symlink_to(target)
        harness.git.run("commit", "--quiet", "--all", "--message", "Link elsewhere")
        assert read(harness).files == ()


def test_every_fault_is_named_at_once(harness: RunHarness) -> None:
    files = {".opencode/agents/big.md": "x" * (MAX_BYTES + 1), "b.md": "$nothing\n", "folder/x.md": "x"}
    harness.make({}, files=files)
    (harness.top / "AGENTS.md").write_bytes(b"fine\nna\xefve\n")
    harness.git.run("add", "AGENTS.md")
    harness.git.run("commit", "--quiet", "--message", "Latin")
    with pytest.raises(InputError) as caught:
        read(harness, OPENCODE + "prompts: {task: folder, red: b.md, review: gone.md}\n")
    assert [str(fault).partition(";")[0] for fault in caught.value.faults] == [
        f".opencode/agents/big.md: has {MAX_BYTES + 1} bytes",
        "AGENTS.md:2: the byte 0xef is not UTF-8",
        'b.md:1: `$nothing` is not a placeholder of the prompt "red"',
        f'coordinator.yaml: prompts.review names "gone.md", which is not a file at commit {harness.at()[:10]}',
        f'coordinator.yaml: prompts.task names "folder", which is not a file at commit {harness.at()[:10]}',
    ]


def test_instructions_that_opencodes_configuration_names_are_quoted_from_the_commit(harness: RunHarness) -> None:
    texts = {"AGENTS.md": "Use tabs.\n", "docs/style.md": "Style.\n", "rules/a.md": "A.\n", "rules/deep/b.md": "B.\n"}
    harness.make({}, files={**texts, "rules/c.txt": "not matched"})
    (harness.top / "docs/style.md").write_text("not committed")
    named = ["docs/style.md", "./rules/**/*.md", "rules/a.md", "AGENTS.md", "/etc/own.md", "~/own.md", "https://x/y.md"]
    settings = f"agent: {{backend: opencode, config: {{instructions: {json.dumps(named)}}}}}\n"
    assert {file.path: file.text for file in read(harness, settings).files} == texts
    assert [file.path for file in read(harness, settings).files][:2] == ["AGENTS.md", "docs/style.md"]
    written = make_configuration(read_settings(settings, "coordinator.yaml", {}), {}, shells="", keep=[])
    assert json.loads(written["opencode.json"])["instructions"] == named[-3:]


def test_an_instruction_file_that_is_not_committed_is_named(harness: RunHarness) -> None:
    harness.make({})
    with pytest.raises(
        InputError, match=r'agent\.config\.instructions names "gone\.md", which is not a file at commit'
    ):
        read(harness, "agent: {backend: opencode, config: {instructions: [gone.md, 'none/*.md']}}\n")


async def test_what_is_shown_is_what_is_sent(harness: RunHarness) -> None:
    harness.make({"a": {}, "b": {"depends_on": ["a"]}})
    shown = await asyncio.to_thread(show, harness, "a")
    await harness.work(only=["a"])
    assert harness.journal.read("a-1-1") == shown
    shown = await asyncio.to_thread(show, harness, "b")
    assert "Wrote a.txt." in shown
    assert re.search(r"a\.txt +\| +1 \+", shown)
    await harness.work()
    assert harness.journal.read("b-1-1") == shown


async def test_a_prompt_of_the_repositorys_own_is_sent_in_the_place_of_ours(harness: RunHarness) -> None:
    harness.make({"a": {}}, prompts={"task": "own.md"}, files={"own.md": "Do $id for $HOME.\n\n$earlier\n\n$finish\n"})
    shown = await asyncio.to_thread(show, harness, "a")
    assert shown.startswith("Do a for $HOME.\n\n## How to finish\n")
    await harness.work()
    assert harness.journal.read("a-1-1") == shown


async def test_what_is_shown_is_what_is_sent_after_a_stop_and_after_a_block(harness: RunHarness) -> None:
    harness.make({"a": {}}, "echo half > half; tell begun; await go", signals=["begun", "go"])

    async def stop(opened: OpenRun) -> None:
        await harness.signals["begun"].wait()
        opened.run.stopping.request()

    assert (await harness.work(during=stop)).names == {"a": "Aborted"}
    shown = await asyncio.to_thread(show, harness, "a")
    assert "Check `git status`" in shown
    harness.write_agent('rm -f half; [ $attempt = 1 ] && coordinator notify --level blocking "which?" || work')
    assert (await harness.work()).names == {"a": "Blocked"}
    assert harness.journal.read("a-1-1") == shown
    harness.set_status("resolve-a-1", "completed")
    shown = await asyncio.to_thread(show, harness, "a")
    assert "This is attempt 2." in shown
    assert (await harness.work()).names == {"a": "Merged"}
    assert harness.journal.read("a-2-1") == shown


async def test_what_is_shown_of_a_review_is_what_is_sent(harness: RunHarness) -> None:
    harness.make(
        {"a": {}},
        'if [ $role = code-reviewer ]; then tell asked; await go; echo "Verdict: approved"; else work; fi',
        signals=["asked", "go"],
        review={"when": "always"},
    )
    shown: list[str] = []

    async def look(_: OpenRun) -> None:
        await harness.signals["asked"].wait()
        shown.append(await asyncio.to_thread(show, harness, "a", PromptKind.REVIEW))
        harness.signals["go"].send()

    assert (await harness.work(during=look)).names == {"a": "Merged"}
    reviews = [Path(name).name for name in harness.journal.turns() if "review" in name]
    assert [harness.journal.read(name) for name in reviews] == shown
