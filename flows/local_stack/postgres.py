"""Checks the Postgres database that is to hold the state of Prefect's server. Its password is never printed."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit, urlunsplit

from flows.server_settings import DATABASE_URL
from tasks_lib.errors import InputError

SCHEMES = ("postgresql", "postgres", "postgresql+asyncpg")
CONNECT_SECONDS = 15.0
EXAMPLE = "postgresql://user@host:5432/prefect"


@dataclass(frozen=True, slots=True)
class Database:
    """A database by its URL, and how it is named in messages: without its password."""

    url: str
    label: str

    @property
    def settings(self) -> dict[str, str]:
        """The settings with which Prefect's server uses it."""
        return {DATABASE_URL: self.url}

    def __repr__(self) -> str:
        return f"Database({self.label})"


def parse_database(text: str) -> Database:
    """Read the URL of a Postgres database; raises InputError, without quoting a password, if it is not one."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise InputError([f"--postgres: the address cannot be read ({error}); it looks like {EXAMPLE}"]) from error
    if parts.scheme not in SCHEMES:
        given = f'starts with "{parts.scheme}:"' if parts.scheme else "has no scheme"
        raise InputError([f"--postgres: the address {given}, but has to look like {EXAMPLE}"])
    missing = [what for what, found in (("host", parts.hostname), ("database", parts.path.strip("/"))) if not found]
    if missing:
        raise InputError([f"--postgres: the address names no {' and no '.join(missing)}; it looks like {EXAMPLE}"])
    url = urlunsplit(parts._replace(scheme="postgresql+asyncpg"))
    return Database(url, name_database(parts, port))


def name_database(parts: SplitResult, port: int | None) -> str:
    """Write the address without its password and options."""
    user = f"{parts.username}@" if parts.username else ""
    return f"postgresql://{user}{parts.hostname}{f':{port}' if port else ''}{parts.path}"


def check_database(database: Database | None) -> None:
    """Raise InputError if the database cannot be connected to, with the reason and the fix."""
    if database:
        asyncio.run(_connect(database))


async def _connect(database: Database) -> None:
    """Connect as the server will, through the same library with the same options."""
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.ext.asyncio import create_async_engine

    try:
        engine = create_async_engine(database.url)
        async with asyncio.timeout(CONNECT_SECONDS), engine.connect():
            pass
        await engine.dispose()
    except (OSError, TimeoutError, SQLAlchemyError, TypeError, ValueError) as error:
        raise InputError([explain(database, error)]) from error


def explain(database: Database, error: BaseException) -> str:
    """Say why the database cannot be used, and the fix."""
    causes = list(list_causes(error))
    kinds = {type(cause).__name__ for cause in causes}
    if kinds & {"InvalidPasswordError", "InvalidAuthorizationSpecificationError"}:
        return f"{database.label} rejected the login; check user and password in --postgres"
    if "InvalidCatalogNameError" in kinds:
        return f"{database.label} does not exist; create it first, for example with createdb"
    if kinds & {"TypeError", "ArgumentError", "ClientConfigurationError"}:
        return f"{database.label}: an option in the address is not known; see the documentation of asyncpg.connect"
    # Only the system's own words: those of libraries may quote the address.
    said = [str(cause) for cause in causes if isinstance(cause, OSError) and not isinstance(cause, TimeoutError)]
    why = said[-1] if said else "it did not answer" if "TimeoutError" in kinds else type(causes[-1]).__name__
    return f"{database.label} cannot be reached: {why}. Check that it runs, and host and port in --postgres"


def list_causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what caused it, outermost first."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__
