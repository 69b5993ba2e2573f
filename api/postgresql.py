"""PostgreSQL, and whatever speaks its protocol and its SQL, as an engine of the store."""

import json
from collections.abc import Sequence

import psycopg

from crud import StoreUnavailable
from engines import DEADLINE_SECONDS, Conflict, Engine, Part, Row


def postgresql_engine(url: str) -> Engine:
    """Return the engine that a DATABASE_URL with `postgresql://…` names."""
    return Engine(
        kind="postgresql",
        mark="%s",
        id_type="BIGINT",
        begin_write="BEGIN",
        begin_snapshot="BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
        fault=psycopg.Error,
        no_table=psycopg.errors.UndefinedTable,
        conflicts=(
            Conflict,
            psycopg.errors.DeadlockDetected,
            psycopg.errors.SerializationFailure,
        ),
        faults_of_one=(
            psycopg.errors.LockNotAvailable,
            psycopg.DataError,
        ),
        # A standby, or a database that its operator has closed, only reads.
        ping="SELECT 1 WHERE current_setting('transaction_read_only') = 'off'",
        connect=lambda: _connect_postgresql(url),
        is_stale=lambda _: False,
        table=_elements,
        among=_any,
    )


def _elements(rows: Sequence[Row], *types: str) -> Part:
    """Rows travel as one JSON text: psycopg takes half the time for it that it takes for arrays.

    The statement is the same for any number of rows, and so planned once.
    """
    columns = ", ".join(f"(row->>{number})::{each}" for number, each in enumerate(types))
    source = "json_array_elements(%s::json) AS rows(row)"
    table = f"(SELECT {columns} FROM {source}) AS columns"  # noqa: S608 - made of our own words
    return table, [json.dumps(rows, ensure_ascii=False)]


def _any(ids: Sequence[int]) -> Part:
    return "user_id = ANY(%s::bigint[])", [f"{{{','.join(map(str, ids))}}}"]


def _connect_postgresql(url: str) -> psycopg.Connection:
    connection = psycopg.connect(
        url,
        autocommit=True,
        connect_timeout=2,
        client_encoding="utf8",
        # A machine that vanishes without a word is noticed in seconds, not in a quarter hour.
        tcp_user_timeout=5_000,
        keepalives_idle=5,
        keepalives_interval=2,
        keepalives_count=3,
    )
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        connection.close()
        raise StoreUnavailable(f"the database has the encoding {encoding}, which lacks most names")
    for timeout, seconds in (
        ("statement", DEADLINE_SECONDS),
        # So short that who shares a transaction with a user whom somebody has locked can be tried
        # once more in time.
        ("lock", DEADLINE_SECONDS / 4),
        # Longer than a listing waits for its reader. It frees what a vanished API has locked.
        ("idle_in_transaction_session", 60),
    ):
        connection.execute(f"SET {timeout}_timeout = {seconds * 1000:.0f}")
    return connection
