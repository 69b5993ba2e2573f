"""The tables' rules, their change from version 1, and counters that SQL made wrong."""

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from conftest import API, Store, all_users, free_port, run

from crud import MAX_USER_ID, Record, StoreUnavailable, StoreUnusable
from database import open_database
from engines import engine_for

# Made by the API of version 1: two processes, updates and deletes, the largest id, any script.
VERSION_1 = (Path(__file__).parent / "data" / "version-1.sql").read_text(encoding="utf-8")
WRONG = (sqlite3.IntegrityError, psycopg.IntegrityError)


def execute(url: str, *statements: str) -> list[Any]:
    """Execute statements as another program than the API; return the rows of the last one."""
    with closing(engine_for(url).connect()) as db:
        for statement in statements:
            cursor = db.execute(statement)
        rows: list[Any] = cursor.fetchall() if cursor.description else []
        return rows


def load_version_1(url: str) -> dict[int, Record]:
    """Create the tables and users of version 1; return the users."""
    statements = [line for line in VERSION_1.splitlines() if line[:6] not in ("BEGIN ", "COMMIT")]
    big = "BIGINT" if url.startswith("postgresql") else "INTEGER"
    execute(url, *(each.replace("user_id INTEGER", f"user_id {big}") for each in statements))
    return {i: Record(n, a) for i, n, a in execute(url, "SELECT user_id, name, age FROM users")}


def content(url: str) -> list[Any]:
    """Return all rows of all tables."""
    tables = ("schema_version", "users", "age_counts")
    return [sorted(execute(url, f"SELECT * FROM {table}")) for table in tables]


async def assert_right(store: Store, users: dict[int, Record]) -> None:
    assert await all_users(store) == users
    counts = Counter(user.age for user in users.values())
    assert await store.age_counts() == dict(sorted(counts.items()))


def test_version_1_becomes_the_newest(database_url: str) -> None:
    """Every user is kept, the counts are exact, writes work, and a second start changes nothing."""
    users = load_version_1(database_url)
    assert len(users) == 31

    async def first(store: Store) -> None:
        await store.check()
        await assert_right(store, users)

    async def then(store: Store) -> None:
        await assert_right(store, users)
        await store.delete(MAX_USER_ID)
        await store.update(0, "Al", 1)
        await store.create(MAX_USER_ID, "Bo", 2)
        await assert_right(store, users | {0: Record("Al", 1), MAX_USER_ID: Record("Bo", 2)})

    run(database_url, first)
    before = content(database_url)
    assert before[0] == [(1,), (2,)]
    run(database_url, first)
    assert content(database_url) == before
    run(database_url, then)


def test_processes_that_start_together_migrate_once(database_url: str) -> None:
    """All of them can use the database afterwards."""
    users = load_version_1(database_url)
    together = threading.Barrier(4)
    failures: list[Exception] = []

    def start() -> None:
        try:
            together.wait(30)
            open_database(engine_for(database_url)).close()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []
    assert content(database_url)[0] == [(1,), (2,)]
    run(database_url, lambda store: assert_right(store, users))


def start_api(url: str) -> tuple[int, str]:
    """Start the API, which must end; return its exit code and what it printed."""
    command = [sys.executable, "-m", "uvicorn", "main:app", "--port", str(free_port())]
    variables = os.environ | {"DATABASE_URL": url}
    done = subprocess.run(command, cwd=API, env=variables, capture_output=True, timeout=60)
    return done.returncode, (done.stdout + done.stderr).decode()


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ("age = 151", "age"),
        ("age = -1", "age"),
        ("name = ''", "name"),
        (f"name = '{'x' * 201}'", "name"),
        ("user_id = -1", "user_id"),
        (f"user_id = {MAX_USER_ID + 1}", "user_id"),
    ],
)
def test_a_user_that_breaks_a_rule_stops_the_migration(
    database_url: str, change: str, rule: str
) -> None:
    """The API does not start; one sentence names the rule; exit code 2; nothing is changed."""
    load_version_1(database_url)
    execute(database_url, f"UPDATE users SET {change} WHERE user_id = 5")
    before = content(database_url)
    code, printed = start_api(database_url)

    assert code == 2, printed
    assert "DATABASE_URL cannot be used: it has a user that is not allowed: " in printed
    assert rule in printed.rpartition("not allowed: ")[2]
    assert "Traceback" not in printed
    assert "User 5" not in printed
    assert content(database_url) == before


