"""The statements, and what differs between SQLite and PostgreSQL."""

import logging
import re
import sqlite3
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import Any, Final

from crud import StoreUnavailable, StoreUnusable

log = logging.getLogger("api")

# A lock or a full disk may end later; the reason of these errors does not.
NEVER_A_DATABASE: Final = re.compile("SQLITE_(PERM|READONLY|CANTOPEN|NOTADB)")
TIMEOUT_SECONDS: Final = 1.8  # of a statement; the same as the deadline of a request

SELECT: Final = "SELECT user_id, name, age FROM users WHERE"
# RETURNING tells what was written. A driver's row count may be wrong: Citus counts the source.
# Rows are one JSON parameter: faster than a parameter for each value. Without WHERE, SQLite would
# parse ON CONFLICT as the condition of a join.
INSERT: Final = (
    "INSERT INTO users (user_id, bucket, name, age) SELECT CAST(value->>0 AS bigint),"
    " CAST(value->>1 AS integer), value->>2, CAST(value->>3 AS integer)"
    " FROM {0.elements} WHERE true ON CONFLICT DO NOTHING RETURNING user_id"
)
UNCHANGED: Final = "user_id = {0} AND bucket = {0} AND name = {0} AND age = {0} RETURNING user_id"
UPDATE: Final = f"UPDATE users SET name = {{0}}, age = {{0}} WHERE {UNCHANGED}"
DELETE: Final = f"DELETE FROM users WHERE {UNCHANGED}"
# CHECK (users >= 0) sees the row before it becomes an UPDATE: so the difference has a column.
COUNT: Final = (
    "INSERT INTO age_counts (bucket, age, users, change)"
    " SELECT bucket, age, CASE WHEN change > 0 THEN change ELSE 0 END, change FROM {} WHERE true"
    " ON CONFLICT (bucket, age) DO UPDATE SET users = age_counts.users + excluded.change,"
    " change = excluded.change RETURNING age"
)
CHANGES: Final = (
    "(SELECT CAST(value->>0 AS integer) AS bucket, CAST(value->>1 AS integer) AS age,"
    " CAST(value->>2 AS bigint) AS change FROM {0.elements}) AS changes"
)
# What the counters lack. In a distributed database each machine compares its own buckets.
MISSING: Final = (
    "(SELECT bucket, age, SUM(users) AS change FROM (SELECT bucket, age, 1 AS users FROM users"
    " UNION ALL SELECT bucket, age, -users FROM age_counts) AS all_users"
    " GROUP BY bucket, age HAVING SUM(users) <> 0) AS missing"
)


class Conflict(Exception):
    """Another process changed a user since this one read it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What differs between SQLite and PostgreSQL. The defaults are those of SQLite."""

    connect: Callable[[], Any]
    is_stale: Callable[[Any], bool]  # whether a new connection is needed
    kind: str = "sqlite"
    mark: str = "?"  # for a parameter
    integer: str = "INTEGER"  # the type of large integers
    options: str = " STRICT, WITHOUT ROWID"  # of a table
    buckets: int = 1  # only one process writes at a time
    elements: str = "json_each(?)"  # of a JSON array, as a table with the column `value`
    among: str = "user_id IN (SELECT value FROM json_each(?))"
    begin_change: str = "BEGIN IMMEDIATE"  # of the tables
    begin_write: str = "BEGIN IMMEDIATE"  # lock at once: a later lock may fail
    begin_snapshot: str = "BEGIN"
    pipeline: Callable[[Any], Any] = nullcontext  # in it no statement waits for the one before
    error: type[Exception] = sqlite3.Error
    broken_rule: type[Exception] = sqlite3.IntegrityError  # a table does not accept the value
    # After these, a retry of the transaction may succeed.
    conflicts: tuple[type[Exception], ...] = (Conflict,)
    # One request of a group may cause these.
    errors_of_one: tuple[type[Exception], ...] = (sqlite3.IntegrityError,)

    def unavailable(self, error: Exception, connecting: bool = False) -> StoreUnavailable:
        """Log an error of the database; return the error for the clients.

        The message of a failed statement may contain names and ages, so its code must be enough.
        The first line of a failed connection, and SQLite's messages, tell the operator the reason.
        """
        if NEVER_A_DATABASE.match(getattr(error, "sqlite_errorname", "")):
            return StoreUnusable(str(error))
        reason = getattr(error, "sqlstate", None) or ""
        if connecting or self.kind == "sqlite":
            reason = str(error).strip().partition("\n")[0]
        log.warning("%s failed: %s %s", self.kind, type(error).__name__, reason)
        return StoreUnavailable(f"{self.kind} {type(error).__name__}")


