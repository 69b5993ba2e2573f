"""What goes wrong beneath the stores on disk: who is told, and who is not harmed."""

import asyncio
import errno
import gc
import io
import logging
import os
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from conftest import User, rows_of

import crud
import database
from crud import MAX_BATCH_USERS, MAX_SNAPSHOTS, SNAPSHOT_CHUNK_USERS, Record, StoreUnavailable
from database import MAX_QUEUED, MAX_QUEUED_USERS
from engines import Conflict, engine_for
from main import create_app
from settings import Settings
from sql import SqlStore
from telemetry import AccessLog, LineFormatter, log

Story = Callable[[SqlStore], Awaitable[None]]


def tell(url: str, story: Story) -> None:
    """Tell a story to a store of its own."""

    async def told() -> None:
        store = SqlStore(engine_for(url))
        try:
            await story(store)
        finally:
            store.close()

    asyncio.run(told())


async def everybody(store: SqlStore) -> list[User]:
    return [user async for chunk in store.snapshot() for user in rows_of(chunk)]


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/users.db"


@pytest.fixture
def empty_url(postgresql_url: str) -> str:
    """The address of a PostgreSQL without our tables."""
    with psycopg.connect(postgresql_url) as connection:
        connection.execute("DROP TABLE IF EXISTS users, age_counts, schema_version")
    return postgresql_url


# ------------------------------------------------------------------------- one spoils it for all


def test_a_user_whom_others_keep_changing(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Who has a transaction in common with a write that never succeeds is served all the same."""
    monkeypatch.setattr(log, "propagate", True)
    write_difference = SqlStore._write_difference

    def contended(store: SqlStore, db: Any, before: crud.Users, after: crud.Users) -> None:
        write_difference(store, db, before, after)
        if before.get(2) != after.get(2):
            raise Conflict

    monkeypatch.setattr(SqlStore, "_write_difference", contended)

    async def story(store: SqlStore) -> None:
        writes = [store.create(i, "Al", 1) for i in range(5)]
        results = await asyncio.gather(*writes, return_exceptions=True)
        assert [str(each) for each in results if each] == [
            "The store is unavailable: sqlite Conflict"
        ]
        assert [i for i, _, _ in await everybody(store)] == [0, 1, 3, 4]
        assert await store.age_counts() == {1: 4}

    tell(sqlite_url, story)
    assert "sqlite failed: Conflict" in caplog.text


def test_a_locked_user_is_his_own_misfortune(empty_url: str) -> None:
    """While somebody holds a user's lock, writes to him fail, and those beside him do not."""

    async def story(store: SqlStore) -> None:
        await store.create(0, "Al", 1)
        with psycopg.connect(empty_url) as somebody:
            somebody.execute("UPDATE users SET age = 2 WHERE user_id = 0")
            locked = asyncio.create_task(store.update(0, "Bo", 3))
            others = [asyncio.create_task(store.create(i, "Al", 1)) for i in range(1, 20)]
            await asyncio.gather(*others)
            with pytest.raises(StoreUnavailable):
                await locked
            somebody.rollback()
        await store.update(0, "Bo", 3)
        assert await store.age_counts() == {1: 19, 3: 1}

    tell(empty_url, story)


def test_a_name_that_the_database_refuses(empty_url: str) -> None:
    """What one write has in it that the database cannot keep fails that write alone."""

    async def story(store: SqlStore) -> None:
        bad = asyncio.create_task(store.create(0, "nobody gets this past the API: \0", 1))
        others = [asyncio.create_task(store.create(i, "Al", 1)) for i in range(1, 20)]
        await asyncio.gather(*others)
        with pytest.raises(StoreUnavailable):
            await bad
        assert await store.age_counts() == {1: 19}

    tell(empty_url, story)


def test_single_users_pass_a_crowd_of_batches(sqlite_url: str) -> None:
    """When no more batches may wait, one more is refused, and a single user is not."""
    batches = MAX_QUEUED_USERS // MAX_BATCH_USERS

    def batch(number: int) -> dict[int, Record]:
        first_id = number * MAX_BATCH_USERS
        return {i: Record("Al", 1) for i in range(first_id, first_id + MAX_BATCH_USERS)}

    async def story(store: SqlStore) -> None:
        waiting = [asyncio.create_task(store.create_many(batch(i))) for i in range(batches)]
        await asyncio.sleep(0)
        with pytest.raises(StoreUnavailable, match="too many requests"):
            await store.create_many(batch(batches))
        await store.create(batches * MAX_BATCH_USERS, "Bo", 2)
        await asyncio.gather(*waiting)

    tell(sqlite_url, story)


def test_requests_that_wait_are_bounded(sqlite_url: str) -> None:
    """One more request than may wait is refused at once; the others are answered."""

    async def story(store: SqlStore) -> None:
        waiting = [asyncio.create_task(store.age_counts()) for _ in range(MAX_QUEUED)]
        await asyncio.sleep(0)
        with pytest.raises(StoreUnavailable, match="too many requests"):
            await store.age_counts()
        assert await asyncio.gather(*waiting) == [{}] * MAX_QUEUED

    tell(sqlite_url, story)


# --------------------------------------------------------------------------------------- listings


def test_a_client_that_goes_away_gives_its_listing_back(sqlite_url: str) -> None:
    """Its place and its transaction are free at once, without help of the garbage collector."""
    app = create_app(Settings(database_url=sqlite_url))
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/users/",
        "raw_path": b"/users/",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost")],
    }

    async def listing(reads: int) -> int:
        """Ask for all users and go away after so many messages; return the status."""
        gone = asyncio.Event()
        messages: list[Any] = []

        async def receive() -> dict[str, str]:
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            messages.append(message)
            if len(messages) >= reads:
                gone.set()
                await asyncio.sleep(30)

        await app(scope, receive, send)
        return int(messages[0]["status"])

    async def story() -> None:
        store = SqlStore(engine_for(sqlite_url))
        await store.create_many({i: Record("Al", 1) for i in range(MAX_BATCH_USERS)})
        for _ in range(2):
            statuses = await asyncio.gather(*(listing(reads) for reads in (1, 2, 3, 4)))
            assert statuses == [200] * MAX_SNAPSHOTS
        store.close()

    gc.collect()
    gc.disable()
    try:
        asyncio.run(asyncio.wait_for(story(), 20))
    finally:
        gc.enable()