def test_a_newer_database_stops_the_start(database_url: str) -> None:
    """Its tables may mean something else: exit code 2, and nothing is changed."""
    open_database(engine_for(database_url)).close()
    execute(database_url, "INSERT INTO schema_version VALUES (3)")
    before = content(database_url)
    code, printed = start_api(database_url)

    assert code == 2, printed
    assert "DATABASE_URL cannot be used: its schema has version 3, not 2\n" in printed
    assert content(database_url) == before


def test_a_database_that_becomes_unusable_gives_errors(sqlite_url: str) -> None:
    """A process that runs already does not end: its clients get an error with the reason."""
    open_database(engine_for(sqlite_url)).close()
    execute(sqlite_url, "INSERT INTO schema_version VALUES (3)")

    async def scenario(store: Store) -> None:
        with pytest.raises(StoreUnusable, match="version 3, not 2"):
            await store.create(1, "Al", 1)

    run(sqlite_url, scenario)


# ------------------------------------------------------------------------------ rules and counters


@pytest.mark.parametrize(
    "values",
    [
        "-1, 0, 'Al', 30",
        f"{MAX_USER_ID + 1}, 0, 'Al', 30",
        "NULL, 0, 'Al', 30",
        "16, 0, '', 30",
        f"16, 0, '{'x' * 201}', 30",
        "16, 0, NULL, 30",
        "16, 0, 'Al', -1",
        "16, 0, 'Al', 151",
        "16, 0, 'Al', NULL",
        "16, 1, 'Al', 30",
        "16, NULL, 'Al', 30",
    ],
)
def test_the_tables_refuse_what_the_api_refuses(database_url: str, values: str) -> None:
    """Also a statement without the API cannot store a wrong id, name, age or bucket."""
    open_database(engine_for(database_url)).close()
    insert = "INSERT INTO users (user_id, bucket, name, age) VALUES "

    with pytest.raises(WRONG):
        execute(database_url, f"{insert} ({values})")
    execute(database_url, f"{insert} (16, 0, '{'x' * 100}', 150)")


@pytest.mark.parametrize("values", ["16, 0, 'Al', 30.5", "16, 0, 'Al', 'old'", "16, 0, x'41', 30"])
def test_sqlite_refuses_other_types(sqlite_url: str, values: str) -> None:
    """Without STRICT it would store them."""
    open_database(engine_for(sqlite_url)).close()

    with pytest.raises(WRONG):
        execute(sqlite_url, f"INSERT INTO users (user_id, bucket, name, age) VALUES ({values})")


def test_no_count_is_negative(database_url: str) -> None:
    """The table refuses it."""
    run(database_url, lambda store: store.create(1, "Al", 30))

    with pytest.raises(WRONG):
        execute(database_url, "UPDATE age_counts SET users = users - 2")


FOREIGN = (
    "INSERT INTO users (user_id, bucket, name, age) VALUES (16, 0, 'Al', 30), (32, 0, 'Bo', 40)",
    "DELETE FROM users WHERE user_id = 1",
    "UPDATE users SET age = 60 WHERE user_id = 2",
)


def test_a_start_corrects_the_counts(database_url: str) -> None:
    """Users were created, deleted and changed by SQL: the next start corrects the counts."""
    users = {i: Record("Al", 20 + i) for i in range(5)}

    async def scenario(store: Store) -> None:
        await store.check()
        changed = {2: Record("Al", 60), 16: Record("Al", 30), 32: Record("Bo", 40)}
        left = {i: user for i, user in (users | changed).items() if i != 1}
        await assert_right(store, left)

    async def create(store: Store) -> None:
        await store.create_many(users)

    run(database_url, create)
    execute(database_url, *FOREIGN)
    run(database_url, scenario)


def test_a_count_never_falls_below_zero(database_url: str) -> None:
    """The delete of a user that was not counted succeeds, and corrects all counts."""

    async def scenario(store: Store) -> None:
        await store.create(1, "Al", 70)
        await store.create(0, "Al", 30)
        await store.delete(0)
        await asyncio.to_thread(execute, database_url, FOREIGN[0])
        await asyncio.gather(store.delete(16), store.create(2, "Bo", 70), store.delete(1))
        await assert_right(store, {2: Record("Bo", 70), 32: Record("Bo", 40)})

    run(database_url, scenario)


def test_a_user_that_the_table_refuses_fails_alone(database_url: str) -> None:
    """Its own client gets an error; the other writes of its transaction are stored."""

    async def scenario(store: Store) -> None:
        bad = asyncio.create_task(store.create(0, "", 1))  # the API lets no such name pass
        await asyncio.gather(*(store.create(i, "Al", 1) for i in range(1, 20)))
        with pytest.raises(StoreUnavailable):
            await bad
        assert await store.age_counts() == {1: 19}

    run(database_url, scenario)
