"""Decides what the demo's model does next: it edits, tests and commits with tools, as `agent.py` does by itself.

The first turn of a task consists of tool calls: a todo list, the edits of the task's patch, the tests and a commit. For
work that was sent back, and when a tool failed, the model starts `agent.py` in the shell. Reviews and Safe Exits are
tool calls too.
"""

import json
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flows.demo.agent import (
    DECISIONS,
    DEMANDS,
    HANGS,
    HASTY_TESTS,
    LIMITS,
    QUESTIONS,
    QUOTA,
    SECONDS,
    USUAL_SECONDS,
    WORK,
)
from flows.demo.model_script import DONE, Call, Message, Step, pieces_of, read_text
from flows.demo.patch_edits import Change, Edit, read_patch
from flows.demo.story import PATHS
from tasks_lib.process.program_lookup import find_program

PROGRAM = Path(__file__).resolve().parent / "agent.py"
# This Python may be the only one, under a name that is not on PATH.
PYTHON = "python3" if find_program("python3") else shlex.quote(sys.executable)
WORKED = {"edit": "Edit applied", "write": "Wrote file"}
"""How the answer of a tool that changes files begins on success."""
VERDICT = "Verdict: approved with changes"
"""Only review prompts contain this text; other prompts may quote a given verdict."""
ASKED_AGAIN = "Your model's provider did not answer"
"""How a prompt begins that continues a turn after a limit."""
RESOLUTION = "Resolution: dependency"
"""Only resolver prompts contain this text."""
CHARS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Result:
    """A tool call of this turn, and its result."""

    tool: str
    args: Mapping[str, Any]
    text: str

    @property
    def has_failed(self) -> bool:
        if self.tool == "bash":
            found = re.findall(r"^exit status (\d+)$", self.text, re.MULTILINE)
            return found[-1:] != ["0"]
        return not self.text.startswith(WORKED.get(self.tool, ""))


@dataclass(frozen=True, slots=True)
class Chat:
    """The state of a conversation: `answers` and `results` are those since its last prompt.

    `is_answered` means that its first prompt says what the node has to be told, `is_first` that this is its first turn.
    """

    id: str
    name: str
    is_review: bool
    is_resolver: bool
    is_answered: bool
    is_first: bool
    answers: int
    results: tuple[Result, ...]


class DemoModel:
    """The demo's model: as `decide`, but its provider limits the first request of some nodes."""

    def __init__(self, pace: float = 1.0) -> None:
        self._pace: float = pace
        self._limited: set[str] = set()

    def __call__(self, messages: Sequence[Message]) -> Step:
        """Choose the model's next answer, or an error that names a time."""
        chat = read_chat(messages)
        if chat and chat.id in LIMITS and chat.id not in self._limited:
            self._limited.add(chat.id)
            wait = str(max(1, round(self._pace * LIMITS[chat.id])))
            return Step(error=429, message=QUOTA, headers={"retry-after": wait})
        return decide(messages, self._pace)


def read_chat(messages: Sequence[Message]) -> Chat | None:
    """Read what a conversation is about from the task file in its prompt; None if there is no task in it."""
    prompts = [number for number, one in enumerate(messages) if one["role"] == "user"]
    text = read_text(messages[prompts[0]]) if prompts else ""
    task = re.search(r"^id: *(\S+)\nname: *(\S.*?) *$", text, re.MULTILINE)
    if task is None or task[1] not in PATHS:
        return None
    since = messages[prompts[-1] + 1 :]
    return Chat(
        id=task[1],
        name=task[2],
        is_review=VERDICT in text,
        is_resolver=RESOLUTION in text,
        is_answered=QUESTIONS.get(task[1], "") in text,
        is_first=len(prompts) == 1 or read_text(messages[prompts[-1]]).startswith(ASKED_AGAIN),
        answers=sum(1 for one in since if one["role"] == "assistant"),
        results=tuple(_read_results(since)),
    )


def _read_results(since: Sequence[Message]) -> list[Result]:
    calls: dict[str, Any] = {}
    results: list[Result] = []
    for one in since:
        asked: list[Any] = one.get("tool_calls") or []
        calls |= {call["id"]: call["function"] for call in asked}
        if one["role"] == "tool" and one["tool_call_id"] in calls:
            call = calls[one["tool_call_id"]]
            results.append(Result(call["name"], json.loads(call["arguments"]), read_text(one)))
    return results


