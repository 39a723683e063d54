"""Hides an agent that is a program: run once per turn, with the prompt on standard input, until it exits."""

import asyncio
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from tasks_lib.agents.backend import Need, ProviderState, Session, SessionSpec, TurnEnd, TurnSpec
from tasks_lib.agents.command_limits import ProviderLimits
from tasks_lib.agents.command_turns import PLACEHOLDERS, describe_end, fill, write_prompt
from tasks_lib.agents.command_watch import CommandWatch
from tasks_lib.agents.memory_guard import guard_memory
from tasks_lib.agents.throttle import Throttle
from tasks_lib.agents.turn_variables import ANSWER_BYTES, name_turn
from tasks_lib.process.process_groups import Ended, GroupId, end_groups, run_group
from tasks_lib.process.program_lookup import find_program
from tasks_lib.process.shell_lines import tail_of
from tasks_lib.session.liveness import SilenceLimits
from tasks_lib.session.spending import Spent, find_excess, find_seconds_left

NO_LIMITS = SilenceLimits(math.inf, math.inf, math.inf)


class CommandBackend:
    """Runs `wrapper + command`, an argument list rather than a shell line, in the worktree.

    `{role}`, `{prompt_file}`, `{answer_file}` and `{session}` are replaced in both; other braces are kept. A turn that
    does nothing for as long as `limits` allow is ended. While a provider limits requests, all sessions wait, unless it
    asks for more than `limit_seconds`.
    """

    def __init__(
        self,
        command: Sequence[str],
        wrapper: Sequence[str] = (),
        limits: SilenceLimits = NO_LIMITS,
        limit_seconds: float = math.inf,
    ) -> None:
        self._argv: tuple[str, ...] = (*wrapper, *command)
        self._limits: SilenceLimits = limits
        self._provider: ProviderLimits = ProviderLimits(Throttle(), limit_seconds)

    async def prepare(self, needs: Sequence[Need]) -> None:
        """Do nothing: the program chooses its roles and models itself, and is started once per turn."""

    async def close(self) -> None:
        """Do nothing: each turn ends what it started."""

    def open(self, spec: SessionSpec) -> Session:
        """Open a session for `spec`; nothing is started before its first prompt."""
        return guard_memory(CommandSession(self._argv, spec, self._limits, self._provider), spec)

    def name_model(self, role: str, model: str) -> str:
        """Return "": the program chooses its model itself."""
        return ""

    def find_provider(self, role: str, model: str) -> ProviderState:
        """What is known about the program's provider, whichever it is; the program's answers say nothing about it."""
        return ProviderState(self._provider.throttle.until)


