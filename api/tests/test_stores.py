"""One behaviour over three stores: memory, SQLite and PostgreSQL, each as it is really used."""

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from conftest import Store, User, records_of, rows_of, store_at

from crud import (
    MAX_BATCH_USERS,
    MAX_USER_ID,
    SNAPSHOT_CHUNK_USERS,
    BatchResult,
    Record,
    UserExists,
    UserNotFound,
)
from engines import engine_for
from sql import SqlStore

Story = Callable[[Store], Awaitable[None]]


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def tell(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Story], None]:
    """Return a function that tells a story to an empty store of each kind."""
    url = None
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/users.db"
    elif request.param == "postgresql":
        url = request.getfixturevalue("postgresql_url")
        with psycopg.connect(url) as connection:
            connection.execute("DROP TABLE IF EXISTS users, age_counts, schema_version")

    def tell_it(story: Story) -> None:
        async def told() -> None:
            store = store_at(url)
            try:
                await story(store)
            finally:
                store.close()

        asyncio.run(told())

    return tell_it


async def everybody(store: Store) -> dict[int, tuple[str, int]]:
    """Return all users, from a snapshot."""
    return {i: (name, age) async for chunk in store.snapshot() for i, name, age in rows_of(chunk)}


def test_the_verbs(tell: Callable[[Story], None]) -> None:
    """Create, read, update, delete: each does its one thing, or raises the error it names."""

    async def story(store: Store) -> None:
        with pytest.raises(UserNotFound, match="User 1 not found"):
            await store.get(1)
        with pytest.raises(UserNotFound):
            await store.update(1, "Bo", 1)
        with pytest.raises(UserNotFound):
            await store.delete(1)
        await store.create(1, "Bo", 1)
        with pytest.raises(UserExists, match="User 1 already exists"):
            await store.create(1, "Al", 2)
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

    tell(story)


def test_the_edges_of_ids_and_names(tell: Callable[[Story], None]) -> None:
    """Ids to 2**53 - 1 and names of every script come back as they were."""
    names = ["'; DROP TABLE users; --", "李小龍", "𝔘" * 100, "  spaced ", '"\\%_?', "عمر"]

    async def story(store: Store) -> None:
        for user_id, name in zip([0, 1, 2, 3, MAX_USER_ID - 1, MAX_USER_ID], names, strict=True):
            await store.create(user_id, name, 0)
            assert await store.get(user_id) == Record(name, 0)
        page = await store.page(after=3, limit=10)
        assert list(page) == [MAX_USER_ID - 1, MAX_USER_ID]

    tell(story)


def test_a_batch_is_all_at_once(tell: Callable[[Story], None]) -> None:
    """A batch creates the free ids and names the others, for none, one, and as many as may be."""

    async def story(store: Store) -> None:
        assert await store.create_many({}) == BatchResult(0, [], [])
        await store.create(7, "Al", 70)
        batch: list[User] = [(i, f"User {i}", i % 100) for i in range(MAX_BATCH_USERS)]
        new, every = MAX_BATCH_USERS - 1, list(range(MAX_BATCH_USERS))
        assert await store.create_many(records_of(batch)) == BatchResult(new, [], [7])
        every.remove(7)
        assert await store.create_many(records_of(batch)) == BatchResult(0, every, [7])
        assert await store.get(7) == Record("Al", 70)
        assert await everybody(store) == {i: (n, a) for i, n, a in batch} | {7: ("Al", 70)}
        assert sum((await store.age_counts()).values()) == MAX_BATCH_USERS

    tell(story)


def test_pages(tell: Callable[[Story], None]) -> None:
    """Pages go by ascending id, from after a given id, with at most so many users."""

    async def story(store: Store) -> None:
        for user_id in (5, 3, 900, 0, 77):
            await store.create(user_id, "Al", 1)
        assert list(await store.page(-1, 3)) == [0, 3, 5]
        await store.delete(77)
        await store.create(6, "Al", 1)
        assert list(await store.page(5, 3)) == [6, 900]
        assert await store.page(900, 3) == {}

    tell(story)


def test_a_snapshot_is_one_state(tell: Callable[[Story], None]) -> None:
    """Whatever is written while a snapshot is read, it shows the users as they were before."""

    async def story(store: Store) -> None:
        size = 2 * SNAPSHOT_CHUNK_USERS
        before: list[User] = [(i, f"User {i}", i % 100) for i in range(size)]
        await store.create_many(records_of(before[:MAX_BATCH_USERS]))
        seen: list[User] = []
        async for chunk in store.snapshot():
            seen += rows_of(chunk)
            await store.update(size - 1, "Changed", 99)
            if len(seen) == SNAPSHOT_CHUNK_USERS:
                await store.delete(size - 2)
                await store.create(size, "New", 1)
        assert sorted(seen) == before

    tell(story)


