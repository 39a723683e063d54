"""Talks to the remote that work lands on: lists its branches, fetches, pushes, and explains why a push failed."""

import os
import re
import shlex
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import PurePath

from tasks_lib.errors import GitError, InputError, RemoteError
from tasks_lib.git.commits.merge_tree import is_ancestor
from tasks_lib.git.publish.checkout_fast_forward import REF_PATIENCE
from tasks_lib.git.ref_names import commit_only
from tasks_lib.git.repository import Repository
from tasks_lib.git.repository_lock import admin_lock
from tasks_lib.git.runner import Git, Result
from tasks_lib.suggestions import suggest
from tasks_lib.text import cut_middle, fold_printable

ANSWER_SECONDS = 60.0
"""For a query. A busy server takes seconds; one that takes longer is as good as unreachable."""
TRANSFER_SECONDS = 900.0
"""For a fetch or a push, whose size is unknown. A transfer that stalls ends long before, because of `_OPTIONS`."""
SAID_CHARS = 600
_OPTIONS = (
    "-c", "http.lowSpeedLimit=100", "-c", "http.lowSpeedTime=60",
    "-c", "credential.interactive=false",
)  # fmt: skip
_SSH_OPTIONS = "-oBatchMode=yes -oConnectTimeout=20 -oServerAliveInterval=15 -oServerAliveCountMax=4"
FETCH = (
    # Without `--refmap=`, a mirror's refspec would overwrite local branches.
    "fetch", "--quiet", "--refmap=", "--no-tags", "--no-prune", "--no-write-fetch-head",
    "--no-recurse-submodules", "--no-auto-maintenance",
)  # fmt: skip
FETCH_RACES = 2
"""How often another program may move the tracking ref during a fetch; the next time is an error."""
PUSH = ("push", "--porcelain", "--no-follow-tags", "--no-signed", "--recurse-submodules=no")
_RACE = re.compile(
    r"fetch first|non-fast-forward|stale info|(cannot|failed to|unable to) lock|lock failure|failed to update ref"
    r"|incorrect old value|already been updated|is at \w+ but expected",
    re.IGNORECASE,
)
"""The various server messages about a branch that another push has moved or is moving."""
_DENIED = re.compile(
    r"permission denied|permission to .* denied|access denied|authentication failed|error: 40[13]"
    r"|could not read (username|password)|terminal prompts disabled|host key verification failed",
    re.IGNORECASE,
)
_COPY = "coordinator-copy"
"""The name, for one command, of a copy of the remote's configuration."""
_NO = "COORDINATOR_NO"
"""An environment variable set to `false`, for a setting that cannot be passed as `-c KEY=VALUE`."""
_AMBIGUOUS = "matches more than one"
"""Git's message if the remote has `refs/tags/refs/heads/main` as well as `refs/heads/main`."""
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.?)")
_LOGIN = re.compile(r"://[^/@\s]*@")


class _RefLockedError(RemoteError):
    """Another program moved a local ref during a fetch, or has locked it."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """The remote's branch is now at `commit`.

    `elsewhere` are further addresses of the remote's pushes that did not take this one, each with its words.
    """

    commit: str
    elsewhere: Mapping[str, str] = field(default_factory=dict[str, str])

    def describe_missing(self, name: str) -> list[str]:
        """Return a sentence for each further address of the remote `name` that did not take what was pushed."""
        return [
            f"{name} has what landed, but {address} does not: {words.rstrip('.')}."
            for address, words in self.elsewhere.items()
        ]


@dataclass(frozen=True, slots=True)
class Raced:
    """Another push seems to have moved the remote's branch, or to be moving it.

    If a fetch shows that the branch has moved, a push may succeed after merging that. `reason` is the explanation, the
    remote's own if it gave one.
    """

    words: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The push was refused; `words` is the explanation, the remote's own if it gave one."""

    words: str


@dataclass(frozen=True, slots=True)
class Unreachable:
    """The remote did not answer; a later attempt may succeed. `words` say why."""

    words: str


PushResult = Pushed | Raced | Refused | Unreachable


