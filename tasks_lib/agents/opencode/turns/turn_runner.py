"""Follows one turn of an opencode session to its end: events update the watch, and its decisions are carried out."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from tempfile import gettempdir

from tasks_lib.agents.backend import SessionSpec, TurnEnd
from tasks_lib.agents.opencode.api.server_http import Unreachable
from tasks_lib.agents.opencode.turns.automatic_answers import CONTINUE_PROMPT, LOST, RESTARTED, answer_request
from tasks_lib.agents.opencode.turns.conversation import Conversation
from tasks_lib.agents.opencode.turns.progress_view import ShownView, make_view
from tasks_lib.agents.opencode.turns.session_limits import SessionLimits
from tasks_lib.agents.opencode.turns.session_snapshot import Before
from tasks_lib.agents.opencode.turns.transcript import Transcript
from tasks_lib.agents.throttle import RATE_SECONDS, Throttle
from tasks_lib.agents.turn_variables import ANSWER_BYTES
from tasks_lib.errors import AgentError
from tasks_lib.process.process_activity import take_sample
from tasks_lib.process.process_groups import end_groups
from tasks_lib.process.process_table import Claim
from tasks_lib.prompts.conflict_warning import FROM_COORDINATOR
from tasks_lib.session import events as ev
from tasks_lib.session.events import Event, Problem, Reply, Request
from tasks_lib.session.next_action import (
    Answer,
    AwaitServer,
    CheckWorktree,
    Decision,
    End,
    Limits,
    Over,
    Poll,
    Read,
    SampleShells,
    Wait,
    decide,
    describe_limit,
)  # fmt: skip
from tasks_lib.session.outside_work import find_outside
from tasks_lib.session.spending import Allowance, Spent
from tasks_lib.session.state import Watch, begin, observe

BOOT_SECONDS = 20.0
"""A session's boot ends at the first step of its model, or this long after its prompt: a model may be slow to begin."""
RESTARTS = 3
"""How often per turn a conversation continues after its server died."""
HICCUPS = 10
"""How often per turn a server may fail to answer without having died."""
CONTINUATIONS = 3
"""How often per turn an agent whose answer was too long is told to continue."""
SAMPLE_AGE_SECONDS = 2.5
"""How old the process table may be for a sample of a session's shells; all sessions share it."""
_ALLOWANCE_SECONDS = 0.25
_FIRST_LOOK_SECONDS = 0.05
_LAST_LOOK_SECONDS = 0.4


