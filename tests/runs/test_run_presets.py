"""Whole runs with the real Claude Code and Codex and a scripted model, without Prefect."""

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from agent_model_server import MODEL
from checker import Meant, check, snapshot_user_state
from e2e.opencode_harness import bash, commit, node, read_prompts, read_system
from run_harness import until
from runs.program_harness import ProgramHarness, opening_program

from flows.demo.model_script import Message, Step
from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.errors import InputError
from tasks_lib.model import Blocked
from tasks_lib.reporting.run_report import ExitCode

pytestmark = pytest.mark.xdist_group("presets")
BOTH = ("claude", "codex")


@pytest.fixture(params=BOTH)
def known(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ProgramHarness]:
    with opening_program(tmp_path, request.param, monkeypatch) as harness:
        yield harness


async def test_a_task_lands_with_a_preset_and_its_answer_is_the_summary(known: ProgramHarness) -> None:
    known.make({"a": node(commit("a"), {"say": "Wrote a.txt.\n\nIt has one line."})})
    before = snapshot_user_state(known.top)
    worked = await known.work()
    assert (worked.code, worked.retries) == (ExitCode.COMPLETED, [])
    assert check(known.top, before=before, meant=Meant({"a": "completed"})) == []
    assert "## Summary\n\nWrote a.txt.\n\nIt has one line." in known.show("tasks/a.md")
    log = known.read_log("a")
    assert "git add -A && git commit" in log
    assert log.rstrip().endswith("It has one line.")
    assert worked.view.tokens >= 240
    assert "tokens" in known.trailer("Spent")


def conflicting_node(mine: str) -> dict[str, object]:
    """A node that, when the model lets it, writes a file that others write too, and takes both sides of a conflict."""
    fix = bash("git merge -q $COORDINATOR_TARGET; printf 'both\\n' > shared.txt; git commit -qam 'fix: take both'")
    writes = commit(mine, f"echo {mine} > shared.txt")
    steps = ({"hang": True, "times": 1}, writes, {"say": f"Wrote {mine}."}, fix, {"say": "Fixed."})
    return node(*steps, depends_on=["base"])


async def test_a_graph_lands_with_a_conflict_a_red_test_a_review_and_a_safe_exit(known: ProgramHarness) -> None:
    known.mind.reviews = [bash("cat risky.txt"), {"say": "I read it.\n\nVerdict: approved"}]
    red = node(
        commit("red", "echo 1 > bad"), {"say": "Done."}, bash("git rm -q bad; git commit -qm fix"), {"say": "Ok."}
    )
    tasks = {
        "base": node(commit("base", "echo base > shared.txt")),
        "left": conflicting_node("left"),
        "right": conflicting_node("right"),
        "red": red,
        "risky": node(commit("risky"), risk="high"),
        "stuck": node(
            bash("coordinator notify --level blocking 'The key of the bank is missing.'"), {"say": "Stopped."}
        ),
    }
    known.make(tasks, verify=["test ! -e bad"])
    before = snapshot_user_state(known.top)

    async def let_both_write(_: OpenRun) -> None:
        await asyncio.to_thread(known.model.wait_for, lambda _: all(known.requests(name) for name in ("left", "right")))
        known.model.release()

    worked = await known.work(during=let_both_write)
    landed = [task_id for task_id in tasks if task_id != "stuck"]
    assert worked.names == {**dict.fromkeys(landed, "Merged"), "stuck": "Blocked"}
    assert worked.outcomes["stuck"] == Blocked("The key of the bank is missing.", "resolve-stuck-1")
    statuses = {**dict.fromkeys(landed, "completed"), "stuck": "blocked", "resolve-stuck-1": "pending"}
    assert check(known.top, before=before, meant=Meant(statuses, ["test ! -e bad"])) == []
    first, again = read_prompts(known.requests("red")[-1])
    assert ("id: red" in first, "does not pass" in again) == (True, True)
    fixed = [name for name in landed if len(read_prompts(known.requests(name)[-1])) == 2]
    assert len(fixed) == 2
    assert "red" in fixed


