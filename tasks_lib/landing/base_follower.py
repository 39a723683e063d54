"""Follows the base: detects that something else moved it, and brings the head and its unpublished merges onto it."""

from collections.abc import Callable
from contextlib import suppress

from tasks_lib.errors import CoordinatorError
from tasks_lib.git.compose.commit_composer import Candidate
from tasks_lib.git.publish.queue_head import FollowedBase, NeedsRebuild, Rewritten, Unchanged
from tasks_lib.landing.candidate_verification import Verifier
from tasks_lib.landing.head_moves import FIRST, HeadMoves
from tasks_lib.landing.merge_rebuilder import MergeRebuilder
from tasks_lib.landing.moving_base import MovingBaseLimit
from tasks_lib.landing.results import Held
from tasks_lib.landing.rewritten_base import describe_rewritten_base
from tasks_lib.runtime.run_context import Run


class BaseFollower:
    """Keeps the head of one run on its base.

    `is_behind` is set when the base has moved more often than the limit for moving bases allows: the head stays where
    it is, and publishing waits. `is_rewritten` is set when the base no longer contains what was published: nothing
    lands until the user has resolved this.
    """

    def __init__(
        self,
        run: Run,
        moves: HeadMoves,
        verifier: Verifier,
        limit: MovingBaseLimit,
        fetch_base: Callable[[], object],
    ) -> None:
        """`fetch_base` fetches the base if it is on a remote; it may raise CoordinatorError."""
        self._run = run
        self._moves = moves
        self._fetch_base = fetch_base
        self._rebuilder = MergeRebuilder(run, moves, verifier)
        self._known_base: str | None = None
        self.moving_base_limit: MovingBaseLimit = limit
        self.is_behind: bool = False
        self.is_rewritten: bool = False

    # For publishing, and for watching the base.

    async def follow_base(self) -> str:
        """Bring the head onto the base if something else moved it; return why nothing may land, "" if it may."""
        async with self._moves.turn(FIRST):
            return await self.follow_in_turn()

    async def follow_base_once_more(self) -> str:
        """Like `follow_base`, but even past the limit; for when no node is running, once per number of landed nodes.

        Returns why nothing may be published, "" if it may.
        """
        if not self.moving_base_limit.claim_last_try(self._moves.landed):
            return self.moving_base_limit.explain()
        return await self.follow_base()

    async def find_rewritten(self) -> str:
        """Return why nothing may be published, "" if the base still contains what was published; moves nothing."""
        run, known = self._run, self._known_base
        base = await run.git.call(run.git.head.base)
        if known is None or await run.git.call(run.git.head.contains, known, base):
            return ""
        return await run.git.call(describe_rewritten_base, run, base, known)

    def note_published(self, commit: str) -> None:
        """Record that the base was moved to `commit` of the head, which it must contain from now on."""
        self._known_base = commit
        self.is_behind = False
        self.moving_base_limit.reset_rounds()

    # For the merge queue, during its turn to move the head.

    async def follow_in_turn(self) -> str:
        """Like `follow_base`, for a caller that already has the turn."""
        head = self._run.git.head
        if self._known_base and head.refs.is_as_read(self._known_base) and not self.is_behind:
            return ""
        match await self._run.git.call(head.reconcile, self._known_base):
            case Unchanged(_, base):
                pass
            case FollowedBase(base):
                self._moves.announce()
            case NeedsRebuild() if not self.moving_base_limit.may_retry:
                self.is_behind = True
                return ""
            case NeedsRebuild(base) as needed:
                if refusal := await self._rebuild(needed):
                    return refusal
            case Rewritten(base, known):
                self.is_rewritten = True
                return await self._run.git.call(describe_rewritten_base, self._run, base, known)
        self._note_followed(base)
        return ""

    async def count_round(self, candidate: Candidate, *, is_moved: bool) -> None:
        """Count one verification of `candidate` as a round, lost if the base moved meanwhile.

        `is_moved` is whether the head was moved to `candidate`.
        """
        call, head = self._run.git.call, self._run.git.head
        known = self._known_base or candidate.head
        if is_moved and head.refs.is_as_read(known):
            self._reset_local_rounds()
            return
        base = await call(head.base)
        if not (is_moved and await call(head.contains, base, candidate.commit)):
            await call(self.moving_base_limit.count_lost_round, known, base)

    async def hold_head(self, commit: str) -> None:
        """Stop following the base for now: the head stays at `commit`, and work that lands on it is published later."""
        self.is_behind = True
        await self._run.git.call(self._run.git.head.hold, commit)

    def last_seen(self) -> tuple[str, str]:
        """Return the head and the base as last read."""
        return self._run.git.head.last_seen(), self._run.git.head.last_seen_base()

    async def has_news_since(self, seen: tuple[str, str]) -> bool:
        """Read head and base again; return whether they differ from `seen`, so that a red `verify` may pass now."""
        with suppress(CoordinatorError):
            await self._run.git.call(self._fetch_base)
        await self._run.git.call(self._run.git.head.base)
        return self.last_seen() != seen

    async def _rebuild(self, needed: NeedsRebuild) -> str:
        """Replace the unpublished commits with new ones on the new base; return why that failed, "" if it did not."""
        run = self._run
        count = len(needed.commits)
        run.board.say(f"{run.project.base_name} moved: recreating {count} unpublished commits on it.")
        rebuilt = await self._rebuilder.rebuild(needed.base, needed.commits)
        if isinstance(rebuilt, Held):
            return rebuilt.reason
        base = await run.git.call(run.git.head.base)
        if base == needed.base:
            self._reset_local_rounds()
        await run.git.call(self.moving_base_limit.count_lost_round, needed.base, base)
        await self._rebuilder.apply(needed.head, rebuilt)
        return ""

    def _note_followed(self, base: str) -> None:
        """Record that the head is on `base`, which may have moved again since it was compared."""
        self.is_rewritten = False
        self.is_behind = False
        if base != self._known_base:
            self._known_base = base
            self._moves.changed.set()

    def _reset_local_rounds(self) -> None:
        # A fetch does not show where the remote branch is now, so with a remote only a push resets the rounds.
        if not self._run.project.is_remote:
            self.moving_base_limit.reset_rounds()