def engine_for(url: str) -> Engine:
    """Return the engine that a DATABASE_URL names: `sqlite:///path` or `postgresql://…`."""
    path = url.removeprefix("sqlite:///")
    if path != url:
        return Engine(
            connect=lambda: _connect_sqlite(path),
            is_stale=lambda connection: _file_at(path) != connection.file,
        )
    import psycopg  # only if needed: the import takes 10 MB and 0.1 s
    from psycopg import errors

    return Engine(
        connect=lambda: _connect_postgresql(url),
        is_stale=lambda connection: connection.closed or _has_ended(connection),
        kind="postgresql",
        mark="%s",
        integer="BIGINT",
        options="",
        buckets=16,  # so that processes seldom wait for each other
        elements="json_array_elements(%s::json) AS elements(value)",
        among="user_id = ANY(ARRAY(SELECT json_array_elements_text(%s::json)::bigint))",
        begin_change="BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0",
        begin_write="BEGIN",
        begin_snapshot="BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
        pipeline=psycopg.Connection.pipeline,
        error=psycopg.Error,
        broken_rule=psycopg.IntegrityError,
        conflicts=(Conflict, errors.DeadlockDetected, errors.SerializationFailure),
        errors_of_one=(errors.LockNotAvailable, psycopg.DataError, psycopg.IntegrityError),
    )


class _Connection(sqlite3.Connection):
    """A connection that knows its file: later, another file may be at the same path."""

    file: int | None


def _file_at(path: str) -> int | None:
    """Return the inode number of the file at a path, or None if there is no file."""
    return Path(path).stat().st_ino if Path(path).exists() else None


def _connect_sqlite(path: str) -> sqlite3.Connection:
    if sqlite3.sqlite_version_info < (3, 38):
        raise StoreUnusable(f"SQLite 3.38 is needed, this is {sqlite3.sqlite_version}")
    connection = sqlite3.connect(path, TIMEOUT_SECONDS, isolation_level=None, factory=_Connection)
    connection.execute("PRAGMA synchronous = FULL")  # NORMAL may lose commits in a power failure
    # With the WAL, reads continue while a write commits. It needs shared memory, which some file
    # systems do not have, such as those of other machines.
    try:
        shared = connection.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
        connection.execute("SELECT 1 FROM sqlite_master")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorname != "SQLITE_IOERR_SHMMAP":
            raise
        shared = False
    if not shared:
        connection.close()
        raise StoreUnusable("SQLite cannot share memory on its file system: use another folder")
    connection.file = _file_at(path)
    return connection


def _has_ended(connection: Any) -> bool:
    """Return whether the server ends the session: only then it sends something without request."""
    with DefaultSelector() as selector:
        selector.register(connection.fileno(), EVENT_READ)
        return bool(selector.select(0))


def _connect_postgresql(url: str) -> Any:
    import psycopg

    connection = psycopg.connect(
        url,
        autocommit=True,
        connect_timeout=2,
        client_encoding="utf8",
        # Detect the loss of the database's machine in seconds, not in a quarter of an hour.
        tcp_user_timeout=5_000,
        keepalives_idle=5,
        keepalives_interval=2,
        keepalives_count=3,
    )
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        connection.close()
        raise StoreUnusable(f"the database has the encoding {encoding}, which lacks most names")
    # A pooler such as PgBouncer gives each transaction another session of the server, where a
    # statement that was prepared in an earlier one does not exist.
    [session] = connection.execute("SELECT pg_backend_pid()").fetchone() or [0]
    if session != connection.info.backend_pid:
        connection.prepare_threshold = None
    connection.execute(f"SET statement_timeout = {TIMEOUT_SECONDS * 1000:.0f}")
    # Short: if one user is locked, the other writes of the group are retried in time.
    connection.execute(f"SET lock_timeout = {TIMEOUT_SECONDS * 250:.0f}")
    # Longer than SEND_TIMEOUT_SECONDS. It frees the locks of an API that has disappeared.
    connection.execute("SET idle_in_transaction_session_timeout = 60000")
    return connection
