"""SQLite, which comes with Python, as an engine of the store."""

import sqlite3
from collections.abc import Sequence
from itertools import chain

from engines import DEADLINE_SECONDS, Conflict, Engine, Part, Row


def sqlite_engine(path: str) -> Engine:
    """Return the engine that keeps its users in the file at `path`."""
    return Engine(
        kind="sqlite",
        mark="?",
        id_type="INTEGER",
        begin_write="BEGIN IMMEDIATE",  # the one writer from the start, not half way
        begin_snapshot="BEGIN",
        fault=sqlite3.Error,
        no_table=sqlite3.OperationalError,
        conflicts=(Conflict,),
        connect=lambda: _connect_sqlite(path),
        table=_values,
        among=lambda ids: (f"user_id IN ({', '.join('?' * len(ids))})", list(ids)),
    )


def _values(rows: Sequence[Row], *types: str) -> Part:
    row = f"({', '.join('?' * len(types))})"
    return f"(VALUES {', '.join([row] * len(rows))})", list(chain.from_iterable(rows))


def _connect_sqlite(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=DEADLINE_SECONDS, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA journal_mode = WAL")  # readers go on while a writer commits
    connection.execute("PRAGMA synchronous = FULL")  # NORMAL may lose commits with the power
    return connection
