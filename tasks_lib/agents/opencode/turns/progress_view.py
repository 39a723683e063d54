"""Decides what is shown of a running session, and how often."""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from tasks_lib.agents.backend import SessionView
from tasks_lib.session.next_action import describe, describe_pause
from tasks_lib.session.state import Watch

VIEW_SECONDS = 0.25


def make_view(watch: Watch, now: float, waits_until: float = 0.0) -> SessionView:
    """Return the view of `watch` at `now`; no request may be sent to the provider until `waits_until`."""
    current = next((todo.text for todo in watch.todos if todo.is_current), "")
    activity = describe_pause(waits_until) if waits_until > now else describe(watch)
    return SessionView(
        activity=activity,
        active_at=datetime.fromtimestamp(watch.times.active_at, UTC).isoformat(timespec="seconds"),
        spent=watch.spent(now),
        todos=len(watch.todos),
        todos_done=sum(todo.is_done for todo in watch.todos),
        todo=current,
    )


class ShownView:
    """Passes views to `show`, at most four a second, and only if they changed."""

    def __init__(self, show: Callable[[SessionView], None] | None) -> None:
        self._show: Callable[[SessionView], None] | None = show
        self._shown: SessionView | None = None
        self._shown_at: float = 0.0
        self.due_at: float = 0.0
        """When a delayed view may be shown; 0 if there is none."""

    def offer(self, view: SessionView, *, is_last: bool = False) -> None:
        """Show `view` if it changed and the last one is old enough, or if it `is_last`."""
        now, self.due_at = time.time(), 0.0
        if self._show is None or _stripped(view) == _stripped(self._shown):
            return
        if not is_last and now < self._shown_at + VIEW_SECONDS:
            self.due_at = self._shown_at + VIEW_SECONDS
            return
        self._shown, self._shown_at = view, now
        self._show(view)


def _stripped(view: SessionView | None) -> SessionView | None:
    """Return `view` without the seconds, which always change."""
    return replace(view, spent=replace(view.spent, seconds=0.0)) if view else None
