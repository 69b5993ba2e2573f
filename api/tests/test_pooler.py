"""PostgreSQL behind PgBouncer, which gives each transaction another session of the server."""

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from conftest import Store, free_port, store_at

from crud import Record

PGBOUNCER = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")
CONFIG = """
[databases]
lab = host={host} user=postgres dbname=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
auth_type = any
pool_mode = transaction
default_pool_size = 4
min_pool_size = 4
"""

pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="needs PgBouncer (Debian: pgbouncer)")


@pytest.fixture
def pooled_url(postgresql_url: str, tmp_path: Path) -> Iterator[str]:
    """Yield the URL of an empty database behind PgBouncer, in the mode `transaction`."""
    [host] = parse_qs(urlsplit(postgresql_url).query)["host"]
    config, port = tmp_path / "pgbouncer.ini", free_port()
    config.write_text(CONFIG.format(host=host, port=port), encoding="utf-8")
    # PgBouncer does not run as root, so it runs as the user that the database runs as.
    for parent in [tmp_path, *tmp_path.parents][:3]:
        parent.chmod(0o755)
    as_user = ["-u", Path(host).owner()] if os.geteuid() == 0 else []
    process = subprocess.Popen([str(PGBOUNCER), "-q", *as_user, str(config)])
    url = f"postgresql://postgres@127.0.0.1:{port}/lab"
    deadline = time.monotonic() + 20
    while True:
        assert process.poll() is None
        assert time.monotonic() < deadline
        with suppress(psycopg.OperationalError):
            psycopg.connect(url, connect_timeout=2).close()
            break
        time.sleep(0.05)
    yield url
    process.terminate()
    process.wait(10)


def test_no_request_fails_behind_a_pooler(pooled_url: str) -> None:
    """Four processes' stores use eight connections over four sessions: each call succeeds."""

    async def use(store: Store, first_id: int) -> None:
        for user_id in range(first_id, first_id + 40):
            await store.create(user_id, "Al", 30)
            assert await store.get(user_id) == Record("Al", 30)
            await store.update(user_id, "Bo", 31)
            assert len(await store.page(user_id - 1, 1)) == 1
            await store.age_counts()
            await store.check()
            if user_id % 2:
                await store.delete(user_id)

    async def scenario() -> tuple[int, dict[int, int]]:
        stores = [store_at(pooled_url) for _ in range(4)]
        await asyncio.gather(*(use(each, 1_000 * n) for n, each in enumerate(stores)))
        listed = [i async for chunk in stores[0].snapshot() for i in chunk]
        counts = await stores[0].age_counts()
        for store in stores:
            store.close()
        return len(listed), counts

    assert asyncio.run(scenario()) == (80, {31: 80})