class Remote:
    """The branch `target` of the remote `name`. The methods block, so call them in threads.

    Never prompts for a password. A query has to be answered within `answer_seconds`.
    """

    def __init__(
        self, repository: Repository, name: str, target: str, *, answer_seconds: float = ANSWER_SECONDS
    ) -> None:
        self.name: str = name
        self.target: str = target
        self.tracking_ref: str = f"refs/remotes/{name}/{target}"
        self.repository: Repository = repository
        self.git: Git = repository.git
        self._branch_ref = f"refs/heads/{target}"
        self._answer_seconds = answer_seconds

    def require(self) -> None:
        """Raise InputError unless git has this remote, with a URL and a tracking ref that a fetch can update."""
        known = self.git.text("remote").splitlines()
        # Git takes any other name for a path, but `land` means a remote that the user has set up.
        if self.name not in known:
            there = f"; there are {', '.join(known)}" if known else ", and there are no remotes"
            hint = suggest(self.name, known) or there
            raise InputError([f'land.remote is "{self.name}", which is not a remote of this repository{hint}'])
        # Without a URL, git would take the name for a path, and a directory of that name for the remote.
        if not self.git.succeeds("config", "--get-all", f"remote.{self.name}.url"):
            raise InputError([f"the remote {self.name} has no URL; set it with `git remote set-url {self.name} URL`"])
        moved = self.git.follow(self.tracking_ref)
        if not moved.startswith("refs/remotes/"):
            how = f"remove it with `git symbolic-ref --delete {self.tracking_ref}`"
            raise InputError([f"{self.tracking_ref} is a symbolic ref to {moved}, which a fetch would move; {how}"])

    def list_branches(self) -> dict[str, str]:
        """The commit of every branch on the remote, by short name. Raises RemoteError."""
        result = self.ask("ls-remote", "--heads", "--", self.name)
        rows = (line.split("\t") for line in result.text.splitlines())
        return {row[1].removeprefix("refs/heads/"): row[0] for row in rows if len(row) == 2}

    def fetch(self, branches: Mapping[str, str] | None = None) -> str:
        """Fetch the remote's branch to the tracking ref; return its commit.

        `branches` is the result of `list_branches`, if it is known. If this raises RemoteError, nothing has changed. A
        mirror that has an ancestor of the tracking ref lags behind what was pushed elsewhere, and is not followed.
        """
        tip = (self.list_branches() if branches is None else branches).get(self.target)
        if tip is None:
            raise RemoteError(f"{self.name} has no branch {self.target}")
        known = self.git.resolve(self.tracking_ref)
        if known and (known == tip or self._is_lagging(tip, known)):
            return known
        # The lock is not held during the query above, so that an unreachable remote does not block worktrees.
        with admin_lock(self.repository):
            self._fetch_branch()
        found = self.git.resolve(self.tracking_ref)
        if found is None:
            raise RemoteError(f"{self.name} has no branch {self.target}")
        return found

    def _fetch_branch(self) -> None:
        """Move the tracking ref to the remote branch, also while another program, such as an editor, moves it."""
        command = (*REF_PATIENCE, *FETCH, "--", self.name, f"+{self._branch_ref}:{self.tracking_ref}")
        for _ in range(FETCH_RACES):
            with suppress(_RefLockedError):
                self.ask(*command, seconds=TRANSFER_SECONDS)
                return
        self.ask(*command, seconds=TRANSFER_SECONDS)

    def _is_lagging(self, tip: str, known: str) -> bool:
        return self._is_pushed_elsewhere and self.git.resolve(tip) is not None and is_ancestor(self.git, tip, known)

    @cached_property
    def _is_pushed_elsewhere(self) -> bool:
        """Whether no push goes to the address that is fetched from, as with `pushurl` or `pushInsteadOf`."""
        return not set(self._list_addresses()) & set(self._list_addresses("--push"))

    def push(self, head: str, base: str, *, is_dry_run: bool = False) -> PushResult:
        """Move the remote's branch from commit `base` to `head`, only if it is at `base` and only as a fast-forward.

        If the remote has several addresses to push to, this is about the one that is also fetched from, else the first;
        afterwards the others get `head` too.
        """
        if not is_ancestor(self.git, base, head):
            return Raced(f"it moved to {base[:10]}")
        if not is_dry_run and (failure := self._push_large_files(head)):
            return failure
        lease = f"--force-with-lease={self._branch_ref}:{base}"
        options = ["--dry-run"] if is_dry_run else []
        first, *others = self._list_push_addresses()
        judged = self._push_to(first if others else "", head, lease, *options)
        if isinstance(judged, Pushed) and not is_dry_run:
            # Git does this only if the remote's own refspec includes this branch. A fetch meanwhile is more recent.
            command = ("update-ref", "-m", "coordinator: push", self.tracking_ref, head, base)
            self.git.run(*command, accept=(0, 1, 128))
        if not isinstance(judged, Pushed):
            return judged
        told = {address: self._push_to(address, head, *options) for address in others}
        failed = {_make_safe(address): one.words for address, one in told.items() if not isinstance(one, Pushed)}
        return replace(judged, elsewhere=failed)

    def _push_to(self, address: str, head: str, *options: str) -> PushResult:
        """Push `head` to one address of the remote, "" for all that it has."""
        refspec = f"{commit_only(head)}:{self._branch_ref}"
        settings, name = self.find_pushed(address)
        result = self.attempt(*settings, *PUSH, *options, "--", name, refspec, seconds=TRANSFER_SECONDS)
        return result if isinstance(result, Unreachable) else _judge(result, self._branch_ref, head)

    def _list_push_addresses(self) -> list[str]:
        """The addresses that pushes go to, the one that is also fetched from first."""
        fetched = self._list_addresses()
        return sorted(self._list_addresses("--push"), key=lambda address: address not in fetched)

    def _list_addresses(self, *options: str) -> list[str]:
        return self.git.text("remote", "get-url", "--all", *options, self.name).splitlines()

    def delete(self, branches: Mapping[str, str]) -> dict[str, str]:
        """Delete branches of the remote, each only if it is at its commit; return the reason for each that stays."""
        leases = [f"--force-with-lease=refs/heads/{name}:{commit}" for name, commit in branches.items()]
        settings, pushed = self.find_pushed()
        result = self.attempt(*settings, *PUSH, *leases, "--", pushed, *(f":refs/heads/{name}" for name in branches))
        if isinstance(result, Unreachable):
            return dict.fromkeys(branches, result.words)
        deleted = {row[1].rpartition(":")[2] for row in _read_rows(result) if row[0] == "-"}
        words = read_words(result.stderr)
        return {name: words for name in branches if f"refs/heads/{name}" not in deleted}

    def find_pushed(self, address: str = "") -> tuple[tuple[str, ...], str]:
        """Options for git, and the name of the remote to push to, at `address` alone if one is given.

        After a push, git updates the refs that the remote's `fetch` maps to. If those are local branches, as with
        `refs/heads/*` or a mirror, one would move under a checkout; the push then names a copy of the remote's
        configuration without `fetch`.
        """
        start = f"remote.{self.name}."
        entries = self.git.text("config", "-z", "--list").split("\0")
        pairs = [
            (key.removeprefix(start), value)
            for key, _, value in (e.partition("\n") for e in entries)
            if key.startswith(start)
        ]
        if not address and not any(key == "fetch" and _writes_branches(value) for key, value in pairs):
            return (), self.name
        left_out = {"fetch", "push", "mirror", *(("url", "pushurl") if address else ())}
        kept = [(key, value) for key, value in pairs if key not in left_out and "." not in key]
        kept += [("url", address)] if address else []
        return tuple(word for key, value in kept for word in ("-c", f"remote.{_COPY}.{key}={value}")), _COPY

    def uses_large_files(self, commit: str) -> bool:
        """Whether files of `commit` are stored with Git LFS."""
        place = self.repository.common_dir / "info" / "attributes"
        if place.is_file() and b"filter=lfs" in place.read_bytes():
            return True
        pattern = ("--fixed-strings", "-e", "filter=lfs")
        return self.git.succeeds("grep", "--quiet", *pattern, commit, "--", ":(top,glob)**/.gitattributes")

    def has_lfs(self) -> bool:
        """Whether Git LFS is installed."""
        return self.git.run("lfs", "version", accept=range(256)).status == 0

    def _push_large_files(self, head: str) -> Refused | Unreachable | None:
        # The hook of Git LFS, which would push them, does not run, because no hook of the user's does.
        if not self.uses_large_files(head):
            return None
        if not self.has_lfs():
            return Refused("it stores files with Git LFS, and git-lfs is not installed here; install it and run again")
        result = self.attempt("lfs", "push", self.name, head, seconds=TRANSFER_SECONDS)
        if isinstance(result, Unreachable):
            return result
        return _explain_failure(result) if result.status else None

    def ask(self, *arguments: str, seconds: float | None = None) -> Result:
        """Run a git command that queries the remote, and return its result. Raises RemoteError if it fails."""
        result = self.attempt(*arguments, seconds=seconds)
        if isinstance(result, Unreachable):
            raise RemoteError(f"{self.name} does not answer: {result.words}")
        if result.status:
            # No query takes a lock on the remote, so the locked ref is a local one.
            if "cannot lock ref" in result.stderr:
                raise _RefLockedError(f"{self.name} cannot be fetched: {read_words(result.stderr)}")
            raise RemoteError(f"{self.name} does not answer: {read_words(result.stderr)}")
        return result

    def attempt(self, *arguments: str, seconds: float | None = None) -> Result | Unreachable:
        """Run a git command that talks to the remote, and return its result, whatever its exit status."""
        limit = seconds or self._answer_seconds
        try:
            return self.git.run(
                # Not with `-c`, where a `=` in the name of the remote ends the key.
                *(*_OPTIONS, f"--config-env=remote.{self.name}.mirror={_NO}", *arguments),
                accept=range(-64, 256),
                environment={**self._environment, _NO: "false"},
                seconds=limit,
            )
        except GitError as error:
            return Unreachable(error.stderr)

    @cached_property
    def _environment(self) -> dict[str, str]:
        """Variables that keep ssh from prompting, as no one can answer; all git commands also get `OWN_GIT`."""
        configured = self.git.run("config", "--get", "core.sshCommand", accept=(0, 1)).text
        command = os.environ.get("GIT_SSH_COMMAND") or configured
        if not command and os.environ.get("GIT_SSH"):
            return {}
        command = command or "ssh"
        # A program other than OpenSSH may not know these options, and has no terminal to prompt on either.
        is_openssh = PurePath(_find_program(command)).name == "ssh"
        return {"GIT_SSH_COMMAND": f"{command} {_SSH_OPTIONS}"} if is_openssh else {}


