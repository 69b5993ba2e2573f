"""What only the store in memory promises: a limit of users, and few snapshots, each a copy."""

import asyncio

import pytest
from conftest import some_users

from crud import (
    MAX_SNAPSHOTS,
    SNAPSHOT_CHUNK_USERS,
    MemoryStore,
    Record,
    StoreFull,
    StoreUnavailable,
)


def test_a_full_store_takes_no_user() -> None:
    """A create beyond `max_users` raises StoreFull; a batch beyond it adds none of its users."""

    async def scenario() -> None:
        store = MemoryStore(max_users=2)
        await store.create(1, "Bo", 1)
        with pytest.raises(StoreFull, match="may hold 2 users"):
            await store.create_many(some_users(2, first_id=2))
        await store.create(2, "Al", 2)
        with pytest.raises(StoreFull):
            await store.create(3, "Al", 2)
        assert list(await store.page(-1, 10)) == [1, 2]
        assert await store.age_counts() == {1: 1, 2: 1}

    asyncio.run(scenario())


def test_snapshots_are_independent() -> None:
    """Two snapshots from different times each keep their own state, also if one is closed."""

    async def scenario() -> None:
        store = MemoryStore(max_users=10_000)
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

    asyncio.run(scenario())


def test_one_snapshot_too_many_is_rejected() -> None:
    """Each is a copy of all users; when one ends or is closed, there is room for another."""

    async def scenario() -> None:
        store = MemoryStore(max_users=10_000)
        await store.create_many(some_users(2 * SNAPSHOT_CHUNK_USERS))
        snapshots = [store.snapshot() for _ in range(MAX_SNAPSHOTS)]
        for snapshot in snapshots:
            await anext(snapshot)
        with pytest.raises(StoreUnavailable, match="too many listings"):
            await anext(store.snapshot())
        await snapshots[0].aclose()
        replacement = store.snapshot()
        await anext(replacement)
        with pytest.raises(StoreUnavailable):
            await anext(store.snapshot())
        assert len([chunk async for chunk in replacement]) == 1
        await anext(store.snapshot())

    asyncio.run(scenario())
