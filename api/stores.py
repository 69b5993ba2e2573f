"""Which store the settings mean."""

from collections.abc import Callable

from crud import MemoryStore
from engines import Engine
from sql import SqlStore

Store = MemoryStore | SqlStore


def open_store(
    database_url: str | None, max_users: int, observe_commit: Callable[[float], object]
) -> Store:
    """Return the store in memory, for at most `max_users`, or the one that a DATABASE_URL names.

    `observe_commit` is told of each transaction of writes how many seconds it took.
    """
    if database_url is None:
        return MemoryStore(max_users)
    return SqlStore(engine_for(database_url), observe_commit)


def engine_for(url: str) -> Engine:
    """Return the engine that a DATABASE_URL names: `sqlite:///path` or `postgresql://…`."""
    # Each is loaded only here: psycopg takes ten megabytes and a tenth of a second, SQLite one
    # megabyte, which nobody else needs.
    if url.startswith("sqlite:///"):
        from sqlite import sqlite_engine

        return sqlite_engine(url.removeprefix("sqlite:///"))
    from postgresql import postgresql_engine

    return postgresql_engine(url)
