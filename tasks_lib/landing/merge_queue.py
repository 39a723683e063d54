"""Lands accepted work on the head one node at a time: merge in memory, verify the merge, compare-and-swap the head."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from tasks_lib.git.compose.commit_composer import Candidate, Composer, Conflict, Landing
from tasks_lib.landing.added_tasks import AddedTasks
from tasks_lib.landing.base_follower import BaseFollower
from tasks_lib.landing.candidate_verification import Verifier
from tasks_lib.landing.completed_elsewhere import find_completing_commit, is_completed_at
from tasks_lib.landing.conflict_facts import read_conflict_facts
from tasks_lib.landing.head_moves import BEHIND_LANDINGS, FIRST, LAST, HeadMoves
from tasks_lib.landing.moving_base import find_pause
from tasks_lib.landing.results import (
    CompletedElsewhere,
    GivenBack,
    Held,
    Landed,
    LandingResult,
    Verified,
    give_back_conflict,
    give_back_red,
)
from tasks_lib.landing.verify_results import judge_untested_lines
from tasks_lib.loop_limits import MAX_IN_A_ROW
from tasks_lib.model import Waiting
from tasks_lib.reporting.journal_events import Cause
from tasks_lib.runtime.conflict_radar import ConflictRadar
from tasks_lib.runtime.run_context import Run
from tasks_lib.runtime.setup_and_verify import Red

T = TypeVar("T")


class MergeQueue:
    """The merge queue of one run. `waiting_for_base` counts the landings that wait until the base is fixed.

    `radar` knows the conflicts that are coming between branches in flight.
    """

    def __init__(
        self, run: Run, moves: HeadMoves, verifier: Verifier, base_follower: BaseFollower, radar: ConflictRadar
    ) -> None:
        self.radar: ConflictRadar = radar
        self._run = run
        self._moves = moves
        self._verifier = verifier
        self._base_follower = base_follower
        self._additions = AddedTasks(run.git.reader)
        self._early: dict[str, Candidate] = {}
        """What was verified before its review, by node."""
        self._is_given_up = False
        self._red_head = ""
        self.waiting_for_base: int = 0

    @property
    def is_head_red(self) -> bool:
        """Whether `verify` has failed on the head alone, so that hardly anything can land until it moves."""
        return self._red_head == self._run.git.head.last_seen()

    @property
    def composer(self) -> Composer:
        return self._moves.composer

    async def land(self, landing: Landing, rank: float) -> LandingResult:
        """Land finished work; return once it is on the head, or cannot land as it is."""
        return await self._until_not_held(lambda: self._try_to_land(landing), landing, rank)

    async def verify_early(self, landing: Landing, rank: float) -> Verified | GivenBack | Held | CompletedElsewhere:
        """Verify the merge that `land` would make now, without moving the head; work that may land comes first.

        The result is used again if the work lands on the same head. What is refused or held is so as it is by `land`.
        """
        return await self._until_not_held(lambda: self._try_early(landing), landing, rank + BEHIND_LANDINGS)

    async def _until_not_held(
        self, attempt: Callable[[], Awaitable[T | Held]], landing: Landing, rank: float
    ) -> T | Held:
        """Return what `attempt` returns in a turn; while it is Held, repeat it when something may have changed."""
        held = 0
        while True:
            async with self._moves.turn(rank, lambda: self.radar.expects_conflict(landing.task.id)):
                seen = self._base_follower.last_seen()
                result = await attempt()
            if not isinstance(result, Held):
                return result
            held += 1
            with self._run.nodes.journal.waiting(landing.task.id, Cause.HELD, self._run.agents.clock):
                may_go_on = await self._wait_for_base(result, held)
            if not may_go_on and (held >= MAX_IN_A_ROW or not await self._base_follower.has_news_since(seen)):
                return result

    async def commit_to_head(self, compose: Callable[[str], Candidate]) -> str:
        """Move the head to a commit made by `compose(head)` that changes only task files; return that commit."""
        async with self._moves.turn(FIRST):
            while True:
                head = self._run.git.head.last_seen()
                candidate = await self._run.git.call(compose, head)
                if await self._move_head(candidate):
                    self._verifier.reuse_result(head, candidate.commit)
                    self._red_head = candidate.commit if self._red_head == head else self._red_head
                    return candidate.commit

    async def verify_head(self) -> None:
        """Verify the head alone, and say so if it is red; whatever lands or is committed meanwhile comes first."""
        async with self._moves.turn(LAST):
            head = self._run.git.head.last_seen()
            if held := await self._find_base_red(head):
                self._say_held(held)
                self._run.changed.set()
            self._verifier.forget(head)  # Much later, this says little about why work is red.

    async def wait_for_commits(self) -> None:
        """Return once every commit that waits for its turn is on the head, such as a person's answer to a blocker."""
        async with self._moves.turn(LAST):
            return

    async def wait_for_restored_branches(self) -> None:
        """Wait while merges are being taken back; afterwards their nodes have their branches again and may run."""
        async with self._moves.taking_back:
            return

    def give_up(self) -> None:
        """Stop waiting for the base to be fixed; call when nothing else can make progress."""
        self._is_given_up = True
        self._moves.changed.set()

    async def close(self) -> None:
        await self._verifier.close()

    async def _try_to_land(self, landing: Landing) -> LandingResult:
        if self._moves.is_full:
            limit = f"--max-landings {self._moves.max_landings}"
            return Waiting(f"is finished; {limit} was reached, so the next run lands it", is_postponed=True)
        for _ in range(MAX_IN_A_ROW + 1):
            candidate = await self._prepare(landing)
            if not isinstance(candidate, Candidate):
                return candidate
            if await self._move_head(candidate):
                await self._run.git.call(self._additions.note_landed, candidate, landing)
                self._early.pop(landing.task.id, None)
                self._note_landed()
                return Landed(candidate.commit)
        return Held(self._base_follower.moving_base_limit.explain())

    def _note_landed(self) -> None:
        self._moves.note_landed()
        if self._moves.is_full:
            landed = "1 node has" if self._moves.landed == 1 else f"{self._moves.landed} nodes have"
            self._run.board.say(
                f"{landed} landed, as many as --max-landings allows: no more are started, and what is finished lands "
                "in the next run."
            )

    async def _try_early(self, landing: Landing) -> Verified | GivenBack | Held | CompletedElsewhere:
        candidate = await self._prepare(landing)
        if not isinstance(candidate, Candidate):
            return candidate
        self._early[landing.task.id] = candidate
        return Verified(candidate.commit, self._verifier.result_of(candidate.commit))

    async def _prepare(self, landing: Landing) -> Candidate | GivenBack | Held | CompletedElsewhere:
        """Make the commit that would land `landing` on the head, and verify it; or return why it cannot land."""
        if refusal := await self._base_follower.follow_in_turn():
            return Held(refusal)
        if alternates := self._verifier.find_added_alternates():
            return Held(alternates, is_broken=True)
        head = self._run.git.head.last_seen()
        candidate = await self._run.git.call(self._compose, landing, head)
        if not isinstance(candidate, Candidate):
            return candidate
        early = self._early.get(landing.task.id)
        if early and (early.head, early.tree) == (candidate.head, candidate.tree):
            self._verifier.reuse_result(early.commit, candidate.commit)
        return await self._find_refusal(candidate, landing) or candidate

    def _compose(self, landing: Landing, head: str) -> Candidate | GivenBack | CompletedElsewhere:
        """Compose the commit on `head` that would land `landing`, or return why there is none. Blocking."""
        entry = self._run.git.objects.find_entry(head, landing.task.path)
        is_as_known = entry is not None and entry.oid == landing.task.blob
        if landing.task.is_completed if is_as_known else is_completed_at(self._run, landing.task.id, head):
            return CompletedElsewhere(find_completing_commit(self._run, landing.task.id, head))
        if landing.commit == "":
            return self.composer.compose_checked(landing, head)
        made = self.composer.compose_merge(landing, head)
        if isinstance(made, Conflict):
            facts = read_conflict_facts(self.composer, made, head, landing.commit)
            return give_back_conflict(made, head, landing.commit, self._run.agents.instructions.templates, facts)
        return made

    async def _find_refusal(self, candidate: Candidate, landing: Landing) -> Held | GivenBack | None:
        """Return why `candidate` may not land, None if the tasks that it adds are valid and `verify` passes on it."""
        if back := await self._run.git.call(self._additions.refuse, candidate, landing):
            return back
        if red := await self._verifier.find_red(candidate.commit, landing.task.id):
            if red.broken:
                self._verifier.forget(candidate.head)  # What `verify` needs may have gone since.
            return await self._find_base_red(candidate.head) or self._give_back_red(red, candidate)
        return await self._judge_untested_lines(candidate)

    async def _judge_untested_lines(self, candidate: Candidate) -> Held | GivenBack | None:
        """Decide what happens to work on which a line of `verify` ran no test; None if it may land."""
        green = self._verifier.result_of(candidate.commit)
        if not green.idle:
            return None
        if held := await self._find_base_red(candidate.head):
            return held
        on_head = self._verifier.result_of(candidate.head)
        match judge_untested_lines(green, on_head, self._run.project.base_name):
            case Red() as red:
                return self._give_back_red(red, candidate)
            case Held() as held:
                return held
            case str() as note:
                self._verifier.say_once(note)
                return None

    async def _find_base_red(self, head: str) -> Held | None:
        """Return why nothing can land if `head` alone is red, and remember that; None if it is green."""
        held = await self._verifier.find_base_red(head)
        if held:
            self._red_head = head
        return held

    def _give_back_red(self, red: Red, candidate: Candidate) -> GivenBack:
        return give_back_red(red, candidate.head, self._run.agents.instructions.templates)

    async def _move_head(self, candidate: Candidate) -> bool:
        """Move the head to `candidate`; return False if the head was not where `candidate` expects it.

        A base that has moved in too many rounds in a row is no longer followed: the head is held where `candidate` was
        composed, so that it lands there and is published later.
        """
        is_moved = await self._moves.advance(candidate)
        await self._base_follower.count_round(candidate, is_moved=is_moved)
        if is_moved or not self._base_follower.moving_base_limit.is_reached:
            return is_moved
        await self._base_follower.hold_head(candidate.head)
        return await self._moves.advance(candidate)

    async def _wait_for_base(self, held: Held, times: int) -> bool:
        """Wait until the base has moved or work has landed; return False if nothing else can make progress meanwhile.

        Work that was held three or more `times` in a row also waits for a pause that grows each time.
        """
        self.waiting_for_base += 1
        self._say_held(held)
        self._run.changed.set()
        self._moves.changed.clear()
        self._is_given_up = False
        try:
            await self._moves.changed.wait()
            loop = asyncio.get_running_loop()
            rests_until = loop.time() + find_pause(times)
            while not self._is_given_up and (left := rests_until - loop.time()) > 0:
                self._moves.changed.clear()
                self._run.changed.set()
                with suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await self._moves.changed.wait()
        finally:
            self.waiting_for_base -= 1
        return not self._is_given_up

    def _say_held(self, held: Held) -> None:
        base = self._run.project.base_name
        until = f"until that works; fix it and run again, or commit the fix to {base}" if held.is_broken else ""
        starts = ", and no other session starts" if self.is_head_red else ""
        self._verifier.say_once(
            f"The merge queue is on hold. {held.reason}. Nothing lands {until or f'until {base} moves'}{starts}."
        )
