"""The API as a process: many clients at once, and an orderly end."""

import asyncio
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable

import httpx2
import pytest
from conftest import Served

WRITERS = 8
STEADY_USERS = 6_000  # so that a listing has several chunks, with other requests between them
CHURNED_USERS = 250  # by each writer


def test_listings_while_eight_writers_write(serve: Callable[..., Served]) -> None:
    """GET /users/ never fails beside writers, and each answer is one state that there was.

    A writer creates its next user before it deletes the one before, so at every moment it has one
    or two. A listing put together from two different moments would show none.
    """
    served = serve()
    done = threading.Event()
    failures: list[str] = []
    with served.client() as client:
        for user_id in [*range(STEADY_USERS), *(n * 10_000 for n in range(1, WRITERS + 1))]:
            client.post(f"/users/?user_id={user_id}&name=Al&age=1")

    def write(first_id: int) -> None:
        with served.client() as client:
            for user_id in range(first_id, first_id + CHURNED_USERS):
                created = client.post(f"/users/?user_id={user_id + 1}&name=Al&age=1").status_code
                deleted = client.delete(f"/users/{user_id}").status_code
                if (created, deleted) != (201, 204):
                    failures.append(f"write {user_id}: {created}, {deleted}")

    def torn(listing: dict[str, object]) -> list[str]:
        owners = Counter(int(user_id) // 10_000 for user_id in listing)
        states = [owners[0] == STEADY_USERS, *(owners[n] in (1, 2) for n in range(1, WRITERS + 1))]
        return [] if all(states) else [f"a listing of two moments: {owners}"]

    def read() -> int:
        listings = 0
        with served.client() as client:
            while not done.is_set():
                answer = client.get("/users/")
                listings += 1
                failures.extend(torn(answer.json()) if answer.status_code == 200 else [answer.text])
        return listings

    async def together() -> int:
        readers = [asyncio.create_task(asyncio.to_thread(read)) for _ in range(2)]
        await asyncio.gather(*(asyncio.to_thread(write, n * 10_000) for n in range(1, WRITERS + 1)))
        done.set()
        return sum([await reader for reader in readers])

    listings = asyncio.run(together())

    assert failures == []
    assert listings >= 20
    with served.client() as client:
        assert client.get("/stats/ages").json()["total"] == STEADY_USERS + WRITERS


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to send")
def test_readiness_is_withdrawn_before_the_end(serve: Callable[..., Served]) -> None:
    """On SIGTERM /ready turns 503 while everything else is still answered, for DRAIN_SECONDS."""
    served = serve(DRAIN_SECONDS="1.5")
    with served.client() as client:
        assert client.get("/ready").status_code == 200
        served.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 1.4
        while (ready := client.get("/ready")).status_code == 200 and time.monotonic() < deadline:
            time.sleep(0.01)

        assert ready.status_code == 503
        assert ready.json() == {"detail": "The process is stopping"}
        assert client.get("/health").status_code == 200
        assert client.post("/users/?user_id=1&name=Al&age=1").status_code == 201
    assert served.process.wait(timeout=10) in (0, -signal.SIGTERM)
    with pytest.raises(httpx2.ConnectError), served.client() as client:
        client.get("/health")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to send")
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_without_a_drain_it_ends_at_once(serve: Callable[..., Served], signum: int) -> None:
    """By default, and always on Ctrl-C, the process ends soon, idle clients or not."""
    served = serve()
    with served.client() as client:
        client.get("/health")
        served.process.send_signal(signum)
        started = time.monotonic()
        code = served.process.wait(timeout=10)

    assert code in (0, -signum)
    assert time.monotonic() - started < 5