def decide(messages: Sequence[Message], pace: float = 1.0) -> Step:
    """Choose the model's next answer; `pace` multiplies the seconds that it pretends to think."""
    chat = read_chat(messages)
    step = Step(say=DONE) if chat is None else _choose(chat, pace)
    length = sum(len(read_text(one)) for one in messages)
    return replace(step, tokens_in=length // CHARS_PER_TOKEN, tokens_out=len(str(step)) // CHARS_PER_TOKEN)


def _choose(chat: Chat, pace: float) -> Step:
    if chat.is_review:
        steps = plan_review(chat)
    elif chat.is_resolver:
        steps = [Step(think="I look for the answer.", calls=(_call_shell("git ls-files; cat README.md"),))]
        steps.append(Step(say=_read_work(chat.id, "resolver")))
    elif chat.is_first and not _find_failure(chat):
        steps = plan_work(chat)
    else:
        return leave_to_program(chat, pace)
    if chat.answers >= len(steps):
        return Step(say=DONE)
    step = steps[chat.answers]
    return step if chat.answers else _slow_down(step, pace * SECONDS.get(chat.id, USUAL_SECONDS))


def _slow_down(step: Step, seconds: float) -> Step:
    return replace(step, slow=seconds / len(pieces_of(step)))


def _find_failure(chat: Chat) -> Result | None:
    """The first tool call that failed unexpectedly; a missing decision is expected."""
    expected = _choose_reading_command(chat)
    return next((one for one in chat.results if one.has_failed and one.args.get("command") != expected), None)


def plan_work(chat: Chat) -> list[Step]:
    """The answers of a first turn, as far as the results so far determine them."""
    steps = [_begin(chat)]
    if chat.id in HANGS:
        wait = f"sleep {HANGS[chat.id]}"
        steps.append(Step(think="I ask the bank for a sample.", calls=(_call_shell(wait),)))
    if not chat.is_answered:
        return steps + plan_safe_exit(chat)
    if look := _choose_reading_command(chat):
        steps.append(Step(think="This needs a decision by a person.", calls=(_call_shell(look),)))
        if any(one.has_failed and one.args.get("command") == look for one in chat.results):
            return steps + plan_safe_exit(chat)
    changes = _read_changes(chat.id)
    steps += [Step(calls=tuple(_call_edit(edit) for edit in change.edits)) for change in changes]
    subject = f"feat({chat.id}): {chat.name}"
    steps.append(Step(calls=(_call_tests(HASTY_TESTS.get(chat.id)),)))
    steps.append(Step(calls=(_call_shell(f"git add -A && git commit -q -m {shlex.quote(subject)}"),)))
    return [*steps, Step(calls=(_call_list(chat, done=3),)), Step(say=_read_work(chat.id, "report"))]


def _begin(chat: Chat) -> Step:
    paths = [change.path for change in _read_changes(chat.id) if not change.is_new]
    reads = [Call("read", {"filePath": path}) for path in (PATHS[chat.id], *paths)]
    think = f"The task is: {chat.name}. I read the files, make the change, run the tests, and commit."
    return Step(think=think, calls=(_call_list(chat, done=0), *reads))


def plan_safe_exit(chat: Chat) -> list[Step]:
    """The answers of a session that needs the user: the reason goes into the task file and is committed."""
    notes = _read_work(chat.id, "blocked")
    path = PATHS[chat.id]
    reason = notes.splitlines()[0].removeprefix("Blocked: ")
    commit = f"git commit -q -m {shlex.quote(f'blocked({chat.id}): {reason}')} -- {path}"
    status = {"filePath": path, "oldString": "status: pending", "newString": "status: blocked"}
    return [
        Step(think="Nobody has decided this, and I must not.", calls=(Call("edit", status),)),
        Step(calls=(_call_shell(f"cat >> {path} <<'NOTES'\n\n## Notes\n{notes}\nNOTES\n{commit}"),)),
        Step(say=notes),
    ]


def plan_review(chat: Chat) -> list[Step]:
    """The answers of a reviewer; the last line of the last one is the verdict."""
    look = 'git diff --stat "$COORDINATOR_TARGET"...HEAD'
    report = "The tests pass, and what the task asks for is implemented and tested."
    path, wanted = DEMANDS.get(chat.id, ("", ""))
    demand = _with_status(f"grep -c {wanted} {path}") if path else ""
    lacks = any(one.has_failed and one.args.get("command") == demand for one in chat.results)
    answered = "\n- [answered] 1" if demand else ""
    words = _read_work(chat.id, "review") if lacks else f"{report}{answered}"
    return [
        Step(think=f"I have to review: {chat.name}.", calls=(_call_shell(look),)),
        *([Step(calls=(_call_shell(demand),))] if demand else []),
        Step(calls=(_call_tests(),)),
        Step(say=f"{words}\n\nVerdict: {'changes requested' if _find_failure(chat) or lacks else 'approved'}"),
    ]


def leave_to_program(chat: Chat, pace: float) -> Step:
    """Start the demo's agent program in the shell, and report what it reports."""
    # It prints only its report, and gets all its input from the environment.
    command = f"{shlex.quote(sys.executable)} -B {shlex.quote(str(PROGRAM))} {pace} < /dev/null"
    done = next((one for one in reversed(chat.results) if one.args.get("command") == command), None)
    if done is not None:
        return Step(say=done.text.strip() or DONE)
    description = {"command": command, "description": "Finish the task"}
    return Step(think="I read the feedback and fix the work.", calls=(Call("bash", description),))


def _choose_reading_command(chat: Chat) -> str:
    needed = DECISIONS.get(chat.id)
    return _with_status(f"cat {needed}") if needed else ""


def _read_changes(task_id: str) -> list[Change]:
    return read_patch(_read_work(task_id, "first", ".patch"))


def _read_work(task_id: str, name: str, suffix: str = ".md") -> str:
    file = WORK / task_id / f"{name}{suffix}"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    return text if suffix == ".patch" else text.strip()


def _call_edit(edit: Edit) -> Call:
    if not edit.old:
        return Call("write", {"filePath": edit.path, "content": edit.new})
    return Call("edit", {"filePath": edit.path, "oldString": edit.old, "newString": edit.new})


def _call_tests(modules: Sequence[str] | None = None) -> Call:
    return _call_shell(shlex.join([PYTHON, "-B", "-m", "unittest", *(modules or ["discover"]), "-q"]))


def _call_shell(command: str) -> Call:
    return Call("bash", {"command": _with_status(command), "description": "Run a command"})


def _with_status(command: str) -> str:
    """The tool does not report a command's exit status, so the command prints it."""
    return command if command.endswith('echo "exit status $?"') else f'{command}\necho "exit status $?"'


def _call_list(chat: Chat, done: int) -> Call:
    items = ("Read the task", chat.name, "Run the tests and commit")
    states = ["completed"] * done + ["in_progress"] + ["pending"] * len(items)
    todos = [
        {"content": item, "status": state, "priority": "medium"} for item, state in zip(items, states, strict=False)
    ]
    return Call("todowrite", {"todos": todos})
