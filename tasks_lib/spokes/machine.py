"""A machine that runs sessions for runs on other machines: which repositories it knows, and what it refuses."""

import asyncio
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tasks_lib.errors import InputError
from tasks_lib.git.remote_sessions.session_repository import SessionRepository
from tasks_lib.naming import find_branch_fault, find_id_fault
from tasks_lib.project.loading import CONFIGURATION
from tasks_lib.session.remote_messages import SessionOrder
from tasks_lib.settings.schema import Settings
from tasks_lib.spokes.link import HubLink
from tasks_lib.spokes.registered_remote import LOGS, RegisteredRemote, find_kept_days, find_old_logs
from tasks_lib.spokes.session_host import HostedSession, Machine
from tasks_lib.spokes.workspace import Workspace, read_session_settings
from tasks_lib.suggestions import suggest


class SpokeMachine:
    """One worker's sessions. `list_remotes` returns what is registered now, by name.

    `data` is the data directory, `private` this worker's own, which is removed after it.
    """

    def __init__(
        self,
        name: str,
        release: str,
        list_remotes: Callable[[], Mapping[str, RegisteredRemote]],
        data: Path,
        private: Path,
        say: Callable[[str], None],
    ) -> None:
        self.name: str = name
        self._release = release
        self.list_remotes: Callable[[], Mapping[str, RegisteredRemote]] = list_remotes
        self._data = data
        self._private = private
        self._say = say
        self._opening = asyncio.Lock()
        self._repositories: dict[Path, SessionRepository] = {}
        self._workspaces: dict[tuple[Path, str], Workspace] = {}
        self._hosted: dict[tuple[str, str], SessionOrder] = {}

    async def host(self, order: SessionOrder, link: HubLink, say: Callable[[str], None]) -> None:
        """Run a session until its run ends it; a refusal is reported as the end of its first turn."""
        logs = self._data / "spokes" / LOGS
        await asyncio.to_thread(self._prepare_logs, logs)
        machine = Machine(self.name, logs)
        with self._leaving(order):
            await HostedSession(order, lambda: self._open_workspace(order), link, machine, say).work()

    @contextmanager
    def _leaving(self, order: SessionOrder) -> Generator[None]:
        """Give the branch of a session free when it has ended."""
        try:
            yield
        finally:
            if self._hosted.get(order.branch_key) is order:
                del self._hosted[order.branch_key]

    def _take_branch(self, order: SessionOrder) -> None:
        """Raise InputError if a session of another hub has the branch; an earlier one of the same hub gives it up."""
        if order.is_read_only:
            return
        other = self._hosted.setdefault(order.branch_key, order)
        if other.hub != order.hub:
            what = f"{self.name} has a session for {order.branch} of {order.repository} that another clone began"
            how = "it ends an hour after its last turn at the latest; until then, use `runs_on` for another place"
            raise InputError([f"{what}; {how}"])
        self._hosted[order.branch_key] = order

    def _prepare_logs(self, logs: Path) -> None:
        """Make the directory for logs, and delete old ones: a worker may run for months."""
        logs.mkdir(parents=True, exist_ok=True)
        for log in find_old_logs(logs, find_kept_days(self.list_remotes().values())):
            log.unlink(missing_ok=True)

    async def _open_repository(self, registered: RegisteredRemote) -> SessionRepository:
        repository = self._repositories.get(registered.place)
        if repository is None:
            repository = await asyncio.to_thread(SessionRepository, registered.place, registered.target)
            self._repositories[registered.place] = repository
        return repository

    async def _open_workspace(self, order: SessionOrder) -> Workspace:
        """Return the workspace for `order`. Raises InputError if this machine refuses it, RemoteError."""
        self._check(order)
        registered = self._find_remote(order)
        self._take_branch(order)
        async with self._opening:
            repository = await self._open_repository(registered)
            text = await asyncio.to_thread(repository.fetch_configuration, order.configuration, CONFIGURATION)
            settings, digest = read_session_settings(text)
            if digest != order.digest:
                raise InputError([_explain_difference(order)])
            return self._get_workspace(repository, settings, digest, order)

    def _get_workspace(
        self, repository: SessionRepository, settings: Settings, digest: str, order: SessionOrder
    ) -> Workspace:
        key = (repository.repository.common_dir, digest)
        if key not in self._workspaces:
            private = self._private / f"{len(self._workspaces)}"
            private.mkdir(mode=0o700)
            self._workspaces[key] = Workspace(repository, settings, order.configuration, private, self._data)
        return self._workspaces[key]

    def _check(self, order: SessionOrder) -> None:
        if order.release != self._release:
            what = f"the run uses coordinator {order.release} and {self.name} has {self._release}"
            raise InputError([f"{what}; install the same version on both"])
        if fault := find_id_fault(order.branch) or find_branch_fault(order.branch):
            raise InputError([f'the branch "{order.branch}" {fault}'])

    def _find_remote(self, order: SessionOrder) -> RegisteredRemote:
        known = self.list_remotes()
        found = known.get(order.repository)
        if found is None:
            listed = ", ".join(known) or "none yet"
            hint = suggest(order.repository, known) or f" (registered: {listed})."
            how = "Register it there with `coordinator spoke add URL`, or set `spokes.repository` to its name there."
            raise InputError([f'"{order.repository}" is not registered on {self.name}{hint} {how}'])
        if found.target != order.target or order.branch == found.target:
            what = f"sessions of {order.repository} on {self.name} are for the target {found.target}"
            raise InputError([f"{what}, and this one is for {order.target}; register it there with `--target`"])
        return found

    async def close(self) -> None:
        """End what is shared by sessions; call this after the last of them."""
        for workspace in self._workspaces.values():
            await workspace.close()


def _explain_difference(order: SessionOrder) -> str:
    at = order.configuration[:10]
    return (
        f"what {CONFIGURATION} says about sessions differs between the run and commit {at} of {order.target} on the "
        f"remote; commit it, push {order.target} to that remote, and run again without COORDINATOR_* variables"
    )