async def test_instructions_come_from_the_target_and_nothing_of_the_branch_starts(known: ProgramHarness) -> None:
    touch = f"touch {known.place}/started"
    hook = {"hooks": {"SessionStart": [{"hooks": [{"type": "command", "command": touch}]}]}}
    server = {"mcpServers": {"evil": {"command": "sh", "args": ["-c", touch]}}}
    files = {
        ".claude/settings.json": json.dumps(hook),
        ".mcp.json": json.dumps(server),
        ".codex/config.toml": f"[mcp_servers.evil]\ncommand = 'sh'\nargs = ['-c', '{touch}']\n",
        "AGENTS.md": "Use tabs.\n",
        "CLAUDE.md": "Be brief.\n",
    }
    known.make({"a": node(commit("a"))}, files=files)
    assert (await known.work()).code is ExitCode.COMPLETED
    body = known.requests("a")[0]
    assert read_prompts(body)[0].count("Use tabs.") == 1
    assert ("Be brief." in read_prompts(body)[0]) is (known.preset == "claude")
    assert "Use tabs." not in read_system(body)
    assert not (known.place / "started").exists()


async def test_a_turn_that_comes_again_after_a_stop_continues_its_conversation(known: ProgramHarness) -> None:
    known.make({"a": node(bash("echo half > half.txt"), {"hang": True, "times": 1}, commit("a"), {"say": "Done."})})

    async def stop(opened: OpenRun) -> None:
        await asyncio.to_thread(known.model.wait_for, lambda _: len(known.requests("a")) == 2)
        opened.run.stopping.request()

    await known.work(during=stop)
    known.model.release()
    worked = await known.work()
    assert worked.code is ExitCode.COMPLETED
    assert known.trailer("Attempt") == "1"
    assert len(known.find_conversations()) == 1
    assert len(read_prompts(known.requests("a")[-1])) >= 2


REFUSED = {
    "claude": Step(error=401, message="invalid x-api-key", headers={"retry-after": "3600"}),
    "codex": Step(error=401, message="invalid key"),
}


async def test_a_key_that_is_refused_stops_the_run_with_one_sentence(known: ProgramHarness) -> None:
    known.make({"a": node(commit("a")), "b": node(commit("b"))})
    known.mind.refusal = REFUSED[known.preset]
    worked = await known.work()
    assert (worked.code, worked.retries) == (ExitCode.BLOCKED, [])
    [said] = [line for line in worked.view.messages if line.startswith("The run is stopping: ")]
    assert "no session can succeed" in said
    assert "Invalid API key" in said or "401 Unauthorized" in said
    known.mind.refusal = None
    assert (await known.work()).code is ExitCode.COMPLETED
    assert known.trailer("Attempt") == "1"


async def test_a_limit_counts_no_attempt(known: ProgramHarness) -> None:
    known.make({"a": node(commit("a"))}, watch={"limit_seconds": 5})
    known.mind.refusal = Step(error=429, message="Slow down", headers={"retry-after": "3600"})
    worked = await known.work()
    assert (worked.code, worked.retries) == (ExitCode.BLOCKED, [])
    [said] = [line for line in worked.view.messages if line.startswith("The run is stopping: ")]
    assert "429" in said
    known.mind.refusal = None
    assert (await known.work()).code is ExitCode.COMPLETED
    assert known.trailer("Attempt") == "1"


async def test_a_budget_of_tokens_holds(known: ProgramHarness) -> None:
    steps = ({**bash("echo half > half.txt"), "tokens_in": 9000}, {"say": "Half."}, commit("a"))
    known.make({"a": node(*steps)}, budget={"node": {"tokens": 5000}})
    worked = await known.work()
    assert worked.names == {"a": "Blocked"}
    assert "budget.node.tokens is 5000" in str(worked.outcomes["a"])
    assert worked.view.nodes["a"].tokens >= 9000


async def test_a_running_session_shows_its_work_and_can_be_attached_and_told(known: ProgramHarness) -> None:
    known.make({"a": node(bash("echo half > half.txt"), {"hang": True, "times": 1}, commit("a"), {"say": "Done."})})
    seen: list[str] = []

    async def look(opened: OpenRun) -> None:
        await asyncio.to_thread(known.model.wait_for, lambda _: len(known.requests("a")) == 2)
        await until(lambda: "echo half" in known.read_log("a"))
        await until(lambda: bool(getattr(opened.run.board.node("a"), "attach", "")))
        shown = opened.run.board.node("a")
        assert shown
        seen.append(shown.attach)
        known.model.release()

    assert (await known.work(during=look)).code is ExitCode.COMPLETED
    name = known.find_conversations()[0].stem
    [attach] = seen
    program, verb, conversation = attach.split(" && ")[1].split()
    assert (program, verb) == (("claude", "--resume") if known.preset == "claude" else ("codex", "resume"))
    assert name.endswith(conversation)


