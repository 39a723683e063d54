"""Brings accepted work onto the head, one at a time: merged in memory, verified as merged, compared and swapped in."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from tasks_lib.errors import CoordinatorError
from tasks_lib.git.commits.commit_history import read_parents
from tasks_lib.git.compose.commit_composer import Candidate, Composer, Conflict, Landing
from tasks_lib.git.compose.recompose import recompose
from tasks_lib.git.kept.snapshots import keep_commit
from tasks_lib.git.publish.queue_head import FollowedBase, NeedsRebuild, Rewritten, Unchanged
from tasks_lib.landing.added_tasks import AddedTasks, find_new_faults
from tasks_lib.landing.candidate_verification import Verifier, describe_broken, describe_vacuous
from tasks_lib.landing.completed_elsewhere import describe_completed_elsewhere, find_completing_commit
from tasks_lib.landing.moving_base import MovingBaseLimit, find_pause
from tasks_lib.landing.results import CompletedElsewhere, GivenBack, Held, Landed, LandingResult, give_back_conflict
from tasks_lib.landing.rewritten_base import describe_rewritten_base
from tasks_lib.loop_limits import MAX_IN_A_ROW
from tasks_lib.prompts import agent_prompts
from tasks_lib.runtime.run_context import Run
from tasks_lib.runtime.session_slots import SessionSlots
from tasks_lib.runtime.setup_and_verify import Red
from tasks_lib.settings.schema import digest_verify

FIRST = float("-inf")
"""The rank of what needs no verify: it goes before every merge."""


class MergeQueue:
    """The merge queue of one run. Every move of the head goes through here, so that each is seen and published."""

    def __init__(self, run: Run, on_moved: Callable[[], None], fetch_base: Callable[[], object]) -> None:
        """`fetch_base` brings news of the base that is elsewhere; it may raise CoordinatorError."""
        self._run = run
        self._fetch_base = fetch_base
        self._queue_lock = SessionSlots(1)
        self._on_moved = on_moved
        self._composer = Composer(
            run.git.repository.git, run.git.objects, run.git.reader, run.agents.identity, run.git.isolation
        )
        self._known_base: str | None = None
        self._has_changed = asyncio.Event()
        self._taking_back = asyncio.Lock()
        self._is_given_up = False
        self._additions = AddedTasks(run.git.reader)
        self.is_behind: bool = False
        """Whether the head stands on a base that has moved on, and is not made again on it for now."""
        self._landed: int = 0
        self.moving_base_limit: MovingBaseLimit = MovingBaseLimit(
            run.git.repository.git, run.project.base_name, is_remote=run.project.is_remote
        )
        self._verifier = Verifier(run, self.moving_base_limit.verifying)
        self.waiting_for_base: int = 0
        self.is_rewritten: bool = False
        """Whether the base no longer holds what was published: then nothing lands until a person has looked."""

    async def land(self, landing: Landing, rank: float) -> LandingResult:
        """Land finished work; returns when it is on the head, or cannot get there as it is."""
        held = 0
        while True:
            await self._queue_lock.acquire(rank)
            try:
                seen = self._see()
                result = await self._try_to_land(landing)
            finally:
                self._queue_lock.release()
            if not isinstance(result, Held):
                return result
            held += 1
            is_moved = await self._wait_for_base(result, held)
            if not is_moved and (held >= MAX_IN_A_ROW or not await self._has_news_since(seen)):
                return result

    async def commit_to_head(self, compose: Callable[[str], Candidate]) -> str:
        """Move the head to a commit of task files alone, made by `compose(head)`; returns that commit."""
        await self._queue_lock.acquire(FIRST)
        try:
            while True:
                head = self._run.git.head.last_seen()
                candidate = await self._run.git.call(compose, head)
                if await self._advance_or_hold(candidate):
                    self._verifier.reuse_result(head, candidate.commit)
                    return candidate.commit
        finally:
            self._queue_lock.release()

    async def follow_base(self) -> str:
        """Take in what somebody else did to the base: follow it, or make our unpublished merges again on it.

        Returns why nothing may land, "" if it may.
        """
        await self._queue_lock.acquire(FIRST)
        try:
            return await self._follow_base()
        finally:
            self._queue_lock.release()

    def note_published(self, commit: str) -> None:
        """The base was moved to `commit` of ours: from now on that is what it must hold."""
        self._known_base = commit
        self.is_behind = False
        self.moving_base_limit.reset_rounds()

    async def follow_base_once_more(self) -> str:
        """Follow the base, now that nothing is at work, even if it was chased in vain; once for what has landed.

        Returns why nothing may be published, "" if it may.
        """
        if not self.moving_base_limit.claim_last_try(self._landed):
            return self.moving_base_limit.explain()
        return await self.follow_base()

    async def find_rewritten(self) -> str:
        """Why nothing may be published, "" if the base still holds what was published; nothing is moved by this."""
        known, base = self._known_base, await self._run.git.call(self._run.git.head.base)
        if known is None or await self._run.git.call(self._run.git.head.contains, known, base):
            return ""
        return await self._run.git.call(describe_rewritten_base, self._run, base, known)

    async def wait_for_restored_branches(self) -> None:
        """Return when no merge is being taken back: then each such node has its branch, and may be worked again."""
        async with self._taking_back:
            return

    def give_up(self) -> None:
        """Nothing else can make progress: whoever waits for the base to be mended now is told so."""
        self._is_given_up = True
        self._has_changed.set()

    async def close(self) -> None:
        await self._verifier.close()

    @property
    def composer(self) -> Composer:
        return self._composer

    async def _try_to_land(self, landing: Landing) -> LandingResult:
        for _ in range(MAX_IN_A_ROW + 1):
            if refusal := await self._follow_base():
                return Held(refusal)
            if added := self._verifier.find_added_alternates():
                return Held(added, is_broken=True)
            head = self._run.git.head.last_seen()
            candidate = await self._run.git.call(self._compose, landing, head)
            if candidate is None:
                return CompletedElsewhere(
                    await self._run.git.call(find_completing_commit, self._run, landing.task.id, head)
                )
            if isinstance(candidate, Conflict):
                return give_back_conflict(candidate, head, self._run.agents.instructions.templates)
            if back := await self._run.git.call(self._additions.refuse, candidate, landing):
                return back
            if red := await self._verifier.find_red(candidate.commit, landing.task.id):
                return await self._find_base_red(head) or self._give_back_red(red, head)
            if refusal := await self._judge_untested_lines(candidate):
                return refusal
            if await self._advance_or_hold(candidate):
                await self._run.git.call(self._additions.note_landed, candidate, landing)
                self._landed += 1
                self._has_changed.set()
                return Landed(candidate.commit)
        return Held(self.moving_base_limit.explain())

    def _compose(self, landing: Landing, head: str) -> Candidate | Conflict | None:
        """The commit that would land it, None if its task is completed at `head` already."""
        entry = self._run.git.objects.find_entry(head, landing.task.path)
        is_as_known = entry is not None and entry.oid == landing.task.blob
        if landing.task.is_completed if is_as_known else self._is_completed(landing.task.id, head):
            return None
        if landing.commit == "":
            return self._composer.compose_checked(landing, head)
        return self._composer.compose_merge(landing, head)

    async def _advance(self, candidate: Candidate) -> bool:
        """Move the head to `candidate`; False if it was elsewhere."""
        return await self._move(lambda: self._run.git.head.advance(candidate.head, candidate.commit))

    async def _advance_or_hold(self, candidate: Candidate) -> bool:
        """As `_advance`. A base that has moved in too many rounds in a row is followed no more: the head stays where
        the candidate was made, which is on it from now on, and is published later.
        """
        run, known = self._run, self._known_base or candidate.head
        is_moved = await self._advance(candidate)
        if is_moved and run.git.head.is_as_seen(known):
            self._reset_rounds_here()
        else:
            base = await run.git.call(run.git.head.base)
            if is_moved and await run.git.call(run.git.head.contains, base, candidate.commit):
                return True
            await run.git.call(self.moving_base_limit.count_lost_round, known, base)
        if is_moved or not self.moving_base_limit.is_reached:
            return is_moved
        self.is_behind = True
        await run.git.call(run.git.head.hold, candidate.head)
        return await self._advance(candidate)

    def _reset_rounds_here(self) -> None:
        # What is fetched of a remote says nothing of what it has: there only a push wins.
        if not self._run.project.is_remote:
            self.moving_base_limit.reset_rounds()

    async def _move(self, work: Callable[[], bool]) -> bool:
        """Do `work`, which moves the head, in a thread; once begun it comes to its end, and what landed is known."""
        moving = asyncio.ensure_future(self._run.git.call(work))
        try:
            is_moved = await asyncio.shield(moving)
        except asyncio.CancelledError:
            if not await moving:
                raise
            is_moved = True
        if is_moved:
            self._on_moved()
        return is_moved

    # Verification.

    def _give_back_red(self, red: Red, head: str) -> GivenBack:
        templates = self._run.agents.instructions.templates
        prompt = agent_prompts.write_red_prompt(red.line, red.how, red.tail, red.log, head, templates)
        return GivenBack(f"verify is red as merged: `{red.line}` {red.how}", prompt)

    async def _find_base_red(self, head: str) -> Held | None:
        """Why the head alone is red, None if it is not; then no session is to blame for a red candidate."""
        red = await self._verifier.find_red(head, "")
        if red is None:
            return None
        target = self._run.project.base_name
        if red.broken:
            return Held(describe_broken(red, target), is_broken=True)
        return Held(f"{target} itself is red without any of this work: `{red.line}` {red.how} (log: {red.log})")

    async def _judge_untested_lines(self, candidate: Candidate) -> Held | GivenBack | None:
        """What becomes of work on which a test runner ran no test, None if it may land: the head alone decides."""
        green, target = self._verifier.untested_lines_of(candidate.commit), self._run.project.base_name
        if not green.idle:
            return None
        if held := await self._find_base_red(candidate.head):
            return held
        before = dict(self._verifier.untested_lines_of(candidate.head).idle)
        for line, said in green.idle:
            if line not in before:
                how = f"ran no test ({said}), though it runs some without this work"
                return self._give_back_red(Red(line, how, said, ""), candidate.head)
        if green.is_vacuous:
            return Held(describe_vacuous(green, target), is_broken=True)
        line, said = green.idle[0]
        self._verifier.say_once(f"`{line}` of `verify` runs no test ({said}); only its other lines check what lands.")
        return None

    async def _wait_for_base(self, held: Held, times: int) -> bool:
        """Wait until the base has moved, or green work stands on it; False if nothing else goes on meanwhile.

        From the fourth of `times` in a row on that is not enough: then a while has to pass as well, which grows.
        """
        self.waiting_for_base += 1
        base = self._run.project.base_name
        until = f"until that works; run again then, or commit what it needs to {base}" if held.is_broken else ""
        self._verifier.say_once(f"The queue is held. {held.reason}. Nothing lands {until or f'until {base} moves'}.")
        self._run.changed.set()
        self._has_changed.clear()
        self._is_given_up = False
        try:
            await self._has_changed.wait()
            rests_until = time.monotonic() + find_pause(times)
            while not self._is_given_up and (left := rests_until - time.monotonic()) > 0:
                self._has_changed.clear()
                self._run.changed.set()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._has_changed.wait(), left)
        finally:
            self.waiting_for_base -= 1
        return not self._is_given_up

    # The base.

    def _see(self) -> tuple[str, str]:
        return self._run.git.head.last_seen(), self._run.git.head.last_seen_base()

    async def _has_news_since(self, seen: tuple[str, str]) -> bool:
        """Whether head and base, looked at this moment, are not as they were: what was red may be green just now."""
        with suppress(CoordinatorError):
            await self._run.git.call(self._fetch_base)
        await self._run.git.call(self._run.git.head.base)
        return self._see() != seen

    async def _follow_base(self) -> str:
        """Reconcile the head with the base; returns why nothing may land, "" if it may."""
        run = self._run
        if self._known_base and run.git.head.is_as_seen(self._known_base) and not self.is_behind:
            return ""
        found = await run.git.call(run.git.head.reconcile, self._known_base)
        match found:
            case Unchanged(_, base):
                pass
            case FollowedBase(base):
                self._on_moved()
            case NeedsRebuild() if not self.moving_base_limit.may_retry:
                self.is_behind = True
                return ""
            case NeedsRebuild(base, head, commits):
                if refusal := await self._rebuild(base, head, commits):
                    return refusal
            case Rewritten(base, known):
                self.is_rewritten = True
                return await run.git.call(describe_rewritten_base, run, base, known)
        self.is_rewritten = False
        self.is_behind = False
        # Not as it was last seen: others look at the base too, and it may have moved since the head was compared.
        if base != self._known_base:
            self._known_base = base
            self._has_changed.set()
        return ""

    async def _rebuild(self, base: str, head: str, commits: tuple[str, ...]) -> str:
        """Make unpublished commits of ours again on `base`, each verified; what no longer fits is worked again.

        Returns why none of them can be made again, "" if the head has moved to those that can.
        """
        run = self._run
        tip = base
        run.board.say(f"{run.project.base_name} moved: {len(commits)} unpublished commits are made again on it.")
        returned: list[str] = []
        overtaken: list[str] = []
        for commit in commits:
            if await run.git.call(self._is_overtaken, commit, tip):
                overtaken.append(commit)
                continue
            made = await run.git.call(recompose, self._composer, commit, tip, digest_verify(run.settings))
            if isinstance(made, Conflict) or await self._has_faults(made):
                returned.append(commit)
            elif await self._verifier.find_red(made.commit, ""):
                if held := await self._find_base_red(tip):
                    return held.reason
                returned.append(commit)
            else:
                tip = made.commit
        now = await run.git.call(run.git.head.base)
        if now == base:
            self._reset_rounds_here()
        await run.git.call(self.moving_base_limit.count_lost_round, base, now)
        swapping = asyncio.ensure_future(self._swap_in(head, tip, returned, overtaken))
        try:
            await asyncio.shield(swapping)
        except asyncio.CancelledError:
            # The head may have moved by now, and then whoever shows what landed has to know of it.
            await swapping
            raise
        return ""

    async def _swap_in(self, head: str, tip: str, returned: list[str], overtaken: list[str]) -> None:
        run = self._run
        for commit in returned:
            run.board.say(await run.git.call(self._return_to_branch, commit))
        for commit in overtaken:
            await run.git.call(keep_commit, run.git.repository.git, self._read_task_id(commit), commit)
        async with self._taking_back:
            is_moved = await run.git.call(run.git.head.replace, head, tip)
            for commit in returned:
                # Once more: its branch may have been there still, about to be deleted because it had landed.
                await run.git.call(self._return_to_branch, commit)
            if is_moved:
                await self._tell_taken_back(returned)
                await self._tell_overtaken(overtaken, tip)
        if is_moved:
            self._on_moved()

    async def _has_faults(self, made: Candidate) -> bool:
        return bool(await self._run.git.call(find_new_faults, self._run.git.reader, made))

    def _read_task_id(self, commit: str) -> str:
        return self._run.git.head.read_trailers(commit).get("Task", "")

    def _is_overtaken(self, commit: str, tip: str) -> bool:
        """Whether the node that a commit of ours is about was completed by somebody else."""
        return self._is_completed(self._read_task_id(commit), tip)

    def _is_completed(self, task_id: str, head: str) -> bool:
        task = self._run.git.reader.read(head).find(task_id)
        return task is not None and task.is_completed

    async def _tell_overtaken(self, commits: list[str], tip: str) -> None:
        for commit in commits:
            task_id = await self._run.git.call(self._read_task_id, commit)
            theirs = await self._run.git.call(find_completing_commit, self._run, task_id, tip)
            self._run.board.say(describe_completed_elsewhere(task_id, theirs))
            self._run.nodes.remember_landed(task_id, theirs)
            self._run.board.replace_commit(task_id, commit, theirs)

    async def _tell_taken_back(self, commits: list[str]) -> None:
        for commit in commits:
            if task_id := await self._run.git.call(self._read_task_id, commit):
                self._run.board.take_back(task_id, commit)

    def _return_to_branch(self, commit: str) -> str:
        """The work of a merge that no longer fits becomes its branch again, so that the node goes on from there."""
        task_id = self._read_task_id(commit)
        parents = read_parents(self._run.git.repository.git, commit)
        if len(parents) == 2 and task_id:
            self._run.git.repository.create_branch(self._run.nodes.branch_of(task_id), parents[1])
        target = self._run.project.base_name
        return f"{task_id or commit[:12]} no longer fits onto {target}; its work is on its branch, and is worked again."
