"""One behaviour over three stores: memory, SQLite and PostgreSQL; test_model.py has the rest."""

import asyncio
import random
import sqlite3
from collections import Counter
from dataclasses import replace

import pytest
from conftest import Store, all_users, run, some_users

from crud import (
    MAX_BATCH_USERS,
    SNAPSHOT_CHUNK_USERS,
    BatchResult,
    Record,
    UserExists,
    UserNotFound,
)
from engines import engine_for
from sql import SqlStore


@pytest.fixture
def url(store_variables: dict[str, str]) -> str | None:
    """Return the URL of an empty database of each kind, and None for memory."""
    return store_variables.get("DATABASE_URL")


async def assert_counts_are_right(store: Store) -> int:
    """Compare the age counts with the users; return the number of users."""
    users = await all_users(store)
    counts = Counter(user.age for user in users.values())
    assert list((await store.age_counts()).items()) == sorted(counts.items())
    return len(users)


def test_verbs(url: str | None) -> None:
    """Create, read, update and delete each do one thing, or raise the error of their docstring."""

    async def scenario(store: Store) -> None:
        with pytest.raises(UserNotFound, match="User 1 not found"):
            await store.get(1)
        with pytest.raises(UserNotFound):
            await store.update(1, "Bo", 1)
        with pytest.raises(UserNotFound):
            await store.delete(1)
        await store.create(1, "Bo", 1)
        with pytest.raises(UserExists, match="User 1 already exists") as error:
            await store.create(1, "Al", 2)
        assert error.value.user == Record("Bo", 1)
        assert await store.get(1) == Record("Bo", 1)
        assert await store.age_counts() == {1: 1}
        await store.update(1, "Bob", 150)
        assert await store.get(1) == Record("Bob", 150)
        assert await store.age_counts() == {150: 1}
        await store.delete(1)
        with pytest.raises(UserNotFound):
            await store.get(1)
        assert await store.age_counts() == {}
        await store.check()

    run(url, scenario)


def test_a_batch_creates_the_users_whose_id_is_free(url: str | None) -> None:
    """The ids of the others are returned: equal users apart from conflicting ones."""

    async def scenario(store: Store) -> None:
        assert await store.create_many({}) == BatchResult(0, [], [])
        await store.create(7, "Al", 70)
        await store.create(8, "User 8", 9)
        batch = some_users(MAX_BATCH_USERS)
        created = BatchResult(MAX_BATCH_USERS - 2, [], [7, 8])
        assert await store.create_many(batch) == created
        equal = [i for i in batch if i not in (7, 8)]
        assert await store.create_many(batch) == BatchResult(0, equal, [7, 8])
        stored = batch | {7: Record("Al", 70), 8: Record("User 8", 9)}
        assert await all_users(store) == stored
        assert await assert_counts_are_right(store) == MAX_BATCH_USERS

    run(url, scenario)


def test_a_snapshot_is_one_state(url: str | None) -> None:
    """It has the users as they were at its first chunk, whatever is written while it is read."""

    async def scenario(store: Store) -> None:
        before = some_users(3 * SNAPSHOT_CHUNK_USERS)
        last_id = len(before) - 1
        await store.create_many(before)
        seen: dict[int, Record] = {}
        async for chunk in store.snapshot():
            seen |= chunk
            await store.update(last_id, f"Changed {len(seen)}", 99)
            await store.create(last_id + len(seen), "New", 1)
            if len(seen) == SNAPSHOT_CHUNK_USERS:
                await store.delete(last_id - 1)
                await store.delete(last_id - 2)
                await store.create(last_id - 2, "Again", 3)
        assert seen == before

    run(url, scenario)


def test_snapshots_are_independent(url: str | None) -> None:
    """Two snapshots from different times each keep their own state, also if one is closed."""

    async def scenario(store: Store) -> None:
        await store.create_many(some_users(2 * SNAPSHOT_CHUNK_USERS))
        first, second = store.snapshot(), store.snapshot()
        await anext(first)
        await store.update(3_000, "Before the second", 1)
        await anext(second)
        await store.update(3_001, "After both", 1)
        assert (await anext(first))[3_000] == Record("User 3000", 0)
        await first.aclose()
        await store.delete(3_002)
        rest = await anext(second)
        assert rest[3_000] == Record("Before the second", 1)
        assert rest[3_001] == Record("User 3001", 1)
        assert rest[3_002] == Record("User 3002", 2)
        await second.aclose()

    run(url, scenario)


