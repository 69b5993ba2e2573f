"""The store relies on what statements return, not on the row counts that a driver reports."""

import asyncio
import random
import sys

import pytest
from conftest import Store, all_users, run, some_users
from postgresql_proxy import Proxy, proxy
from test_stores import assert_counts_are_right, random_writes

from crud import BatchResult, UserChanged, UserExists, UserNotFound, version
from engines import engine_for
from sql import SqlStore

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="PostgreSQL has no socket file")


@pytest.mark.parametrize("row_count", [0, 1, 7])
def test_wrong_row_counts_change_nothing(postgresql_url: str, row_count: int) -> None:
    """Each verb has its usual result, whatever number of rows the database reports."""

    async def scenario(store: Store) -> None:
        await store.create(1, "Bo", 1)
        with pytest.raises(UserExists):
            await store.create(1, "Al", 2)
        for missing in (store.update(2, "Al", 2), store.delete(2)):
            with pytest.raises(UserNotFound):
                await missing
        await store.update(1, "Bob", 3)
        users = some_users(10)
        assert await store.create_many(users) == BatchResult(9, [], [1])
        await asyncio.gather(*(store.update(i, "Al", 50) for i in range(5)), store.delete(5))
        await asyncio.gather(*(store.delete(i) for i in range(5)))
        await store.check()
        assert await all_users(store) == {i: users[i] for i in range(6, 10)}
        await assert_counts_are_right(store)

    with proxy(postgresql_url, row_count) as server:
        run(server.url, scenario)
        assert server.changed > 20


def two_stores(url: str, server: Proxy) -> None:
    """Write the same few users over two connections, one through the server; check the sums."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)

    async def scenario(first: Store) -> None:
        second = SqlStore(engine_for(server.url))
        try:
            writers = [random_writes(store, dice, 60) for store in (first, second) * 4]
            created = await asyncio.gather(*writers)
            assert await assert_counts_are_right(first) == sum(created)
        finally:
            second.close()

    run(url, scenario)


@pytest.mark.parametrize("row_count", [0, 1, 7])
def test_wrong_row_counts_hide_no_conflict(postgresql_url: str, row_count: int) -> None:
    """Of two processes that change the same users, each learns what the other has changed."""
    with proxy(postgresql_url, row_count) as server:
        two_stores(server.url, server)


def test_a_slow_connection_overwrites_nothing(postgresql_url: str) -> None:
    """Between the read and the write of a slow process, a fast one changes the same users."""
    with proxy(postgresql_url, delay_seconds=0.01) as server:
        two_stores(postgresql_url, server)


def test_a_change_on_an_old_read_is_refused(postgresql_url: str) -> None:
    """Two processes change the same version of a user: one learns that it is too late.

    The slow process reads the user, and writes some time later. The fast one writes in between.
    """

    async def scenario(fast: Store) -> None:
        await fast.create(1, "Al", 30)
        with proxy(postgresql_url, delay_seconds=0.03) as server:
            slow = SqlStore(engine_for(server.url))
            await slow.check()
            for turn in range(20):
                versions = {version(await fast.get(1))}
                late = asyncio.create_task(slow.update(1, f"slow {turn}", 30, versions))
                await asyncio.sleep(turn * 0.01)  # from before its read until after its write
                results = await asyncio.gather(
                    late, fast.update(1, f"fast {turn}", 30, versions), return_exceptions=True
                )
                assert sorted(map(type, results), key=str) == [type(None), UserChanged]
            slow.close()
        assert await fast.age_counts() == {30: 1}

    run(postgresql_url, scenario)
