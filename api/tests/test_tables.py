"""The tables and the files of a database: which are used, created, left alone or rejected."""

import asyncio
import logging
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from conftest import Store, all_users, run, some_users, store_at

from crud import SNAPSHOT_CHUNK_USERS, Record, StoreUnavailable
from engines import engine_for
from sql import SqlStore


async def check(store: Store) -> None:
    await store.check()


async def check_fails(store: Store) -> None:
    """Assert that the store serves reads, but is not ready, since it cannot be written."""
    assert await store.age_counts() == {}
    with pytest.raises(StoreUnavailable, match=r"ReadOnlySqlTransaction|readonly"):
        await store.check()
    assert await store.age_counts() == {}


async def create_user_1(store: Store) -> None:
    await store.create(1, "Al", 30)
    assert await store.age_counts() == {30: 1}


def test_a_read_only_postgresql_is_not_ready(postgresql_url: str) -> None:
    """A standby serves reads; its readiness check fails."""
    run(postgresql_url, check)
    read_only = f"{postgresql_url}&options=-c%20default_transaction_read_only%3Don"
    run(read_only, check_fails)


def test_a_read_only_sqlite_file_is_not_ready(sqlite_url: str) -> None:
    """It serves reads; its readiness check fails, since it is a real write."""
    run(sqlite_url, check)
    engine = engine_for(sqlite_url)

    def connect_read_only() -> Any:
        connection = engine.connect()
        connection.execute("PRAGMA query_only = ON")  # file permissions do not stop root
        return connection

    async def scenario() -> None:
        store = SqlStore(replace(engine, connect=connect_read_only))
        await check_fails(store)
        store.close()

    asyncio.run(scenario())


@contextmanager
def executed(url: str, statement: str, undo: str) -> Iterator[None]:
    """Execute a statement as the operator of a PostgreSQL, and undo it at the end."""
    with psycopg.connect(url, autocommit=True) as operator:
        operator.execute(statement)
        try:
            yield
        finally:
            operator.execute(undo)


def test_a_database_with_a_small_encoding_is_rejected(postgresql_url: str) -> None:
    """It could not store most names; the error names its encoding."""
    create = "CREATE DATABASE latin TEMPLATE template0 ENCODING LATIN1 LC_COLLATE 'C' LC_CTYPE 'C'"

    async def scenario(store: Store) -> None:
        with pytest.raises(StoreUnavailable, match="LATIN1"):
            await store.check()

    with executed(postgresql_url, create, "DROP DATABASE latin WITH (FORCE)"):
        run(postgresql_url.replace("/postgres?", "/latin?"), scenario)


def test_a_role_that_may_not_create_tables_is_named(
    postgresql_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error and the log have the reason, not that a table is missing."""
    monkeypatch.setattr(logging.getLogger("api"), "propagate", True)

    async def scenario(store: Store) -> None:
        with pytest.raises(StoreUnavailable, match="InsufficientPrivilege"):
            await store.check()

    with executed(postgresql_url, "CREATE ROLE reader LOGIN", "DROP ROLE reader"):
        run(postgresql_url.replace("postgres:@", "reader:@"), scenario)
    assert "InsufficientPrivilege permission denied for schema public" in caplog.text


def test_a_foreign_table_is_left_alone(database_url: str) -> None:
    """No table is created beside it; when it is gone, all tables are."""
    db = engine_for(database_url).connect()
    db.execute("CREATE TABLE age_counts (bucket INTEGER, age INTEGER, users BIGINT)")

    async def rejected(store: Store) -> None:
        with pytest.raises(StoreUnavailable):
            await store.create(1, "Al", 30)

    run(database_url, rejected)
    with pytest.raises((sqlite3.OperationalError, psycopg.errors.UndefinedTable)):
        db.execute("SELECT 1 FROM users")
    db.execute("DROP TABLE age_counts")
    db.close()
    run(database_url, create_user_1)


def test_a_schema_of_another_version_is_rejected(sqlite_url: str, tmp_path: Path) -> None:
    """Tables of an unknown version are not written."""

    async def rejected(store: Store) -> None:
        with pytest.raises(StoreUnavailable, match="version 3, not 2"):
            await store.create(2, "Bo", 2)

    run(sqlite_url, create_user_1)
    with closing(sqlite3.connect(tmp_path / "users.db")) as connection, connection:
        connection.execute("UPDATE schema_version SET version = 3")
    run(sqlite_url, rejected)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps a file that is open")
def test_a_deleted_file_is_replaced(sqlite_url: str, tmp_path: Path) -> None:
    """If the file is deleted while the API runs, writes go to a new file."""

    def delete_files() -> None:
        for file in tmp_path.glob("users.db*"):
            file.unlink()

    async def scenario(store: Store) -> None:
        await store.create(1, "Al", 1)
        assert await store.get(1) == Record("Al", 1)
        delete_files()
        await store.create(2, "Bo", 2)
        assert await all_users(store) == {2: Record("Bo", 2)}
        assert await store.get(2) == Record("Bo", 2)
        assert await store.age_counts() == {2: 1}

    run(sqlite_url, scenario)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps a file that is open")
def test_a_listing_stays_with_its_file(sqlite_url: str, tmp_path: Path) -> None:
    """If the file is deleted while its users are listed, the listing is still complete."""
    users = some_users(2 * SNAPSHOT_CHUNK_USERS + 1)

    async def scenario() -> None:
        store = store_at(sqlite_url)
        await store.create_many(users)
        snapshot = store.snapshot()
        seen = await anext(snapshot)
        (tmp_path / "users.db").unlink()
        async for chunk in snapshot:
            seen |= chunk
        store.close()
        assert seen == users

    asyncio.run(scenario())
