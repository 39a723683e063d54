"""Speaks to the remote that work lands on: what it has, fetching that, pushing to it, and why it says no."""

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath

from tasks_lib.errors import GitError, InputError, RemoteError
from tasks_lib.git.commits.merge_tree import is_ancestor
from tasks_lib.git.ref_names import commit_only
from tasks_lib.git.repository import Repository
from tasks_lib.git.repository_lock import admin_lock
from tasks_lib.git.runner import Git, Result
from tasks_lib.suggestions import suggest
from tasks_lib.text import cut, fold_printable

ANSWER_SECONDS = 60.0
"""For a question. A server that is busy takes seconds; one that takes longer is as good as away."""
TRANSFER_SECONDS = 900.0
"""For a fetch or a push, whose size nobody knows. A transfer that stalls ends long before, by what `_OPTIONS` say."""
SAID_CHARS = 600
_OPTIONS = (
    "-c", "http.lowSpeedLimit=100", "-c", "http.lowSpeedTime=60",
    "-c", "credential.interactive=false",
)  # fmt: skip
_SSH_OPTIONS = "-oBatchMode=yes -oConnectTimeout=20 -oServerAliveInterval=15 -oServerAliveCountMax=4"
_FETCH = (
    # Without `--refmap=` a mirror's refspec would write over local branches.
    "fetch", "--quiet", "--refmap=", "--no-tags", "--no-prune", "--no-write-fetch-head",
    "--no-recurse-submodules", "--no-auto-maintenance",
)  # fmt: skip
_PUSH = ("push", "--porcelain", "--no-follow-tags", "--no-signed", "--recurse-submodules=no")
_RACE = re.compile(
    r"fetch first|non-fast-forward|stale info|(cannot|failed to|unable to) lock|lock failure|failed to update ref"
    r"|incorrect old value|already been updated|is at \w+ but expected",
    re.IGNORECASE,
)
"""What servers say, in one word or another, of a branch that another push moved, or moves at this moment."""
_DENIED = re.compile(
    r"permission denied|permission to .* denied|access denied|authentication failed|error: 40[13]"
    r"|could not read (username|password)|terminal prompts disabled|host key verification failed",
    re.IGNORECASE,
)
_COPY = "coordinator-copy"
"""What a copy of the remote is called, for one command."""
_NO = "COORDINATOR_NO"
"""A variable that holds `false`, for a setting whose key cannot be written before a value."""
_AMBIGUOUS = "matches more than one"
"""What git says where the remote has `refs/tags/refs/heads/main` beside `refs/heads/main`."""
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.?)")
_LOGIN = re.compile(r"://[^/@\s]*@")


@dataclass(frozen=True, slots=True)
class Pushed:
    """The remote's branch is at `commit` now."""

    commit: str


@dataclass(frozen=True, slots=True)
class Raced:
    """The remote's branch is, or was at that moment, another's to move; with what that one pushed it may do."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The remote does not want it, and says why in its own `words`."""

    words: str


@dataclass(frozen=True, slots=True)
class Unreachable:
    """The remote did not answer; trying again later may do."""

    reason: str


PushResult = Pushed | Raced | Refused | Unreachable


