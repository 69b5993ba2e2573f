"""Errors of a database: which request fails, and that no other request is harmed."""

import asyncio
import errno
import io
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from conftest import Store, all_users, run, some_users

import database
from crud import MAX_BATCH_USERS, Record, StoreUnavailable, Users
from database import MAX_QUEUED
from engines import Conflict, engine_for
from sql import SqlStore
from telemetry import AccessLog, log

MAX_QUEUED_BATCHES = 5  # of the largest size: at most 50,000 users are queued

# ------------------------------------------------------------- one request of a transaction fails


def test_a_write_that_conflicts_again_and_again_fails_alone(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The other writes of its transaction are successful."""
    monkeypatch.setattr(log, "propagate", True)
    write_difference = SqlStore._write_difference

    def write_with_conflict(store: SqlStore, db: Any, before: Users, after: Users) -> None:
        write_difference(store, db, before, after)
        if before.get(2) != after.get(2):
            raise Conflict

    monkeypatch.setattr(SqlStore, "_write_difference", write_with_conflict)

    async def scenario(store: Store) -> None:
        writes = [store.create(i, "Al", 1) for i in range(5)]
        results = await asyncio.gather(*writes, return_exceptions=True)
        assert [str(each) for each in results if each] == [
            "The store is unavailable: sqlite Conflict"
        ]
        assert list(await all_users(store)) == [0, 1, 3, 4]
        assert await store.age_counts() == {1: 4}

    run(sqlite_url, scenario)
    assert "sqlite failed: Conflict" in caplog.text


def test_a_write_to_a_locked_user_fails_alone(postgresql_url: str) -> None:
    """While another transaction holds the lock of a user, writes to other users are successful."""

    async def scenario(store: Store) -> None:
        await store.create(0, "Al", 1)
        with psycopg.connect(postgresql_url) as other:
            other.execute("UPDATE users SET age = 2 WHERE user_id = 0")
            locked = asyncio.create_task(store.update(0, "Bo", 3))
            others = [asyncio.create_task(store.create(i, "Al", 1)) for i in range(1, 20)]
            await asyncio.gather(*others)
            with pytest.raises(StoreUnavailable):
                await locked
            other.rollback()
        await store.update(0, "Bo", 3)
        assert await store.age_counts() == {1: 19, 3: 1}

    run(postgresql_url, scenario)


def test_a_name_that_the_database_rejects_fails_alone(postgresql_url: str) -> None:
    """A value that the database cannot store fails its own write, and no other."""

    async def scenario(store: Store) -> None:
        bad = asyncio.create_task(store.create(0, "the API lets no such name pass: \0", 1))
        others = [asyncio.create_task(store.create(i, "Al", 1)) for i in range(1, 20)]
        await asyncio.gather(*others)
        with pytest.raises(StoreUnavailable):
            await bad
        assert await store.age_counts() == {1: 19}

    run(postgresql_url, scenario)


# ------------------------------------------------------------------------------- too many requests


def end_other_sessions(url: str) -> None:
    """End all sessions of the server, as its restart does; return when they have ended."""
    other = (
        "FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    deadline = time.monotonic() + 20
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(f"SELECT pg_terminate_backend(pid) {other}")
        while admin.execute(f"SELECT count(*) {other}").fetchone() != (0,):
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.parametrize("verb", ["get", "create", "age_counts", "check"])
def test_after_a_restart_of_the_database_no_request_fails(postgresql_url: str, verb: str) -> None:
    """A session that the server has closed is noticed before it is used, so nothing is lost."""

    async def scenario(store: Store) -> None:
        await store.create(1, "Al", 1)
        for number in range(2, 5):
            await store.check()  # both connections are open
            await asyncio.to_thread(end_other_sessions, postgresql_url)
            arguments = {"get": (1,), "create": (number, "Bo", 2)}.get(verb, ())
            await getattr(store, verb)(*arguments)

    run(postgresql_url, scenario)


def test_batches_do_not_lock_out_single_users(sqlite_url: str) -> None:
    """When the queue has no room for another batch, that batch is rejected; a create is not."""

    async def scenario(store: Store) -> None:
        batches = [
            asyncio.create_task(store.create_many(some_users(MAX_BATCH_USERS, i * MAX_BATCH_USERS)))
            for i in range(MAX_QUEUED_BATCHES)
        ]
        await asyncio.sleep(0)
        last_id = MAX_QUEUED_BATCHES * MAX_BATCH_USERS
        with pytest.raises(StoreUnavailable, match="too many requests"):
            await store.create_many(some_users(MAX_BATCH_USERS, last_id))
        await store.create(last_id, "Bo", 2)
        await asyncio.gather(*batches)

    run(sqlite_url, scenario)


def test_a_full_queue_rejects_a_request(sqlite_url: str) -> None:
    """One request more than the queue holds is rejected at once; the others are successful."""

    async def scenario(store: Store) -> None:
        queued = [asyncio.create_task(store.age_counts()) for _ in range(MAX_QUEUED)]
        await asyncio.sleep(0)
        with pytest.raises(StoreUnavailable, match="too many requests"):
            await store.age_counts()
        assert await asyncio.gather(*queued) == [{}] * MAX_QUEUED

    run(sqlite_url, scenario)


def test_a_listing_has_a_deadline(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing whose connection is too slow fails; it does not keep its client waiting."""
    monkeypatch.setattr(database, "DEADLINE_SECONDS", 0.3)
    engine, has_failed = engine_for(sqlite_url), threading.Event()

    def connect_slowly() -> Any:
        assert has_failed.wait(20)
        return engine.connect()

    async def scenario() -> None:
        store = SqlStore(replace(engine, connect=connect_slowly))
        with pytest.raises(StoreUnavailable, match="does not respond"):
            await all_users(store)
        has_failed.set()
        store.close()

    asyncio.run(scenario())


# ----------------------------------------------------------------------------------------- the log


class FullDisk(io.StringIO):
    """A stream on which nothing can be written."""

    def write(self, text: str) -> int:
        del text
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def renamed_table(path: Path) -> Iterator[None]:
    """Rename the table `users`, so that each write fails."""
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.execute("ALTER TABLE users RENAME TO people")
        yield
        file.execute("ALTER TABLE people RENAME TO users")


def test_a_log_that_cannot_be_written_stops_no_store(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk log lines are lost; the thread of the store continues."""
    handler = AccessLog(FullDisk(), as_json=False)
    monkeypatch.setattr(log, "handlers", [handler])

    async def scenario(store: Store) -> None:
        await store.create(1, "Al", 1)
        with renamed_table(tmp_path / "users.db"):
            # An access log line, which the store's thread has to write before its own.
            handler._lines.append("a line")
            with pytest.raises(StoreUnavailable, match="OperationalError"):
                await store.create(2, "Bo", 2)
        await store.create(2, "Bo", 2)
        assert await store.get(2) == Record("Bo", 2)

    run(sqlite_url, scenario)
