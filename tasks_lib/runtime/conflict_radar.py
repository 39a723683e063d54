"""Looks at the branches in flight during a run, and announces the conflicts that are coming between them."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tasks_lib.errors import CoordinatorError
from tasks_lib.git.inspection.live_state import LiveState, LiveStates, read_commit_stamp
from tasks_lib.git.inspection.pair_merges import PairMerger, is_available
from tasks_lib.git.objects.object_database import Entry
from tasks_lib.git.worktrees.lifecycle import Worktree
from tasks_lib.runtime.git_access import GitAccess
from tasks_lib.runtime.landed_branches import LandedBranches
from tasks_lib.runtime.status_board import write_paths
from tasks_lib.session.coming_conflicts import (
    NOTHING,
    Announcement,
    Branch,
    PathChange,
    Radar,
    announce,
    find_states,
    land,
    leave,
    list_pairs,
    note_merges,
    see,
)

POLL_SECONDS = 1.0
"""How often it is checked, without git, whether a session has committed or a tool has ended."""
MOST_SHARE = 0.025
"""The share of the time that may be spent looking: somewhat more of a core, since one look follows the other."""
MOST_STRETCH = 4
"""How many times `watch.conflict_seconds` may pass between two looks at an active session to keep to `MOST_SHARE`."""
LOOKS_AT_ONCE = 10
"""Up to how many members are looked at before their states are merged: a `git merge-tree` for all costs less."""
MOST_FAILURES = 5
"""After how many unexpected errors in a row nothing is looked at any more in this run."""
MOST_SAID = 20
"""How many conflicts a run says among its messages; all are shown with the nodes."""
_log = logging.getLogger(__name__)


class Member(Protocol):
    """A node whose branch is in flight."""

    @property
    def node(self) -> str: ...

    @property
    def began(self) -> float:
        """When the work on it began, in seconds since the epoch."""
        ...

    @property
    def worktree(self) -> Worktree: ...

    @property
    def is_live(self) -> bool:
        """Whether a session is working in the worktree, on this machine."""
        ...

    @property
    def is_listening(self) -> bool:
        """Whether its session may be told something, now or with a later prompt."""
        ...

    @property
    def activity(self) -> tuple[str, str]:
        """When the session was last active, and a text that changes when one of its tools ends."""
        ...

    @property
    def told(self) -> int:
        """How many coming conflicts it has been told of."""
        ...

    def make_filter(self) -> Callable[[str], bool]:
        """Return what says, in a thread, whether an uncommitted path is not the agent's work."""
        ...

    def show_changes(self, summary: str) -> None:
        """Show how much the branch changes, such as `3 files +40 -2`."""
        ...

    async def tell(self, paths: Sequence[str], other: str, diff: str) -> bool:
        """Tell the session of a coming conflict with the node `other`, whose changes are `diff`; False if it knows."""
        ...


class Display(Protocol):
    """Shows the conflicts that are coming."""

    def say(self, message: str) -> None:
        """Report a message about the run."""
        ...

    def expect_conflicts(self, node_id: str, conflicts: Mapping[str, Sequence[str]]) -> None:
        """Show that `node_id` will conflict with these nodes at these paths, and with no others."""
        ...


@dataclass(slots=True)
class _Look:
    """What was known of a member when it was last looked at; times are of the monotonic clock."""

    at: float = float("-inf")
    commit: object = None
    activity: tuple[str, str] = ("", "")


