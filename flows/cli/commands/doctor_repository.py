"""Checks a repository for `coordinator doctor`: its worktrees, branches, names, commits and remote."""

import os
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from flows.cli.commands.doctor_check import Check, fail, ok, warn
from tasks_lib.cleanup.moved_repository import find_move
from tasks_lib.errors import InputError, RemoteError
from tasks_lib.git.commits.isolated_git import IsolatedGit
from tasks_lib.git.git_config import is_enabled
from tasks_lib.git.inspection.checkout_files import has_tracked_files, is_ignored
from tasks_lib.git.inspection.repository_facts import is_shallow, read_author
from tasks_lib.git.inspection.worktree_content import find_missing_filters, list_words
from tasks_lib.git.objects.object_database import Objects
from tasks_lib.git.publish.remote_branch import Pushed, Raced, Refused, Remote, Unreachable
from tasks_lib.git.ref_listing import list_branch_checkouts, list_refs
from tasks_lib.git.ref_names import find_ambiguous
from tasks_lib.git.remote_sessions.session_remote import SessionRemote
from tasks_lib.git.repository import COORDINATOR_IDENTITY, Repository
from tasks_lib.git.worktree_admin import list_entries
from tasks_lib.git.worktrees.placement import find_missing, list_foreign_worktrees
from tasks_lib.project.loading import CONFIGURATION, Project
from tasks_lib.settings.schema import digest_sessions
from tasks_lib.spokes.examination import read_settings_at
from tasks_lib.text import list_some

SHOWN = 3
"""How many items of a long list a sentence names."""


def check_identity(repository: Repository) -> Check:
    """Check that git knows an author for commits."""
    if repository.identity() == COORDINATOR_IDENTITY:
        text = "git has no name and email here, so commits get the author Coordinator; set user.name and user.email"
        return warn("identity", text)
    return ok("identity", f"commit author: {read_author(repository.git)}")


def check_signing(repository: Repository) -> Check:
    """Check whether the user expects signed commits."""
    if is_enabled(repository.git, "commit.gpgsign"):
        text = "commit.gpgsign is set, but commits by the coordinator and by agents are not signed, as that may prompt"
        return warn("signing", text)
    return ok("signing", "commits do not need a signature")


def check_shallow(repository: Repository) -> Check:
    """Check that the history is complete, so that merges find their base."""
    if is_shallow(repository.git):
        return warn("history", "this clone is shallow, so merges may not find their base; run: git fetch --unshallow")
    return ok("history", "the history is complete")


def check_ignored(repository: Repository) -> Check:
    """Check that `.worktrees/` can be created, that no worktree is missing from it, and that git ignores it."""
    place = repository.worktrees_dir
    if place.is_symlink() or (place.exists() and not place.is_dir()):
        return fail("worktrees", f"{place} is not a directory, but worktrees are created below it; rename it")
    if missing := find_missing(repository):
        return fail("worktrees", missing)
    if not os.access(next(one for one in (place, *place.parents) if one.exists()), os.W_OK):
        return fail("worktrees", f"{place} is not writable, but worktrees are created there; make it writable")
    if repository.is_bare:
        return ok("worktrees", f"they are created in {place}")
    if has_tracked_files(repository.git, place.name):
        return fail("worktrees", f"git tracks files in {place.name}/, where worktrees are created; move those files")
    if is_ignored(repository.git, f"{place.name}/x"):
        return ok("worktrees", f"{place.name}/ is ignored")
    exclude = repository.common_dir / "info" / "exclude"
    if not os.access(exclude if exclude.exists() else repository.common_dir, os.W_OK):
        return fail("worktrees", f"{exclude} is not writable; add `/{place.name}/` to .gitignore")
    return ok("worktrees", f"{place.name}/ will be added to {exclude}")


def check_place(repository: Repository) -> Iterator[Check]:
    """Report whether the repository was moved or copied since the last run."""
    if moved := find_move(repository):
        what = "is a copy of" if moved.is_copy else "was moved from"
        yield ok("place", f"this repository {what} {moved.former}; the next run links its worktrees to this directory")


def check_strangers(repository: Repository) -> Iterator[Check]:
    """Report worktrees in `.worktrees` that coordinator did not create."""
    if found := list_foreign_worktrees(repository):
        named = ", ".join(str(path) for path in found[:SHOWN]) + (" and more" if len(found) > SHOWN else "")
        yield ok("others", f"coordinator did not create {named}, and leaves it alone")


def check_disk(project: Project) -> Check:
    """Check the disk space for a worktree per session, and one more for `verify`."""
    repository = project.repository
    with Objects(repository.git) as objects:
        needed = objects.measure_tree(project.head) * (project.settings.max_sessions + 1)
    free = shutil.disk_usage(_find_existing(repository.worktrees_dir)).free
    text = f"{write_bytes(free)} free, {write_bytes(needed)} needed for {project.settings.max_sessions} sessions"
    if free < needed:
        return fail("disk", f"{text}; lower max_sessions, or free some space")
    return ok("disk", text)


def _find_existing(place: Path) -> Path:
    return place if place.exists() else _find_existing(place.parent)


