"""Runs a program under ptrace, sees each system call that changes a file, and kills everything just before a chosen one.

For Linux on x86-64 and arm64; `is_possible` returns False elsewhere, and where the system forbids tracing.
"""

import ctypes
import os
import platform
import signal
import struct
import sys
from collections.abc import Callable, Sequence

_TRACEME, _CONT_SYSCALL, _SETOPTIONS, _GET_SYSCALL_INFO = 0, 24, 0x4200, 0x420E
_SYSGOOD, _FORK, _VFORK, _CLONE, _EXEC = 1, 2, 4, 8, 16
_WALL = 0x40000000
_ENTRY = 1
_INFO_BYTES = 88
_SYSCALL_STOP = signal.SIGTRAP | 0x80
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_Table = dict[int, tuple[str, tuple[int, ...]]]
# Maps each call's number to its name and to which of its arguments (from 0) are paths.
_X86_64: _Table = {
    2: ("open", (0,)), 257: ("openat", (1,)), 85: ("open", (0,)), 1: ("write", ()), 18: ("write", ()), 20: ("write", ()),
    82: ("rename", (0, 1)), 264: ("rename", (1, 3)), 316: ("rename", (1, 3)), 86: ("link", (0, 1)), 265: ("link", (1, 3)),
    88: ("link", (0, 1)), 266: ("link", (0, 2)), 87: ("remove", (0,)), 263: ("remove", (1,)), 83: ("mkdir", (0,)),
    258: ("mkdir", (1,)), 84: ("rmdir", (0,)), 76: ("truncate", (0,)), 77: ("truncate", ()), 90: ("chmod", (0,)),
    91: ("chmod", ()), 268: ("chmod", (1,)),
}  # fmt: skip
_ARM_64: _Table = {
    56: ("openat", (1,)), 64: ("write", ()), 66: ("write", ()), 68: ("write", ()), 38: ("rename", (1, 3)),
    276: ("rename", (1, 3)), 37: ("link", (1, 3)), 36: ("link", (0, 2)), 35: ("remove", (1,)), 34: ("mkdir", (1,)),
    45: ("truncate", (0,)), 46: ("truncate", ()), 52: ("chmod", ()), 53: ("chmod", (1,)),
}  # fmt: skip
_TABLE: _Table = {"x86_64": _X86_64, "aarch64": _ARM_64}.get(platform.machine(), {})

Call = tuple[str, str]
"""The name of a call, and the paths that it changes."""
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long


def is_possible() -> bool:
    """Whether programs can be traced here."""
    if sys.platform != "linux" or not _TABLE:
        return False
    try:
        return trace(["true"], lambda call: True) == 0
    except OSError:
        return False


def trace(argv: Sequence[str], on_call: Callable[[Call], bool], on_cut: Callable[[], None] = lambda: None) -> int:
    """Run `argv` to its end and return its exit status; `on_call` is called before each change.

    If `on_call` returns False, `on_cut` is called, and the program is killed with everything it started.
    """
    child = os.fork()
    if child == 0:
        _become(argv)
    os.waitpid(child, _WALL)
    _ptrace(_SETOPTIONS, child, _SYSGOOD | _FORK | _VFORK | _CLONE | _EXEC)
    _ptrace(_CONT_SYSCALL, child, 0)
    return _follow(child, on_call, on_cut)


def _become(argv: Sequence[str]) -> None:
    try:
        if _libc.ptrace(_TRACEME, 0, None, None) == 0:
            os.kill(os.getpid(), signal.SIGSTOP)
            os.execvp(argv[0], list(argv))
    finally:
        os._exit(127)


def _follow(child: int, on_call: Callable[[Call], bool], on_cut: Callable[[], None]) -> int:
    tracees = {child}
    while True:
        pid, status = os.waitpid(-1, _WALL)
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            tracees.discard(pid)
            if pid == child:
                return os.waitstatus_to_exitcode(status)  # What it leaves running continues untraced.
            continue
        tracees.add(pid)
        stop = os.WSTOPSIG(status)
        if stop == _SYSCALL_STOP and (call := _read_call(pid)) and not on_call(call):
            on_cut()
            for one in tracees:
                os.kill(one, signal.SIGKILL)
            return -signal.SIGKILL
        is_own = stop in (_SYSCALL_STOP, signal.SIGTRAP, signal.SIGSTOP)
        _ptrace(_CONT_SYSCALL, pid, 0 if is_own else stop)


def _read_call(pid: int) -> Call | None:
    """The change that `pid` is about to make, or None."""
    buffer = ctypes.create_string_buffer(_INFO_BYTES)
    if _libc.ptrace(_GET_SYSCALL_INFO, pid, _INFO_BYTES, ctypes.addressof(buffer)) < 0:
        return None
    if buffer.raw[0] != _ENTRY:
        return None
    number, *arguments = struct.unpack_from("<7Q", buffer.raw, 24)
    if number not in _TABLE:
        return None
    name, paths = _TABLE[number]
    if name in ("open", "openat"):
        flags = arguments[paths[0] + 1]
        if not flags & _WRITING and number != 85:
            return None
        name = "write"
    text = " ".join(_read_text(pid, arguments[at]) for at in paths) if paths else _read_link(pid, arguments[0])
    return None if not text or text in ("/dev/null", "/dev/tty") else (name if paths else f"{name} to", text)


def _read_text(pid: int, address: int) -> str:
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:  # noqa: PTH123 - The shim imports no pathlib.
        text = b""
        while b"\0" not in text and len(text) < 8192:
            # Do not read past the page, as the next one may not be mapped.
            part = os.pread(memory.fileno(), 4096 - (address + len(text)) % 4096, address + len(text))
            if not part:
                break
            text += part
    return os.fsdecode(text.partition(b"\0")[0])


def _read_link(pid: int, descriptor: int) -> str:
    """The file behind a descriptor; "" for a pipe, a terminal or a socket."""
    try:
        found = os.readlink(f"/proc/{pid}/fd/{descriptor}")  # noqa: PTH115
    except OSError:
        return ""
    return found if found.startswith("/") and descriptor > 2 else ""


def _ptrace(request: int, pid: int, data: int) -> None:
    if _libc.ptrace(request, pid, None, data) < 0 and ctypes.get_errno() != 3:  # ESRCH: the process has just died.
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