def test_many_at_once_on_few_users(tell: Callable[[Story], None]) -> None:
    """Of 32 that create the same user one wins; counts agree with users after any mixture."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)

    async def attempt(store: Store) -> str:
        user_id, age = dice.randrange(8), dice.randrange(151)
        verb = dice.choice(["create", "update", "delete"])
        try:
            if verb == "delete":
                await store.delete(user_id)
            else:
                await (store.create if verb == "create" else store.update)(user_id, "Al", age)
        except (UserExists, UserNotFound):
            return "refused"
        return verb

    async def story(store: Store) -> None:
        for round_number in range(20):
            tries = [store.create(1_000 + round_number, f"Al {n}", n) for n in range(32)]
            outcomes = await asyncio.gather(*tries, return_exceptions=True)
            assert sum(outcome is None for outcome in outcomes) == 1
            assert {type(outcome) for outcome in outcomes if outcome} == {UserExists}
        done = await asyncio.gather(*(attempt(store) for _ in range(600)))
        users = await everybody(store)
        ages = [age for _, age in users.values()]
        assert await store.age_counts() == {age: ages.count(age) for age in sorted(set(ages))}
        assert len(users) == 20 + done.count("create") - done.count("delete")

    tell(story)


@asynccontextmanager
async def two_stores(url: str) -> AsyncIterator[tuple[SqlStore, SqlStore]]:
    """Yield two stores on one database, as two processes have them."""
    first, second = SqlStore(engine_for(url)), SqlStore(engine_for(url))
    yield first, second
    first.close()
    second.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_two_processes_on_one_database(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """What one store acknowledged the other sees; together they keep the counts exact."""
    url = f"sqlite:///{tmp_path}/users.db"
    if kind == "postgresql":
        url = request.getfixturevalue("postgresql_url")
        with psycopg.connect(url) as connection:
            connection.execute("DROP TABLE IF EXISTS users, age_counts, schema_version")
    dice = random.Random(5)

    async def writer(store: SqlStore) -> int:
        created = 0
        for _ in range(300):
            user_id, age = dice.randrange(20), dice.randrange(5)
            try:
                match dice.randrange(3):
                    case 0:
                        await store.create(user_id, "Al", age)
                        created += 1
                    case 1:
                        await store.update(user_id, "Bo", age)
                    case _:
                        await store.delete(user_id)
                        created -= 1
            except (UserExists, UserNotFound):
                continue
        return created

    async def story() -> None:
        async with two_stores(url) as (first, second):
            await first.create(100, "Al", 1)
            assert await second.get(100) == Record("Al", 1)
            with pytest.raises(UserExists):
                await second.create(100, "Bo", 2)
            created = await asyncio.gather(*(writer(s) for s in (first, second) for _ in range(4)))
            users = await everybody(first)
            ages = [age for _, age in users.values()]
            assert len(users) == 1 + sum(created)
            assert await second.age_counts() == {a: ages.count(a) for a in sorted(set(ages))}

    asyncio.run(story())


def test_users_outlive_the_store(tmp_path: Path) -> None:
    """A store opened again has what was acknowledged, and its counts."""
    url = f"sqlite:///{tmp_path}/users.db"

    async def story() -> None:
        async with two_stores(url) as (store, _):
            await store.create(1, "Al", 30)
        async with two_stores(url) as (store, _):
            assert await store.get(1) == Record("Al", 30)
            assert await store.age_counts() == {30: 1}

    asyncio.run(story())


def test_what_many_ask_for_is_found_out_once(tmp_path: Path) -> None:
    """A hundred viewers who want the age counts at the same time cost a statement or two."""
    engine = engine_for(f"sqlite:///{tmp_path}/users.db")
    statements: list[str] = []

    def connect() -> sqlite3.Connection:
        connection: sqlite3.Connection = engine.connect()
        connection.set_trace_callback(statements.append)
        return connection

    async def story() -> None:
        store = SqlStore(replace(engine, connect=connect))
        await store.create(1, "Al", 30)
        answers = await asyncio.gather(*(store.age_counts() for _ in range(100)))
        store.close()
        assert answers == [{30: 1}] * 100

    asyncio.run(story())
    assert 1 <= sum("FROM age_counts" in statement for statement in statements) <= 2


def test_what_waits_and_what_commits_is_told(tmp_path: Path) -> None:
    """A queue fills with requests, or with users; afterwards each commit has been timed."""
    commits: list[float] = []

    async def story() -> None:
        store = SqlStore(engine_for(f"sqlite:///{tmp_path}/users.db"), commits.append)
        writes = [asyncio.create_task(store.create(i, "Al", 30)) for i in range(2_000)]
        await asyncio.sleep(0)
        assert 0.1 < store.queue_ratios()["writes"] <= 0.2  # of the 10,000 requests that may wait
        await asyncio.gather(*writes)
        batch = {i: Record("Al", 30) for i in range(10_000, 20_000)}
        batches = [asyncio.create_task(store.create_many(batch)) for _ in range(2)]
        await asyncio.sleep(0)
        assert store.queue_ratios() == {"writes": 0.4, "reads": 0}  # of 50,000 users
        await asyncio.gather(*batches)
        assert store.queue_ratios() == {"writes": 0, "reads": 0}
        store.close()

    asyncio.run(story())
    assert 4 <= len(commits) < 200  # at most 500 in one
    assert all(seconds > 0 for seconds in commits)
