"""Where the sessions of a run may run, and how many at a time in each place."""

from collections.abc import Mapping

from tasks_lib.model import Task
from tasks_lib.runtime.session_slots import SessionSlots, SlotLease
from tasks_lib.settings.schema import Settings
from tasks_lib.settings.spoke_schema import Place


class SessionPlaces:
    """The session slots of a run: those of this machine, and those of the spokes if there are any."""

    def __init__(self, settings: Settings, local: SessionSlots, spokes: SessionSlots | None = None) -> None:
        self._settings = settings
        self._slots: Mapping[Place, SessionSlots] = {Place.LOCAL: local} | ({Place.SPOKES: spokes} if spokes else {})

    @property
    def size(self) -> int:
        """How many sessions may run at a time, everywhere."""
        return sum(slots.size for slots in self._slots.values())

    @property
    def free(self) -> int:
        """How many sessions may start now, everywhere."""
        return sum(max(0, slots.free) for slots in self._slots.values())

    def lease(self, task: Task, rank: float) -> SlotLease | None:
        """Return a slot for a session of `task`, in the first of its places that has one; None if none has.

        A place that is not served counts only if there is no other.
        """
        places = self._list_places(task)
        for place in places:
            slots = self._slots[place]
            if slots.free > 0 and (slots.is_served or len(places) == 1):
                return slots.lease(rank, place)
        return None

    def lease_later(self, rank: float) -> SlotLease:
        """Return a slot of this machine that is not acquired yet, for a node whose work only has to land."""
        return SlotLease(self._slots[Place.LOCAL], rank)

    def move_here(self, task: Task, lease: SlotLease) -> bool:
        """Have a node's released slot belong to this machine from now on; False if its session may not run here."""
        if Place.LOCAL not in self._list_places(task):
            return False
        lease.move(self._slots[Place.LOCAL], Place.LOCAL)
        return True

    def find_slots(self, place: Place) -> SessionSlots:
        """The slots of a place; those of this machine if it is not part of the run any more."""
        return self._slots.get(place, self._slots[Place.LOCAL])

    def _list_places(self, task: Task) -> list[Place]:
        role = self._settings.role_of(task)
        places = self._settings.spokes.list_places(task, role)
        return [place for place in places if place in self._slots] or [Place.LOCAL]
