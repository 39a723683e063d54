"""What the commands for machines of sessions share: a machine's name for runs, and what to do without a server."""

import re
import socket

from tasks_lib.errors import InputError

NO_SERVER = (
    "no Prefect server is known here: set PREFECT_API_URL to the one that your runs use, such as "
    "http://10.0.0.1:4200/api"
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def name_spoke(name: str) -> str:
    """Return the name of this machine for runs: `name`, else its host name. Raises InputError if it cannot be one."""
    chosen = name or re.sub(r"[^A-Za-z0-9._-]+", "-", socket.gethostname())
    if not _NAME.fullmatch(chosen):
        raise InputError([f'"{chosen}" cannot be the name of a spoke; use letters, digits, `.`, `_` and `-`'])
    return chosen
