"""Plans and applies a cleanup of a machine of sessions: of the copies of repositories there, and of what they share.

The start of its worker, `coordinator spoke cleanup`, its dry run and `coordinator doctor --spoke` all use this plan.
Call it only while no worker runs on the machine.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tasks_lib.cleanup.dead_run import find_old_states
from tasks_lib.cleanup.leftovers import LEFT_BY_KILL, Kind, Leftover
from tasks_lib.cleanup.plan import CleanupPlan, Scope, Stage, apply, find_leftovers
from tasks_lib.errors import CoordinatorError, RemoteError
from tasks_lib.git.commits.isolated_git import IsolatedGit
from tasks_lib.git.kept.restore_and_prune import delete_kept
from tasks_lib.git.kept.snapshots import Kept
from tasks_lib.git.publish.queue_head import Head
from tasks_lib.git.ref_listing import list_refs
from tasks_lib.git.ref_names import HEADS
from tasks_lib.git.remote_sessions.access_probe import PROBE
from tasks_lib.git.remote_sessions.session_remote import SESSION_REFS
from tasks_lib.git.remote_sessions.session_repository import SessionRepository
from tasks_lib.git.repository_lock import RunLock
from tasks_lib.git.session_record import read_record
from tasks_lib.git.worktree_admin import list_entries
from tasks_lib.git.worktrees.deletion import delete
from tasks_lib.git.worktrees.lifecycle import Worktrees
from tasks_lib.graph.task_graph import build_graph
from tasks_lib.process.private_directories import find_dead, name_owner, private_directory
from tasks_lib.settings.schema import Settings
from tasks_lib.spokes.registered_remote import LOGS, RegisteredRemote, find_kept_days, find_old_logs

CLEANUP = "cleanup"


@dataclass(frozen=True, slots=True)
class CopyPlan:
    """What killed sessions left in one repository's copy, called `name`.

    `plan` is what a run would leave as well. `sessions` are worktrees, each with the task that it was for, `branches`
    those without one; `refs` are of states that were being fetched, `probes` the doctor's on the remote, and `kept`
    states older than `kept_days`.
    """

    name: str
    copy: SessionRepository
    settings: Settings
    plan: CleanupPlan
    sessions: tuple[tuple[Path, str], ...] = ()
    branches: tuple[str, ...] = ()
    refs: tuple[str, ...] = ()
    probes: tuple[str, ...] = ()
    kept: tuple[Kept, ...] = ()

    def list(self) -> "Iterator[Leftover]":
        """Yield everything in the plan, in the order in which it is handled."""
        yield from self.plan.list()
        for path, task in self.sessions:
            yield Leftover(
                Kind.SESSION, str(path), "removed; its work is kept", f'of a session for "{task}", {_KILLED}'
            )
        for branch in self.branches:
            done = f"deleted from the copy of {self.name}; its commits are kept"
            yield Leftover(Kind.BRANCH, branch, done, f"a branch of a session of {self.name}, {_KILLED}")
        for ref in self.refs:
            yield Leftover(Kind.PUBLISHED, ref, f"deleted from the copy of {self.name}", LEFT_BY_KILL)
        for ref in self.probes:
            yield Leftover(
                Kind.PUBLISHED, ref, f"deleted from {self.name}'s remote", "was left by `coordinator doctor`"
            )
        for one in self.kept:
            said = f"was kept more than {self.settings.kept_days} days ago"
            yield Leftover(Kind.KEPT, one.ref, f"deleted; it {said}", said)


_KILLED = "which was cut short"


@dataclass(frozen=True, slots=True)
class SpokePlan:
    """What killed workers left on this machine. `notices` say what could not be looked at, or has to stay."""

    copies: tuple[CopyPlan, ...] = ()
    private: tuple[Path, ...] = ()
    unregistered: tuple[Path, ...] = ()
    logs: tuple[Path, ...] = ()
    days: int = 0
    notices: tuple[str, ...] = field(default=())

    def list(self) -> "list[Leftover]":
        """Return everything in the plan, in the order in which it is handled."""
        return [*(one for copy in self.copies for one in copy.list()), *self.list_shared()]

    def list_shared(self) -> "Iterator[Leftover]":
        """Yield what belongs to no repository."""
        for path in self.private:
            yield Leftover(Kind.PRIVATE, str(path), "deleted; a worker that was killed had made it", LEFT_BY_KILL)
        for path in self.unregistered:
            yield Leftover(
                Kind.UNFINISHED, str(path), "deleted; no repository is registered with it", "is not registered"
            )
        for path in self.logs:
            said = f"older than {self.days} days"
            yield Leftover(Kind.LOG, str(path), f"deleted; it is {said}", f"is {said}")


def find_spoke_leftovers(remotes: Mapping[str, RegisteredRemote], data: Path) -> SpokePlan:
    """Find what killed workers left in the data directory `data` and in `remotes`. Changes nothing; blocks."""
    place, notices = data / "spokes", list[str]()
    copies: list[CopyPlan] = []
    for name, remote in remotes.items():
        try:
            copies.append(_find_in_copy(name, remote, notices.append))
        except (CoordinatorError, OSError) as error:
            notices.append(f"{name} cannot be used: {error}")
    owners = [name_owner(one) for one in (data, place) if one.is_dir()]
    days = find_kept_days(remotes.values())
    return SpokePlan(
        tuple(copies),
        tuple(path for owner in owners for path in find_dead(owner)),
        tuple(_find_unregistered(place, {remote.place for remote in remotes.values()}, notices.append)),
        tuple(find_old_logs(place / LOGS, days)),
        days,
        tuple(notices),
    )


def _find_in_copy(name: str, remote: RegisteredRemote, note: Callable[[str], None]) -> CopyPlan:
    copy, settings = SessionRepository(remote.place, remote.target), remote.read_settings()
    repository = copy.repository
    refs = list_refs(repository.git)
    branches = [ref.removeprefix(HEADS) for ref in refs if ref.startswith(HEADS)]
    head = Head(repository.git, remote.target, copy.remote.remote.tracking_ref)
    scope = Scope(repository, settings, head, build_graph(()), tuple(branches))
    plan = find_leftovers(scope, Stage.PROCESSES | Stage.REPOSITORY)
    stale = {one.path for one in plan.repository.stale}
    entries = [one for one in list_entries(repository) if one.is_linked and one.path not in stale]
    sessions = [(one.path, record.task_id if (record := read_record(one.admin)) else one.path.name) for one in entries]
    try:
        probes = sorted(copy.remote.list_sessions(PROBE))
    except RemoteError as error:
        probes = []
        note(f"{name}: {error}, so the remote was not looked at.")
    own = {one.branch for one in entries}
    return CopyPlan(
        name,
        copy,
        settings,
        plan,
        tuple(sessions),
        tuple(branch for branch in branches if branch not in own),
        tuple(ref for ref in refs if ref.startswith(f"{SESSION_REFS}/")),
        tuple(probes),
        tuple(find_old_states(repository, settings.kept_days)),
    )


def _find_unregistered(place: Path, known: set[Path], note: Callable[[str], None]) -> Iterator[Path]:
    """Copies of repositories that are not registered, except those with work that may exist nowhere else."""
    for path in sorted(place.glob("*.git")):
        if path in known:
            continue
        if unsaved := find_unsaved(path):
            note(f"{path} is not registered, but has {', '.join(unsaved)}, so it stays.")
        else:
            yield path


def find_unsaved(place: Path) -> list[str]:
    """Name what only the copy at `place` may have: worktrees of sessions, branches and kept states."""
    with suppress(CoordinatorError, OSError):
        repository = SessionRepository(place, "").repository
        refs = [ref for ref in list_refs(repository.git) if ref.startswith((HEADS, "refs/coordinator/kept/"))]
        worktrees = [str(entry.path) for entry in list_entries(repository) if entry.is_linked]
        return [*worktrees, *refs]
    return []


async def clean_up_spoke(remotes: Mapping[str, RegisteredRemote], data: Path) -> list[str]:
    """Clean up what killed workers left, and return a line for each thing done; may be interrupted and repeated.

    What sessions left is kept at refs before it is removed. Call `find_spoke_leftovers` to see what this would do.
    """
    lines: list[str] = []
    plan = await asyncio.to_thread(find_spoke_leftovers, remotes, data)
    for one in plan.copies:
        try:
            lines += [f"{one.name}: {line}" for line in await _apply_to_copy(one)]
        except CoordinatorError as error:
            lines.append(f"{one.name} cannot be cleaned up: {error}")
    gone = {
        str(path) for path in (*plan.private, *plan.unregistered, *plan.logs) if await asyncio.to_thread(delete, path)
    }
    lines += [one.describe_done() for one in plan.list_shared() if one.where in gone]
    return [*lines, *plan.notices]


async def _apply_to_copy(found: CopyPlan) -> list[str]:
    repository = found.copy.repository
    with private_directory() as private, RunLock(repository.state_dir, CLEANUP) as held:
        isolation = IsolatedGit(repository.git, private)
        worktrees = Worktrees(repository, isolation=isolation, pool_size=0)
        done = await apply(found.plan, held, worktrees, CLEANUP)
        lines = [one.line for one in done]
        lines += await asyncio.to_thread(found.copy.keep_leftovers, worktrees)
        for branch in found.branches:
            await asyncio.to_thread(found.copy.drop_branch, worktrees, branch, branch)
        if found.probes:
            with suppress(RemoteError):
                await asyncio.to_thread(found.copy.remote.forget, found.probes)
        await asyncio.to_thread(found.copy.drop_states, found.refs)
        old = await asyncio.to_thread(find_old_states, repository, found.settings.kept_days)
        gone = {one.ref for one in old if await asyncio.to_thread(delete_kept, repository, one, held)}
        await asyncio.to_thread(worktrees.close)
    still = set(await asyncio.to_thread(list_refs, repository.git))
    told = (one for one in found.list() if one.kind in (Kind.BRANCH, Kind.PUBLISHED, Kind.KEPT))
    return [*lines, *(one.describe_done() for one in told if one.where not in still or one.where in gone)]
