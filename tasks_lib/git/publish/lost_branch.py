"""Says what became of a remote's branch that is no longer there, and what of the work that was to land on it."""

import shlex
from collections.abc import Mapping

from tasks_lib.git.commits.landed_commits import find_landed
from tasks_lib.git.commits.merge_tree import is_ancestor
from tasks_lib.git.publish.queue_refs import QUEUE
from tasks_lib.git.publish.remote_branch import Remote
from tasks_lib.git.ref_names import branch_ref
from tasks_lib.text import list_some

_LISTED = 5
_HISTORY = 1000


def explain_lost_branch(remote: Remote, branches: Mapping[str, str]) -> str:
    """Say why nothing can land on `remote`, which does not have its branch among its `branches`, and what to do.

    If the branch was there and others contain what it had, it was probably renamed. Raises RemoteError.
    """
    known = remote.git.resolve(remote.tracking_ref)
    if not known:
        how = f"create it with `git push {remote.name} {branch_ref(remote.target)}`, or set `target`"
        return f"{remote.name} has no branch {remote.target}, so there is nothing to land on; {how}"
    begin = f"{remote.name} no longer has the branch {remote.target}, so there is nothing to land on"
    successors = _list_containing(remote, branches, known) or _find_default(remote, branches)
    waiting = _describe_waiting(remote, known)
    if not successors:
        restore = f"`git push {remote.name} {known[:12]}:{branch_ref(remote.target)}`"
        return f"{begin}; restore it with {restore}, or set `target` to another branch{waiting}"
    names = list_some(successors, _LISTED)
    renamed = f"if it was renamed, set `target` in coordinator.yaml to its new name ({names})"
    return f"{begin}; {renamed}{waiting and waiting + _tell_where(remote, branches, known, successors)}"


def _list_containing(remote: Remote, branches: Mapping[str, str], known: str) -> list[str]:
    """The branches that contain `known`, as far as their commits were fetched; those that are just there come first."""
    same = sorted(name for name, tip in branches.items() if tip == known)
    fetched = {name: tip for name, tip in branches.items() if tip != known and remote.git.resolve(f"{tip}^{{commit}}")}
    return [*same, *sorted(name for name, tip in fetched.items() if is_ancestor(remote.git, known, tip))]


def _find_default(remote: Remote, branches: Mapping[str, str]) -> list[str]:
    """The branch that a clone would check out, if the remote says so."""
    rows = (line.split() for line in remote.ask("ls-remote", "--symref", "--", remote.name, "HEAD").text.splitlines())
    names = (row[1].removeprefix("refs/heads/") for row in rows if row[:1] == ["ref:"])
    return [name for name in names if name in branches]


def _describe_waiting(remote: Remote, known: str) -> str:
    """Name the nodes that landed here after `known` and were not pushed; "" for none."""
    queue = remote.git.resolve(QUEUE + remote.target)
    if not queue or queue == known:
        return ""
    published = find_landed(remote.git, known, _HISTORY)
    landed = find_landed(remote.git, queue, _HISTORY)
    waiting = [task_id for task_id, commit in landed.items() if published.get(task_id) != commit]
    return f". Not pushed yet: {list_some(sorted(waiting), _LISTED)}" if waiting else ""


def _tell_where(remote: Remote, branches: Mapping[str, str], known: str, successors: list[str]) -> str:
    """Say how what was not pushed gets onto the branch's new name, which is certain if nothing was added to it."""
    renamed = next((name for name in successors if branches[name] == known), "")
    if not renamed:
        return f"; merge {QUEUE}{remote.target} into it before"
    refs = shlex.quote(f"{QUEUE}{remote.target}:{branch_ref(renamed)}")
    return f"; push that before, with `git push {remote.name} {refs}`"