class Remote:
    """The branch `target` of the remote `name`; blocking, to be called in threads.

    Nobody is ever asked for a password. A question has to be answered within `answer_seconds`.
    """

    def __init__(
        self, repository: Repository, name: str, target: str, *, answer_seconds: float = ANSWER_SECONDS
    ) -> None:
        self.name: str = name
        self.target: str = target
        self.tracking_ref: str = f"refs/remotes/{name}/{target}"
        self._repository = repository
        self.git: Git = repository.git
        self._branch_ref = f"refs/heads/{target}"
        self._answer_seconds = answer_seconds

    def require(self) -> None:
        """Raise InputError unless the remote is one that git knows."""
        known = self.git.text("remote").splitlines()
        # A word that is no remote is a path to git, and `land` means one that a person has set up.
        if self.name not in known:
            there = f"; there are {', '.join(known)}" if known else ", and there are no remotes"
            hint = suggest(self.name, known) or there
            raise InputError([f'land.remote is "{self.name}", which is not a remote of this repository{hint}'])
        # Git would take the name for a path then, and a directory that is called so for the remote.
        if not self.git.succeeds("config", "--get-all", f"remote.{self.name}.url"):
            raise InputError([f"the remote {self.name} has no URL; set it with `git remote set-url {self.name} URL`"])
        moved = self.git.follow(self.tracking_ref)
        if not moved.startswith("refs/remotes/"):
            how = f"remove it with `git symbolic-ref --delete {self.tracking_ref}`"
            raise InputError([f"{self.tracking_ref} is a symbolic ref to {moved}, which a fetch would move; {how}"])

    def list_branches(self) -> dict[str, str]:
        """Every branch that the remote has, by short name, with its commit. Raises RemoteError."""
        result = self._ask("ls-remote", "--heads", "--", self.name)
        rows = (line.split("\t") for line in result.text.splitlines())
        return {row[1].removeprefix("refs/heads/"): row[0] for row in rows if len(row) == 2}

    def fetch(self, branches: Mapping[str, str] | None = None) -> str:
        """Bring what the remote's branch has to the tracking ref; returns its commit.

        `branches` is what the remote has, if that is known. Raises RemoteError; nothing is changed then.
        """
        tip = (self.list_branches() if branches is None else branches).get(self.target)
        if tip is None:
            raise RemoteError(f"{self.name} has no branch {self.target}")
        if self.git.resolve(self.tracking_ref) == tip:
            return tip
        # The lock is not held while the remote is only asked, so that one that is away stops no worktree.
        with admin_lock(self._repository):
            self._ask(*_FETCH, "--", self.name, f"+{self._branch_ref}:{self.tracking_ref}", seconds=TRANSFER_SECONDS)
        found = self.git.resolve(self.tracking_ref)
        if found is None:
            raise RemoteError(f"{self.name} has no branch {self.target}")
        return found

    def push(self, head: str, base: str, *, is_dry_run: bool = False) -> PushResult:
        """Move the remote's branch from the commit `base` to `head`, only if it is at `base`, and only forward."""
        if not is_ancestor(self.git, base, head):
            return Raced(f"it moved to {base[:10]}")
        if not is_dry_run and (failure := self._push_large_files(head)):
            return failure
        lease = f"--force-with-lease={self._branch_ref}:{base}"
        options = (lease, *(["--dry-run"] if is_dry_run else []))
        refspec = f"{commit_only(head)}:{self._branch_ref}"
        settings, name = self._find_pushed()
        result = self._try(*settings, *_PUSH, *options, "--", name, refspec, seconds=TRANSFER_SECONDS)
        if isinstance(result, Unreachable):
            return result
        judged = _judge(result, self._branch_ref, head)
        if isinstance(judged, Pushed) and not is_dry_run:
            # Git does it only where the remote's own refspec has this branch. Who fetched meanwhile knows better.
            command = ("update-ref", "-m", "coordinator: push", self.tracking_ref, head, base)
            self.git.run(*command, accept=(0, 1, 128))
        return judged

    def delete(self, branches: Mapping[str, str]) -> dict[str, str]:
        """Delete branches of the remote, each only if it is at its commit; why not, for those that stay."""
        leases = [f"--force-with-lease=refs/heads/{name}:{commit}" for name, commit in branches.items()]
        settings, pushed = self._find_pushed()
        result = self._try(*settings, *_PUSH, *leases, "--", pushed, *(f":refs/heads/{name}" for name in branches))
        if isinstance(result, Unreachable):
            return dict.fromkeys(branches, result.reason)
        deleted = {row[1].rpartition(":")[2] for row in _read_rows(result) if row[0] == "-"}
        words = _read_words(result.stderr)
        return {name: words for name in branches if f"refs/heads/{name}" not in deleted}

    def _find_pushed(self) -> tuple[tuple[str, ...], str]:
        """Options for git, and the remote that a push names.

        After a push git writes what the remote's `fetch` says. Where that is a branch here, as `refs/heads/*` or a
        mirror has it, it would move under a checkout: then it is a copy of the remote that has no `fetch`.
        """
        start = f"remote.{self.name}."
        entries = self.git.text("config", "-z", "--list").split("\0")
        pairs = [
            (key.removeprefix(start), value)
            for key, _, value in (e.partition("\n") for e in entries)
            if key.startswith(start)
        ]
        if not any(key == "fetch" and _writes_branches(value) for key, value in pairs):
            return (), self.name
        kept = ((key, value) for key, value in pairs if key not in ("fetch", "push", "mirror") and "." not in key)
        return tuple(word for key, value in kept for word in ("-c", f"remote.{_COPY}.{key}={value}")), _COPY

    def uses_large_files(self, commit: str) -> bool:
        """Whether files of `commit` are kept by git LFS."""
        place = self._repository.common_dir / "info" / "attributes"
        if place.is_file() and b"filter=lfs" in place.read_bytes():
            return True
        pattern = ("--fixed-strings", "-e", "filter=lfs")
        return self.git.succeeds("grep", "--quiet", *pattern, commit, "--", ":(top,glob)**/.gitattributes")

    def has_lfs(self) -> bool:
        """Whether git LFS is installed."""
        return self.git.run("lfs", "version", accept=range(256)).status == 0

    def _push_large_files(self, head: str) -> Refused | Unreachable | None:
        # Its hook, which would push them, is not run, as no hook of a person's is.
        if not self.uses_large_files(head):
            return None
        if not self.has_lfs():
            return Refused("it stores files with Git LFS, and git-lfs is not installed here; install it and run again")
        result = self._try("lfs", "push", self.name, head, seconds=TRANSFER_SECONDS)
        if isinstance(result, Unreachable):
            return result
        return _explain_failure(result) if result.status else None

    def _ask(self, *arguments: str, seconds: float | None = None) -> Result:
        """What the remote answers. Raises RemoteError."""
        result = self._try(*arguments, seconds=seconds)
        if isinstance(result, Unreachable):
            raise RemoteError(f"{self.name} does not answer: {result.reason}")
        if result.status:
            # Nothing that is asked takes a lock there.
            what = "cannot be fetched" if "cannot lock ref" in result.stderr else "does not answer"
            raise RemoteError(f"{self.name} {what}: {_read_words(result.stderr)}")
        return result

    def _try(self, *arguments: str, seconds: float | None = None) -> Result | Unreachable:
        limit = seconds or self._answer_seconds
        try:
            return self.git.run(
                # Not by `-c`, for which a `=` in the name of the remote ends the key.
                *(*_OPTIONS, f"--config-env=remote.{self.name}.mirror={_NO}", *arguments),
                accept=range(-64, 256),
                environment={**self._environment, _NO: "false"},
                seconds=limit,
            )
        except GitError as error:
            return Unreachable(error.stderr)

    @cached_property
    def _environment(self) -> dict[str, str]:
        """Nothing that could ask a person, who is not there, beside what all git of ours is told (`OWN_GIT`)."""
        configured = self.git.run("config", "--get", "core.sshCommand", accept=(0, 1)).text
        command = os.environ.get("GIT_SSH_COMMAND") or configured
        if not command and os.environ.get("GIT_SSH"):
            return {}
        command = command or "ssh"
        # Another program than OpenSSH need not know these options, and has no terminal to ask on either.
        is_openssh = PurePath(_find_program(command)).name == "ssh"
        return {"GIT_SSH_COMMAND": f"{command} {_SSH_OPTIONS}"} if is_openssh else {}


