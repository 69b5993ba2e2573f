"""SQLite, which comes with Python, as an engine of the store."""

import os
import sqlite3
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

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
        faults_of_one=(),
        ping="SELECT 1 FROM schema_version WHERE writable()",
        connect=lambda: _connect_sqlite(path),
        is_stale=lambda connection: _file_at(path) != connection.file,
        table=_values,
        among=lambda ids: (f"user_id IN ({', '.join('?' * len(ids))})", list(ids)),
    )


def _values(rows: Sequence[Row], *types: str) -> Part:
    row = f"({', '.join('?' * len(types))})"
    return f"(VALUES {', '.join([row] * len(rows))})", list(chain.from_iterable(rows))


class _Connection(sqlite3.Connection):
    """A connection that remembers its file: a path may come to mean another one."""

    file: tuple[int, int] | None


def _file_at(path: str) -> tuple[int, int] | None:
    """Return which file is at a path, by what no other file has."""
    try:
        found = Path(path).stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _may_be_written(path: str) -> bool:
    """Tell whether we may write to a database: to its file, and to those that SQLite has beside."""
    files = (path, f"{path}-wal", f"{path}-shm")
    return all(os.access(file, os.W_OK) for file in files if Path(file).exists())


def _connect_sqlite(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=DEADLINE_SECONDS, isolation_level=None, factory=_Connection
    )
    connection.execute("PRAGMA journal_mode = WAL")  # readers go on while a writer commits
    connection.execute("PRAGMA synchronous = FULL")  # NORMAL may lose commits with the power
    connection.create_function("writable", 0, lambda: _may_be_written(path))
    connection.file = _file_at(path)
    return connection
