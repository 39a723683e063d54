"""The project's exceptions, for invalid input and failing systems. Expected endings are outcomes (`model.Outcome`).

CoordinatorError
├── InputError        the user's input is invalid: lists every fault, nothing was started (exit 2)
├── BusyError         another coordinator is using this repository (exit 2)
├── StartError        what must run first does not, such as Prefect's server: nothing was started (exit 2)
└── SystemFailure     something that the coordinator depends on failed
    ├── GitError      a git command failed
    ├── RemoteError   a remote could not be reached, or gave an unexpected answer
    ├── ShellError    a line of `setup` failed
    └── AgentError    an agent could not be started
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One problem in one place; `path` is relative to the repository, `line` counts from 1 (0: no line)."""

    path: str
    line: int
    message: str
    is_warning: bool = False

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}: " if self.line else f"{self.path}: " if self.path else ""
        return f"{where}{'warning: ' if self.is_warning else ''}{self.message}"


class CoordinatorError(Exception):
    """The base class of every exception that this project raises on purpose."""


class InputError(CoordinatorError):
    """The user's input is invalid; `faults` lists every problem, sorted by place, each with its fix."""

    def __init__(self, faults: Iterable[Fault | str]) -> None:
        found = (f if isinstance(f, Fault) else Fault("", 0, f) for f in faults)
        self.faults: tuple[Fault, ...] = tuple(sorted(found))
        super().__init__("\n".join(str(fault) for fault in self.faults))


class BusyError(CoordinatorError):
    """Another coordinator is using this repository; the message says which."""


class StartError(CoordinatorError):
    """What must run before anything else does not; nothing was started, and the message says how to start it."""


class SystemFailure(CoordinatorError):  # noqa: N818 - It names a kind of failure, not one error.
    """Something outside the coordinator failed; the work is kept."""


class GitError(SystemFailure):
    """`git` exited with `status`; `stderr` is its error output."""

    def __init__(self, command: Sequence[str], status: int, stderr: str) -> None:
        self.command: tuple[str, ...] = tuple(command)
        self.status: int = status
        self.stderr: str = stderr.strip()
        super().__init__(f"git {' '.join(self.command)} exited with {status}: {self.stderr or 'no message'}")


class RemoteError(SystemFailure):
    """A remote could not be reached, or gave an unexpected answer; the message names it and quotes git."""


class ShellError(SystemFailure):
    """A shell line of `setup` exited with `status`; `tail` is the end of its output, `log` the file with all of it."""

    def __init__(self, line: str, status: int, tail: str, log: str) -> None:
        self.line: str = line
        self.status: int = status
        self.tail: str = tail
        self.log: str = log
        super().__init__(f"`{line}` exited with {status} (log: {log})\n{tail}".rstrip())


class AgentError(SystemFailure):
    """An agent could not be started; the message names the program and the reason."""
