"""`coordinator logs`: prints the logs of a node's setup, sessions, reviews and verification."""

import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from rich.console import Console

from flows.cli.commands.node_standing import explain_node
from flows.cli.display.output import print_json, print_rows
from flows.standard_streams import is_output_gone
from tasks_lib.errors import InputError
from tasks_lib.git.repository import Repository
from tasks_lib.git.repository_lock import is_starting, read_holder
from tasks_lib.moments import find_moment
from tasks_lib.naming import flatten
from tasks_lib.reporting.run_report import ExitCode
from tasks_lib.runtime.status_board import VIEW_NAME, read_view

LOOK_SECONDS = 0.25
"""How often a followed file is polled; file events are not available on every platform."""
BLOCK_BYTES = 1 << 16

_STEERING = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f]|\xc2[\x80-\x9f]|\x1b(?!\[[0-9;:]*m)")


class LogKind(StrEnum):
    """The kinds of a node's logs; each value is the prefix of the file names."""

    SESSION = "session"
    SETUP = "setup"
    REVIEW = "review"
    VERIFY = "verify"


def choose_kind(*, is_setup: bool, is_review: bool, is_verify: bool) -> LogKind:
    """Choose the kind that was asked for, or the session log by default; raises InputError for more than one."""
    asked = {LogKind.SETUP: is_setup, LogKind.REVIEW: is_review, LogKind.VERIFY: is_verify}
    kinds = [kind for kind, is_asked in asked.items() if is_asked] or [LogKind.SESSION]
    if len(kinds) > 1:
        raise InputError([f"give only one of {', '.join(f'--{kind}' for kind in kinds)}"])
    return kinds[0]


@dataclass(frozen=True, slots=True)
class NodeLogs:
    """The log files of `node`, in `folder`."""

    repository: Repository
    node: str

    @property
    def folder(self) -> Path:
        return self.repository.state_dir / "logs" / flatten(self.node)

    def list(self) -> Sequence[Path]:
        """List every file, the most recently written one last."""
        is_place = self.node not in ("", ".", "..") and self.folder.is_dir()
        files = self.folder.glob("*.log") if is_place else ()
        return sorted(files, key=lambda file: (file.stat().st_mtime_ns, file.name))

    def find(self, kind: LogKind, attempt: int | None) -> Path | None:
        """Find the newest file of `kind`, or of that kind and `attempt`."""
        found = [file for file in self.list() if _is_kind(file.stem, kind, attempt)]
        return found[-1] if found else None


def _is_kind(name: str, kind: LogKind, attempt: int | None) -> bool:
    """`session-2`, `review-2-1`, `setup`, `verify-<commit>`; a reviewer's `setup-review-2-1` is only listed."""
    if kind is LogKind.SETUP:
        return name == kind
    found = re.match(rf"{kind}-(\w+)", name)
    return found is not None and (attempt is None or found[1] == str(attempt))


def show_logs(
    path: Path,
    node: str,
    kind: LogKind,
    attempt: int | None,
    *,
    is_followed: bool,
    is_list: bool,
    as_json: bool,
    console: Console,
) -> ExitCode:
    """Print the newest log of `kind`, or list all logs; if followed, until the run ends.

    Raises InputError if the node is unknown, or if it has no such log and will not get one.
    """
    if as_json and not is_list:
        raise InputError(["--json only works with --list; logs are printed as they were written"])
    if attempt is not None and kind in (LogKind.SETUP, LogKind.VERIFY):
        raise InputError([f"--attempt cannot be used with --{kind}, whose logs are not per attempt; see --list"])
    repository = Repository.open(path)
    logs = NodeLogs(repository, node)
    if is_list:
        _require(logs.list(), logs, "log")
        list_logs(logs, console, as_json=as_json)
        return ExitCode.COMPLETED
    found = logs.find(kind, attempt)
    if is_followed:
        follow(logs, kind, attempt)
    else:
        _require([found] if found else [], logs, f"{kind} log")
        if found:
            copy(found, 0)
    return ExitCode.COMPLETED


def _require(found: Sequence[Path], logs: NodeLogs, what: str) -> None:
    if found:
        return
    others = [file.stem for file in logs.list()]
    if others:
        raise InputError([f"{logs.node} has no such {what}; its logs are {', '.join(others)}"])
    raise InputError([f"there is no {what}: {_explain(logs)}"])


def _require_node(logs: NodeLogs) -> None:
    """Raise InputError unless a run knows the node or the head has it, so that it may get a log."""
    view = read_view(logs.repository.state_dir / VIEW_NAME)
    if not (view and logs.node in view.nodes and not view.nodes[logs.node].renamed) and not logs.list():
        raise InputError([_explain(logs)])


def _explain(logs: NodeLogs) -> str:
    view = read_view(logs.repository.state_dir / VIEW_NAME)
    seen = view.nodes.get(logs.node) if view else None
    if seen and seen.is_running and _is_alive(logs.repository.state_dir):
        return f"{logs.node} is at the stage {seen.stage}; `coordinator logs {logs.node} --follow` waits for the log"
    return explain_node(logs.repository, logs.node)


def list_logs(logs: NodeLogs, console: Console, *, as_json: bool) -> None:
    """List every log of a node, the newest last."""
    files = [(file, file.stat()) for file in logs.list()]
    if as_json:
        print_json(
            [
                {"name": file.stem, "path": str(file), "bytes": stat.st_size, "written": _write_time(stat.st_mtime)}
                for file, stat in files
            ]
        )
        return
    rows = [(file.stem, str(stat.st_size), _write_time(stat.st_mtime), str(file)) for file, stat in files]
    print_rows(console, ("log", "bytes", "written", "file"), rows)


def _write_time(seconds: float) -> str:
    return find_moment(seconds).astimezone().isoformat(sep=" ", timespec="seconds")


def copy(file: Path, start: int) -> int:
    """Copy `file` from the byte `start` on to standard output; returns the file's end.

    On a terminal, all control sequences except colours are removed. A file may shrink when its middle is cut out.
    """
    is_seen = sys.stdout.isatty()
    with file.open("rb") as source:
        start = min(start, source.seek(0, 2))
        source.seek(start)
        while block := source.read(BLOCK_BYTES):
            if block.endswith(b"\xc2"):  # The first half of a two-byte control character.
                block += source.read(1)
            sys.stdout.buffer.write(calm(block) if is_seen else block)
            start += len(block)
    sys.stdout.buffer.flush()
    return start


def calm(output: bytes) -> bytes:
    """Remove terminal control sequences from `output`, except colours, tabs and line ends."""
    return _STEERING.sub(b"", output)


def _is_alive(state_dir: Path) -> bool:
    """Whether a run is in progress or starting; it holds its lock before it stops telling of its start."""
    return is_starting(state_dir) or read_holder(state_dir) is not None


def follow(logs: NodeLogs, kind: LogKind, attempt: int | None) -> None:
    """Print the newest log and what is added to it, then newer logs, until the run ends or the reader leaves."""
    _require_node(logs)
    shown: Path | None = None
    end = 0
    while True:
        # Check the lock first: a run writes its last line before it releases the lock.
        is_alive = _is_alive(logs.repository.state_dir)
        found = logs.find(kind, attempt)
        if found and found != shown:
            if shown:
                copy(shown, end)
            shown, end = found, 0
            sys.stderr.write(f"==> {found} <==\n")
        if shown:
            end = copy(shown, end)
        if not is_alive:
            _require([shown] if shown else [], logs, f"{kind} log")
            return
        if is_output_gone():
            return
        time.sleep(LOOK_SECONDS)