class ConflictRadar:
    """The radar of one run. Call it from the event loop, except where a method says otherwise.

    A session is looked at when it commits, when a tool of it ends, and every `seconds` if it is active; with 0, never.
    Where that would take more than `MOST_SHARE` of the time, it is looked at less often, up to `MOST_STRETCH` times.
    `is_ignored` says which paths do not count. While it `is_looking`, it shows how much each branch changes.
    """

    def __init__(self, git: GitAccess, display: Display, seconds: float, is_ignored: Callable[[str], bool]) -> None:
        self.is_looking: bool = False
        self._git: GitAccess = git
        self._display: Display = display
        self._seconds: float = seconds
        self._states: LiveStates = LiveStates(git.repository.git, git.quarantine, is_ignored)
        self._merger: PairMerger = PairMerger(git.isolation, self._states.objects, git.quarantine)
        self._landed: LandedBranches = LandedBranches(self._states)
        self._radar: Radar = Radar()
        self._members: dict[str, Member] = {}
        self._looks: dict[str, _Look] = {}
        self._bases: dict[str, str] = {}
        self._landing: list[tuple[str, str, str, str]] = []
        self._failures: int = 0
        self._said: int = 0
        self._generation: int = 0

    def enter(self, member: Member) -> None:
        """Look at the branch of `member` from now on."""
        self._members[member.node] = member
        self._looks[member.node] = _Look()

    def land(self, node: str, merge: str, commit: str, base: str) -> None:
        """The branch of `node`, which began at `base`, landed at `commit` with the merge `merge`."""
        if member := self._members.pop(node, None):
            self._states.forget(member.worktree)
            self._landing.append((node, merge, commit, base))
            self._display.expect_conflicts(node, {})

    def leave(self, node: str) -> None:
        """Look no more at the branch of `node`, which does not land as it is. A branch that has landed stays."""
        if member := self._members.pop(node, None):
            self._states.forget(member.worktree)
            self._radar = leave(self._radar, node)
            self._show()

    def expects_conflict(self, node: str) -> bool:
        """Whether a conflict was announced between `node` and another one that has not landed."""
        return any(other in self._members for other in self._radar.find_conflicts(node))

    async def work(self) -> None:
        """Look until cancelled; errors in it are logged, and never end the run."""
        if not self._seconds or not await self._git.call(is_available):
            return
        self.is_looking = True
        try:
            while self._failures < MOST_FAILURES:
                began = time.monotonic()
                await asyncio.sleep(await self._take_round(began))
            _log.warning("conflicts are no longer looked for in this run")
        finally:
            self.is_looking = False
            await self._git.call(self._states.close)

    async def _take_round(self, began: float) -> float:
        """Look at the members that are due longest; return the pause until the next round, in seconds."""
        due = self._list_due(began)[:LOOKS_AT_ONCE]
        try:
            await self._note_landed()
            seen = [branch for member in due if (branch := await self._look(member))]
            await self._merge([branch for branch in seen if branch.node in self._members])
            await self._announce()
        except (CoordinatorError, OSError) as error:
            _log.info("conflicts could not be looked for: %s", error)
        except Exception:
            self._failures += 1
            _log.exception("conflicts that are coming could not be looked for")
        else:
            self._failures = 0
        if not due:
            return POLL_SECONDS
        spent = time.monotonic() - began
        in_time = self._seconds * len(due) / max(1, sum(member.is_live for member in self._members.values()))
        return max(0.0, min(spent / MOST_SHARE, MOST_STRETCH * in_time - spent))

    def _list_due(self, now: float) -> list[Member]:
        """The members to look at, the one that was not looked at for the longest time first."""
        due = [member for member in self._members.values() if self._is_due(member, now)]
        return sorted(due, key=lambda member: self._looks[member.node].at)

    def _is_due(self, member: Member, now: float) -> bool:
        look = self._looks[member.node]
        if read_commit_stamp(member.worktree) != look.commit:
            return True
        if not member.is_live:
            return False
        active_at, tool = member.activity
        return tool != look.activity[1] or (active_at != look.activity[0] and now >= look.at + self._seconds)

    async def _look(self, member: Member) -> Branch | None:
        """Return the branch of `member` as it is now, None if that cannot be said or it left meanwhile."""
        look = self._looks[member.node] = _Look(time.monotonic(), read_commit_stamp(member.worktree), member.activity)
        try:
            state = await self._git.call(
                self._states.look, member.worktree, self._git.head.last_seen(), member.make_filter()
            )
            summary = await self._git.call(self._states.summarize, state) if state else ""
        except (CoordinatorError, OSError) as error:  # An agent may have broken its worktree; its turn is judged.
            _log.info("the branch of %s could not be looked at: %s", member.node, error)
            return None
        if self._states.generation != self._generation:
            self._generation = self._states.generation
            self._looks = {node: look if node == member.node else _Look() for node in self._members}
        if state is None or self._looks.get(member.node) is not look or member.node not in self._members:
            return None  # It has ended meanwhile, or it is in the middle of something.
        member.show_changes(summary)
        self._bases[member.node] = state.base
        contains = await self._git.call(self._landed.count_in, state.base)
        return describe_branch(member.node, state, contains, member.began)

    async def _note_landed(self) -> None:
        while self._landing:
            node, merge, commit, base = self._landing.pop(0)
            number = self._landed.add(merge)
            state = await self._git.call(self._states.read_commit, commit, base)
            began = self._radar.branches[node].began if node in self._radar.branches else 0.0
            self._radar = land(self._radar, describe_branch(node, state, 0, began), number)
            self._bases[node] = base
            if branch := self._radar.branches.get(node):
                await self._merge([branch])

    async def _merge(self, branches: Sequence[Branch]) -> None:
        """See `branches`, and merge each with all those that it may conflict with."""
        for branch in branches:
            self._radar = see(self._radar, branch)
        listed = [pair for branch in branches for pair in list_pairs(self._radar, branch.node)]
        if pairs := list(dict.fromkeys(listed)):
            states = [find_states(self._radar, pair) for pair in pairs]
            merged = await self._git.call(self._merger.merge, states, self._git.head.last_seen())
            found = zip(pairs, states, merged, strict=True)
            results = {pair: (state, paths) for pair, state, paths in found if paths is not None}
            self._radar = note_merges(self._radar, results, time.time())

    async def _announce(self) -> None:
        """Say and tell what has settled, and show on the board what is coming now."""
        listening = {node for node, member in self._members.items() if member.is_listening}
        counts = {node: member.told for node, member in self._members.items()}
        self._radar, said = announce(self._radar, listening, counts, time.time())
        for announcement in said:
            await self._tell(announcement)
        self._show()

    async def _tell(self, announcement: Announcement) -> None:
        one, other = announcement.pair
        member = self._members.get(announcement.told)
        is_told = False
        if member and announcement.told != NOTHING:
            about = self._radar.branches[announcement.other]
            base = self._bases.get(about.node, "")
            try:
                diff = await self._git.call(self._merger.diff, base, about.state, announcement.paths) if base else ""
                is_told = await member.tell(announcement.paths, announcement.other, diff)
            except CoordinatorError as error:  # The agent cannot be reached right now, or the state is gone.
                _log.info("the session of %s could not be told: %s", announcement.told, error)
        told = f"; the session of {announcement.told} was told" if is_told else ""
        self._said += 1
        if self._said > MOST_SAID:
            return
        more = " Further ones are only shown with the nodes." if self._said == MOST_SAID else ""
        self._display.say(
            f"{one} and {other} both change {write_paths(announcement.paths)} and will conflict{told}.{more}"
        )

    def _show(self) -> None:
        for node in self._members:
            self._display.expect_conflicts(node, self._radar.find_conflicts(node))


def describe_branch(node: str, state: LiveState, contains: int, began: float) -> Branch:
    """Return `state` of a node's branch, which contains that many landed ones, as the radar sees it."""
    changes = {path: PathChange(_write(old), _write(new)) for path, (old, new) in state.changes.items()}
    return Branch(node, state.state, changes, began, state.is_committed, contains)


def _write(entry: Entry | None) -> str:
    return f"{entry.mode} {entry.oid}" if entry else NOTHING
