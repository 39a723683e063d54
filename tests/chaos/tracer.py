"""Sees every side effect of this process just before it happens, and kills the process before or after a chosen one.

Python calls an audit hook for each file that is opened, renamed or deleted, and for each process that is started or
signalled, so the tested code is unchanged. Call `install` once, before the work begins. Each side effect is a line of
JSON in the trace and has a signature: its kind, what it affects (without names specific to this run), and the
innermost functions of the coordinator that led to it.
"""

import fcntl
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Literal, cast

Mode = Literal["before", "after", "orphan", "cut", "count"]
"""When to kill: `before` or `after` the side effect. For a started process: `after` it has ended, `orphan` when it
begins, so that it continues alone, `cut` together with it just before one of its own system calls. `count` does not
kill: it records what could be cut."""

SHIM = Path(__file__).with_name("shim.py")
SHIM_VARIABLE = "CHAOS_SHIM"
SCRIPTS = "scripts"
"""The directory, in that of the shim, with the scripts that take orders."""
PROGRAMS = ("git", "sh", "env", "nice", "rm")
"""Programs that the coordinator looks up on the PATH itself."""
FRAMES = 3
_SHELLS = ("/runner.py", "/helper_process.py", "/session_record.py", "/files.py")
"""Modules through which all git commands, or all records, pass: their frames would not distinguish anything."""
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
    # Before commits: one in a thousand of these names has hexadecimal digits only.
    (
        re.compile(
            r"(coordinator-([a-z]+-)?|/merges-|\.json\.|-slot\.|exclude\.|/tmp_obj_|/\.coordinator-)[a-z0-9_]{8}\b"
        ),
        r"\1<temp>",
    ),
    (re.compile(r"/tmp/[a-z0-9_]{8}\b"), "/tmp/<temp>"),
    (re.compile(r"\b[0-9a-f]{7,64}\b"), "<hex>"),
    (re.compile(r"(coordinator/sessions)/[0-9a-z]+/[0-9a-z]+"), r"\1/<session>"),
    (re.compile(r"(spokes/logs)/[^/ ]+"), r"\1/<one>"),
    (re.compile(r"(coordinator/logs|\.git/worktrees|\.trash|\.pool|/prompts)/[^/ ]+"), r"\1/<one>"),
    (re.compile(r"(\.worktrees|refs/heads)/(feat|research)(/[^ ]+?)?(?=( |$|\.lock\b))"), r"\1/<branch>"),
    (re.compile(r"(?<=[ :^])(feat|research)/[^ ]+"), "<branch>"),
    (re.compile(r"objects/(\w\w(?=/| |$)|<n>)"), "objects/<xx>"),
    (re.compile(r"(<one>|tasks|src)/[^ ]+\.(md|log|txt)\b"), r"\1/<file>"),
    (re.compile(r"\b\d+\b"), "<n>"),
)
_DEVICES = ("/dev/null", "/dev/tty", "/dev/ptmx")
_BELOW = "<below>"
"""Stands for what is deleted with a whole directory: Python deletes it relative to the directory, not by full path."""


@dataclass(frozen=True, slots=True)
class Target:
    """The chosen side effect: the `occurrence`-th (from 1) of `signature`, or by `number` in the whole trace.

    `cut` is the system call, counted from 1, before which a started process is killed.
    """

    mode: Mode
    signature: str = ""
    occurrence: int = 1
    number: int = 0
    cut: int = 0
    calls: str = ""
    """The file in which `count` records the system calls of each process."""


@dataclass(slots=True)
class Tracer:
    """The state of the hook; `places` maps texts to the names that replace them in signatures."""

    trace: int
    target: Target | None
    places: Mapping[str, str]
    count: int = 0
    seen: int = 0
    is_struck: bool = False
    diverting: set[int] = field(default_factory=set[int])
    """The threads that divert a process just now; what they change is the tracer's own."""

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Number and record a side effect, and kill if it is the chosen one."""
        if self.is_struck or threading.get_ident() in self.diverting:
            return
        if (described := describe(event, arguments)) is None:
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
            self.divert(arguments, self.target, number)
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
        if event == "subprocess.Popen" and target.mode != "before" and self.divert(arguments, target, number):
            return
        if target.mode == "before":
            self.is_struck = True
            die()
        sys.setprofile(self.die_at_next_step)

    def divert(self, arguments: tuple[Any, ...], target: Target, number: int) -> bool:
        """Have the shim start the process that is about to start; return False if it cannot."""
        self.diverting.add(threading.get_ident())
        try:
            return divert(arguments, target, number)
        finally:
            self.diverting.discard(threading.get_ident())

    def die_at_next_step(self, frame: FrameType, event: str, argument: object) -> None:
        """Die at the first step outside the tracer: the side effect has happened, and nothing after it."""
        if frame.f_code.co_filename != __file__:
            sys.setprofile(None)
            self.is_struck = True
            die()


_lock = threading.Lock()


def install(trace: Path, target: Target | None, places: Mapping[str, str]) -> None:
    """Trace this process into `trace` from now on, and kill it at `target`."""
    descriptor = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    sys.addaudithook(Tracer(descriptor, target, places).hear)


def die() -> None:
    """Kill this process at once, with a signal that cannot be caught."""
    os.kill(os.getpid(), signal.SIGKILL)


def describe(event: str, arguments: tuple[Any, ...]) -> tuple[str, str] | None:
    """The kind of a side effect and what it affects; None if it changes nothing."""
    if event == "open":
        return ("write", _text(arguments[0])) if _will_write(arguments[0], arguments[2]) else None
    if event in _PATHS:
        paths = [_text(one) for one in arguments if not isinstance(one, int)]
        # Making what exists, or removing what does not, changes nothing.
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
    # An existing lock file is only opened; what happens to it then is an event of its own.
    is_emptied = bool(flags & (os.O_TRUNC | os.O_APPEND))
    return bool(flags & _WRITING) and (is_emptied or not flags & os.O_CREAT or not os.path.lexists(_text(path)))


def list_frames(frame: FrameType | None) -> Iterator[str]:
    """The coordinator's innermost functions around `frame`, innermost first."""
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
    """Have the shim start the process that is about to start; return False if it cannot.

    The hook gets the actual list and mapping that the process will be started with, so it can change them. A program
    that the coordinator looked up is already the shim and only needs its order; a shell's command line can be pointed
    there; a bare name is looked up on the PATH of that mapping.
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
    put_script(programs, "env" if program == "/bin/sh" else os.path.basename(program))  # noqa: PTH119
    return True


def put_script(programs: str, name: str) -> None:
    """Put the script that takes orders in the place of the link to the real program `name`."""
    place = f"{programs}/{name}"
    if os.path.islink(place):  # noqa: PTH114
        script = f"{place}.{threading.get_ident()}"
        os.link(f"{programs}/{SCRIPTS}/{name}", script)
        os.replace(script, place)  # noqa: PTH105


def _list_argv(event: str, arguments: tuple[Any, ...]) -> list[str]:
    """The words of a command, with its program reduced to its name if that was looked up."""
    if event != "subprocess.Popen":
        return []
    program, *words = (_text(word) for word in arguments[1])
    name = program.rpartition("/")[2]
    return [name if name in PROGRAMS and program != "/bin/sh" else program, *words]


def _text(value: object) -> str:
    return os.fsdecode(value) if isinstance(value, bytes) else str(value)
