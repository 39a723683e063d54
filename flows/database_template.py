"""Makes new data directories start as fast as used ones: gives Prefect's server a database that is already set up.

Prefect takes 10 to 20 seconds to create its tables and to register its types of blocks. What it has then created is the
same in each data directory, so the first server's is kept in the cache directory, one file for each version of Prefect.
It is made on this machine and never shipped. A copy that is missing, damaged or of something else is not used: the
server then sets up its database itself.
"""

import fcntl
import json
import sqlite3
from collections.abc import Generator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from hashlib import sha256
from importlib.metadata import entry_points, version
from pathlib import Path

from flows.data_directory import cache_dir
from tasks_lib.process.files import find_unfinished, write_atomically

DATABASE = "prefect.db"
BLOCKS = "blocks.json"
"""In a server's home, which blocks are registered in which database."""
MEMO = "memo_store.toml"
"""In it, Prefect remembers that it has registered its blocks, but not in which database."""
JOURNALS = ("-wal", "-shm", "-journal")
ORIGINAL = frozenset({"alembic_version", "block_type", "block_schema", "block_schema_reference"})
"""The tables that contain something after a server's first start. If others do, the database was used."""
REGISTERED: Mapping[str, str] = {
    "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false",
    "PREFECT_SERVER_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",
}
"""Settings for a server whose database has its blocks: it would register them again if its home has another path."""
PRIVATE = 0o600


@contextmanager
def prepared_database(home: Path) -> Generator[Mapping[str, str]]:
    """Start a server in `home` in the block, with the yielded settings besides its own, and wait until it answers.

    It finds its tables, if a copy of them is kept. If there is none, it creates them, and a copy is kept after the
    block. Other first starts wait for that, which is faster than creating tables as well.
    """
    with ExitStack() as stack:
        is_first = is_new(home) and not copy_template(home)
        if is_first:
            with suppress(OSError):  # Without a cache directory, nothing is kept.
                stack.enter_context(_lock())
            is_first = not copy_template(home)
        has_blocks = has_registered(home)
        yield REGISTERED if has_blocks else {}
        if not has_blocks:
            note_registered(home)
        if is_first:
            keep_template(home)


def is_new(home: Path) -> bool:
    """Whether `home` has no database. A journal without its database must not be applied to a copied one."""
    return not any((home / f"{DATABASE}{suffix}").exists() for suffix in ("", *JOURNALS))


def must_create(home: Path) -> bool:
    """Whether a server in `home` would have to create its tables, unless the kept copy is damaged."""
    try:
        return is_new(home) and not find_template().exists()
    except OSError:
        return True


def find_template() -> Path:
    """The path of the copy for the installed version of Prefect."""
    return cache_dir() / f"prefect-{version('prefect')}.database"


def copy_template(home: Path) -> bool:
    """Copy the kept database to `home`, which has none; returns whether there was a sound copy."""
    try:
        for name in (BLOCKS, MEMO):
            (home / name).unlink(missing_ok=True)  # Of a database that was removed.
        described, _, database = find_template().read_bytes().partition(b"\n")
        if json.loads(described) != _describe(database):
            return False
        for left in find_unfinished(home):
            left.unlink(missing_ok=True)
        write_atomically(home / DATABASE, database, mode=PRIVATE, is_durable=True)
    except (OSError, ValueError):
        return False
    note_registered(home)
    return True


def keep_template(home: Path) -> None:
    """Keep a copy of the database in `home`, which a server has just set up. It may be running."""
    with suppress(OSError, sqlite3.Error):
        database = read_unused(home / DATABASE)
        if database is None:
            return
        place = find_template()
        for left in find_unfinished(place.parent):
            left.unlink(missing_ok=True)
        described = json.dumps(_describe(database)).encode()
        write_atomically(place, b"\n".join([described, database]), mode=PRIVATE)


def read_unused(path: Path) -> bytes | None:
    """The content of the database at `path` as one file, without a journal; None if it contains anybody's data."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as source:
        source.execute("BEGIN")  # All of this reads the same state.
        names: list[str] = [name for (name,) in source.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = {name: source.execute(f'SELECT 1 FROM "{name}" LIMIT 1').fetchone() for name in names}  # noqa: S608
        if frozenset(name for name, row in rows.items() if row) != ORIGINAL:
            return None
        with closing(sqlite3.connect(":memory:")) as copied:
            source.backup(copied)
            return copied.serialize()


def has_registered(home: Path) -> bool:
    """Whether the blocks of what is installed are registered in the database in `home`."""
    try:
        return json.loads((home / BLOCKS).read_text(encoding="utf-8")) == _describe_blocks(home)
    except (OSError, ValueError):
        return False


def note_registered(home: Path) -> None:
    """Remember that a server has registered its blocks; if that cannot be written, the next one does so again."""
    with suppress(OSError):
        write_atomically(home / BLOCKS, json.dumps(_describe_blocks(home)).encode(), mode=PRIVATE)


def _describe_blocks(home: Path) -> dict[str, object]:
    return {"installed": list_installed(), "inode": (home / DATABASE).stat().st_ino}


def _describe(database: bytes) -> dict[str, object]:
    return {"installed": list_installed(), "sha256": sha256(database).hexdigest()}


def list_installed() -> list[str]:
    """The installed version of Prefect and of what adds blocks to it, e.g. "prefect 3.9.1"."""
    found = {point.dist for point in entry_points(group="prefect.collections")}
    return sorted({f"prefect {version('prefect')}", *(f"{one.name} {one.version}" for one in found if one)})


@contextmanager
def _lock() -> Generator[None]:
    """Let one coordinator at a time create tables that others can copy."""
    with find_template().with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