def _writes_branches(refspec: str) -> bool:
    """Whether a refspec writes fetched or pushed branches anywhere other than to remote-tracking refs."""
    source, _, here = refspec.removeprefix("+").partition(":")
    return bool(here) and not here.startswith("refs/remotes/") and not source.startswith("refs/tags/")


def _find_program(command: str) -> str:
    try:
        return next(iter(shlex.split(command)), "")
    except ValueError:
        return ""


def _read_rows(result: Result) -> list[list[str]]:
    """The rows of `push --porcelain`, one per ref: a flag, `from:to`, and a summary with the reason."""
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
    words = f"{read_words(result.stderr, only_remote=True)} {_make_safe(' '.join(refusals))}".strip()
    return Raced(words) if all(_RACE.search(summary) for summary in refusals) else Refused(words)


def _explain_failure(result: Result) -> Refused | Unreachable:
    words = read_words(result.stderr)
    return Refused(words) if _DENIED.search(result.stderr) else Unreachable(words)


def read_words(stderr: str, *, only_remote: bool = False) -> str:
    """The message on one line: the remote's own words if there are any, else git's up to its advice."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", stderr)]
    remote = [line.removeprefix("remote:").strip() for line in lines if line.startswith("remote:")]
    own = [line.removeprefix("fatal: ").removeprefix("error: ") for line in lines if not line.startswith("remote:")]
    own = [line for line in own if not line.startswith(("hint:", "Please make sure", "and the repository", "To "))]
    chosen = [word for word in remote if _make_safe(word)] or ([] if only_remote else own)
    return _make_safe(" ".join(chosen)) or ("" if only_remote else "it gave no reason")


def _make_safe(said: str) -> str:
    """`said` on one line, cut to `SAID_CHARS`, without terminal escapes, and without passwords in URLs.

    It is cut in the middle: a server's greeting comes first, and what matters last.
    """
    return cut_middle(_LOGIN.sub("://", fold_printable(_ESCAPE.sub("", said))), SAID_CHARS)
