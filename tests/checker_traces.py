"""Finds what a run left behind in a repository and on the machine, and what it changed of the user's own state."""

import hashlib
import json
import os
import subprocess
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path


def git(repo: Path, *arguments: str, accept: Collection[int] = (0,), stdin: bytes = b"") -> bytes:
    """Return the raw output of `git *arguments`; raises RuntimeError for an exit status that is not in `accept`."""
    hidden = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-c", "core.quotePath=false", "-c", "core.warnAmbiguousRefs=false", *arguments]
    # Without optional locks, reading the repository does not rewrite the index.
    environment = {**hidden, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    done = subprocess.run(command, cwd=repo, capture_output=True, check=False, env=environment, input=stdin)
    if done.returncode not in accept:
        raise RuntimeError(f"git {' '.join(arguments)} exited with {done.returncode}: {done.stderr.decode()}")
    return done.stdout


def text(repo: Path, *arguments: str, accept: Collection[int] = (0,)) -> str:
    return git(repo, *arguments, accept=accept).decode("utf-8", "surrogateescape").rstrip("\n")


def read_pairs(lines: Iterable[str], between: str) -> dict[str, str]:
    """Split each line at `between` into a key and a value; the value is "" for a line without it."""
    parts = (line.partition(between) for line in lines)
    return {key: value for key, _, value in parts}


def read_blobs(repo: Path, blobs: Collection[str]) -> dict[str, bytes]:
    """Map each blob id to its content, all read by one git process."""
    answer = git(repo, "cat-file", "--batch", stdin="".join(f"{blob}\n" for blob in blobs).encode())
    contents: dict[str, bytes] = {}
    position = 0
    while position < len(answer):
        end = answer.index(b"\n", position)
        blob, _, size = answer[position:end].decode().split(" ")
        contents[blob] = answer[end + 1 : end + 1 + int(size)]
        position = end + 2 + int(size)
    return contents


def resolve(repo: Path, revision: str) -> str:
    """The commit that `revision` names, "" if none: HEAD or exactly that full ref, whatever else has the same name."""
    if revision == "HEAD" or revision.startswith("refs/"):
        return text(repo, "show-ref", "--verify", "--hash", "--", revision, accept=(0, 1, 128))
    return text(repo, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}", accept=(0, 1, 128))


def read_lines(repository: Path, revision: str = "refs/heads/main") -> dict[str, list[str]]:
    """Map every file but the configuration to its sorted lines: two nodes append to one file in either order."""
    listed = text(repository, "ls-tree", "-r", "-z", revision).split("\0")
    entries = (entry.split("\t", 1) for entry in listed if entry)
    blobs = {path: meta.split()[2] for meta, path in entries if path != "coordinator.yaml"}
    contents = read_blobs(repository, set(blobs.values()))
    return {path: sorted(contents[blob].decode().splitlines()) for path, blob in blobs.items()}


@dataclass(frozen=True, slots=True)
class Before:
    """The user's state at one moment: what a run must leave alone, and the target's commit.

    `dirty` maps each changed or untracked path of the checkout to a digest of its bytes ("" if the file is missing),
    `staged` maps each staged path to what is staged. `refs` are all refs; ignored paths are not read.
    """

    target: str
    commit: str
    head: str
    head_commit: str
    index: str
    staged: dict[str, str] = field(default_factory=dict[str, str])
    dirty: dict[str, str] = field(default_factory=dict[str, str])
    stash: str = ""
    refs: dict[str, str] = field(default_factory=dict[str, str])


def snapshot_user_state(repo: Path, target: str = "main") -> Before:
    """Read the user's state in the checkout at `repo`; changes nothing, not even the index's time stamps."""
    return Before(
        target=target,
        commit=resolve(repo, f"refs/heads/{target}"),
        head=text(repo, "symbolic-ref", "-q", "HEAD", accept=(0, 1)),
        head_commit=resolve(repo, "HEAD"),
        index=_digest(Path(repo, text(repo, "rev-parse", "--git-path", "index"))),
        staged=_read_staged(repo),
        dirty=_read_dirty(repo),
        stash=text(repo, "reflog", "show", "--format=%H %gs", "refs/stash", "--", accept=(0, 128)),
        refs=_read_refs(repo),
    )


def _digest(path: Path) -> str:
    if path.is_symlink():
        return f"link to {path.readlink()}"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _read_staged(repo: Path) -> dict[str, str]:
    fields = text(repo, "diff-index", "--cached", "-z", "--no-renames", resolve(repo, "HEAD"), "--").split("\0")
    return {path: meta.split(" ", 1)[1] for meta, path in zip(fields[::2], fields[1::2], strict=False)}


def _read_dirty(repo: Path) -> dict[str, str]:
    entries = text(repo, "status", "--porcelain=v1", "-z", "--untracked-files=all", "--no-renames").split("\0")
    paths = [entry[3:] for entry in entries if entry and not entry[3:].startswith(".worktrees/")]
    return {path: _digest(repo / path) for path in paths}


def _read_refs(repo: Path) -> dict[str, str]:
    lines = text(repo, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    return dict(line.rsplit(" ", 1) for line in lines)


def find_state_faults(repo: Path, before: Before, is_ours: Collection[str]) -> list[str]:
    """How the user's state differs from `before`, apart from a fast-forward; `is_ours` are branches that may be gone."""
    now = snapshot_user_state(repo, before.target)
    faults: list[str] = []
    if now.head != before.head:
        faults.append(f"HEAD was {before.head or 'detached'} and is {now.head or 'detached'}")
    on_target = before.head == f"refs/heads/{before.target}"
    if now.head_commit != before.head_commit and not (on_target and _is_ancestor(repo, before.commit, now.commit)):
        faults.append(f"the checkout moved from {before.head_commit[:10]} to {now.head_commit[:10]}")
    if before.commit != now.commit and not _is_ancestor(repo, before.commit, now.commit):
        faults.append(f"{before.target} moved from {before.commit[:10]} to {now.commit[:10]}, no fast-forward")
    if now.stash != before.stash:
        faults.append("the stash changed")
    if now.staged != before.staged:
        faults.append(f"what is staged changed: {_name_difference(before.staged, now.staged)}")
    if now.dirty != before.dirty:
        faults.append(f"local changes are not as they were: {_name_difference(before.dirty, now.dirty)}")
    if now.head_commit == before.head_commit and now.index != before.index:
        faults.append("the index is not the same bytes, though the checkout did not move")
    return faults + _find_ref_faults(before, now, is_ours)


def _find_ref_faults(before: Before, now: Before, is_ours: Collection[str]) -> list[str]:
    ours = {f"refs/heads/{name}" for name in is_ours} | {f"refs/heads/{before.target}", "refs/stash"}
    return [
        f"{name} was {commit[:10]} and is {now.refs.get(name, 'gone')[:10]}"
        for name, commit in before.refs.items()
        if name not in ours and not name.startswith("refs/coordinator/queue/") and now.refs.get(name) != commit
    ]


def _is_ancestor(repo: Path, old: str, new: str) -> bool:
    done = subprocess.run(["git", "merge-base", "--is-ancestor", old, new], cwd=repo, capture_output=True, check=False)
    return done.returncode == 0


def _name_difference(before: dict[str, str], now: dict[str, str]) -> str:
    names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    return ", ".join(names[:5])


OWN_FILES = {"lock", "worktrees.lock", "starting", "run.json", "hub.json", "notified.json", "logs", "journals"}
"""What a run may leave in the coordinator's directory, landed nodes or not."""


def find_leftovers(repo: Path, target: str, landed: Collection[str], branches: Collection[str]) -> list[str]:
    """What remains of nodes that landed: `landed` are their ids, `branches` the names in their merge commits."""
    common = Path(repo, text(repo, "rev-parse", "--git-common-dir")).resolve()
    return [
        *_find_worktrees(repo, landed, branches),
        *_find_refs(repo, target, branches),
        *_find_files(common, landed),
        *_find_processes(repo),
    ]


def _find_worktrees(repo: Path, landed: Collection[str], branches: Collection[str]) -> list[str]:
    faults: list[str] = []
    home = repo.resolve() / ".worktrees"
    for entry in text(repo, "worktree", "list", "--porcelain", "-z").split("\0\0"):
        facts = read_pairs(entry.strip("\0").split("\0"), " ")
        path = Path(facts.get("worktree", ""))
        if not path.is_relative_to(home):
            continue
        if "prunable" in facts:
            faults.append(f"the worktree {path.relative_to(repo.resolve())} is registered and gone")
        elif "detached" in facts:
            faults.append(f"a worktree without a branch is left at {path.relative_to(repo.resolve())}")
        elif facts.get("branch", "").removeprefix("refs/heads/") in branches:
            faults.append(f"the worktree of {facts['branch']} is left, though it landed")
    # A directory can remain without being registered, so the directories are checked too.
    named = {f"feat/{task_id}" for task_id in landed} | {f"research/{task_id}" for task_id in landed} | set(branches)
    faults += [f".worktrees/{name} is left" for name in sorted(named) if (home / name / ".git").exists()]
    if home.is_dir():
        faults += [
            f".worktrees/{item.name} is left" for item in home.iterdir() if item.name.startswith((".pool", ".trash"))
        ]
        registered = text(repo, "worktree", "list", "--porcelain")
        is_needed = any(item.name.startswith(".kept-") for item in home.iterdir())
        if not is_needed and not any(line.startswith(f"worktree {home}/") for line in registered.splitlines()):
            faults.append(".worktrees is left, though no worktree is")
    return faults


def _find_refs(repo: Path, target: str, branches: Collection[str]) -> list[str]:
    faults: list[str] = []
    refs = _read_refs(repo)
    head, base = refs.get(f"refs/coordinator/queue/{target}"), refs.get(f"refs/heads/{target}")
    for name in refs:
        if name.removeprefix("refs/heads/") in branches:
            faults.append(f"the branch {name.removeprefix('refs/heads/')} is left, though it landed")
        elif name == f"refs/coordinator/queue/{target}":
            if head == base or _is_ancestor(repo, head or "", base or ""):
                faults.append(f"{name} is left, though everything is published")
        elif name.startswith("refs/coordinator/") and not name.startswith("refs/coordinator/kept/"):
            faults.append(f"the ref {name} is left")
    return faults


def _find_files(common: Path, landed: Collection[str]) -> list[str]:
    home = common / "coordinator"
    # A flock lock file stays: with the file removed, two processes could hold the lock.
    locks = (path for path in sorted(common.rglob("*.lock")) if path != home / "worktrees.lock")
    faults = [f"the lock file {path.relative_to(common)} is left" for path in locks]
    if home.is_dir():
        strange = sorted({path.name for path in home.iterdir()} - OWN_FILES)
        faults += [f"coordinator/{name} is left in the git directory" for name in strange]
    for path in sorted(common.rglob("coordinator.json")):
        task_id = _read_task_id(path)
        if task_id in landed or task_id == "" or path.parent == common:
            faults.append(f"the record {path.relative_to(common)} of {task_id or 'nothing'} is left")
    for path in sorted(common.rglob("coordinator-notices.jsonl")):
        if not (path.parent / "coordinator.json").exists():
            faults.append(f"the notices {path.relative_to(common)} are left without a record")
    return faults


def _read_task_id(record: Path) -> str:
    try:
        return str(json.loads(record.read_text(encoding="utf-8")).get("task_id", ""))
    except (ValueError, AttributeError):
        return ""


def _find_processes(repo: Path) -> list[str]:
    """Processes with COORDINATOR_ variables that run in this repository; others may be running in their own."""
    home = str(repo.resolve() / ".worktrees") + "/"
    faults: list[str] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
            place = os.fsdecode((entry / "cwd").readlink())
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
        except OSError:
            continue  # It has exited, or we may not read it.
        ours = [os.fsdecode(one) for one in variables if one.startswith(b"COORDINATOR_")]
        worktree = next((one.partition("=")[2] for one in ours if one.startswith("COORDINATOR_WORKTREE=")), "")
        if ours and f"{worktree}/".startswith(home) | f"{place}/".startswith(home):
            faults.append(f"process {entry.name} is left: {command or '(a zombie)'}")
    return faults
