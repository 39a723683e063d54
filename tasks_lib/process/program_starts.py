"""Refuses to start programs in a process that is about to exit, so that what was just ended is not begun again."""

import errno
import threading

_refused = threading.Event()


def refuse_starts() -> None:
    """Start no further program from now on; those that run are left alone."""
    _refused.set()


def allow_starts() -> None:
    """Let programs start again."""
    _refused.clear()


def require_start() -> None:
    """Raise OSError if no further program may be started; called before each start."""
    if _refused.is_set():
        raise OSError(errno.ECANCELED, "this process is exiting and starts no further programs")
