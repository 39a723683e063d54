"""Which operations may write working trees at the same time."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

from tasks_lib.git.worktrees.checkout_switching import CheckoutSlots

BOUND_SECONDS = 300


class Worker:
    """Takes a slot in a thread, signals when it has the slot, and keeps it until `end`."""

    def __init__(self, slot: Callable[[], AbstractContextManager[None]]) -> None:
        self._slot = slot
        self.has_slot = threading.Event()
        self.may_go = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        with self._slot():
            self.has_slot.set()
            self.may_go.wait(BOUND_SECONDS)

    def end(self) -> None:
        self.may_go.set()
        self._thread.join(BOUND_SECONDS)


def test_change_goes_before_whole_trees_that_wait_and_one_of_those_always_goes_on() -> None:
    slots = CheckoutSlots(2)
    first, second = Worker(slots.fill), Worker(slots.fill)
    assert first.has_slot.wait(BOUND_SECONDS)
    assert second.has_slot.wait(BOUND_SECONDS)
    third = Worker(slots.fill)
    change = Worker(slots.change)
    assert change.has_slot.wait(BOUND_SECONDS)
    first.end()
    assert not third.has_slot.is_set()
    second.end()
    assert third.has_slot.wait(BOUND_SECONDS)
    change.end()
    third.end()


def test_no_more_changes_at_a_time_than_there_are_cores() -> None:
    slots = CheckoutSlots(1)
    first = Worker(slots.change)
    assert first.has_slot.wait(BOUND_SECONDS)
    second = Worker(slots.change)
    assert not second.has_slot.is_set()
    first.end()
    assert second.has_slot.wait(BOUND_SECONDS)
    second.end()