def write_bytes(number: int) -> str:
    """Write a number of bytes with its unit, such as `1.5 GB`."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number} bytes"


def check_remote(project: Project) -> Iterator[Check]:
    """If work lands on a remote, check that it answers, has the target branch, and accepts a push."""
    remote = project.open_remote()
    if remote is None:
        return
    try:
        branches = remote.list_branches()
    except RemoteError as error:
        yield fail("remote", f"{error}; make sure that `git fetch {remote.name}` works without a prompt")
        return
    if remote.target not in branches:
        yield fail("remote", f"{remote.name} has no branch {remote.target}; push it, or change `target`")
        return
    yield _check_push(project, remote, branches[remote.target])
    if remote.uses_large_files(project.head) and not remote.has_lfs():
        yield fail("large files", "the repository uses Git LFS, but git-lfs is not installed; install it")


def _check_push(project: Project, remote: Remote, tip: str) -> Check:
    base = project.open_head().base()
    if tip != base:
        how = f"a run fetches first; to see what it would start from: git fetch {remote.name}"
        return warn("remote", f"{remote.name} answers, but has new commits since the last fetch; {how}")
    match remote.push(base, base, is_dry_run=True):
        case Refused(words):
            return fail("remote", f"{remote.name} would reject a push: {words}")
        case Raced(reason) | Unreachable(reason):
            return fail("remote", f"{remote.name} cannot be pushed to right now: {reason}")
        case Pushed(elsewhere=elsewhere) if elsewhere:
            told = "; ".join(f"{address}: {words}" for address, words in elsewhere.items())
            return warn("remote", f"{remote.name} accepts a push from you, but not at all of its addresses: {told}")
        case Pushed():
            # A dry run does not run hooks or check branch protection.
            return ok("remote", f"{remote.name} accepts a push from you; its hooks and branch rules cannot be checked")


def check_spokes(project: Project) -> Iterator[Check]:
    """If sessions run on spokes, check that they get the configuration, from the remote, that a run here has."""
    if not project.settings.spokes.remote:
        return
    sessions = SessionRemote(project.repository, project.settings.spokes.remote, project.target)
    remote = sessions.remote
    where = f"{remote.target} on {remote.name}"
    try:
        remote.require()
        tip = remote.list_branches().get(remote.target)
        if tip is None:
            yield fail("spokes", f"{remote.name} has no branch {remote.target}; push it")
            return
        # Doctor does not fetch; what is common with a newer tip is common with the last one that was fetched, or later.
        known = tip if remote.git.resolve(tip) else remote.git.resolve(remote.tracking_ref)
        common = sessions.find_common(known, project.head) if known else ""
        with Objects(project.repository.git) as objects:
            digest = read_settings_at(objects, common)[1] if common else ""
    except (RemoteError, InputError) as error:
        yield fail("spokes", f"{error}; spokes.remote has to be a remote that all machines reach")
        return
    if digest == digest_sessions(project.settings):
        yield ok("spokes", f"{CONFIGURATION} of {where} is the one that a run here uses")
    else:
        text = f"what {CONFIGURATION} says about sessions is not on {where} yet, so spokes would refuse sessions"
        yield warn("spokes", f"{text}; run: git push {remote.name} {remote.target}")


def check_branches(project: Project) -> Check:
    """Check that the branches of nodes can be created, and that none is checked out elsewhere."""
    repository = project.repository
    ours = {entry.path for entry in list_entries(repository)}
    there = list_branch_checkouts(repository.git)
    names = project.name_branches()
    wanted = {names[task_id] for task_id, task in project.graph.tasks.items() if not task.is_completed}
    in_the_way = sorted(
        {one for one in there if any(name.startswith(f"{one}/") or one.startswith(f"{name}/") for name in wanted)}
    )
    if in_the_way:
        named = ", ".join(in_the_way[:SHOWN])
        text = f"branches of tasks cannot be created next to {named}; rename that, or set branch_prefix"
        return fail("branches", text)
    taken = sorted(name for name in wanted if there.get(name) and Path(there[name]) not in ours)
    if taken:
        where = f"{taken[0]} is checked out in {there[taken[0]]}"
        return fail("branches", f"{where}; check out another branch there, since a task needs it")
    return ok("branches", f"names like {project.settings.branch_prefix}<id> are available")


def check_names(project: Project) -> Check:
    """Check that no tag or other ref is named like HEAD, the target, a task's branch or a commit."""
    refs = list_refs(project.repository.git)
    names = project.name_branches()
    open_tasks = [task_id for task_id, task in project.graph.tasks.items() if not task.is_completed]
    found = find_ambiguous(refs, {project.target, *(names[task_id] for task_id in open_tasks)})
    if not found:
        return ok("names", "no tag is named like HEAD, a branch or a commit")
    said = f"{list_some(found, SHOWN)} can be mistaken for HEAD, a branch or a commit"
    how = f"rename them, or delete one with `git update-ref -d {found[0]}`"
    return warn("names", f"{said} in commands that you or agents type, though not by a run; {how}")


def check_attributes(project: Project) -> Iterator[Check]:
    """Check that the filters and merge drivers in the head's .gitattributes are configured here."""
    git = project.repository.git
    with Objects(git) as objects:
        words = list_words(IsolatedGit(git).read_attributes(objects, project.head))
    missing = [warn("attributes", line) for line in find_missing_filters(git, words)]
    yield from missing or [ok("attributes", "the filters and merge drivers in .gitattributes are configured")]


def check_case(project: Project) -> Check:
    """Check that no two paths are the same on a case-insensitive disk."""
    repository = project.repository
    with Objects(repository.git) as objects:
        paths = sorted(path for path, _ in objects.walk(project.head))
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for path in paths:
        groups[path.casefold()].append(path)
    twins = [" and ".join(same) for same in groups.values() if len(same) > 1]
    if not twins:
        return ok("paths", "no two paths differ only by case")
    text = f"{'; '.join(twins[:SHOWN])} differ only by case"
    if is_enabled(repository.git, "core.ignorecase"):
        return fail("paths", f"{text}, but this disk is case-insensitive; rename one of them")
    return warn("paths", f"{text}; they cannot be checked out on a case-insensitive disk")