async def test_a_tool_that_is_not_permitted_is_named_if_the_work_is_not_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opening_program(tmp_path, "claude", monkeypatch) as known:
        write = {"tool": "Write", "args": {"file_path": f"{tmp_path}/outside.txt", "content": "x"}}
        known.make(
            {"a": node(write, {"say": "I may not."}), "b": node(write, commit("b"))},
            watch={"nudges": 0},
            retry={"attempts": 1},
        )
        worked = await known.work()
        assert worked.names == {"a": "Blocked", "b": "Merged"}
        assert f"its permissions refused Write: {tmp_path}/outside.txt" in str(worked.outcomes["a"])
        assert not (tmp_path / "outside.txt").exists()


async def test_a_run_is_refused_while_the_key_is_not_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opening_program(tmp_path, "claude", monkeypatch) as known:
        known.make({"a": node(commit("a"))}, env={"agent": []})
        with pytest.raises(InputError, match="ANTHROPIC_API_KEY is set but not passed on: list it in"):
            await known.work()


async def test_a_login_shell_finds_coordinator_by_its_absolute_path(known: ProgramHarness) -> None:
    line = "env -i bash -lc \"$COORDINATOR_PROGRAM notify --level blocking 'Which currency?'\""
    known.make({"a": node(bash(f"export HOME; {line}"), {"say": "Stopped."})})
    worked = await known.work()
    assert worked.outcomes["a"] == Blocked("Which currency?", "resolve-a-1")


async def test_a_limit_of_a_subscription_is_waited_out_in_the_same_conversation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Claude Code is told by headers when its limit ends, and only if it is logged in."""
    with opening_program(tmp_path, "claude", monkeypatch) as known:
        monkeypatch.delenv("ANTHROPIC_API_KEY")
        monkeypatch.setenv("CLAUDE_CODE_OAUTH_TOKEN", "scripted")
        known.make({"a": node(commit("a"))}, env={"agent": ["CLAUDE_CODE_OAUTH_TOKEN"]})
        limits: list[float] = []

        def answer(messages: Sequence[Message]) -> Step:
            if not limits or time.time() < limits[0]:
                limits.append(int(time.time()) + 4)
                headers = {
                    f"anthropic-ratelimit-unified-{name}": value
                    for name, value in {
                        "status": "rejected",
                        "reset": str(limits[0]),
                        "representative-claim": "five_hour",
                    }.items()
                }
                return Step(error=429, message="limit", headers=headers | {"retry-after": "4000"})
            return known.mind(messages)

        known.model.decide_by(answer)
        worked = await known.work()
        assert (worked.code, worked.retries) == (ExitCode.COMPLETED, [])
        assert len(limits) == 1
        assert len(known.find_conversations()) == 1
        assert known.trailer("Attempt") == "1"


async def test_a_budget_of_cost_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opening_program(tmp_path, "claude", monkeypatch) as known:
        known.agent = {"model": "claude-sonnet-4-5"}  # Whose prices the program knows.
        steps = ({**bash("echo half > half.txt"), "tokens_in": 9000}, {"say": "Half."}, commit("a"))
        known.make({"a": node(*steps)}, budget={"node": {"cost": 0.001}})
        worked = await known.work()
        assert worked.names == {"a": "Blocked"}
        assert "budget.node.cost is 0.001" in str(worked.outcomes["a"])


async def test_each_role_has_its_model_and_a_wrapper_starts_the_program(known: ProgramHarness) -> None:
    wrapper = known.place / "wrapper"
    wrapper.write_text(f'#!/bin/sh\necho "$1" >> {known.place}/wrapped\nexec "$@"\n')
    wrapper.chmod(0o755)
    known.agent = {"models": {"code-reviewer": "any/m2"}}
    known.mind.reviews = [bash("cat a.txt"), {"say": "I read it.\n\nVerdict: approved"}]
    known.make({"a": node(commit("a"), risk="high")}, wrapper=[str(wrapper)])
    assert (await known.work()).code is ExitCode.COMPLETED
    reviews = [body for body in known.requests("a") if "Verdict: approved" in read_prompts(body)[0]]
    assert {body["model"] for body in reviews} == {"m2"}
    assert {body["model"] for body in known.requests("a") if body not in reviews} == {MODEL}
    assert {Path(line).name for line in (known.place / "wrapped").read_text().split()} >= {known.preset}