def test_one_of_many_creates_of_the_same_user_is_successful(url: str | None) -> None:
    """Of 32 clients that create a user at the same time, the others get the stored user."""

    async def scenario(store: Store) -> None:
        for user_id in range(20):
            creates = [store.create(user_id, f"Al {n}", n) for n in range(32)]
            results = await asyncio.gather(*creates, return_exceptions=True)
            stored = await store.get(user_id)
            assert stored == Record(f"Al {results.index(None)}", results.index(None))
            errors = [each for each in results if isinstance(each, UserExists)]
            assert len(errors) == 31
            assert all(error.user == stored for error in errors)

    run(url, scenario)


async def random_writes(store: Store, dice: random.Random, writes: int) -> int:
    """Write users with few ids; return how many were created minus how many were deleted."""
    created = 0
    for _ in range(writes):
        user_id, age = dice.randrange(20), dice.randrange(151)
        try:
            match dice.choice(["create", "update", "delete"]):
                case "create":
                    await store.create(user_id, "Al", age)
                    created += 1
                case "update":
                    await store.update(user_id, "Bo", age)
                case "delete":
                    await store.delete(user_id)
                    created -= 1
        except (UserExists, UserNotFound):
            continue
    return created


def test_two_processes_share_a_database(database_url: str) -> None:
    """One store sees at once what the other has acknowledged; together their counts are exact."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)

    async def scenario(first: Store) -> None:
        second = SqlStore(engine_for(database_url))
        try:
            await first.create(100, "Al", 1)
            assert await second.get(100) == Record("Al", 1)
            with pytest.raises(UserExists) as error:
                await second.create(100, "Bo", 2)
            assert error.value.user == Record("Al", 1)
            writers = [random_writes(store, dice, 200) for store in (first, second) * 4]
            created = await asyncio.gather(*writers)
            assert await assert_counts_are_right(first) == 1 + sum(created)
            assert await second.age_counts() == await first.age_counts()
        finally:
            second.close()

    run(database_url, scenario)


def test_equal_reads_share_a_statement(sqlite_url: str) -> None:
    """The age counts for a hundred clients at the same time take a statement or two."""
    engine = engine_for(sqlite_url)
    statements: list[str] = []

    def connect() -> sqlite3.Connection:
        connection: sqlite3.Connection = engine.connect()
        connection.set_trace_callback(statements.append)
        return connection

    async def scenario() -> None:
        store = SqlStore(replace(engine, connect=connect))
        await store.create(1, "Al", 30)
        responses = await asyncio.gather(*(store.age_counts() for _ in range(100)))
        store.close()
        assert responses == [{30: 1}] * 100

    asyncio.run(scenario())
    assert 1 <= sum("FROM age_counts" in statement for statement in statements) <= 2


def test_queues_and_commits_are_measured(sqlite_url: str) -> None:
    """A queue of writes is filled by requests or by users; each commit is timed."""
    commits: list[float] = []

    async def scenario() -> None:
        store = SqlStore(engine_for(sqlite_url), commits.append)
        writes = [asyncio.create_task(store.create(i, "Al", 30)) for i in range(2_000)]
        await asyncio.sleep(0)
        assert 0.1 < store.queue_ratios()["writes"] <= 0.2  # at most 10,000 requests are queued
        await asyncio.gather(*writes)
        batch = some_users(MAX_BATCH_USERS, first_id=10_000)
        batches = [asyncio.create_task(store.create_many(batch)) for _ in range(2)]
        await asyncio.sleep(0)
        assert store.queue_ratios() == {"writes": 0.4, "reads": 0}  # of 50,000 users
        await asyncio.gather(*batches)
        assert store.queue_ratios() == {"writes": 0, "reads": 0}
        store.close()

    asyncio.run(scenario())
    assert 4 <= len(commits) < 200  # with at most 500 requests in each
    assert all(seconds > 0 for seconds in commits)
