"""The store by itself: what its verbs promise, whatever else happens meanwhile."""

import asyncio
import random

import pytest
from conftest import User, rows_of

from crud import (
    MAX_SNAPSHOTS,
    SNAPSHOT_CHUNK_USERS,
    MemoryStore,
    Record,
    StoreFull,
    StoreUnavailable,
    UserExists,
    UserNotFound,
)


async def filled(size: int) -> MemoryStore:
    """Return a store with users 0 … size - 1."""
    store = MemoryStore(max_users=1_000_000)
    for user_id in range(size):
        await store.create(user_id, f"User {user_id}", user_id % 100)
    return store


def test_verbs_name_what_is_wrong() -> None:
    """Each verb raises the error that its docstring names, and changes nothing then."""

    async def story() -> None:
        store = MemoryStore(max_users=1)
        with pytest.raises(UserNotFound, match="User 1 not found"):
            await store.get(1)
        with pytest.raises(UserNotFound):
            await store.update(1, "Bo", 1)
        with pytest.raises(UserNotFound):
            await store.delete(1)
        await store.create(1, "Bo", 1)
        with pytest.raises(UserExists, match="User 1 already exists"):
            await store.create(1, "Al", 2)
        with pytest.raises(StoreFull, match="may hold 1 users"):
            await store.create(2, "Al", 2)
        assert await store.get(1) == Record("Bo", 1)
        assert await store.age_counts() == {1: 1}

    asyncio.run(story())


def test_a_snapshot_is_one_state() -> None:
    """Whatever is written while a snapshot is read, it shows the users as they were before."""

    async def story() -> None:
        store = await filled(3 * SNAPSHOT_CHUNK_USERS)
        before: list[User] = [(i, f"User {i}", i % 100) for i in range(3 * SNAPSHOT_CHUNK_USERS)]
        seen: list[User] = []
        async for chunk in store.snapshot():
            seen += rows_of(chunk)
            await store.update(4_500, f"Changed {len(seen)}", 99)
            await store.create(10_000 + len(seen), "New", 1)
            if len(seen) == SNAPSHOT_CHUNK_USERS:
                await store.delete(5_000)
                await store.create(5_000, "Again", 3)
                await store.delete(5_001)

        assert seen == before

    asyncio.run(story())


def test_snapshots_do_not_disturb_each_other() -> None:
    """Two snapshots begun at different times each keep their own state, also if one is dropped."""

    async def story() -> None:
        store = await filled(2 * SNAPSHOT_CHUNK_USERS)
        first, second = store.snapshot(), store.snapshot()
        await anext(first)
        await anext(second)
        await store.update(3_000, "After both", 1)
        await first.aclose()
        await store.delete(3_001)
        rest = rows_of(await anext(second))

        assert (3_000, "User 3000", 0) in rest
        assert (3_001, "User 3001", 1) in rest

    asyncio.run(story())


def test_snapshots_are_few() -> None:
    """Each is a copy, so one too many is rejected; there is room again when one ends."""

    async def story() -> None:
        store = await filled(2 * SNAPSHOT_CHUNK_USERS)
        open_snapshots = [store.snapshot() for _ in range(MAX_SNAPSHOTS)]
        for snapshot in open_snapshots:
            await anext(snapshot)
        with pytest.raises(StoreUnavailable, match="too many listings"):
            await anext(store.snapshot())
        await open_snapshots[0].aclose()
        await anext(store.snapshot())

    asyncio.run(story())


def test_ages_and_pages_after_many_writes() -> None:
    """After any mixture of writes the age counts and the pages agree with the users."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)

    async def story() -> None:
        store = MemoryStore(max_users=1_000)
        model: dict[int, tuple[str, int]] = {}
        for _ in range(5_000):
            user_id, age = dice.randrange(60), dice.randrange(151)
            match dice.choice(["create", "update", "delete", "page"]):
                case "create" if user_id not in model:
                    await store.create(user_id, "Al", age)
                    model[user_id] = ("Al", age)
                case "update" if user_id in model:
                    await store.update(user_id, "Bo", age)
                    model[user_id] = ("Bo", age)
                case "delete" if user_id in model:
                    await store.delete(user_id)
                    del model[user_id]
                case "page":
                    after, limit = dice.randrange(-1, 60), dice.randrange(1, 20)
                    expected = [(i, *model[i]) for i in sorted(model) if i > after][:limit]
                    assert rows_of(await store.page(after, limit)) == expected
            counts = await store.age_counts()
            assert sum(counts.values()) == len(model)
        ages = [age for _, age in model.values()]
        assert counts == {age: ages.count(age) for age in sorted(set(ages))}

    asyncio.run(story())
