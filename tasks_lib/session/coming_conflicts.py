"""Decides from branches as they were seen which pairs to merge, which conflicts are coming, and whom to tell."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

SETTLE_SECONDS = 30.0
"""How long a conflict with uncommitted changes has to last before it is announced: agents undo much of what they try.

About the time from one tool of an agent to its next, and until each active session has been looked at once more.
"""
MOST_TOLD = 5
"""How many coming conflicts the session of one node is told of, in all of its attempts together."""
MOST_LANDED = 200
"""Of how many landed branches the changes are remembered, the latest, for branches that began before they landed."""
NOTHING = ""
"""The entry of a path that does not exist."""

Value = TypeVar("Value")
Pair = tuple[str, str]
"""The ids of two nodes, sorted."""


@dataclass(frozen=True, slots=True)
class PathChange:
    """A path that a branch has changed: its mode and blob (`100644 1f3a…`) before and now, NOTHING if not there."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Branch:
    """A branch as it was last seen.

    `state` is the commit of its content, uncommitted files included; `is_committed` if there are none. `changes` are
    its own ones, against where it left the head, without task files. `began` is when the work on it began, in seconds
    since the epoch. `landed_as` is its number among the branches that have landed, from 1, 0 if it has not; it contains
    the first `contains` of them.
    """

    node: str
    state: str
    changes: Mapping[str, PathChange]
    began: float
    is_committed: bool = False
    contains: int = 0
    landed_as: int = 0


@dataclass(frozen=True, slots=True)
class Conflict:
    """A conflict that is coming between two branches: its `paths`, sorted, and since when it was seen without a break.

    `announced` are the paths that were announced, which may be more.
    """

    paths: tuple[str, ...]
    since: float
    announced: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Announcement:
    """A conflict that users are shown: the nodes `pair`, and the paths that are new.

    `told` is the node whose session is told of it, NOTHING if none can be.
    """

    pair: Pair
    paths: tuple[str, ...]
    told: str

    @property
    def other(self) -> str:
        """The node that `told` is told about."""
        return self.pair[0] if self.told == self.pair[1] else self.pair[1]


@dataclass(frozen=True, slots=True)
class Radar:
    """What is known of all branches: `merged` maps a pair to the two states that were last merged."""

    branches: Mapping[str, Branch] = field(default_factory=dict[str, Branch])
    merged: Mapping[Pair, Pair] = field(default_factory=dict[Pair, Pair])
    conflicts: Mapping[Pair, Conflict] = field(default_factory=dict[Pair, Conflict])
    announced: Mapping[Pair, frozenset[str]] = field(default_factory=dict[Pair, frozenset[str]])

    def find_conflicts(self, node: str) -> dict[str, tuple[str, ...]]:
        """Map each node with which `node` has an announced conflict that is still coming to its paths."""
        found: dict[str, tuple[str, ...]] = {}
        for pair, conflict in self.conflicts.items():
            if node in pair and (paths := tuple(path for path in conflict.paths if path in conflict.announced)):
                found[pair[0] if node == pair[1] else pair[1]] = paths
        return found


def make_pair(one: str, other: str) -> Pair:
    return (one, other) if one < other else (other, one)


def see(radar: Radar, branch: Branch) -> Radar:
    """The radar after `branch` was seen; pairs whose changes no longer touch each other have no conflict any more."""
    branches = _forget_old({**radar.branches, branch.node: branch})
    missing = {pair for pair in (*radar.merged, *radar.conflicts) if not branches.keys() >= set(pair)}
    apart = {
        pair
        for pair in radar.conflicts
        if branch.node in pair and not _may_conflict(branches.get(pair[0]), branches.get(pair[1]))
    }
    return replace(
        radar,
        branches=branches,
        merged=_without(radar.merged, missing | apart),
        conflicts=_without(radar.conflicts, missing | apart),
    )


def leave(radar: Radar, node: str) -> Radar:
    """The radar without the branch of `node`, which will not land as it is."""
    pairs = {pair for pair in (*radar.merged, *radar.conflicts) if node in pair}
    return replace(
        radar,
        branches={name: branch for name, branch in radar.branches.items() if name != node},
        merged=_without(radar.merged, pairs),
        conflicts=_without(radar.conflicts, pairs),
    )


def land(radar: Radar, branch: Branch, number: int) -> Radar:
    """The radar after `branch` landed as the one with this `number`: branches without it still have to merge it."""
    return see(radar, replace(branch, landed_as=number, is_committed=True))


def _forget_old(branches: Mapping[str, Branch]) -> Mapping[str, Branch]:
    """Drop landed branches that every other branch contains, and the oldest beyond MOST_LANDED."""
    landed = [branch for branch in branches.values() if branch.landed_as]
    if not landed:
        return branches
    live = [branch.contains for branch in branches.values() if not branch.landed_as]
    oldest = min(live, default=0)
    kept = sorted((one for one in landed if one.landed_as > oldest), key=lambda one: one.landed_as)[-MOST_LANDED:]
    names = {one.node for one in kept}
    return {name: branch for name, branch in branches.items() if not branch.landed_as or name in names}


def _without(values: Mapping[Pair, Value], gone: Collection[Pair]) -> Mapping[Pair, Value]:
    return {pair: value for pair, value in values.items() if pair not in gone} if gone else values


# Which pairs need a merge.


