"""Ends Prefect's server once nobody has used it for long enough: a thread in the server's own process.

It decides while it holds the lock of those who start a server and the one of those who use it, and keeps both until the
process has ended. So a run that begins at that moment finds a server that stays, or starts one, and never two at once.
"""

import fcntl
import logging
import os
import signal
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import psutil

from flows.server_sharing import KEPT, RECORD, START_LOCK, USERS_LOCK, Child, read_kept, read_running

LOOK_SECONDS = 1.0
ABANDONED_SECONDS = 3600.0
"""How long a server stays whose last user was killed: the next run uses it, or ends it."""
STOP_SECONDS = 15.0
"""How long the server may take to end, as browsers may still be connected."""
_logger = logging.getLogger("uvicorn.error")


def watch(home: Path, port: int) -> None:
    """Watch whether the server in `home`, which is this process, is used, in a thread that ends with it."""
    own = Child(os.getpid(), psutil.Process().create_time(), port)
    threading.Thread(target=_watch, args=(home, own), name="unused-server", daemon=True).start()


def _watch(home: Path, own: Child) -> None:
    watched = UnusedServer(home, own)
    while True:
        time.sleep(LOOK_SECONDS)
        with ExitStack() as locks:
            if watched.is_over(locks):
                _logger.warning("Nobody uses this server any more: it ends.")
                _end(home, own)


class UnusedServer:
    """Decides whether the server `own` in `home` is over: unused, and not asked to stay any longer."""

    def __init__(self, home: Path, own: Child) -> None:
        self._home = home
        self._own = own
        self._unused_since = 0.0
        self._kept = 0.0
        self._deadline = 0.0

    def is_over(self, locks: ExitStack) -> bool:
        """Whether the server is to end now; then `locks` hold what keeps others from using it."""
        if not self._hold(locks):
            self._unused_since = 0.0
            return False
        now = time.monotonic()
        self._unused_since = self._unused_since or now
        if self._home.exists() and read_running(self._home) != self._own:
            return True  # Another one has taken its place.
        kept = read_kept(self._home, self._own)
        if kept != self._kept:
            # The clock may be set back, and a machine may sleep: what comes first counts.
            self._kept, self._deadline = kept, now + kept - time.time()
        if self._kept:
            return time.time() >= self._kept or now >= self._deadline
        if now - self._unused_since < ABANDONED_SECONDS:
            return False
        if _is_connected(self._own.port):
            self._unused_since = now
            return False
        return True

    def _hold(self, locks: ExitStack) -> bool:
        """Hold both locks if nobody else does. Nobody can use a server whose directory was removed."""
        try:
            for name in (START_LOCK, USERS_LOCK):
                fcntl.flock(locks.enter_context((self._home / name).open("w")), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True


def _is_connected(port: int) -> bool:
    """Whether anything is connected to the server: a run that lost its worker, or a browser."""
    found = psutil.Process().net_connections("tcp")
    return any(one.laddr.port == port and one.status == psutil.CONN_ESTABLISHED for one in found)


def _end(home: Path, own: Child) -> None:
    """End this process; does not return."""
    if read_running(home) == own:
        for name in (RECORD, KEPT):
            (home / name).unlink(missing_ok=True)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_SECONDS)
    os._exit(1)
