"""Decides from samples of a session's processes whether it is still doing something, and what it waits for."""

from collections.abc import Sequence
from dataclasses import dataclass

OWN_CPU_SHARE = 0.01
"""A process that lives on and uses this share of a core is at work; an idle runtime with timers uses less."""
TREE_CPU_SHARE = 0.05
"""The same for all processes together, those included that began and ended: a loop that only polls uses less."""
IO_BYTES_A_SECOND = 64.0
"""Less than this is keep-alive traffic; a model's answer that arrives token by token is more."""
STARTING_SECONDS = 10.0
"""What starts this long after the turn is a tool; earlier processes are the agent itself and its wrappers."""
COMMAND_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class ProcessSample:
    """One process of a session. Times are in seconds, `started` since the epoch.

    `cpu_seconds` and `io_bytes` are what the process itself has used and transferred so far (files, pipes and sockets),
    `reaped_seconds` what those of its children have used that ended. `waits_for_input` says that it sleeps in a read
    from its terminal, where nobody types.
    """

    pid: int
    parent: int
    started: float
    command: str
    cpu_seconds: float = 0.0
    reaped_seconds: float = 0.0
    io_bytes: int = 0
    waits_for_input: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """The processes of a session at `at`, in seconds since the epoch, and the size of its log.

    It is not `is_complete` if the activity of some process could not be read.
    """

    at: float
    output_bytes: int
    processes: tuple[ProcessSample, ...] = ()
    is_complete: bool = True


@dataclass(frozen=True, slots=True)
class SilenceLimits:
    """How many seconds a session may do nothing: as it is, while it runs a tool, while a process waits for input."""

    stall_seconds: float
    tool_seconds: float
    input_seconds: float


@dataclass(frozen=True, slots=True)
class Liveness:
    """What is known about a turn that `began` and was last seen doing something at `active_at`."""

    began: float
    active_at: float
    last: Sample
    busiest: str = ""

    @property
    def doing(self) -> str:
        """The command that uses most of the processor, else the one that was started last; "" if there is none."""
        return self.busiest or _newest(self.last.processes)


def begin(first: Sample) -> Liveness:
    """The liveness of a turn that begins with `first`."""
    return Liveness(first.at, first.at, first)


def observe(liveness: Liveness, sample: Sample) -> Liveness:
    """The liveness after one more sample."""
    seconds = sample.at - liveness.last.at
    if seconds <= 0:
        return liveness
    before = {(one.pid, one.started): one for one in liveness.last.processes}
    own = ended = 0.0
    transferred, busiest, most = 0, "", OWN_CPU_SHARE * seconds
    for one in sample.processes:
        known = before.get((one.pid, one.started))
        if known is None:
            ended += one.cpu_seconds + one.reaped_seconds
            continue
        used = one.cpu_seconds - known.cpu_seconds
        own += used
        ended += one.reaped_seconds - known.reaped_seconds
        transferred += one.io_bytes - known.io_bytes
        if used >= most:
            busiest, most = one.command, used
    is_active = (
        not sample.is_complete
        or sample.output_bytes != liveness.last.output_bytes
        or own >= OWN_CPU_SHARE * seconds
        or own + ended >= TREE_CPU_SHARE * seconds
        or transferred >= IO_BYTES_A_SECOND * seconds
    )
    return Liveness(liveness.began, sample.at if is_active else liveness.active_at, sample, busiest)


def find_stall(liveness: Liveness, limits: SilenceLimits) -> str:
    """Why the turn has to be ended at the time of the last sample; "" if it need not be."""
    silent = liveness.last.at - liveness.active_at
    if silent < _find_limit(liveness, limits):
        return ""
    return f"nothing happened for {silent:.0f} seconds (no output, no processor time, no data): {describe(liveness)}"


def _find_limit(liveness: Liveness, limits: SilenceLimits) -> float:
    tools = any(one.started > liveness.began + STARTING_SECONDS for one in liveness.last.processes)
    limit = limits.tool_seconds if tools else limits.stall_seconds
    return min(limit, limits.input_seconds) if find_input_waits(liveness) else limit


def find_input_waits(liveness: Liveness) -> list[str]:
    """The commands that wait for somebody to type."""
    return [one.command for one in liveness.last.processes if one.waits_for_input]


def describe(liveness: Liveness) -> str:
    """What the turn is doing or waiting for, in a few words."""
    if waits := find_input_waits(liveness):
        return f"`{shorten(waits[-1])}` waits for input at its terminal"
    return f"running `{shorten(liveness.doing)}`" if liveness.doing else "no process is running"


def shorten(command: str) -> str:
    """The beginning of a command line, in one line."""
    said = " ".join(command.split())
    return said if len(said) <= COMMAND_CHARACTERS else f"{said[: COMMAND_CHARACTERS - 1]}…"


def _newest(processes: Sequence[ProcessSample]) -> str:
    parents = {one.parent for one in processes}
    leaves = [one for one in processes if one.pid not in parents]
    return max(leaves, key=lambda one: (one.started, one.pid)).command if leaves else ""