def test_a_listing_has_one_deadline(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It covers the wait for a place and for the first users: not each for itself."""
    monkeypatch.setattr(sql, "DEADLINE_SECONDS", 1.0)
    monkeypatch.setattr(database, "DEADLINE_SECONDS", 1.0)
    engine = engine_for(sqlite_url)
    slow = False

    def connect() -> Any:
        if slow:
            time.sleep(2)
        return engine.connect()

    async def story() -> None:
        nonlocal slow
        store = SqlStore(replace(engine, connect=connect))
        await store.create(1, "Al", 1)
        held = [store.snapshot() for _ in range(MAX_SNAPSHOTS)]
        for snapshot in held:
            await anext(snapshot)
        slow = True
        loop = asyncio.get_running_loop()
        started = loop.time()
        for snapshot in held:
            loop.call_later(0.8, loop.create_task, snapshot.aclose())
        with pytest.raises(StoreUnavailable):
            await everybody(store)
        assert loop.time() - started < 1.5
        store.close()

    asyncio.run(story())


# --------------------------------------------------------------------- a database that is not fit


def test_a_database_that_only_reads_is_not_ready(empty_url: str) -> None:
    """A standby answers reads; who asks whether it is ready is told that it takes no writes."""

    async def story(store: SqlStore) -> None:
        await store.check()

    async def of_a_standby(store: SqlStore) -> None:
        assert await store.age_counts() == {}
        with pytest.raises(StoreUnavailable, match="read-only"):
            await store.check()

    tell(empty_url, story)
    tell(f"{empty_url}&options=-c%20default_transaction_read_only%3Don", of_a_standby)


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_a_file_that_may_not_be_written_is_not_ready(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """It answers reads; who asks whether it is ready is told that it takes no writes."""
    file = tmp_path / f"users.db{suffix}"

    async def story(store: SqlStore) -> None:
        await store.check()
        file.chmod(0o444)
        if os.access(file, os.W_OK):  # as root may write to every file
            monkeypatch.setattr(os, "access", lambda path, _: path != str(file))
        assert await store.age_counts() == {}
        with pytest.raises(StoreUnavailable, match="read-only"):
            await store.check()

    tell(sqlite_url, story)


class FullDisk(io.StringIO):
    """A stream on which nothing can be written."""

    def write(self, text: str) -> int:
        del text
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_log_that_cannot_be_written(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk swallows lines of the log, and no store's thread with them."""
    handler = AccessLog(FullDisk(), LineFormatter(as_json=False))
    monkeypatch.setattr(log, "handlers", [handler])

    async def story(store: SqlStore) -> None:
        await store.create(1, "Al", 1)
        file = closing(sqlite3.connect(tmp_path / "users.db", isolation_level=None))
        away, back = "ALTER TABLE users RENAME TO people", "ALTER TABLE people RENAME TO users"
        with done_and_undone(file, away, back):
            # A request's line, which the store's thread has to write before its own.
            handler._lines.append("a line")
            with pytest.raises(StoreUnavailable, match="OperationalError"):
                await store.create(2, "Bo", 2)
        await store.create(2, "Bo", 2)

    tell(sqlite_url, story)


def operator(url: str) -> AbstractContextManager[Any]:
    return psycopg.connect(url, autocommit=True)


@contextmanager
def done_and_undone(database: AbstractContextManager[Any], do: str, undo: str) -> Iterator[None]:
    with database as connection:
        connection.execute(do)
        try:
            yield
        finally:
            connection.execute(undo)


def test_a_database_without_every_script(empty_url: str) -> None:
    """One whose encoding lacks most names is refused as a whole, and told by its encoding."""
    create = "CREATE DATABASE latin TEMPLATE template0 ENCODING LATIN1 LC_COLLATE 'C' LC_CTYPE 'C'"

    async def story(store: SqlStore) -> None:
        with pytest.raises(StoreUnavailable, match="LATIN1"):
            await store.check()

    with done_and_undone(operator(empty_url), create, "DROP DATABASE latin WITH (FORCE)"):
        tell(empty_url.replace("/postgres?", "/latin?"), story)


def test_a_role_that_may_not_make_tables(
    empty_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks, and the log, are told the reason: not that a table is missing."""
    monkeypatch.setattr(logging.getLogger("api"), "propagate", True)

    async def story(store: SqlStore) -> None:
        with pytest.raises(StoreUnavailable, match="InsufficientPrivilege"):
            await store.check()

    with done_and_undone(operator(empty_url), "CREATE ROLE reader LOGIN", "DROP ROLE reader"):
        tell(empty_url.replace("postgres:@", "reader:@"), story)
    assert "postgresql failed: InsufficientPrivilege 42501" in caplog.text


def test_a_listing_ends_with_the_file_it_began_with(sqlite_url: str, tmp_path: Path) -> None:
    """A database that goes away while its users are listed cuts nothing short."""

    async def story() -> None:
        store = SqlStore(engine_for(sqlite_url))
        await store.create_many({i: Record("Al", 1) for i in range(2 * SNAPSHOT_CHUNK_USERS + 1)})
        snapshot = store.snapshot()
        seen = rows_of(await anext(snapshot))
        (tmp_path / "users.db").unlink()
        async for chunk in snapshot:
            seen += rows_of(chunk)
        store.close()
        assert len(seen) == 2 * SNAPSHOT_CHUNK_USERS + 1

    asyncio.run(story())


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_table_of_somebody_else(
    kind: str, sqlite_url: str, request: pytest.FixtureRequest
) -> None:
    """It is not taken for ours, and none of ours is made beside it; once it is gone, all are."""
    url = sqlite_url
    if kind == "postgresql":
        url = request.getfixturevalue("postgresql_url")
    db = engine_for(url).connect()
    for name in ("users", "age_counts", "schema_version"):
        db.execute(f"DROP TABLE IF EXISTS {name}")
    db.execute("CREATE TABLE age_counts (stripe INTEGER, age INTEGER, users BIGINT)")

    async def refused(store: SqlStore) -> None:
        with pytest.raises(StoreUnavailable):
            await store.create(1, "Al", 30)

    async def accepted(store: SqlStore) -> None:
        await store.create(1, "Al", 30)
        assert await store.age_counts() == {30: 1}

    tell(url, refused)
    with pytest.raises((sqlite3.OperationalError, psycopg.errors.UndefinedTable)):
        db.execute("SELECT 1 FROM users")
    db.execute("DROP TABLE age_counts")
    db.close()
    tell(url, accepted)


def test_a_schema_of_another_version(sqlite_url: str, tmp_path: Path) -> None:
    """Tables of a version that we do not know are left alone."""

    async def make(store: SqlStore) -> None:
        await store.create(1, "Al", 1)

    async def story(store: SqlStore) -> None:
        with pytest.raises(StoreUnavailable, match="version 2, not 1"):
            await store.create(2, "Bo", 2)

    tell(sqlite_url, make)
    with sqlite3.connect(tmp_path / "users.db") as connection:
        connection.execute("UPDATE schema_version SET version = 2")
    connection.close()
    tell(sqlite_url, story)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps a file that is open")
def test_a_file_that_is_taken_away(sqlite_url: str, tmp_path: Path) -> None:
    """Who deletes the file of a running API begins anew: nothing is acknowledged into nowhere."""

    def remove_file() -> None:
        for file in tmp_path.glob("users.db*"):
            file.unlink()

    async def story(store: SqlStore) -> None:
        await store.create(1, "Al", 1)
        assert await store.get(1) == Record("Al", 1)
        remove_file()
        await store.create(2, "Bo", 2)
        assert await everybody(store) == [(2, "Bo", 2)]
        assert await store.get(2) == Record("Bo", 2)
        assert await store.age_counts() == {2: 1}

    tell(sqlite_url, story)
