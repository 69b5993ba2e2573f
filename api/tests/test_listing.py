"""GET /users/ without a limit: one state of all users, for few clients at a time."""

import asyncio
import gc
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from conftest import Served, api_client, some_users
from fastapi import FastAPI
from raw_http import ListingClient
from starlette.testclient import TestClient

import listing
from crud import MAX_SNAPSHOTS, SNAPSHOT_CHUNK_USERS
from main import create_app
from settings import read_settings

WRITERS = 8
STEADY_USERS = 6_000  # so that a listing has several chunks, with other requests between them
USERS_OF_A_WRITER = 150


@contextmanager
def app_with(**variables: str) -> Iterator[FastAPI]:
    """Yield an app, and close its store."""
    app = create_app(read_settings(variables))
    yield app
    app.state.store.close()


async def add_users(app: FastAPI) -> None:
    """Create so many users that a listing has several chunks."""
    await app.state.store.create_many(some_users(2 * SNAPSHOT_CHUNK_USERS + 1))


@pytest.mark.parametrize("limit", ["SEND_TIMEOUT_SECONDS", "LISTING_TIMEOUT_SECONDS"])
@pytest.mark.parametrize("spec_version", ["2.3", "2.4"])  # of uvicorn today, and of ASGI
def test_a_listing_that_is_not_read_is_stopped(
    spec_version: str,
    limit: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """After the timeout of a chunk, or of all, the response is cut off; its place is free again."""
    monkeypatch.setattr(listing, limit, 0.02)

    async def scenario(app: FastAPI) -> None:
        await add_users(app)
        for _ in range(MAX_SNAPSHOTS + 1):
            client = ListingClient(max_messages=2, spec_version=spec_version)
            await client.request(app)
            assert client.status == 200
            assert len(client.messages) == 2  # without the last message
            await asyncio.sleep(0)

    with app_with() as app:
        asyncio.run(asyncio.wait_for(scenario(app), timeout=30))

    log = capsys.readouterr().out
    assert log.count("a listing was stopped") == MAX_SNAPSHOTS + 1
    assert "Traceback" not in log


def test_a_fifth_listing_at_once_is_rejected(store_variables: dict[str, str]) -> None:
    """It gets 503 and Retry-After; when another client disconnects, there is room again."""

    async def scenario(app: FastAPI) -> None:
        await add_users(app)
        readers = [ListingClient(max_messages=2) for _ in range(4)]
        requests = [asyncio.create_task(reader.request(app)) for reader in readers]
        for reader in readers:
            await reader.stopped_reading.wait()
        fifth = ListingClient(max_messages=100)
        await fifth.request(app)
        assert [reader.status for reader in (*readers, fifth)] == [200, 200, 200, 200, 503]
        assert (b"retry-after", b"1") in fifth.messages[0]["headers"]
        assert b"too many listings" in fifth.messages[1]["body"]
        readers[0].disconnect()
        await requests[0]
        for _ in range(2):  # the first of them ends, and frees its place
            complete = ListingClient(max_messages=100)
            await complete.request(app)
            assert complete.status == 200
        for reader in readers:
            reader.disconnect()
        await asyncio.gather(*requests)

    with app_with(**store_variables) as app:
        asyncio.run(asyncio.wait_for(scenario(app), timeout=20))


def test_a_client_that_disconnects_frees_its_place(store_variables: dict[str, str]) -> None:
    """Its place and its transaction are free at once, also without the garbage collector."""

    async def listing(app: FastAPI, max_messages: int) -> int:
        client = ListingClient(max_messages)
        request = asyncio.create_task(client.request(app))
        await client.stopped_reading.wait()
        client.disconnect()
        await request
        return client.status

    async def scenario(app: FastAPI) -> None:
        await add_users(app)
        for _ in range(2):
            listings = [listing(app, max_messages) for max_messages in (1, 2, 3, 4)]
            assert await asyncio.gather(*listings) == [200] * 4

    gc.collect()
    gc.disable()
    try:
        with app_with(**store_variables) as app:
            asyncio.run(asyncio.wait_for(scenario(app), timeout=20))
    finally:
        gc.enable()


def write_users(served: Served, first_id: int) -> list[str]:
    """Create each next user before the last one is deleted; return the writes that failed.

    So at every moment there are one or two users of this client.
    """
    failures: list[str] = []
    with served.client() as client:
        for user_id in range(first_id, first_id + USERS_OF_A_WRITER):
            created = client.post(f"/users/?user_id={user_id + 1}&name=Al&age=1").status_code
            deleted = client.delete(f"/users/{user_id}").status_code
            if (created, deleted) != (201, 204):
                failures.append(f"write {user_id}: {created}, {deleted}")
    return failures


def read_listings(served: Served, done: threading.Event) -> list[str]:
    """Read listings until `done`; return a text for each, which is empty if the listing is right.

    A listing that mixes two moments would have none, or three, of some writer's users.
    """
    results: list[str] = []
    with served.client() as client:
        while not done.is_set():
            response = client.get("/users/")
            if response.status_code != 200:
                results.append(response.text)
                continue
            users = Counter(int(user_id) // 10_000 for user_id in response.json())
            right = all(users[number] in (1, 2) for number in range(1, WRITERS + 1))
            results.append("" if right and users[0] == STEADY_USERS else f"a mixture: {users}")
    return results


def test_listings_while_eight_clients_write(serve: Callable[..., Served]) -> None:
    """GET /users/ never fails during writes, and each response is the state of one moment."""
    served = serve()
    first_ids = [number * 10_000 for number in range(1, WRITERS + 1)]
    with served.client() as client:
        users = {i: {"name": "Al", "age": 1} for i in [*range(STEADY_USERS), *first_ids]}
        client.post("/users/batch", json=users)
    done = threading.Event()
    with ThreadPoolExecutor(WRITERS + 2) as pool:
        readers = [pool.submit(read_listings, served, done) for _ in range(2)]
        failures = list(pool.map(lambda i: write_users(served, i), first_ids))
        done.set()
    listings = [result for reader in readers for result in reader.result()]

    assert failures == [[]] * WRITERS
    assert [result for result in listings if result] == []
    assert len(listings) >= 20
    with served.client() as client:
        assert client.get("/stats/ages").json()["total"] == STEADY_USERS + WRITERS


def search(api: TestClient, name: str, limit: int) -> tuple[list[str], int]:
    """Follow the links of a search; return the ids that were found, and the number of pages."""
    found: list[str] = []
    pages, path = 0, f"/users/?name={name}&limit={limit}"
    while path:
        response = api.get(path)
        assert response.status_code == 200
        found += response.json()
        pages += 1
        path = response.links.get("next", {}).get("url", "")
        assert pages < 50
    return found, pages


def test_users_are_found_by_a_part_of_their_name(store_variables: dict[str, str]) -> None:
    """Case does not matter, results are in the order of ids, and pages are linked."""
    users = {str(i): {"name": f"User {i} Groß" if i % 7 else "Élan", "age": 1} for i in range(300)}
    with api_client(**store_variables) as api:
        api.post("/users/batch", json=users)
        elan = [i for i in users if int(i) % 7 == 0]

        assert search(api, "ÉLA", 100) == (elan, 1)
        assert search(api, "éla", 10) == (elan, 5)
        assert search(api, "GROSS", 1000)[0] == [i for i in users if int(i) % 7]
        assert search(api, "user 12 ", 1000) == (["12"], 1)
        assert search(api, "%25", 10) == ([], 1)
        assert api.get("/users/?name=").status_code == 422


def test_a_search_looks_at_a_bounded_number_of_users(api: TestClient) -> None:
    """One response looks at 10,000 users; it may find none, and links to the rest."""
    for start in range(0, 30_000, 10_000):
        some = range(start, start + 10_000)
        api.post("/users/batch", json={str(i): {"name": "Al", "age": 1} for i in some})
    api.post("/users/?user_id=30000&name=Bo&age=1")
    first = api.get("/users/?name=bo&limit=5")

    assert first.json() == {}
    assert first.links["next"]["url"] == "/users/?name=bo&limit=5&after=9999"
    assert search(api, "bo", 5) == (["30000"], 4)
