"""Watches what agents share with the user, git state and the checkout, and reports what changed while one ran."""

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
from tasks_lib.git.inspection.user_checkout import Checkout, describe_checkout_changes, read_checkout
from tasks_lib.git.publish.interrupted_fast_forward import has_interrupted_move
from tasks_lib.git.repository import Repository
from tasks_lib.process.files import read_stamp


class SharedStateWatch:
    """The state that a repository's worktrees share, since the first session of a run began. Call from threads.

    `list_known` returns the full refs that the run, or the user by landing, moves all the time. Changes below
    `tasks_dir` in the user's checkout are not reported: users add tasks to a running graph there.
    """

    def __init__(
        self,
        repository: Repository,
        list_known: Callable[[], Collection[str]],
        say: Callable[[str], None],
        tasks_dir: str = "",
    ) -> None:
        self._repository = repository
        self._list_known = list_known
        self._say = say
        self._tasks_dir = tasks_dir
        self._checkout: Checkout | None = None
        self._told: set[str] = set()
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
            if self._checkout is None:
                self._checkout = self._read_checkout()

    def compare(self, task_id: str) -> str:
        """Call after a turn of node `task_id`: report what changed since the last call.

        Returns what changed in the user's checkout, "" for nothing. Each change is reported once in a run.
        """
        with self._lock:
            before, self._seen = self._seen, read_shared(self._repository, self._list_known(), self._seen)
            said = describe_changes(self._repository.git, before, self._seen) if before else []
        if said:
            self._say(
                f"Shared git state changed while {task_id} was running: {', '.join(said)}. "
                "Please check it; the run continues."
            )
        return self._compare_checkout(task_id)

    def _read_checkout(self) -> Checkout | None:
        """Read the user's checkout; None if it cannot be read, also while coordinator itself moves it."""
        common = self._repository.common_dir
        if has_interrupted_move(common):
            return None
        found = read_checkout(self._repository)
        return None if has_interrupted_move(common) else found

    def _compare_checkout(self, task_id: str) -> str:
        with self._lock:
            before, now = self._checkout, self._read_checkout()
            self._checkout = now or before
            if before is None or now is None:
                return ""
            said = [one for one in describe_checkout_changes(before, now, self._tasks_dir) if one not in self._told]
            self._told.update(said)
        if not said:
            return ""
        self._say(
            f"Your checkout changed while {task_id} was running: {', '.join(said)}. If that was not you, an agent "
            "worked outside of its worktree; please check it. The run continues."
        )
        return f"the user's checkout changed: {', '.join(said)}"

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
