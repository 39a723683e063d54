"""The exceptions of the project, for broken input and broken systems; expected endings are outcomes (`model.Outcome`).

CoordinatorError
├── InputError        what a person wrote is wrong: every fault at once, nothing was started (exit 2)
├── BusyError         another coordinator holds this repository (exit 2)
└── SystemFailure     something we rely on did not do its part
    ├── GitError      a git command failed
    ├── RemoteError   a remote did not answer, or not with what was asked for
    ├── ShellError    a line of `setup` failed
    └── AgentError    an agent could not be started
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing that is wrong in one place: `path` relative to the repository, `line` 1-based, 0 for none."""

    path: str
    line: int
    message: str
    is_warning: bool = False

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}: " if self.line else f"{self.path}: " if self.path else ""
        return f"{where}{'warning: ' if self.is_warning else ''}{self.message}"


class CoordinatorError(Exception):
    """The root of every exception that this project raises on purpose."""


class InputError(CoordinatorError):
    """What a person wrote cannot be used; `faults` names every place, sorted, with what to do."""

    def __init__(self, faults: Iterable[Fault | str]) -> None:
        found = (f if isinstance(f, Fault) else Fault("", 0, f) for f in faults)
        self.faults: tuple[Fault, ...] = tuple(sorted(found))
        super().__init__("\n".join(str(fault) for fault in self.faults))


class BusyError(CoordinatorError):
    """Another coordinator works on this repository; the message says who."""


class SystemFailure(CoordinatorError):  # noqa: N818 - It is the name of a kind of failure, not of one error.
    """Something outside did not do its part; the work is kept."""


class GitError(SystemFailure):
    """`git` exited with `status`; `stderr` is what it said."""

    def __init__(self, command: Sequence[str], status: int, stderr: str) -> None:
        self.command: tuple[str, ...] = tuple(command)
        self.status: int = status
        self.stderr: str = stderr.strip()
        super().__init__(f"git {' '.join(self.command)} exited with {status}: {self.stderr or 'no message'}")


class RemoteError(SystemFailure):
    """A remote did not answer, or not with what was asked for; the message says which, and what git said."""


class ShellError(SystemFailure):
    """A shell line of `setup` exited with `status`; `tail` is the end of what it printed, `log` where the rest is."""

    def __init__(self, line: str, status: int, tail: str, log: str) -> None:
        self.line: str = line
        self.status: int = status
        self.tail: str = tail
        self.log: str = log
        super().__init__(f"`{line}` exited with {status} (log: {log})\n{tail}".rstrip())


class AgentError(SystemFailure):
    """An agent could not be started; the message says which program and why."""
