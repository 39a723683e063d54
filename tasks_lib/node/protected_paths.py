"""Decides whether a branch changes files that need the user's approval, and how the user is asked."""

from dataclasses import dataclass

from tasks_lib.git.objects.object_database import Change
from tasks_lib.git.ref_names import branch_ref
from tasks_lib.naming import show_some
from tasks_lib.node.attempt_context import AttemptContext
from tasks_lib.node.branch_inspection import find_work
from tasks_lib.project.loading import CONFIGURATION, TASKGRAPH

ALWAYS = (CONFIGURATION, TASKGRAPH)
"""The files that determine how the next run works: its commands, its limits, and what else is protected."""


@dataclass(frozen=True, slots=True)
class NeedsApproval:
    """The branch cannot land before the user approves it.

    `reason` is one sentence, and `notes` explains how to review and decide. `files` identify the changes to approve,
    each with its content; they are stored in the record only once the node is blocked, and may then land when it runs
    again.
    """

    reason: str
    notes: str
    files: tuple[str, ...]


def find_protected_changes(context: AttemptContext, commit: str) -> NeedsApproval | None:
    """Return None if the branch at `commit` changes nothing protected, or only what the user has approved."""
    names = (*ALWAYS, *context.run.settings.protected_paths)
    changes = [change for change in find_work(context, commit) if any(_touches(change.path, name) for name in names)]
    shown = tuple(_identify(change) for change in changes)
    if set(shown) <= set(context.record.findings.protected):
        return None
    return _explain(context, [change.path for change in changes], shown)


def _explain(context: AttemptContext, paths: list[str], files: tuple[str, ...]) -> NeedsApproval:
    base = context.run.git.head.refs.base_ref
    return NeedsApproval(
        f"it changes {show_some(paths)}, which only a person may approve",
        f"Review it: `git diff {base}...{branch_ref(context.branch)}`. Completing the resolve task approves these "
        f"files as they are there now. To reject them, remove them from {context.branch} first.",
        files,
    )


def _touches(path: str, name: str) -> bool:
    """Whether a change at `path` is at or below `name`, or replaces a folder that contains `name`."""
    # Ignores case, because some file systems do.
    changed, protected = f"{path.casefold()}/", f"{name.rstrip('/').casefold()}/"
    return changed.startswith(protected) or protected.startswith(changed)


def _identify(change: Change) -> str:
    return f"{change.new.mode} {change.new.oid} {change.path}" if change.new else f"deleted {change.path}"