def list_pairs(radar: Radar, node: str) -> list[Pair]:
    """The pairs of `node` whose changes touch each other, and that were not merged in their present states."""
    branch = radar.branches.get(node)
    return [
        pair
        for other in radar.branches.values()
        if branch and other.node != node and _may_conflict(branch, other)
        if radar.merged.get(pair := make_pair(node, other.node)) != find_states(radar, pair)
    ]


def find_states(radar: Radar, pair: Pair) -> Pair:
    """The states of both branches of `pair`."""
    return radar.branches[pair[0]].state, radar.branches[pair[1]].state


def _may_conflict(one: Branch | None, other: Branch | None) -> bool:
    """Whether a merge of both could conflict: it is cheap to say, and says yes too often, but never no wrongly."""
    if one is None or other is None or (one.landed_as and other.landed_as):
        return False
    for landed, live in ((one, other), (other, one)):
        if 0 < landed.landed_as <= live.contains:
            return False
    return bool(_shares_path(one, other) or _is_structural(one, other) or _is_structural(other, one))


def _shares_path(one: Branch, other: Branch) -> bool:
    """Whether both changed a path in different ways. Both deleting it counts: each may have renamed it."""
    fewer, more = sorted((one.changes, other.changes), key=len)
    return any(
        change.new != theirs.new or (change.new == NOTHING and _adds(one) and _adds(other))
        for path, change in fewer.items()
        if (theirs := more.get(path))
    )


def _adds(branch: Branch) -> bool:
    return any(change.old == NOTHING for change in branch.changes.values())


def _is_structural(one: Branch, other: Branch) -> bool:
    """Whether a file of `one` is a folder of `other`, or `one` may have renamed a folder that `other` adds files to."""
    added = [path for path, change in other.changes.items() if change.old == NOTHING]
    if any(one.changes[folder].new for path in added for folder in _list_above(path) if folder in one.changes):
        return True
    if not added or not _adds(one):
        return False
    left = {folder for path, change in one.changes.items() if change.new == NOTHING for folder in _list_above(path)}
    return any(path.rpartition("/")[0] in left for path in added)


def _list_above(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path


# What follows from the merges.


def note_merges(radar: Radar, results: Mapping[Pair, tuple[Pair, Collection[str]]], now: float) -> Radar:
    """The radar after merges in memory: each pair with the states that were merged, and the paths in conflict."""
    merged, conflicts = dict(radar.merged), dict(radar.conflicts)
    for pair, (states, paths) in results.items():
        if not radar.branches.keys() >= set(pair):
            continue
        merged[pair] = states
        counted = tuple(sorted(_keep_own(radar.branches[pair[0]], radar.branches[pair[1]], paths)))
        before = conflicts.pop(pair, None)
        if counted:
            since = before.since if before else now
            conflicts[pair] = Conflict(counted, since, radar.announced.get(pair, frozenset()))
    return replace(radar, merged=merged, conflicts=conflicts)


def _keep_own(one: Branch, other: Branch, paths: Collection[str]) -> Collection[str]:
    """The paths that both branches changed themselves; the merge base of two branches may be older than what they saw.

    A rename or a folder in place of a file conflicts at paths that only one of them changed.
    """
    if both := [path for path in paths if path in one.changes and path in other.changes]:
        return both
    if not (_is_structural(one, other) or _is_structural(other, one) or _has_renames(one, other)):
        return ()
    return [path for path in paths if path in one.changes or path in other.changes]


def _has_renames(one: Branch, other: Branch) -> bool:
    return any(
        theirs.new == NOTHING or change.new == NOTHING
        for path, change in one.changes.items()
        if (theirs := other.changes.get(path))
    )


def announce(
    radar: Radar, listening: Collection[str], told: Mapping[str, int], now: float
) -> tuple[Radar, list[Announcement]]:
    """Announce the conflicts that have settled, each path of a pair once.

    `listening` are the nodes whose sessions can be told something, and `told` counts what each was told of before.
    """
    counts, said = dict(told), list[Announcement]()
    conflicts, announced = dict(radar.conflicts), dict(radar.announced)
    for pair, conflict in radar.conflicts.items():
        one, other = radar.branches[pair[0]], radar.branches[pair[1]]
        known = announced.get(pair, frozenset())
        new = tuple(path for path in conflict.paths if path not in known)
        if not new or not _is_settled(one, other, conflict, now):
            continue
        announced[pair] = known | set(new)
        conflicts[pair] = replace(conflict, announced=announced[pair])
        listener = choose_listener(one, other, listening, counts)
        counts[listener] = counts.get(listener, 0) + 1
        said.append(Announcement(pair, new, listener))
    return replace(radar, conflicts=conflicts, announced=announced), said


def _is_settled(one: Branch, other: Branch, conflict: Conflict, now: float) -> bool:
    return (one.is_committed and other.is_committed) or now >= conflict.since + SETTLE_SECONDS


def choose_listener(one: Branch, other: Branch, listening: Collection[str], told: Mapping[str, int]) -> str:
    """The node whose session is told: the one that began later, if it can be told; NOTHING if neither can be."""
    later = sorted((one, other), key=lambda branch: (branch.began, branch.node), reverse=True)
    can = (branch.node for branch in later if branch.node in listening and told.get(branch.node, 0) < MOST_TOLD)
    return next(can, NOTHING)
