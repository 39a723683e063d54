"""Numbers the branches that land in a run, and says how many of them a commit on the head contains."""

from collections.abc import Iterator

from tasks_lib.errors import GitError
from tasks_lib.git.commits.commit import read_commit
from tasks_lib.git.inspection.live_state import LiveStates

MOST_STEPS = 200
"""How many commits of the head are followed back to the last one with which a branch landed."""


class LandedBranches:
    """The merges of one run, numbered from 1 in the order in which they landed."""

    def __init__(self, states: LiveStates) -> None:
        self._states: LiveStates = states
        self._numbers: dict[str, int] = {}
        self._known: dict[str, int] = {}

    def add(self, merge: str) -> int:
        """Record that a branch landed with the commit `merge`; return its number."""
        return self._numbers.setdefault(merge, len(self._numbers) + 1)

    def count_in(self, commit: str) -> int:
        """Return how many of the branches that have landed are part of `commit`, one of the head's. Blocking."""
        if commit in self._known:
            return self._known[commit]
        found = (self._numbers[one] for one in self._walk_back(commit) if one in self._numbers)
        count = next(found, 0) if self._numbers else 0
        if count:
            self._known[commit] = count
        return count

    def _walk_back(self, commit: str) -> Iterator[str]:
        steps = 0
        while steps < MOST_STEPS:
            yield commit
            steps += 1
            try:
                parents = read_commit(self._states.objects, commit).parents
            except GitError:  # A shallow clone ends somewhere.
                return
            if not parents:
                return
            commit = parents[0]
