"""Runs git: the one place that defines the options, environment and errors of all of Coordinator's git commands."""

import os
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any

from tasks_lib.errors import GitError
from tasks_lib.git.environment_settings import read_environment_settings, write_environment_settings
from tasks_lib.git.git_program import local_variables
from tasks_lib.process.captured_output import collect, end_captured
from tasks_lib.process.noninteractive import OWN_GIT
from tasks_lib.process.program_lookup import own_path, require_program
from tasks_lib.process.program_starts import require_start
from tasks_lib.process.user_environment import removed_variables

_OPTIONS = (
    "-c", "core.hooksPath=/dev/null",  # A user's hooks would fire in every worktree, on ref updates too.
    "-c", "core.fsmonitor=false",  # Our commands would start a program that an agent named in the shared config.
    "-c", "log.showSignature=false",
    "-c", "submodule.recurse=false",  # Updating a submodule in the user's checkout is up to the user.
    "-c", "gc.auto=0",
    "-c", "maintenance.auto=false",  # If killed, it leaves its lock, which blocks the user's maintenance for good.
    "-c", "core.fsync=committed",
    "-c", "core.quotePath=false",
    "-c", "core.warnAmbiguousRefs=false",  # Our names are unambiguous; warnings would end up in error messages.
    "-c", "advice.detachedHead=false",
    "-c", "color.ui=false",  # Output that we parse must look the same everywhere.
    "-c", "color.diff=false",
    "-c", "i18n.logOutputEncoding=UTF-8",
    "-c", "trailer.separators=:",
)  # fmt: skip
_WALKS = frozenset({"log", "rev-list", "diff", "diff-tree", "diff-index", "show"})
"""Commands that take revisions followed by paths."""
PLAIN_HISTORY = {"GIT_NO_REPLACE_OBJECTS": "1", "GIT_GRAFT_FILE": "/dev/null/none"}
"""An environment for git that ignores replace refs and grafts, which any agent could write to alter history."""


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a command: exit `status`, raw `stdout`, decoded `stderr`."""

    status: int
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        """Standard output without trailing newlines, undecodable bytes as surrogates."""
        return self.stdout.decode("utf-8", "surrogateescape").rstrip("\n")


@dataclass(frozen=True, slots=True)
class Layout:
    """The git directory that all worktrees of a repository share, without symbolic links, and how its ids are made."""

    common_dir: Path
    object_format: str


def git_environment() -> dict[str, str]:
    """Return the variables that every git command of Coordinator's adds to this process's environment.

    They include the user's own proxies and certificates, which are hidden from Prefect in this process, and the git
    settings in the user's environment. Programs that git starts by name (ssh, filters, helpers) are never looked up in
    the directory where it runs.
    """
    settings = read_environment_settings(os.environ)
    given = write_environment_settings(settings) if settings else {}
    return {**removed_variables(), **OWN_GIT, "PATH": own_path(), "LC_ALL": "C", **PLAIN_HISTORY, **given}


_loading = Lock()


@cache
def _load_gitpython() -> Any:
    """Import GitPython on first use: on import it runs a git that it finds through a variable or PATH."""
    name = "GIT_PYTHON_GIT_EXECUTABLE"
    with _loading:  # Threads share the environment.
        before = os.environ.get(name)
        os.environ[name] = require_program("git")
        try:
            return import_module("git")
        finally:
            del os.environ[name]
            if before is not None:
                os.environ[name] = before


class Git:
    """Runs git commands in `directory`, each in a session of its own so that a Ctrl-C does not reach it.

    With `git_dir`, `directory` is the working tree of exactly that git directory. Without it, git discovers one, which
    in a worktree whose `.git` an agent has removed is that of the enclosing repository: the user's own checkout.
    `variables` override the environment of every command, `settings` (`core.eol=lf`) the git configuration. `layout`
    is given where it is known.
    """

    def __init__(
        self,
        directory: Path,
        git_dir: Path | None = None,
        *,
        variables: Mapping[str, str] | None = None,
        settings: Sequence[str] = (),
        layout: Layout | None = None,
    ) -> None:
        self.directory: Path = directory
        place = {"GIT_DIR": str(git_dir), "GIT_WORK_TREE": str(directory)} if git_dir else {}
        self.variables: Mapping[str, str] = {**place, **(variables or {})}
        self._options: tuple[str, ...] = (*_OPTIONS, *(word for setting in settings for word in ("-c", setting)))
        self._runner: Any = _load_gitpython().Git(str(directory))
        self._layout: Layout | None = layout

    @cached_property
    def layout(self) -> Layout:
        """The repository of `directory`; asked once, so only for a directory that no agent can change."""
        if self._layout:
            return self._layout
        form, _, place = self.text(
            "rev-parse", "--show-object-format", "--path-format=absolute", "--git-common-dir"
        ).partition("\n")
        return Layout(Path(place).resolve(), form)

    def run(
        self,
        *arguments: str,
        stdin: bytes | None = None,
        accept: Collection[int] = (0,),
        environment: Mapping[str, str] | None = None,
        seconds: float | None = None,
    ) -> Result:
        """Run `git *arguments`; `environment` overrides this process's cleaned one.

        Raises GitError if the exit status is not in `accept`, or if git has not exited after `seconds`; then it and
        all processes that it started are ended. Waits only for git itself, not for processes that it leaves running.
        """
        process = self._start(arguments, stdin is not None, environment or {})
        try:
            out, err = collect(process, stdin or b"", seconds)
        except subprocess.TimeoutExpired:
            end_captured(process)
            raise GitError(arguments, process.returncode, f"it did not end within {seconds:g} seconds") from None
        except BaseException:
            end_captured(process)  # A signal may be ending this program; git, in its own session, does not get it.
            raise
        result = Result(process.returncode, out, err.decode("utf-8", "replace"))
        if result.status not in accept:
            raise GitError(arguments, result.status, result.stderr or result.stdout.decode("utf-8", "replace"))
        return result

    def _start(
        self, arguments: Sequence[str], has_input: bool, environment: Mapping[str, str]
    ) -> "subprocess.Popen[bytes]":
        require_start()
        # GitPython would run the command in our own working directory, which may be the user's checkout.
        if not self.directory.is_dir() or not os.access(self.directory, os.X_OK):
            raise GitError(arguments, -1, f"{self.directory} does not exist, or cannot be entered")
        variables = {**git_environment(), **self.variables, **environment}
        # GitPython adds `env` to this process's environment, so the program `env` unsets what must not be there.
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
        handle.proc = None  # `collect` owns it now; GitPython would end it when `handle` is garbage-collected.
        return process

    def text(self, *arguments: str) -> str:
        """Run `git *arguments` and return its standard output without trailing newlines."""
        return self.run(*arguments).text

    def succeeds(self, *arguments: str) -> bool:
        """Run `git *arguments`; return True for exit status 0, False for 1. Any other raises GitError."""
        return self.run(*arguments, accept=(0, 1)).status == 0

    def resolve(self, revision: str) -> str | None:
        """Return the commit of `revision` (`HEAD`, exactly that full ref, or the id of a commit or tag), or None."""
        if revision == "HEAD" or revision.startswith("refs/"):
            # If there is no such ref, `rev-parse` would try a tag or a branch of that name.
            words = ("show-ref", "--verify", "--hash", "--", revision)
        else:
            words = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        found = self.run(*words, accept=(0, 1, 128))
        return found.text or None if found.status == 0 else None

    def locate(self, ref: str) -> tuple[str, str | None]:
        """Return what `follow` and `resolve` return for the full ref `ref` of a commit, from one look at it."""
        oid, _, end = self.text("for-each-ref", "--format=%(objectname) %(symref)", ref).partition(" ")
        return end or ref, oid or None

    def follow(self, ref: str) -> str:
        """Return the full ref at the end of a chain of symbolic refs, such as HEAD's branch, or `ref` itself.

        It is the ref that is checked out and that moves; it need not exist. For a detached `HEAD`, returns `HEAD`.
        """
        found = self.run("symbolic-ref", "--quiet", ref, accept=(0, 1, 128))
        return found.text if found.status == 0 and found.text else ref


def _end_revisions(arguments: Sequence[str]) -> Sequence[str]:
    """Return `arguments` with `--` after the revisions; otherwise git refuses a revision that is also a file's name."""
    return [*arguments, "--"] if _find_command(arguments) in _WALKS and "--" not in arguments else arguments


def _find_command(arguments: Sequence[str]) -> str:
    words = iter(arguments)
    for word in words:
        if word == "-c":
            next(words, None)
        elif not word.startswith("-"):
            return word
    return ""