class Turn:
    """One prompt and everything that follows from it, up to the end of the agent's turn."""

    def __init__(
        self,
        spec: SessionSpec,
        talk: Conversation,
        limits: SessionLimits,
        throttle: Throttle,
        transcript: Transcript,
    ) -> None:
        now = time.time()
        self._spec: SessionSpec = spec
        self._talk: Conversation = talk
        self._seconds: SessionLimits = limits
        self._throttle: Throttle = throttle
        self._transcript: Transcript = transcript
        self._ends_at: float = now + spec.turn_seconds
        self._watch: Watch = begin(talk.id, now)
        self._view: ShownView = ShownView(spec.on_view)
        self._before: Before = Before()
        self._boot: AsyncExitStack = AsyncExitStack()
        self._boots_until: float = 0.0
        self._allowances: tuple[Allowance, ...] = ()
        self._allowances_at: float = 0.0
        self._restarts: int = 0
        self._hiccups: int = 0
        self._continuations: int = 0
        self._saying: int = 0
        self._is_open: bool = False
        self._places: tuple[str, ...] = ()

    async def run(self, text: str) -> TurnEnd:
        """Send `text` and follow the turn to its end; raises AgentError if the server cannot be reached."""
        async with self._boot:
            try:
                async with asyncio.timeout(self._ends_at - time.time()):
                    await self._begin(text)
            except TimeoutError:
                await self.break_off()
                sentence = f"the turn did not start within {self._spec.turn_seconds:g} seconds"
                return self._fail(sentence, timed_out=True)
            self._is_open = True
            try:
                return replace(await self._follow(), outside=self._find_outside())
            finally:
                self._is_open = False
                self._talk.ignore()
                self._show(is_last=True)

    async def say(self, text: str) -> bool:
        """Steer the agent while it is working; False if the turn is not running, or the server does not answer."""
        if not self._is_open:
            return False
        self._saying += 1
        try:
            await self._talk.say(text)
        except AgentError:
            self._talk.listen().push(ev.Gap(time.time(), self._talk.id))
            return False
        else:
            source = "coordinator" if text.startswith(FROM_COORDINATOR) else "a user"
            self._transcript.say(f"message from {source}", text, time.time())
            self._talk.listen().push(ev.Sent(time.time(), self._talk.id))
            return True
        finally:
            self._saying -= 1

    async def break_off(self) -> None:
        """Abort what the turn is doing, and make sure that it ended; what cannot be reached is left."""
        self._is_open = False
        if not self._watch.sent:
            return
        deadline, pause = time.time() + max(1.0, self._spec.stop_seconds), _FIRST_LOOK_SECONDS
        with suppress(AgentError):
            await self._talk.abort(self._watch.members)
            await self.end_shells()
            while self._watch.members.keys() & (await self._talk.busy()).keys() and time.time() < deadline:
                # opencode does not always send an event for an abort, so poll it.
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LAST_LOOK_SECONDS)
                await self._talk.abort(self._watch.members)
            await self._read()
        await self.end_shells()

    async def end_shells(self) -> None:
        """End what tools left running: those processes carry the session's marker, wherever they moved."""
        await end_groups((), self._spec.stop_seconds, session=self._spec.session)

    async def _begin(self, text: str) -> None:
        await self._pause()
        talk = self._talk
        for is_last in (False, True):
            try:
                await talk.server.reach()
                await self._hold_boot()
                was_lost = await talk.open()
                talk.listen().take()
                self._before = await talk.note_before()
                self._watch = begin(talk.id, time.time())
                self._transcript.root = talk.id
                await self._send(f"{LOST}\n\n{text}" if was_lost else text)
            except Unreachable:
                if is_last:
                    raise
                await talk.server.outlast_death()
            else:
                return

    async def _pause(self) -> None:
        """Wait while the provider's rate limit delays the prompts of all sessions."""
        if self._throttle.until > time.time():
            self._view.offer(make_view(self._watch, time.time(), waits_until=self._throttle.until), is_last=True)
        await self._throttle.wait()

    async def _hold_boot(self) -> None:
        if self._talk.needs_boot and not self._boots_until:
            await self._boot.enter_async_context(self._talk.server.lease.boot())
            self._boots_until = time.time() + BOOT_SECONDS

    async def _send(self, text: str) -> None:
        # Mark it as sent first, because its events may arrive before the server's response.
        self._take([ev.Sent(time.time(), self._talk.id)])
        await self._talk.say(text)

    async def _follow(self) -> TurnEnd:
        while True:
            decision = decide(self._watch, time.time(), self._limits())
            try:
                if end := await self._act(decision):
                    return end
            except Unreachable:
                self._take([ev.ServerDied(time.time(), self._talk.id)])
            await self._end_boot()
            self._show()

    async def _act(self, decision: Decision) -> TurnEnd | None:
        match decision:
            case Wait():
                await self._listen(decision.until)
            case Answer():
                await self._answer(decision.requests)
            case Poll() | Read() | CheckWorktree() | SampleShells():
                await self._look(decision)
            case AwaitServer():
                return await self._revive()
            case Over() if self._saying:
                await self._listen(self._ends_at)
            case Over():
                return await self._conclude(self._watch.last_read.reply)
            case End():
                return await self._end(decision)
        return None

    async def _look(self, decision: Poll | Read | CheckWorktree | SampleShells) -> None:
        match decision:
            case Poll():
                self._take([await self._talk.poll()])
            case Read():
                await self._read()
            case CheckWorktree(session):
                work = await self._spec.digest_worktree() if self._spec.digest_worktree else ""
                self._take([ev.WorktreeChecked(time.time(), session, work)])
            case SampleShells():
                claim = Claim((), self._spec.session, is_watched=False)
                sample = await asyncio.to_thread(take_sample, claim, None, SAMPLE_AGE_SECONDS)
                self._take([ev.ShellsSampled(time.time(), self._talk.id, sample)])

    async def _listen(self, until: float) -> None:
        """Wait for an event, but no longer than until anything else is due."""
        due = min(until, self._boots_until or until, self._view.due_at or until)
        subscription = self._talk.listen()
        await subscription.wait(due - time.time())
        self._take(subscription.take())

    def _take(self, events: Sequence[Event]) -> None:
        for event in events:
            self._watch = observe(self._watch, event)
            self._transcript.write(event)
            match event:
                case ev.ToolEnded():
                    self._places += event.places
                case ev.Retrying() if event.retry.is_rate_limit:
                    self._throttle.slow_down(min(event.retry.until, time.time() + self._seconds.limit_seconds))
                case ev.StepEnded():
                    self._throttle.answered_at = max(self._throttle.answered_at, event.at)
                case ev.StepStarted() | ev.Retrying() | ev.ErrorSeen() | ev.SnapshotTaken() if self._boots_until:
                    if not isinstance(event, ev.SnapshotTaken) or event.snapshot.reply or self._watch.usage.steps:
                        self._boots_until = min(self._boots_until, event.at)
                case _:
                    pass

    async def _end_boot(self) -> None:
        if self._boots_until and time.time() >= self._boots_until:
            self._boots_until = 0.0
            await self._boot.aclose()

    def _limits(self) -> Limits:
        now = time.time()
        if self._spec.allowances and now >= self._allowances_at + _ALLOWANCE_SECONDS:
            self._allowances, self._allowances_at = tuple(self._spec.allowances()), now
        return self._seconds.apply(self._ends_at, self._allowances)

    async def _answer(self, requests: Sequence[Request]) -> None:
        for request in requests:
            text = answer_request(request, self._spec.cwd)
            now = time.time()
            self._take([ev.Asked(now, request.session, request)])
            with suppress(AgentError):  # A request that is still pending will be seen again.
                await self._talk.answer(request, text)
            self._transcript.say(f"answered ({request.kind})", text, time.time())
            self._take([ev.Answered(time.time(), request.session, request.id)])

    async def _read(self) -> None:
        snapshot, events, at = await self._talk.read(self._before)
        for event in events:
            self._transcript.write(event)
        self._take([ev.SnapshotTaken(at, self._talk.id, snapshot)])

    async def _revive(self) -> TurnEnd | None:
        """Continue once the server answers again; if it was restarted, tell the agent."""
        generation = self._talk.server.generation
        await self._talk.server.outlast_death()
        await self._talk.server.reach()
        if self._talk.server.generation == generation:
            self._hiccups += 1
            if self._hiccups > HICCUPS:
                return await self._give_up(f"opencode's server is running but failed to answer {HICCUPS} times")
            await self._read()
            return None
        return await self._go_on_after_death()

    async def _go_on_after_death(self) -> TurnEnd | None:
        self._restarts += 1
        await self.end_shells()
        if self._restarts > RESTARTS:
            return await self._give_up(f"opencode's server died {self._restarts} times in this turn; see its log")
        await self._hold_boot()
        self._talk.listen()
        await self._send(RESTARTED)
        self._transcript.say("prompt: the server was restarted", RESTARTED, time.time())
        return None

    async def _conclude(self, reply: Reply | None) -> TurnEnd | None:
        """Return the end of a turn whose agent is idle; None if it was prompted to continue."""
        match reply:
            case None:
                problem = self._watch.problem or Problem("opencode accepted the prompt but never started on it")
                return self._refuse(problem)
            case Reply("done"):
                return self._done(reply)
            case Reply("cut off") if self._continuations < CONTINUATIONS:
                self._continuations += 1
                await self._send(CONTINUE_PROMPT)
                self._transcript.say("prompt", CONTINUE_PROMPT, time.time())
                return None
            case Reply("unfinished"):
                # The server died and was restarted without our noticing.
                return await self._go_on_after_death()
            case _:
                return self._refuse(reply.problem or Problem(_ENDINGS[reply.kind]))

    async def _give_up(self, sentence: str) -> TurnEnd:
        await self.break_off()
        return self._fail(sentence)

    async def _end(self, decision: End) -> TurnEnd:
        self._transcript.say("ended", decision.sentence, time.time())
        await self.break_off()
        match decision.kind:
            case "excess":
                return self._fail(f"a budget is exhausted: {decision.sentence}", excess=decision.sentence)
            case "timed out":
                return self._fail(decision.sentence, timed_out=True)
            case "limit":
                return self._fail(decision.sentence, refusal=decision.sentence)
            case "suspended":
                return self._pause_session(decision.sentence)
            case "stalled":
                return replace(self._fail(decision.sentence), stall=decision.sentence)
            case "loop":
                return replace(self._fail(decision.sentence), loop=decision.sentence)
            case "waits too long" | "no progress":
                return self._fail(decision.sentence)

    def _refuse(self, problem: Problem) -> TurnEnd:
        if problem.is_outage:
            return self._pause_session(problem.sentence, time.time() + RATE_SECONDS)
        if not problem.is_rate_limit:
            return self._fail(problem.sentence, refusal=problem.sentence if problem.is_refusal else "")
        now, most = time.time(), self._seconds.limit_seconds
        if problem.until > now + most:
            sentence = describe_limit(problem.until, most, problem.sentence)
            return self._fail(sentence, refusal=sentence)
        self._throttle.slow_down(max(now + RATE_SECONDS, problem.until))
        return self._pause_session(problem.sentence)

    def _pause_session(self, sentence: str, until: float = 0.0) -> TurnEnd:
        """The end of a turn after which the same session continues: at `until`, or with all others of its provider."""
        return replace(self._fail(sentence), is_limited=True, limited_until=until)

    def _find_outside(self) -> tuple[str, ...]:
        worktree, scratch = self._spec.cwd, self._spec.environment.get("TMPDIR", gettempdir())
        return find_outside(self._places, (str(worktree), str(worktree.resolve())), (f"{scratch}/opencode",))

    def _done(self, reply: Reply) -> TurnEnd:
        spent = self._spent()
        return TurnEnd(0, False, _tail(reply.text), "", spent.seconds, spent)

    def _fail(self, error: str, *, timed_out: bool = False, excess: str = "", refusal: str = "") -> TurnEnd:
        spent, answer = self._spent(), self._watch.last_read.reply.text if self._watch.last_read.reply else ""
        self._is_open = False
        self._transcript.say("the turn failed", error, time.time())
        return TurnEnd(1, timed_out, _tail(answer), error, spent.seconds, spent, excess, refusal)

    def _spent(self) -> Spent:
        self._is_open = False
        return self._watch.spent(time.time())

    def _show(self, *, is_last: bool = False) -> None:
        self._view.offer(make_view(self._watch, time.time()), is_last=is_last)


_ENDINGS = {
    "cut off": "the agent's answers were too long for its model, one after another",
    "interrupted": "the agent stopped after a tool: one of its requests was rejected in opencode's own interface",
    "aborted": "the turn was aborted in opencode's own interface",
    "failed": "the model's provider ended the answer without giving a reason",
}


def _tail(text: str) -> str:
    """Return the end of `text`, at most `ANSWER_BYTES` of it."""
    return text.encode("utf-8", "replace")[-ANSWER_BYTES:].decode("utf-8", "ignore")
