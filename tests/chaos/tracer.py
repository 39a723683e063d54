"""Sees every side effect of this process just before it happens, and kills the process before or after a chosen one.

Python tells an audit hook of each file that is opened, renamed or deleted, and of each process that is started or
signalled; nothing of what is tested is changed for it. `install` is called once, before the work begins. Each side
effect is a line of JSON in the trace, and has a signature: its kind, what it is about with the names of this run taken
out, and the innermost functions of ours that led to it.
"""

import fcntl
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal, cast

Mode = Literal["before", "after", "orphan", "cut", "count"]
"""When the kill comes. `before` and `after` the side effect. For a process that is started: `after` it has ended,
`orphan` as it begins and goes on alone, `cut` together with it just before one of its own system calls. `count` kills
nobody: it writes down what could be cut."""

SHIM = Path(__file__).with_name("shim.py")
SHIM_VARIABLE = "CHAOS_SHIM"
PROGRAMS = ("git", "sh", "env", "nice", "rm")
"""What the coordinator starts by a name that it looks up itself."""
FRAMES = 3
_SHELLS = ("/runner.py", "/helper_process.py", "/session_record.py", "/files.py")
"""Modules through which all of git, or every record, goes: their frames would tell nothing apart."""
_LOCKS = {fcntl.LOCK_EX: "take", fcntl.LOCK_EX | fcntl.LOCK_NB: "try", fcntl.LOCK_UN: "release"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_PATHS = {
    "os.rename": "rename",
    "os.remove": "remove",
    "os.mkdir": "mkdir",
    "os.rmdir": "rmdir",
    "os.link": "link",
    "os.symlink": "link",
    "os.truncate": "truncate",
    "os.chmod": "chmod",
}
_NAMES = (
    (re.compile(r"((-c \w+\.\w+|--git-dir|--work-tree)=\S+ )+"), ""),
    (re.compile(r"/coordinator-[0-9a-f]+-[0-9a-f]+-\d+-\d+-[a-z0-9_]{8}\b"), "/coordinator-<private>"),
    (re.compile(r"\b[0-9a-f]{7,64}\b"), "<hex>"),
    (re.compile(r"(coordinator/logs|\.git/worktrees|\.trash|\.pool|/prompts)/[^/ ]+"), r"\1/<one>"),
    (re.compile(r"(\.worktrees|refs/heads)/(feat|research)(/[^ ]+?)?(?=( |$|\.lock\b))"), r"\1/<branch>"),
    (re.compile(r"(?<=[ :^])(feat|research)/[^ ]+"), "<branch>"),
    (re.compile(r"objects/(\w\w(?=/| |$)|<n>)"), "objects/<xx>"),
    (re.compile(r"(<one>|tasks|src)/[^ ]+\.(md|log|txt)\b"), r"\1/<file>"),
    (
        re.compile(r"(coordinator-(index-)?|\.json\.|-slot\.|exclude\.|/tmp_obj_|/\.coordinator-)[a-z0-9_]{8}\b"),
        r"\1<temp>",
    ),
    (re.compile(r"/tmp/[a-z0-9_]{8}\b"), "/tmp/<temp>"),
    (re.compile(r"\b\d+\b"), "<n>"),
)
_DEVICES = ("/dev/null", "/dev/tty", "/dev/ptmx")
_BELOW = "<below>"
"""What is deleted with a whole directory has no name of its own: Python deletes it relative to the directory."""


@dataclass(frozen=True, slots=True)
class Target:
    """Which side effect is chosen: the `occurrence`-th (from 1) of `signature`, or by `number` in the whole trace.

    `cut` is the system call, counted from 1, that a process which is started does not come to.
    """

    mode: Mode
    signature: str = ""
    occurrence: int = 1
    number: int = 0
    cut: int = 0
    calls: str = ""
    """Where `count` writes down the system calls of each process."""


@dataclass(slots=True)
class Tracer:
    """The state of the hook; `places` are texts with the name that stands for each of them."""

    trace: int
    target: Target | None
    places: Mapping[str, str]
    count: int = 0
    seen: int = 0
    is_struck: bool = False

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Number a side effect, note it, and kill if it is the chosen one."""
        if self.is_struck or (described := describe(event, arguments)) is None:
            return
        kind, text = described
        where = list(list_frames(sys._getframe()))  # pyright: ignore[reportPrivateUsage]
        signature = f"{kind} {self.normalize(kind, text)} @ {' < '.join(where)}"
        with _lock:
            self.count += 1
            number = self.count
            self.seen += bool(self.target and signature == self.target.signature)
            is_chosen = self.is_chosen(signature)
            line = {"number": number, "kind": kind, "signature": signature, "argv": _list_argv(event, arguments)}
            line["is_plain"] = event == "subprocess.Popen" and not isinstance(arguments[3], dict)
            os.write(self.trace, json.dumps(line).encode() + b"\n")
        if self.target and self.target.mode == "count" and kind == "process":
            divert(arguments, self.target, number)
        elif self.target and is_chosen:
            self.strike(self.target, event, arguments, number)

    def normalize(self, kind: str, text: str) -> str:
        if kind in ("remove", "rmdir") and not text.startswith("/"):
            return _BELOW
        for place, name in self.places.items():
            text = text.replace(place, name)
        for pattern, name in _NAMES:
            text = pattern.sub(name, text)
        return text

    def is_chosen(self, signature: str) -> bool:
        target = self.target
        if target is None or target.mode == "count":
            return False
        if target.number:
            return self.count == target.number
        return signature == target.signature and self.seen == target.occurrence

    def strike(self, target: Target, event: str, arguments: tuple[Any, ...], number: int) -> None:
        if event == "subprocess.Popen" and target.mode != "before" and divert(arguments, target, number):
            return
        if target.mode == "before":
            self.is_struck = True
            die()
        sys.setprofile(self.die_at_next_step)

    def die_at_next_step(self, frame: FrameType, event: str, argument: object) -> None:
        """Die at the first step that is none of the tracer's own: the side effect is over, and nothing else happened."""
        if frame.f_code.co_filename != __file__:
            sys.setprofile(None)
            self.is_struck = True
            die()


_lock = threading.Lock()


def install(trace: Path, target: Target | None, places: Mapping[str, str]) -> None:
    """Trace this process from now on, into `trace`, and let `target` be its end."""
    descriptor = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    sys.addaudithook(Tracer(descriptor, target, places).hear)


def die() -> None:
    """End this process at once, as nothing can be done against."""
    os.kill(os.getpid(), signal.SIGKILL)


def describe(event: str, arguments: tuple[Any, ...]) -> tuple[str, str] | None:
    """The kind of a side effect and what it is about; None for what changes nothing."""
    if event == "open":
        return ("write", _text(arguments[0])) if _will_write(arguments[0], arguments[2]) else None
    if event in _PATHS:
        paths = [_text(one) for one in arguments if not isinstance(one, int)]
        # To make what is there, or remove what is not, changes nothing.
        is_vain = bool(paths) and paths[0].startswith("/") and os.path.lexists(paths[0]) is (event == "os.mkdir")
        return None if is_vain and event in ("os.mkdir", "os.remove", "os.rmdir") else (_PATHS[event], " ".join(paths))
    if event == "subprocess.Popen":
        return "process", " ".join(_list_argv(event, arguments))
    if event in ("os.kill", "os.killpg") and arguments[1]:
        return "signal", f"{event} {arguments[1]}"
    if event == "fcntl.flock":
        return "lock", _LOCKS.get(arguments[1], str(arguments[1]))
    return None


def _will_write(path: object, flags: object) -> bool:
    if isinstance(path, int) or not isinstance(flags, int) or _text(path) in _DEVICES:
        return False
    # A lock file that is there is only opened; what is done with it then is told of by itself.
    is_emptied = bool(flags & (os.O_TRUNC | os.O_APPEND))
    return bool(flags & _WRITING) and (is_emptied or not flags & os.O_CREAT or not os.path.lexists(_text(path)))


def list_frames(frame: FrameType | None) -> Iterator[str]:
    """The innermost functions of ours that `frame` is in, the innermost first."""
    left = FRAMES
    while frame and left:
        place = frame.f_code.co_filename
        name = frame.f_code.co_name
        if ("/tasks_lib/" in place or "/flows/" in place) and not place.endswith(_SHELLS) and name[0] != "<":
            left -= 1
            layer = "flows." if "/flows/" in place else ""
            yield f"{layer}{place.rpartition('/')[2].removesuffix('.py')}.{name}"
        frame = frame.f_back


def divert(arguments: tuple[Any, ...], target: Target, number: int) -> bool:
    """Let the process that is about to start be started by the shim; False where it cannot.

    The hook is handed the very list and mapping that the process will be started with. A program that the coordinator
    looked up is the shim already, and needs its order; a shell can be told to go there; a name is looked up on the PATH
    of that mapping.
    """
    argv, environment = cast("list[str]", arguments[1]), arguments[3]
    programs, program = os.environ["CHAOS_BIN"], _text(argv[0])
    is_shim = os.path.dirname(program) == programs  # noqa: PTH120
    if not isinstance(environment, dict) or ("/" in program and not is_shim and program != "/bin/sh"):
        return False
    own = cast("dict[str, str]", environment)
    path = ":".join(entry for entry in own.get("PATH", os.defpath).split(":") if entry != programs)
    own[SHIM_VARIABLE] = json.dumps({**asdict(target), "victim": os.getpid(), "path": path, "started": number})
    own["PATH"] = f"{programs}:{path}"
    if program == "/bin/sh":
        argv[1:] = ["-c", f'exec {programs}/env "$@"', *argv]
    return True


def _list_argv(event: str, arguments: tuple[Any, ...]) -> list[str]:
    """The words of a command, its program by its name alone if that was looked up."""
    if event != "subprocess.Popen":
        return []
    program, *words = (_text(word) for word in arguments[1])
    name = program.rpartition("/")[2]
    return [name if name in PROGRAMS and program != "/bin/sh" else program, *words]


def _text(value: object) -> str:
    return os.fsdecode(value) if isinstance(value, bytes) else str(value)