class CommandSession:
    """A conversation that the program itself remembers, or reads from the worktree: each turn is a new process."""

    def __init__(self, argv: Sequence[str], spec: SessionSpec, limits: SilenceLimits, provider: ProviderLimits) -> None:
        self._argv: tuple[str, ...] = tuple(argv)
        self._spec: SessionSpec = spec
        self._limits: SilenceLimits = limits
        self._provider: ProviderLimits = provider
        self._may_have_left: bool = False

    async def prompt(self, text: str, turn: TurnSpec) -> TurnEnd:
        """Run the program for one turn; raises AgentError if it cannot be started.

        When this returns, no process of the turn is left, whatever it forked.
        """
        spec = self._spec
        await self._provider.wait(spec)
        allowances = spec.allowances() if spec.allowances else ()
        left = find_seconds_left(allowances)
        watch = CommandWatch(self._limits, spec.session, spec.log, spec.on_view, spec.digest_worktree)
        self._may_have_left = True
        async with watch.watching():
            ended = await self._run(text, turn, min(spec.turn_seconds, left), watch)
        self._may_have_left = False
        answer = _read_answer(_find_answer_file(spec, turn)) or tail_of(
            spec.log, ended.log_start, ended.log_end, max_bytes=ANSWER_BYTES, max_lines=ANSWER_BYTES
        )
        seconds = ended.ended - ended.started
        spent = Spent(turns=1, seconds=seconds)
        if ended.timed_out and watch.stall:
            return TurnEnd(ended.status, False, answer, watch.stall, seconds, spent, stall=watch.stall)
        if ended.timed_out and watch.loop:
            return TurnEnd(ended.status, False, answer, watch.loop, seconds, spent, loop=watch.loop)
        error = describe_end(self._argv[0], ended, spec.turn_seconds)
        # A program does not report tokens, so time is the only budget that can end a turn.
        excess = find_excess(allowances, spent) if ended.timed_out and left < spec.turn_seconds else ""
        end = TurnEnd(ended.status, ended.timed_out, answer, error, seconds, spent, excess)
        return end if ended.timed_out else await asyncio.to_thread(self._provider.judge, end, spec, turn)

    async def _run(self, text: str, turn: TurnSpec, timeout_seconds: float, watch: CommandWatch) -> Ended:
        spec, said = self._spec, text.encode("utf-8", "surrogateescape")
        prompt_file = write_prompt(spec.prompt_directory, turn, said)
        answer_file = _find_answer_file(spec, turn)
        answer_file.unlink(missing_ok=True)  # One of a turn that a limit ended.
        names = {
            "role": spec.role,
            "prompt_file": str(prompt_file),
            "answer_file": str(answer_file),
            "session": spec.session,
        }

        def begin(group: GroupId) -> None:
            watch.begin(group)
            if spec.on_start:
                spec.on_start(group)

        return await run_group(
            fill(self._argv, names),
            cwd=spec.cwd,
            environment={**spec.environment, **name_turn(spec, turn)},
            log=spec.log,
            stdin=said,
            timeout_seconds=timeout_seconds,
            stop_seconds=spec.stop_seconds,
            on_start=begin,
            stop=watch.must_stop,
        )

    async def say(self, text: str) -> bool:
        """Return False: a program that reads its prompt once receives nothing more in that turn."""
        return False

    def attach_command(self) -> str:
        """Return "": there is nothing to attach to."""
        return ""

    async def close(self) -> None:
        """End processes with the session's marker if a turn was interrupted; a turn that ended leaves none."""
        if self._may_have_left:
            await end_groups((), self._spec.stop_seconds, session=self._spec.session)


def _find_answer_file(spec: SessionSpec, turn: TurnSpec) -> Path:
    return spec.prompt_directory.absolute() / f"answer-{turn.attempt}-{turn.turn}.md"


def _read_answer(file: Path) -> str:
    """Return the end of what the program wrote as its answer, "" if it wrote none."""
    try:
        with os.fdopen(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW), "rb") as source:
            source.seek(max(0, source.seek(0, os.SEEK_END) - ANSWER_BYTES))
            return source.read(ANSWER_BYTES).decode("utf-8", "ignore").strip()
    except OSError:
        return ""


def check_command(command: Sequence[str], search_path: str) -> str | None:
    """Return a sentence that says why `command` cannot be run, or None; `search_path` is the agent's PATH.

    A relative path is looked up in each worktree, so it cannot be checked here.
    """
    if not command or not command[0]:
        return "agent.command is empty: name the agent's program and its arguments in coordinator.yaml"
    program = command[0]
    if program.startswith("~"):
        written = os.path.expanduser(program)  # noqa: PTH111 - A path such as ~nobody/x stays as it is.
        return f"`{program}` begins with `~`, which nothing expands, as no shell runs it: write `{written}`"
    if ("/" in program and not program.startswith("/")) or PLACEHOLDERS.search(program):
        return None
    if find_program(program, search_path):
        return None
    if "/" in program:
        return f"`{program}` is not an executable file: install it, or correct the command in coordinator.yaml"
    return f"`{program}` is not on PATH ({search_path}): install it, or correct the command in coordinator.yaml"


def find_root_fault(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """Return why the program of `command` refuses to start as root with the variables `environment`, "" if it does not.

    Only Claude Code is known to.
    """
    is_bypassing = "--dangerously-skip-permissions" in command or "bypassPermissions" in command
    if os.geteuid() or not is_bypassing or Path(command[0]).name != "claude" or environment.get("IS_SANDBOX"):
        return ""
    return (
        "Claude Code refuses to bypass permissions as root: use `agent: {preset: claude}`, which works as root, run "
        "coordinator as another user, or, in a container, set IS_SANDBOX=1 and list it in env.agent"
    )
