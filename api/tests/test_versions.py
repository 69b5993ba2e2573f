"""ETag and If-Match: a client changes a user only as it knows the user (RFC 9110, 13.1.1)."""

import asyncio
import re

import pytest
from conftest import Store, api_client, store_at
from starlette.testclient import TestClient

from crud import Record, UserChanged, version

USER = "/users/1"


@pytest.fixture
def stored(api: TestClient) -> TestClient:
    """Return a client of an API that has one user."""
    api.post("/users/?user_id=1&name=Al&age=30")
    return api


def test_the_etag_depends_on_the_content_only(store_variables: dict[str, str]) -> None:
    """So it is the same in every store, after a restart and for each call that shows the user."""
    with api_client(**store_variables) as api:
        created = api.post("/users/?user_id=1&name=Al&age=30").headers["etag"]
        read = api.get(USER).headers["etag"]
        changed = api.put(f"{USER}?name=Bo&age=30").headers["etag"]
        back = api.put(f"{USER}?name=Al&age=30").headers["etag"]
        conflict = api.post("/users/?user_id=1&name=Bo&age=1").headers["etag"]

    assert re.fullmatch('"[0-9a-f]{16}"', created)
    assert created == read == back == conflict == f'"{version(Record("Al", 30))}"'
    assert created != changed


@pytest.mark.parametrize("verb", ["PUT", "DELETE"])
@pytest.mark.parametrize(
    "accepted", ["{etag}", "*", '"0123456789abcdef", {etag}', '{etag},"x"', None]
)
def test_a_known_version_is_changed(stored: TestClient, verb: str, accepted: str | None) -> None:
    """If-Match lists the versions that may be changed; `*`, or no header, allows each one."""
    etag = stored.get(USER).headers["etag"]
    headers = {} if accepted is None else {"if-match": accepted.format(etag=etag)}
    path = f"{USER}?name=Bo&age=31" if verb == "PUT" else USER

    assert stored.request(verb, path, headers=headers).status_code in (200, 204)


@pytest.mark.parametrize("verb", ["PUT", "DELETE"])
@pytest.mark.parametrize("other", ['"0123456789abcdef"', "W/{etag}", "{bare}", '""', "x" * 999])
def test_another_version_is_not_changed(stored: TestClient, verb: str, other: str) -> None:
    """412 shows the stored user and its ETag; a weak or malformed tag matches nothing."""
    etag = stored.get(USER).headers["etag"]
    headers = {"if-match": other.format(etag=etag, bare=etag.strip('"'))}
    path = f"{USER}?name=Bo&age=31" if verb == "PUT" else USER
    response = stored.request(verb, path, headers=headers)

    assert response.status_code == 412
    assert response.json() == {
        "detail": "User 1 was changed by somebody else",
        "user": {"user_id": 1, "name": "Al", "age": 30},
    }
    assert response.headers["etag"] == etag
    assert stored.get(USER).json()["name"] == "Al"


def test_a_missing_user_is_404_whatever_the_version(api: TestClient) -> None:
    """There is nothing that could be changed."""
    assert api.put(f"{USER}?name=Bo&age=1", headers={"if-match": "*"}).status_code == 404
    assert api.delete(USER, headers={"if-match": '"0123456789abcdef"'}).status_code == 404


async def append(store: Store, letter: str, times: int) -> None:
    """Add letters to the user's name, each to the version that was read last."""
    for _ in range(times):
        while True:
            user = await store.get(1)
            try:
                await store.update(1, user.name + letter, user.age, {version(user)})
                break
            except UserChanged:
                await asyncio.sleep(0)


@pytest.mark.parametrize("kind", ["memory", "sqlite", "postgresql"])
def test_no_change_is_lost(request: pytest.FixtureRequest, kind: str) -> None:
    """Eight clients change the name, over two processes' stores; the age stays the same.

    So a store that compares only ages, or checks the version outside its transaction, loses some.
    """
    url = None if kind == "memory" else request.getfixturevalue(f"{kind}_url")

    async def scenario() -> str:
        first = store_at(url)
        second = store_at(url) if url else first
        await first.create(1, "-", 30)
        letters = "abcdefgh"
        writers = [append((first, second)[i % 2], each, 10) for i, each in enumerate(letters)]
        await asyncio.gather(*writers)
        name = (await first.get(1)).name
        first.close()
        second.close()
        return name

    assert sorted(asyncio.run(scenario())) == sorted("-" + "abcdefgh" * 10)
