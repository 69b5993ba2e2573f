"""Users with a taken id, one by one and in a batch, and batches that are rejected."""

import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import api_client
from starlette.testclient import TestClient

from crud import MAX_BATCH_USERS

JSON = {"Content-Type": "application/json"}
AL = {"name": "Al", "age": 70}
BO = {"name": "Bo", "age": 1}


@pytest.fixture
def stored(store_variables: dict[str, str]) -> Iterator[TestClient]:
    """Yield a client of an API with user 7, over a store of each kind."""
    with api_client(**store_variables) as client:
        client.post("/users/?user_id=7&name=Al&age=70")
        yield client


@pytest.mark.parametrize("sent", ["name=Al&age=70", "name=Bo&age=1"])
def test_a_409_shows_the_stored_user(stored: TestClient, sent: str) -> None:
    """So a client sees whether its own create was successful before, without another request."""
    response = stored.post(f"/users/?user_id=7&{sent}")

    assert response.status_code == 409
    assert response.json() == {"detail": "User 7 already exists", "user": {"user_id": 7, **AL}}


def test_a_batch_separates_equal_users_from_conflicting_ones(stored: TestClient) -> None:
    """Each id is counted as created, or listed as existing (equal) or conflicting (unchanged)."""
    stored.post("/users/batch", json={"8": AL, "9": AL})
    users = {"9": AL, "8": {**AL, "age": 71}, "7": {**AL, "name": "Al "}, "6": BO, "5": BO}
    first = stored.post("/users/batch", json=users)
    second = stored.post("/users/batch", json=users)

    assert first.status_code == second.status_code == 200
    assert first.json() == {"created": 2, "existing": [9], "conflicting": [8, 7]}
    assert second.json() == {"created": 0, "existing": [9, 6, 5], "conflicting": [8, 7]}
    assert stored.get("/users/").json() == {"5": BO, "6": BO, "7": AL, "8": AL, "9": AL}
    assert stored.get("/stats/ages").json() == {"total": 5, "ages": {"1": 2, "70": 3}}


@pytest.mark.parametrize(
    "media_type", [None, "", "text/plain", "application/x-www-form-urlencoded", "application/json5"]
)
def test_a_batch_of_another_media_type_is_415(api: TestClient, media_type: str | None) -> None:
    """The response says which header to send; with parameters, JSON is still JSON."""
    headers = {} if media_type is None else {"Content-Type": media_type}
    response = api.post("/users/batch", content=json.dumps({"1": BO}), headers=headers)

    assert response.status_code == 415
    assert "Content-Type: application/json" in response.json()["detail"]
    assert api.get("/users/").json() == {}
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert api.post("/users/batch", content="{}", headers=headers).status_code == 200


@pytest.mark.parametrize("size", [2, MAX_BATCH_USERS])
@pytest.mark.parametrize(
    ("user_id", "user"),
    [
        ("500000", {"name": "Bo", "age": 151}),
        ("500000", {"name": "Bo", "age": "1"}),
        ("500000", {"name": "", "age": 1}),
        ("500000", {"name": "a\nb", "age": 1}),
        ("500000", {"name": "Bo"}),
        ("500000", {"name": "Bo", "age": 1, "admin": True}),
        ("500000", None),
        ("07", BO),
        ("-1", BO),
    ],
)
def test_the_first_mistake_of_a_batch_is_named(
    api: TestClient, size: int, user_id: str, user: Any
) -> None:
    """422 has one description, whose `loc` has the user's id, also in the largest batch."""
    users = {str(i): BO for i in range(1000, 1000 + size - 1)} | {user_id: user}
    response = api.post("/users/batch", json=users)
    [mistake] = response.json()["detail"]

    assert response.status_code == 422
    assert mistake["loc"][:2] == ["body", user_id]
    assert mistake["msg"]
    assert api.get("/users/").json() == {}


def test_one_of_several_mistakes_is_named(api: TestClient) -> None:
    """It is the first one in the order of the body."""
    users = {"1": BO, "2": {**BO, "age": 151}, "3": {**BO, "age": -1}, "4": None}
    [mistake] = api.post("/users/batch", json=users).json()["detail"]

    assert mistake["loc"] == ["body", "2"]


@pytest.mark.parametrize(
    "users",
    [
        {"1": {"name": "Bo", "age": 1} | dict.fromkeys(map(str, range(200_000)))},
        {str(i): dict.fromkeys("abcdefgh") for i in range(MAX_BATCH_USERS)},
    ],
    ids=["a user with 200,000 fields", "10,000 users with wrong fields"],
)
def test_many_mistakes_cost_no_more_than_reading_them(
    api: TestClient, users: dict[str, Any]
) -> None:
    """However much is wrong with a batch, it is rejected in the memory that its JSON takes."""
    body = json.dumps(users)
    del users
    tracemalloc.start()
    try:
        json.loads(body)
        read_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        response = api.post("/users/batch", content=body, headers=JSON)
        rejected_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert response.status_code == 422
    assert len(response.json()["detail"]) == 1
    assert rejected_bytes < 2 * read_bytes + 5 * len(body)


def test_a_batch_without_room_for_all_is_507() -> None:
    """Then no user of the batch is created; users that are stored already need no room."""
    with api_client(MAX_USERS="2") as api:
        assert api.post("/users/batch", json={"0": BO, "1": BO, "2": BO}).status_code == 507
        assert api.get("/users/").json() == {}
        assert api.post("/users/batch", json={"1": BO, "2": BO}).json()["created"] == 2
        assert api.post("/users/batch", json={"1": BO, "2": AL}).json() == {
            "created": 0,
            "existing": [1],
            "conflicting": [2],
        }
