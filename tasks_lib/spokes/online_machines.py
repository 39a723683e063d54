"""Which spokes are online, and on which of them a run's next session starts."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence

from tasks_lib.errors import AgentError
from tasks_lib.model import Task
from tasks_lib.runtime.session_slots import SessionSlots
from tasks_lib.settings.spoke_schema import SpokeSettings, find_machine
from tasks_lib.spokes.link import Machine, SpokeLink


class OnlineMachines:
    """The spokes of one run. `slots` follows their number; `on_change` is called when other nodes may start."""

    def __init__(
        self, settings: SpokeSettings, link: SpokeLink, slots: SessionSlots, say: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self._link = link
        self._slots = slots
        self._say = say
        self._names: tuple[str, ...] = ()
        self._active: Counter[str] = Counter()
        self._avoided: dict[str, set[str]] = {}
        self._has_changed = asyncio.Event()
        self._is_told = False

    async def look(self) -> None:
        """Ask which spokes are online. Raises RemoteError."""
        machines = await self._link.list_machines()
        names = tuple(sorted(machine.name for machine in machines if machine.is_online))
        if names == self._names and self._is_told:
            return
        self._say_changes(machines, names)
        self._names, self._is_told = names, True
        # With one slot although none is online, a node gets far enough to say what is missing.
        self._slots.is_served = bool(names)
        self._slots.resize(max(1, len(names) * self._settings.sessions_each))
        self._has_changed.set()

    def _say_changes(self, machines: Sequence[Machine], online: Sequence[str]) -> None:
        for name in sorted({*self._names} - {*online}):
            self._say(f"The spoke {name} is offline; its sessions are given up if nothing is heard of them.")
        if not online:
            known = ", ".join(machine.name for machine in machines)
            seen = f" (offline: {known})" if known else ""
            self._say(f"No spoke is online in the work pool {self._settings.work_pool}{seen}.")
        elif new := sorted({*online} - {*self._names}):
            self._say(f"Spokes online: {', '.join(new)}.")

    def is_online(self, machine: str) -> bool:
        """Whether the worker of `machine` has been heard of lately."""
        return machine in self._names

    def list_fitting(self, node: Task) -> list[str]:
        """The spokes that are online and may run the session of `node`."""
        wanted = find_machine(node)
        return [name for name in self._names if wanted in ("", name)]

    async def wait_for(self, node: Task) -> None:
        """Return once a spoke for `node` is online; if none is, say what the node waits for."""
        if self.list_fitting(node):
            return
        self._say(f"{node.id} waits for a spoke: {self._explain_missing(node)}.")
        while not self.list_fitting(node):
            self._has_changed.clear()
            await self._has_changed.wait()

    def _explain_missing(self, node: Task) -> str:
        wanted = find_machine(node)
        which = f"the spoke {wanted} is not" if wanted else "no spoke is"
        return f"{which} online in the work pool {self._settings.work_pool}; start it with `coordinator spoke start`"

    def choose(self, node: Task) -> str:
        """Choose the machine for a session of `node`, and count it there. Raises AgentError if none is online."""
        fitting = self.list_fitting(node)
        if not fitting:
            raise AgentError(self._explain_missing(node))
        avoided = self._avoided.get(node.id, set())
        chosen = min(fitting, key=lambda name: (name in avoided, self._active[name], name))
        self._active[chosen] += 1
        return chosen

    def leave(self, node: Task, machine: str, *, has_failed: bool) -> None:
        """Note that a session on `machine` has ended; after a failure, the node's next one goes elsewhere if it can."""
        self._active[machine] -= 1
        if has_failed:
            self._avoided.setdefault(node.id, set()).add(machine)