def _writes_branches(refspec: str) -> bool:
    """Whether a branch that is fetched or pushed is written elsewhere than among the tracking refs."""
    source, _, here = refspec.removeprefix("+").partition(":")
    return bool(here) and not here.startswith("refs/remotes/") and not source.startswith("refs/tags/")


def _find_program(command: str) -> str:
    try:
        return next(iter(shlex.split(command)), "")
    except ValueError:
        return ""


def _read_rows(result: Result) -> list[list[str]]:
    """What `push --porcelain` says of each ref: a flag, `from:to`, and a summary with the reason."""
    rows = (line.split("\t") for line in result.text.splitlines())
    return [row for row in rows if len(row) == 3 and len(row[0]) == 1]


def _judge(result: Result, ref: str, head: str) -> PushResult:
    rows = [row for row in _read_rows(result) if row[1].rpartition(":")[2] == ref]
    if result.status == 0 and rows:
        return Pushed(head)
    refusals = [summary for flag, _, summary in rows if flag == "!"]
    if _AMBIGUOUS in result.stderr:
        return Refused(f"it has a tag or a branch that is itself named {ref}, so git cannot tell which is meant")
    if not refusals:
        return _explain_failure(result)
    said = _make_safe(" ".join(refusals))
    if all(_RACE.search(summary) for summary in refusals):
        return Raced(said)
    words = _read_words(result.stderr, only_remote=True)
    return Refused(f"{words} {said}".strip())


def _explain_failure(result: Result) -> Refused | Unreachable:
    words = _read_words(result.stderr)
    return Refused(words) if _DENIED.search(result.stderr) else Unreachable(words)


def _read_words(stderr: str, *, only_remote: bool = False) -> str:
    """What was said, on one line: the remote's own words where there are any, else git's up to its advice."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", stderr)]
    remote = [line.removeprefix("remote:").strip() for line in lines if line.startswith("remote:")]
    own = [line.removeprefix("fatal: ").removeprefix("error: ") for line in lines if not line.startswith("remote:")]
    own = [line for line in own if not line.startswith(("hint:", "Please make sure", "and the repository", "To "))]
    chosen = [word for word in remote if _make_safe(word)] or ([] if only_remote else own)
    return _make_safe(" ".join(chosen)) or ("" if only_remote else "it gave no reason")


def _make_safe(said: str) -> str:
    """`said` on one line, not too long, without escapes for terminals, and without passwords in addresses."""
    return cut(_LOGIN.sub("://", fold_printable(_ESCAPE.sub("", said))), SAID_CHARS)
