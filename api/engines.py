"""What differs between SQLite and PostgreSQL, and the tables that both have."""

import json
import logging
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

from crud import StoreUnavailable

log = logging.getLogger("api")

SCHEMA_VERSION: Final = 1
TABLES: Final = (
    "CREATE TABLE schema_version (version INTEGER PRIMARY KEY)",
    "CREATE TABLE users (user_id {id_type} PRIMARY KEY, name TEXT NOT NULL, age INTEGER NOT NULL)",
    "CREATE TABLE age_counts"
    " (stripe INTEGER, age INTEGER, users BIGINT NOT NULL, PRIMARY KEY (stripe, age))",
    f"INSERT INTO schema_version VALUES ({SCHEMA_VERSION})",
)
TIMEOUT_SECONDS: Final = 1.8  # of a statement; the same as the deadline of a request

Fragment = tuple[str, list[Any]]  # a part of an SQL statement, and its parameters
Row = tuple[Any, ...]


class Conflict(Exception):
    """Another process changed a user since this one read it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What differs between SQLite and PostgreSQL."""

    kind: str
    placeholder: str  # of a parameter in a statement
    id_type: str
    begin_write: str
    begin_snapshot: str
    error: type[Exception]
    no_table: type[Exception]
    conflicts: tuple[type[Exception], ...]  # after these, a retry of the transaction may succeed
    errors_of_one: tuple[type[Exception], ...]  # one request of a group may cause these
    connect: Callable[[], Any]
    is_stale: Callable[[Any], bool]  # whether a new connection is needed
    # SQL for rows as a table with these types, and for the condition that an id is in a list.
    table: Callable[..., Fragment]
    among: Callable[[Sequence[int]], Fragment]

    def unavailable(self, error: Exception, connecting: bool = False) -> StoreUnavailable:
        """Log an error of the database; return the error for the clients.

        The message of a failed statement may contain names and ages, so its code must be enough.
        The first line of a failed connection, and SQLite's messages, tell the operator the reason.
        """
        reason = getattr(error, "sqlstate", None) or ""
        if connecting or self.kind == "sqlite":
            reason = str(error).strip().partition("\n")[0]
        log.warning("%s failed: %s %s", self.kind, type(error).__name__, reason)
        return StoreUnavailable(f"{self.kind} {type(error).__name__}")

    def change_each(self, db: Any, statement: str, rows: Sequence[Row]) -> None:
        """Run a statement once for each row; raise Conflict unless each run changed one user."""
        if rows:
            cursor = db.cursor()
            cursor.executemany(statement.replace("?", self.placeholder), rows)
            if cursor.rowcount != len(rows):
                raise Conflict

    def check_writes(self, db: Any) -> None:
        """Change nothing; fail if a lock, a full disk or a missing privilege prevents writes."""
        db.execute("INSERT INTO users (user_id, name, age) SELECT 0, '', 0 WHERE 1 = 0")
        db.execute("UPDATE schema_version SET version = version")

    def open(self) -> Any:
        """Return a new connection; create the tables, all or none, if they are missing.

        Raises StoreUnavailable if the tables have another version or the database a wrong encoding,
        and the engine's error if it cannot connect or create the tables.
        """
        connection = self.connect()
        version = self._version(connection)
        if version is None:
            try:
                connection.execute(self.begin_write)
                for statement in TABLES:
                    connection.execute(statement.format(id_type=self.id_type))
                connection.execute("COMMIT")
            except self.error:  # no permission, or another process created them
                with suppress(self.error):
                    connection.execute("ROLLBACK")
                if self._version(connection) is None:
                    connection.close()
                    raise
            version = self._version(connection)
        if version != SCHEMA_VERSION:
            connection.close()
            raise StoreUnavailable(f"its schema has version {version}, not {SCHEMA_VERSION}")
        return connection

    def _version(self, connection: Any) -> int | None:
        """Return the version of the tables, or None if there are no tables."""
        try:
            row = connection.execute("SELECT MAX(version) FROM schema_version").fetchone()
        except self.no_table:
            return None
        version: int | None = row[0]
        return version


def engine_for(url: str) -> Engine:
    """Return the engine that a DATABASE_URL names: `sqlite:///path` or `postgresql://…`."""
    path = url.removeprefix("sqlite:///")
    return postgresql_engine(url) if path == url else sqlite_engine(path)


