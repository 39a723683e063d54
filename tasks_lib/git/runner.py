"""Runs git: one place that knows the options, the environment and the errors of every command of ours."""

import os
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from tasks_lib.errors import GitError
from tasks_lib.git.git_program import local_variables
from tasks_lib.process.captured_output import collect, end_captured
from tasks_lib.process.noninteractive import OWN_GIT
from tasks_lib.process.program_lookup import own_path, require_program
from tasks_lib.process.user_environment import removed_variables

_OPTIONS = (
    "-c", "core.hooksPath=/dev/null",  # A user's hooks would fire in every worktree, on ref updates too.
    "-c", "core.fsmonitor=false",  # A program that an agent names in the shared settings would be started by ours.
    "-c", "log.showSignature=false",
    "-c", "submodule.recurse=false",  # A submodule in a person's checkout is theirs to update.
    "-c", "gc.auto=0",
    "-c", "maintenance.auto=false",  # A kill would leave its lock, which ends a person's own maintenance for good.
    "-c", "core.fsync=committed",
    "-c", "core.quotePath=false",
    "-c", "core.warnAmbiguousRefs=false",  # Names of ours are not ambiguous, and a warning would be read as a reason.
    "-c", "advice.detachedHead=false",
    "-c", "color.ui=false",  # What we read looks the same wherever we run.
    "-c", "color.diff=false",
    "-c", "i18n.logOutputEncoding=UTF-8",
    "-c", "trailer.separators=:",
)  # fmt: skip
_WALKS = frozenset({"log", "rev-list", "diff", "diff-tree", "diff-index", "show"})
"""Commands that take revisions and then paths."""
PLAIN_HISTORY = {"GIT_NO_REPLACE_OBJECTS": "1", "GIT_GRAFT_FILE": "/dev/null/none"}
"""An environment for git in which every commit is what it says: agents share the refs and files that replace others."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a command answered: exit `status`, raw `stdout`, decoded `stderr`."""

    status: int
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        """Standard output without the last newline, undecodable bytes as surrogates."""
        return self.stdout.decode("utf-8", "surrogateescape").rstrip("\n")


_running: set[int] = set()


def list_running() -> frozenset[int]:
    """The processes of the commands that this process runs at this moment, so that none is taken for a person's."""
    return frozenset(_running)


def git_environment() -> dict[str, str]:
    """What every git of coordinator's has over this process's environment.

    The person's own proxies and certificates are among it, which Prefect in this process may not see. What git starts
    by name (ssh, filters, helpers) is never looked for in the directory where it runs.
    """
    return {**removed_variables(), **OWN_GIT, "PATH": own_path(), "LC_ALL": "C", **PLAIN_HISTORY}


@cache
def _load_gitpython() -> Any:
    """GitPython, imported when it is needed: it runs a git at once, and takes that from a variable or from PATH."""
    name = "GIT_PYTHON_GIT_EXECUTABLE"
    before = os.environ.get(name)
    os.environ[name] = require_program("git")
    try:
        return import_module("git")
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


