"""Runs a known program once per turn, and reads from its events what it says, does, spends and is refused."""

import asyncio
import json
import shlex
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tasks_lib.agents.backend import SessionSpec, SessionView, TurnEnd, TurnSpec
from tasks_lib.agents.command_limits import ProviderLimits
from tasks_lib.agents.command_turns import describe_end, fill, write_prompt
from tasks_lib.agents.command_watch import CommandWatch
from tasks_lib.agents.json_values import as_object
from tasks_lib.agents.presets.event_stream import EventStream
from tasks_lib.agents.presets.git_directories import find_git_directories
from tasks_lib.agents.presets.preset import Heard, Launch, Preset
from tasks_lib.agents.turn_variables import ANSWER_BYTES, name_turn
from tasks_lib.process.process_groups import Ended, GroupId, end_groups, run_group
from tasks_lib.process.shell_lines import tail_of
from tasks_lib.session.liveness import SilenceLimits
from tasks_lib.session.spending import Allowance, Spent, find_excess, find_seconds_left

MAX_DENIED = 3
"""How many refused tools a sentence names."""


@dataclass(frozen=True, slots=True)
class ProgramPlan:
    """What all sessions of a run with a known program share."""

    preset: Preset
    wrapper: tuple[str, ...]
    model: str
    limits: SilenceLimits
    provider: ProviderLimits


@dataclass(frozen=True, slots=True)
class _Turn:
    """What watches one turn while the program runs."""

    spec: TurnSpec
    text: bytes
    output: Path
    stream: EventStream
    watch: CommandWatch
    allowances: Sequence[Allowance]

    def must_stop(self) -> bool:
        heard = self.stream.heard
        is_useless = bool(heard.refusal) or self.stream.is_held_up
        return self.watch.must_stop() or is_useless or bool(find_excess(self.allowances, heard.spent))


