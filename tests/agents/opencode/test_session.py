"""Turns of a real opencode, driven by a scripted model."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio
from session_fixtures import SessionFixture, bash, delegate, open_lab

from tasks_lib.agents.opencode.turns.session_adapter import SessionLimits
from tasks_lib.session.spending import Allowance, Budget

pytestmark = [pytest.mark.xdist_group("opencode"), pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[SessionFixture]:
    async with open_lab(tmp_path_factory.mktemp("lab")) as opened:
        yield opened


async def test_an_agent_edits_runs_and_commits(lab: SessionFixture) -> None:
    one = lab.open(title="Alpha", is_fresh=True)
    end = await one.do(
        [
            {"tool": "write", "args": {"filePath": str(one.spec.cwd / "a.txt"), "content": "hi\n"}},
            {"think": "I will commit.", "tool": "todowrite", "args": {"todos": [
                {"content": "write", "status": "completed", "priority": "high"},
                {"content": "commit", "status": "in_progress", "priority": "high"},
            ]}},
            bash("git add a.txt && git commit -qm 'Add a' && env | sort > env.txt"),
            {"say": "All done."},
        ]
    )  # fmt: skip
    assert (end.status, end.error, end.answer) == (0, "", "All done.")
    assert one.git("log", "-1", "--format=%s") == "Add a"
    assert (end.spent.tokens, end.spent.calls, end.spent.turns) == (480, 4, 1)
    assert round(end.spent.cost, 8) == 0.00056
    assert one.conversations == [f"0:{one.conversations[0].partition(':')[2]}"]
    view = one.watcher.views[-1]
    assert (view.todos, view.todos_done, view.todo) == (2, 1, "commit")
    environment = (one.spec.cwd / "env.txt").read_text()
    assert f"COORDINATOR_SESSION={one.spec.session}\n" in environment
    assert "COORDINATOR_TURN=1\n" in environment
    assert "OPENCODE_SERVER_PASSWORD" not in environment
    for line in ("prompt (attempt 1, turn 1)", "write\n", "bash\n", "command: git add a.txt", "All done."):
        assert line in one.log


async def test_a_conversation_goes_on_in_the_next_turn_and_in_another_session(lab: SessionFixture) -> None:
    first = lab.open()
    await first.do([{"say": "first"}])
    end = await first.do([{"say": "second"}])
    assert (end.answer, end.spent.calls) == ("second", 1)
    await first.session.close()
    other = lab.open(like=first, conversation=first.conversations[0])
    assert (await other.do([{"say": "third"}])).answer == "third"
    assert other.conversations == first.conversations[:1]
    said = [message["content"] for message in lab.model.requests[-1]["messages"] if message["role"] == "assistant"]
    assert said == ["first", "second"]


async def test_a_conversation_that_is_gone_or_is_elsewhere_begins_anew_and_says_so(lab: SessionFixture) -> None:
    first = lab.open()
    await first.do([{"say": "first"}])
    for conversation in ("0:ses_nothing", first.conversations[0]):
        # Another worktree, as another attempt may have: the tools of the old conversation run in the old one.
        other = lab.open(conversation=conversation, is_fresh=True)
        assert (await other.do([{"say": "ok"}])).status == 0
        assert other.conversations[0] != conversation
        prompt = str(lab.model.requests[-1]["messages"][-1]["content"])
        assert prompt.startswith("(The earlier messages of this conversation are lost.")


async def test_a_permission_that_is_asked_for_is_refused_with_advice(lab: SessionFixture) -> None:
    one = lab.open()
    end = await one.do([bash("cat /etc/hostname", workdir="/etc"), {"say": "went on"}])
    assert (end.status, end.answer) == (0, "went on")
    told = str(lab.model.requests[-1]["messages"][-1]["content"])
    assert f"Not allowed here: external_directory /etc/*. Work inside {one.spec.cwd}" in told
    assert "coordinator notify --level blocking" in told
    assert "asks (permission)" in one.log


async def test_a_question_is_answered_and_the_turn_goes_on(lab: SessionFixture) -> None:
    one = lab.open()
    asked = [{"question": text, "header": "q", "options": [{"label": "a", "description": "A"}]} for text in "xy"]
    end = await one.do([{"tool": "question", "args": {"questions": asked}}, {"say": "went on"}])
    assert (end.status, end.answer) == (0, "went on")
    assert "Decide based on the task file" in str(lab.model.requests[-1]["messages"][-1]["content"])


async def test_a_subagents_tokens_count_and_its_requests_are_answered(lab: SessionFixture) -> None:
    one = lab.open()
    end = await one.do([delegate([bash("cat /etc/hostname", workdir="/etc"), {"say": "child"}]), {"say": "parent"}])
    assert (end.status, end.answer) == (0, "parent")
    assert (end.spent.tokens, end.spent.calls) == (480, 4)
    assert "subagent asks (permission)" in one.log
    again = await one.do([{"say": "no child now"}])
    assert again.spent.calls == 1


async def test_what_a_person_says_is_heard_in_the_middle_of_a_turn(lab: SessionFixture) -> None:
    one = lab.open()
    assert await one.session.say("too early") is False
    bell = one.make_bell()
    turn = asyncio.create_task(one.do([bash("echo up > bell; read line < bell; echo $line"), {"say": "first"}]))
    assert await one.hear(bell) == "up\n"
    assert await one.session.say("use the other library") is True
    await asyncio.to_thread(bell.write_text, "on\n")
    end = await turn
    assert end.status == 0
    assert "use the other library" in str(lab.model.requests[-1]["messages"])
    assert await one.session.say("too late") is False


async def test_a_reviewer_can_edit_no_file(lab: SessionFixture) -> None:
    one = lab.open(is_read_only=True)
    write = {"tool": "write", "args": {"filePath": str(one.spec.cwd / "b.txt"), "content": "hi\n"}}
    assert (await one.do([write, delegate([write, {"say": "child"}]), {"say": "Verdict: approved"}])).status == 0
    assert not (one.spec.cwd / "b.txt").exists()


async def test_an_answer_that_is_cut_off_is_gone_on_with(lab: SessionFixture) -> None:
    one = lab.open()
    end = await one.do([{"say": "this is cut", "finish": "length"}, {"say": "whole"}])
    assert (end.status, end.answer, end.spent.calls) == (0, "whole", 2)


async def test_an_empty_answer_is_an_end_like_any_other(lab: SessionFixture) -> None:
    end = await lab.open().do([{"say": ""}])
    assert (end.status, end.answer) == (0, "")


async def test_a_tool_that_never_ends_is_ended(lab: SessionFixture) -> None:
    one = lab.open(limits=SessionLimits(stall_seconds=60, tool_seconds=2))
    end = await one.do([bash("setsid sleep 600 & sleep 700", timeout=700_000), {"say": "never"}])
    assert end.status == 1
    assert "the session was silent for" in end.error
    assert "bash: setsid sleep 600" in end.error
    assert one.left == []
    assert (await one.do([{"say": "works again"}])).answer == "works again"


async def test_a_turn_that_takes_too_long_is_ended(lab: SessionFixture) -> None:
    one = lab.open(turn_seconds=4)
    end = await one.do([bash("sleep 700", timeout=700_000), {"say": "never"}])
    assert (end.status, end.timed_out) == (1, True)
    assert "took longer than" in end.error
    assert one.left == []


async def test_a_model_that_says_nothing_more_is_given_up(lab: SessionFixture) -> None:
    one = lab.open(limits=SessionLimits(stall_seconds=3, tool_seconds=60))
    end = await one.do([{"say": "a b c d", "hang": True}])
    assert end.status == 1
    assert "the session was silent for" in end.error


async def test_cancelling_a_turn_ends_its_tools(lab: SessionFixture) -> None:
    one = lab.open()
    bell = one.make_bell()
    turn = asyncio.create_task(one.do([bash("echo up > bell; setsid sleep 600 & sleep 700", timeout=700_000)]))
    assert await one.hear(bell) == "up\n"
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
    assert one.left == []
    assert (await one.do([{"say": "works again"}])).answer == "works again"


async def test_what_a_tool_left_running_ends_with_its_turn(lab: SessionFixture) -> None:
    one = lab.open()
    end = await one.do([bash("setsid sleep 600 > /dev/null 2>&1 &"), {"say": "done"}])
    assert end.status == 0
    assert one.left == []


async def test_a_budget_ends_the_turn_that_exceeds_it(lab: SessionFixture) -> None:
    allowance = Allowance(Budget("budget.node", tokens=300))
    one = lab.open(allowances=lambda: [allowance])
    end = await one.do([*[bash(f"echo {number}") for number in range(20)], {"say": "never"}])
    assert end.status == 1
    assert end.excess.startswith("budget.node.tokens is 300, but ")
    assert 300 < end.spent.tokens < 20 * 120


async def test_a_budget_of_seconds_ends_a_turn_that_is_silent(lab: SessionFixture) -> None:
    allowance = Allowance(Budget("budget.run", seconds=2))
    one = lab.open(allowances=lambda: [allowance])
    end = await one.do([bash("sleep 700", timeout=700_000)])
    assert end.excess.startswith("budget.run.seconds is 2")
    assert one.left == []


async def test_the_attach_command_names_the_server_the_conversation_and_the_worktree(lab: SessionFixture) -> None:
    one = lab.open()
    assert one.session.attach_command() == ""
    await one.do([{"say": "hi"}])
    command = one.session.attach_command()
    name = one.conversations[0].partition(":")[2]
    assert " attach http://127.0.0.1:" in command
    assert command.endswith(f" --session {name} --dir {one.spec.cwd}")


async def test_closing_twice_does_nothing_more(lab: SessionFixture) -> None:
    one = lab.open()
    await one.do([{"say": "hi"}])
    await one.session.close()
    await one.session.close()
    await lab.open().session.close()


async def test_twenty_sessions_work_at_once(lab: SessionFixture) -> None:
    steps = [bash("echo $COORDINATOR_SESSION > who && git add who && git commit -qm Who"), {"say": "done"}]
    many = [lab.open(is_fresh=True) for _ in range(20)]
    ends = await asyncio.gather(*(one.do(steps) for one in many))
    assert {end.status for end in ends} == {0}
    assert all(one.git("show", "HEAD:who") == one.spec.session for one in many)