class Git:
    """Runs git commands in `directory`, each in a session of its own so that a Ctrl-C does not reach them.

    With `git_dir` the directory is the working tree of exactly that git directory. Otherwise git looks for one, which
    in a worktree whose `.git` an agent has removed is the repository around it: the person's own checkout.
    `variables` are laid over the environment of every command, `settings` (`core.eol=lf`) over what is configured.
    """

    def __init__(
        self,
        directory: Path,
        git_dir: Path | None = None,
        *,
        variables: Mapping[str, str] | None = None,
        settings: Sequence[str] = (),
    ) -> None:
        self.directory: Path = directory
        place = {"GIT_DIR": str(git_dir), "GIT_WORK_TREE": str(directory)} if git_dir else {}
        self._place: dict[str, str] = {**place, **(variables or {})}
        self._options: tuple[str, ...] = (*_OPTIONS, *(word for setting in settings for word in ("-c", setting)))
        self._runner: Any = _load_gitpython().Git(str(directory))

    def run(
        self,
        *arguments: str,
        stdin: bytes | None = None,
        accept: Collection[int] = (0,),
        environment: Mapping[str, str] | None = None,
        seconds: float | None = None,
    ) -> Result:
        """Run `git *arguments`; `environment` is laid over this process's cleaned one.

        Raises GitError when the exit status is not in `accept`, or when it has not ended after `seconds`: then it and
        all that it started are ended. Only git itself is waited for, not what it leaves behind.
        """
        process = self._start(arguments, stdin is not None, environment or {})
        _running.add(process.pid)
        try:
            out, err = collect(process, stdin or b"", seconds)
        except subprocess.TimeoutExpired:
            end_captured(process)
            raise GitError(arguments, process.returncode, f"it did not end within {seconds:g} seconds") from None
        except BaseException:
            end_captured(process)  # A signal ends this program; git, in a session of its own, does not hear it.
            raise
        finally:
            _running.discard(process.pid)
        result = Result(process.returncode, out, err.decode("utf-8", "replace"))
        if result.status not in accept:
            raise GitError(arguments, result.status, result.stderr or result.stdout.decode("utf-8", "replace"))
        return result

    def _start(
        self, arguments: Sequence[str], has_input: bool, environment: Mapping[str, str]
    ) -> "subprocess.Popen[bytes]":
        # GitPython would run the command where we are ourselves, which may be the person's checkout.
        if not self.directory.is_dir() or not os.access(self.directory, os.X_OK):
            raise GitError(arguments, -1, f"{self.directory} does not exist, or cannot be entered")
        variables = {**git_environment(), **self._place, **environment}
        # GitPython lays `env` over this process's own environment, so what must not be there is unset by `env`.
        foreign = [name for name in local_variables() if name in os.environ and name not in variables]
        unset = [word for name in foreign for word in ("-u", name)]
        program = [*([require_program("env"), *unset] if unset else []), require_program("git")]
        handle = self._runner.execute(
            [*program, *self._options, *_end_revisions(arguments)],
            istream=subprocess.PIPE if has_input else subprocess.DEVNULL,
            as_process=True,
            env=variables,
            start_new_session=True,
        )
        process: subprocess.Popen[bytes] = handle.proc
        handle.proc = None  # `collect` owns it now; GitPython would end it when `handle` is collected.
        return process

    def text(self, *arguments: str) -> str:
        """Standard output of `git *arguments`, without the last newline."""
        return self.run(*arguments).text

    def succeeds(self, *arguments: str) -> bool:
        """Whether `git *arguments` exits with 0; 1 is no, anything else raises GitError."""
        return self.run(*arguments, accept=(0, 1)).status == 0

    def resolve(self, revision: str) -> str | None:
        """The commit that `revision` names, or None: `HEAD`, exactly that full ref, or the id of a commit or a tag."""
        if revision == "HEAD" or revision.startswith("refs/"):
            # `rev-parse` would look for a tag or a branch of that name where there is no such ref.
            words = ("show-ref", "--verify", "--hash", "--", revision)
        else:
            words = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        found = self.run(*words, accept=(0, 1, 128))
        return found.text or None if found.status == 0 else None

    def follow(self, ref: str) -> str:
        """The full ref at the end of a chain of symbolic ones, such as HEAD's branch; `ref` itself where it is none.

        That is the ref which checkouts have and which moves; it need not exist. `HEAD` stays if it is detached.
        """
        found = self.run("symbolic-ref", "--quiet", ref, accept=(0, 1, 128))
        return found.text if found.status == 0 and found.text else ref


def _end_revisions(arguments: Sequence[str]) -> Sequence[str]:
    """`arguments`, with `--` after revisions: a file that is called like one of them makes git refuse otherwise."""
    return [*arguments, "--"] if _find_command(arguments) in _WALKS and "--" not in arguments else arguments


def _find_command(arguments: Sequence[str]) -> str:
    words = iter(arguments)
    for word in words:
        if word == "-c":
            next(words, None)
        elif not word.startswith("-"):
            return word
    return ""