class PresetSession:
    """A conversation that the program keeps; each turn is a new process that continues it."""

    def __init__(self, plan: ProgramPlan, spec: SessionSpec) -> None:
        self._plan: ProgramPlan = plan
        self._spec: SessionSpec = spec
        self._conversation, self._total_tokens = _read_conversation(plan.preset, spec.conversation)
        self._may_have_left: bool = False

    async def prompt(self, text: str, turn: TurnSpec) -> TurnEnd:
        """Run the program for one turn; raises AgentError if it cannot be started.

        When this returns, no process of the turn is left, whatever it forked.
        """
        await self._plan.provider.wait(self._spec)
        launch = await asyncio.to_thread(self._plan_launch)
        self._remember(Heard(launch.conversation, total_tokens=self._total_tokens))
        opened = self._open_turn(text, turn)
        argv = await asyncio.to_thread(self._write_command, launch, opened)
        self._may_have_left = True
        async with opened.watch.watching(), opened.stream.following():
            ended = await self._run(argv, opened)
        self._may_have_left = False
        tail = await asyncio.to_thread(self._find_tail)
        end = self._judge(ended, opened, tail)
        if end.error or end.status == 0 or end.timed_out:
            return end
        said = describe_end(self._plan.preset.name, ended, self._spec.turn_seconds)
        return await asyncio.to_thread(self._plan.provider.judge, replace(end, error=said), self._spec, turn)

    def _plan_launch(self) -> Launch:
        spec, preset = self._spec, self._plan.preset
        model, directories = spec.model or self._plan.model, find_git_directories(spec.cwd)
        launch = Launch(
            spec.session, self._conversation, model, spec.cwd, spec.environment, directories, spec.is_read_only
        )
        return replace(launch, conversation=preset.choose_conversation(launch) or self._conversation)

    def _open_turn(self, text: str, turn: TurnSpec) -> _Turn:
        spec, plan = self._spec, self._plan
        output = spec.prompt_directory.absolute() / f"events-{turn.attempt}-{turn.turn}.jsonl"
        begin = Heard(self._conversation, total_tokens=self._total_tokens)
        stream = EventStream(plan.preset.read, begin, output, spec.log, self._remember)
        show = _make_show(spec, stream)
        watch = CommandWatch(plan.limits, spec.session, output, show, spec.digest_worktree, lines=spec.log)
        said = text.encode("utf-8", "surrogateescape")
        return _Turn(turn, said, output, stream, watch, spec.allowances() if spec.allowances else ())

    def _write_command(self, launch: Launch, opened: _Turn) -> list[str]:
        prompt_file = write_prompt(self._spec.prompt_directory, opened.spec, opened.text)
        answer_file = prompt_file.with_name(f"answer-{prompt_file.name}")  # Which only the wrapper could write.
        names = {
            "role": self._spec.role,
            "prompt_file": str(prompt_file),
            "answer_file": str(answer_file),
            "session": self._spec.session,
        }
        return [*fill(self._plan.wrapper, names), *self._plan.preset.build(launch)]

    async def _run(self, argv: Sequence[str], opened: _Turn) -> Ended:
        spec = self._spec

        def begin(group: GroupId) -> None:
            opened.watch.begin(group)
            if spec.on_start:
                spec.on_start(group)

        return await run_group(
            argv,
            cwd=spec.cwd,
            environment={**spec.environment, **self._plan.preset.settings, **name_turn(spec, opened.spec)},
            log=opened.output,
            stdin=opened.text,
            timeout_seconds=min(spec.turn_seconds, find_seconds_left(opened.allowances)),
            stop_seconds=spec.stop_seconds,
            on_start=begin,
            stop=opened.must_stop,
        )

    def _remember(self, heard: Heard) -> None:
        if (heard.conversation, heard.total_tokens) == (self._conversation, self._total_tokens):
            return
        self._conversation, self._total_tokens = heard.conversation, heard.total_tokens
        if self._spec.on_conversation and self._conversation:
            self._spec.on_conversation(_write_conversation(self._plan.preset, heard))

    def _judge(self, ended: Ended, opened: _Turn, tail: str) -> TurnEnd:
        """The end of a turn by what the program said; without an `error` if it failed and said nothing about it."""
        heard, watch, preset = opened.stream.heard, opened.watch, self._plan.preset
        seconds = ended.ended - ended.started
        spent = heard.spent + Spent(turns=1, seconds=seconds)
        answer = (heard.answer or tail).encode("utf-8", "surrogateescape")[-ANSWER_BYTES:].decode("utf-8", "ignore")
        end = TurnEnd(ended.status, ended.timed_out, answer, "", seconds, spent, denied=heard.denied[:MAX_DENIED])
        if heard.refusal:
            sentence = f"{preset.title} says that no session can succeed ({heard.refusal}): {preset.login_advice}"
            return replace(end, timed_out=False, error=sentence, refusal=sentence)
        if limit := heard.limit or (heard.retrying if ended.timed_out else ""):
            error = f"`{preset.name}` {'was ended' if ended.timed_out else f'exited with {ended.status}'}"
            return self._plan.provider.limit(replace(end, timed_out=False, error=error), limit, heard.limit_until)
        if ended.timed_out and (said := watch.stall or watch.loop):
            return replace(end, timed_out=False, error=said, stall=watch.stall, loop=watch.loop)
        error = describe_end(preset.name, ended, self._spec.turn_seconds)
        if ended.timed_out:
            excess = find_excess(opened.allowances, spent)
            return replace(end, error=excess or error, excess=excess)
        return replace(end, error=f"{error} ({heard.error})") if error and heard.error else end

    def _find_tail(self) -> str:
        log = self._spec.log
        size = log.stat().st_size if log.exists() else 0
        return tail_of(log, 0, size, max_bytes=ANSWER_BYTES, max_lines=ANSWER_BYTES) if size else ""

    async def say(self, text: str) -> bool:
        """Return False: a program that reads its prompt once receives nothing more in that turn."""
        return False

    def attach_command(self) -> str:
        """Return a shell line that opens the conversation in the program's own interface."""
        if not self._conversation:
            return ""
        return f"cd {shlex.quote(str(self._spec.cwd))} && {shlex.join(self._plan.preset.attach(self._conversation))}"

    async def close(self) -> None:
        """End processes with the session's marker if a turn was interrupted; a turn that ended leaves none."""
        if self._may_have_left:
            await end_groups((), self._spec.stop_seconds, session=self._spec.session)


def _make_show(spec: SessionSpec, stream: EventStream) -> Callable[[SessionView], None] | None:
    def show(view: SessionView) -> None:
        if spec.on_view:
            heard = stream.heard
            spec.on_view(replace(view, activity=heard.activity or view.activity, spent=heard.spent + view.spent))

    return show if spec.on_view else None


def _read_conversation(preset: Preset, text: str) -> tuple[str, int]:
    """Read what `_write_conversation` wrote; nothing for a conversation of another program."""
    with suppress(ValueError, TypeError, RecursionError):
        found = as_object(json.loads(text))
        return str(found.get(preset.name, "")), int(found.get("tokens", 0))
    return "", 0


def _write_conversation(preset: Preset, heard: Heard) -> str:
    return json.dumps({preset.name: heard.conversation, "tokens": heard.total_tokens})
