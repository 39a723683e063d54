"""Writes the state of a session's worktree as one commit, so that one ref on a remote carries all of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from tasks_lib.errors import GitError
from tasks_lib.git.commits.commit import read_commit
from tasks_lib.git.objects.object_database import Objects
from tasks_lib.git.repository import COORDINATOR_IDENTITY
from tasks_lib.git.runner import Git

ABOUT, NOTICES, LOG = "about.json", "notices.jsonl", "session.log"
_MESSAGE = b"State of a session\n"


@dataclass(frozen=True, slots=True)
class SessionState:
    """The state of a session's worktree; commits are full ids, "" for none.

    `branch` is the tip of its branch, `uncommitted` a commit of the worktree's uncommitted and untracked files on top
    of it, `target` the head of the run. `notices` is the file with the agent's notices, `log` the end of the session's
    output; each None if it is not part of this state. `about` is anything else, as JSON values.
    """

    branch: str
    uncommitted: str = ""
    target: str = ""
    notices: bytes | None = None
    log: bytes | None = None
    about: Mapping[str, object] = field(default_factory=dict[str, object])


def write_state_commit(git: Git, state: SessionState) -> str:
    """Write a commit from which everything in `state` can be reached; return its id."""
    commits = {"branch": state.branch, "uncommitted": state.uncommitted, "target": state.target}
    files = {
        ABOUT: json.dumps({**state.about, **commits}, sort_keys=True).encode(),
        NOTICES: state.notices,
        LOG: state.log,
    }
    blobs = {
        name: git.run("hash-object", "-w", "--stdin", stdin=data).text
        for name, data in files.items()
        if data is not None
    }
    rows = "".join(f"100644 blob {blob}\t{name}\n" for name, blob in sorted(blobs.items()))
    tree = git.run("mktree", stdin=rows.encode()).text
    parents = [word for commit in dict.fromkeys(filter(None, commits.values())) for word in ("-p", commit)]
    return git.run("commit-tree", tree, *parents, stdin=_MESSAGE, environment=COORDINATOR_IDENTITY).text


def read_state_commit(objects: Objects, commit: str) -> SessionState:
    """Read a commit that `write_state_commit` wrote. Raises GitError for any other: anyone may push to that ref."""
    try:
        found: object = json.loads(_read_file(objects, commit, ABOUT) or b"")
    except (ValueError, RecursionError) as error:
        raise GitError(["cat-file", commit], 0, f"{commit} is not the state of a session") from error
    about = cast("dict[str, object]", found) if isinstance(found, dict) else {}
    parents = read_commit(objects, commit).parents
    named = {name: str(about.pop(name, "")) for name in ("branch", "uncommitted", "target")}
    if not named["branch"] or any(one and one not in parents for one in named.values()):
        raise GitError(["cat-file", commit], 0, f"{commit} is not the state of a session")
    notices, log = (_read_file(objects, commit, name) for name in (NOTICES, LOG))
    return SessionState(**named, notices=notices, log=log, about=about)


def _read_file(objects: Objects, commit: str, name: str) -> bytes | None:
    entry = objects.find_entry(commit, name)
    return objects.read(entry.oid) if entry and entry.is_file else None
