"""Gives live worktrees of a repository numbers that no other one has at the same time."""

import threading
from collections.abc import Callable
from itertools import count

from tasks_lib.git.repository import Repository
from tasks_lib.git.worktree_admin import list_entries


class WorktreeSlots:
    """The numbers of one repository's worktrees, claimed by threads of this process; `Worktrees` may share them."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._mutex: threading.Lock = threading.Lock()
        self._taken: set[int] = set()
        self.read()

    def read(self) -> None:
        """Take those that worktrees on disk have, and only those."""
        with self._mutex:
            self._taken = {slot for entry in list_entries(self._repository) if (slot := entry.slot)}

    def claim(self, is_free: Callable[[int], bool]) -> int:
        """Claim the lowest number that is not taken and that `is_free` accepts."""
        with self._mutex:
            slot = next(number for number in count(1) if number not in self._taken and is_free(number))
            self._taken.add(slot)
            return slot

    def free(self, slot: int) -> None:
        with self._mutex:
            self._taken.discard(slot)