def sqlite_engine(path: str) -> Engine:
    """Return the engine that keeps its users in the file at `path`."""
    return Engine(
        kind="sqlite",
        placeholder="?",
        id_type="INTEGER",
        begin_write="BEGIN IMMEDIATE",  # lock at once: a later lock may fail
        begin_snapshot="BEGIN",
        error=sqlite3.Error,
        no_table=sqlite3.OperationalError,
        conflicts=(Conflict,),
        errors_of_one=(),
        connect=lambda: _connect_sqlite(path),
        is_stale=lambda connection: _file_at(path) != connection.file,
        table=_values,
        among=lambda ids: (f"user_id IN ({', '.join('?' * len(ids))})", list(ids)),
    )


def _values(rows: Sequence[Row], *types: str) -> Fragment:
    row = f"({', '.join('?' * len(types))})"
    return f"(VALUES {', '.join([row] * len(rows))})", list(chain.from_iterable(rows))


class _Connection(sqlite3.Connection):
    """A connection that knows its file: later, another file may be at the same path."""

    file: int | None


def _file_at(path: str) -> int | None:
    """Return the inode number of the file at a path, or None if there is no file."""
    return Path(path).stat().st_ino if Path(path).exists() else None


def _connect_sqlite(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=TIMEOUT_SECONDS, isolation_level=None, factory=_Connection
    )
    # With the WAL, reads continue while a write commits. Some file systems, such as those of other
    # machines, have no shared memory, which it needs: there SQLite keeps its rollback journal.
    with suppress(sqlite3.OperationalError):
        connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # NORMAL may lose commits in a power failure
    connection.file = _file_at(path)
    return connection


def postgresql_engine(url: str) -> Engine:
    """Return the engine of the database that `postgresql://…` names."""
    import psycopg  # only if needed: the import takes 10 MB and 0.1 s
    from psycopg import errors

    return Engine(
        kind="postgresql",
        placeholder="%s",
        id_type="BIGINT",
        begin_write="BEGIN",
        begin_snapshot="BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
        error=psycopg.Error,
        no_table=errors.UndefinedTable,
        conflicts=(Conflict, errors.DeadlockDetected, errors.SerializationFailure),
        errors_of_one=(errors.LockNotAvailable, psycopg.DataError),
        connect=lambda: _connect_postgresql(url),
        is_stale=_has_ended,
        table=_json_rows,
        among=lambda ids: ("user_id = ANY(%s::bigint[])", [f"{{{','.join(map(str, ids))}}}"]),
    )


def _has_ended(connection: Any) -> bool:
    """Return whether the server has closed the session, because of a restart for example."""
    with suppress(connection.OperationalError):
        for _ in range(2):  # a message, then the end
            connection.pgconn.consume_input()
        return bool(connection.closed)
    return True


def _json_rows(rows: Sequence[Row], *types: str) -> Fragment:
    """Return the table as one JSON parameter, which takes half of the time of psycopg's arrays.

    The statement is the same for any number of rows, so it is planned only once.
    """
    columns = ", ".join(f"(row->>{number})::{each}" for number, each in enumerate(types))
    source = "json_array_elements(%s::json) AS rows(row)"
    table = f"(SELECT {columns} FROM {source}) AS columns"
    return table, [json.dumps(rows, ensure_ascii=False)]


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
        raise StoreUnavailable(f"the database has the encoding {encoding}, which lacks most names")
    # A pooler such as PgBouncer gives each transaction another session of the server, where a
    # statement that was prepared in an earlier one does not exist.
    [session] = connection.execute("SELECT pg_backend_pid()").fetchone() or [0]
    if session != connection.info.backend_pid:
        connection.prepare_threshold = None
    for timeout, seconds in (
        ("statement", TIMEOUT_SECONDS),
        # Short: if one user is locked, the other writes of the group are retried in time.
        ("lock", TIMEOUT_SECONDS / 4),
        # Longer than SEND_TIMEOUT_SECONDS. It frees the locks of an API that has disappeared.
        ("idle_in_transaction_session", 60),
    ):
        connection.execute(f"SET {timeout}_timeout = {seconds * 1000:.0f}")
    return connection
