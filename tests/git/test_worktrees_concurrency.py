"""Which operations may write working trees at the same time."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

from tasks_lib.git.worktrees.checkout_switching import Turns

BOUND_SECONDS = 30


class Worker:
    """Takes a turn in a thread, signals when it has the turn, and keeps it until `end`."""

    def __init__(self, turn: Callable[[], AbstractContextManager[None]]) -> None:
        self._turn = turn
        self.has_turn = threading.Event()
        self.may_go = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        with self._turn():
            self.has_turn.set()
            self.may_go.wait(BOUND_SECONDS)

    def end(self) -> None:
        self.may_go.set()
        self._thread.join(BOUND_SECONDS)


def test_change_goes_before_whole_trees_that_wait_and_one_of_those_always_goes_on() -> None:
    turns = Turns(2)
    first, second = Worker(turns.fill), Worker(turns.fill)
    assert first.has_turn.wait(BOUND_SECONDS)
    assert second.has_turn.wait(BOUND_SECONDS)
    third = Worker(turns.fill)
    change = Worker(turns.change)
    assert change.has_turn.wait(BOUND_SECONDS)
    first.end()
    assert not third.has_turn.is_set()
    second.end()
    assert third.has_turn.wait(BOUND_SECONDS)
    change.end()
    third.end()


def test_no_more_changes_at_a_time_than_there_are_cores() -> None:
    turns = Turns(1)
    first = Worker(turns.change)
    assert first.has_turn.wait(BOUND_SECONDS)
    second = Worker(turns.change)
    assert not second.has_turn.is_set()
    first.end()
    assert second.has_turn.wait(BOUND_SECONDS)
    second.end()
