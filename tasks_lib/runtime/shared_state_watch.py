"""Watches the git state that agents share with the user, and reports what changed while one of them was running."""

import threading
from collections.abc import Callable, Collection, Mapping

from tasks_lib.git.inspection.shared_git_state import (
    PLACES,
    Shared,
    describe_changes,
    drop_stashes,
    read_settings,
    read_shared,
)
from tasks_lib.git.repository import Repository
from tasks_lib.process.files import read_stamp


class SharedStateWatch:
    """The state that a repository's worktrees share, since the first session of a run began. Call from threads.

    `list_known` returns the full refs that the run, or the user by landing, moves all the time.
    """

    def __init__(
        self, repository: Repository, list_known: Callable[[], Collection[str]], say: Callable[[str], None]
    ) -> None:
        self._repository = repository
        self._list_known = list_known
        self._say = say
        self._seen: Shared | None = None
        self._places: dict[str, object] = {}
        self._stamp: object = None
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Call before each session; the first call records the user's own state."""
        with self._lock:
            if self._seen is None:
                self._seen = read_shared(self._repository, self._list_known())
                self._stamp, self._places = self._seen.stamp, _choose_places(self._seen.settings)

    def compare(self, task_id: str) -> None:
        """Call after a turn of node `task_id`: report what changed since the last call."""
        with self._lock:
            before, self._seen = self._seen, read_shared(self._repository, self._list_known(), self._seen)
            said = describe_changes(self._repository.git, before, self._seen) if before else []
        if said:
            self._say(
                f"Shared git state changed while {task_id} was running: {', '.join(said)}. "
                "Please check it; the run continues."
            )

    def pass_over(self, stashes: Collection[str]) -> None:
        """Record that coordinator itself removed these agents' stashes, so that `compare` does not report it."""
        with self._lock:
            if self._seen is not None:
                self._seen = drop_stashes(self._seen, stashes)

    def find_detour(self) -> str:
        """Return why git would no longer find the user's working tree, "" if it still does as when sessions began."""
        common, git = self._repository.common_dir, self._repository.git
        with self._lock:
            stamp = read_stamp(common / "config")
            if self._seen is None or self._repository.is_bare or stamp == self._stamp:
                return ""
            now = _choose_places(read_settings(git, common))
            if changed := [name for name in PLACES if now.get(name) != self._places.get(name)]:
                return f"{', '.join(changed)} in .git/config changed while agents were running; restore it."
            self._stamp = stamp
            return ""


def _choose_places(settings: Mapping[str, object]) -> dict[str, object]:
    return {name: settings[name] for name in PLACES if name in settings}
