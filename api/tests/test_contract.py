"""The contract, call by call: the response of each call, and the bounds of its parameters."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import api_client
from starlette.testclient import TestClient

from crud import MAX_USER_ID

EXAMPLES = Path(__file__).parents[2] / "contract" / "examples.json"


def create(api: TestClient, user_id: Any, name: Any = "Alice", age: Any = 30) -> int:
    return api.post("/users/", params={"user_id": user_id, "name": name, "age": age}).status_code


def test_the_examples_of_the_contract(api: TestClient) -> None:
    """Sent in order to an empty API, each example gets the response that it shows."""
    for example in json.loads(EXAMPLES.read_text(encoding="utf-8")):
        response = api.request(example["method"], example["path"], json=example.get("request"))

        assert example["status"] == response.status_code, example["what"]
        assert example["body"] == (response.json() if response.content else None), example["what"]


def test_a_created_user_has_a_location(api: TestClient) -> None:
    """201 comes with the address of the user."""
    response = api.post("/users/?user_id=5&name=Bo&age=1")

    assert response.headers["location"] == "/users/5"
    assert api.get(response.headers["location"]).json()["name"] == "Bo"


@pytest.mark.parametrize("user_id", [0, 1, MAX_USER_ID])
def test_user_ids_within_the_limits(api: TestClient, user_id: int) -> None:
    """Ids from 0 to 2**53 - 1 are accepted, and returned as they were sent."""
    assert create(api, user_id) == 201
    assert api.get(f"/users/{user_id}").json()["user_id"] == user_id


@pytest.mark.parametrize("user_id", [-1, MAX_USER_ID + 1, 2**64, "9" * 5000])
def test_user_ids_beyond_the_limits(api: TestClient, user_id: Any) -> None:
    """Ids below 0 or above 2**53 - 1 are rejected, in the query and in the path."""
    assert create(api, user_id) == 422
    assert api.get(f"/users/{user_id}").status_code == 422
    assert api.get("/users/").json() == {}


@pytest.mark.parametrize("age", [0, 1, 149, 150])
def test_ages_within_the_limits(api: TestClient, age: int) -> None:
    """Ages from 0 to 150 are accepted."""
    assert create(api, 1, age=age) == 201
    assert api.get("/stats/ages").json() == {"total": 1, "ages": {str(age): 1}}


@pytest.mark.parametrize("age", [-1, 151, 10**18, "9" * 4301])
def test_ages_beyond_the_limits(api: TestClient, age: Any) -> None:
    """Ages below 0 or above 150 are rejected, in a create and in an update."""
    assert create(api, 1, age=age) == 422
    assert create(api, 1, age=30) == 201
    assert api.put("/users/1", params={"name": "Alice", "age": age}).status_code == 422
    assert api.get("/users/1").json()["age"] == 30


SPELLINGS = [
    "+30", " 30", "30 ", "30.0", "3e1", "1_0", "0x1F", "030", "٣٠", "３０", "", "NaN", "true",
]  # fmt: skip
NAMES = [
    "A", "x" * 100, "李", "𝔘" * 100, "O'Brien-Smith", "<b>Bo</b>", "عمر", "=1+1", '"\\',
]  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_numbers_have_one_spelling(api: TestClient, spelling: str) -> None:
    """A number is plain decimal digits, so that each user has one address."""
    assert create(api, 1, age=spelling) == 422
    assert create(api, spelling) == 422
    if spelling.strip():
        assert api.get(f"/users/{spelling}").status_code == 422
    assert api.get("/users/").json() == {}


@pytest.mark.parametrize("name", NAMES)
def test_names_are_kept_as_sent(api: TestClient, name: str) -> None:
    """A name of 1 to 100 characters of any script is returned as it was sent, by every call."""
    assert create(api, 1, name=name) == 201
    assert api.get("/users/1").json()["name"] == name
    assert api.get("/users/").json() == {"1": {"name": name, "age": 30}}
    assert api.get("/users/?limit=1").json() == {"1": {"name": name, "age": 30}}


def test_white_space_around_a_name_is_not_counted(api: TestClient) -> None:
    """100 characters may have white space around them, which is kept; 101 may not."""
    name = "  " + "x" * 100 + "\u3000 "
    assert create(api, 1, name=name) == 201
    assert api.get("/users/1").json()["name"] == name
    assert create(api, 2, name="x" * 101) == 422
    assert create(api, 3, name="x" + " " * 200) == 422


def test_a_database_stores_a_name_with_its_white_space(database_url: str) -> None:
    """The rules of the tables accept the longest name that the API accepts."""
    name = " " * 50 + "x" * 100 + " " * 50
    with api_client(DATABASE_URL=database_url) as api:
        user: dict[str, str | int] = {"user_id": 1, "name": name, "age": 1}
        assert api.post("/users/", params=user).json() == user
        assert api.get("/users/1").json() == user


def test_white_space_around_a_name_is_not_counted_in_a_batch(api: TestClient) -> None:
    """A batch accepts the same names as a single create, so a listing can be sent as a batch."""
    users = {"1": {"name": "  " + "x" * 100 + "\u3000 ", "age": 30}}
    assert api.post("/users/batch", json=users).status_code == 200
    assert api.get("/users/").json() == users
    for name in ("x" * 101, "x" + " " * 200):
        rejected = {"2": {"name": name, "age": 30}}
        assert api.post("/users/batch", json=rejected).status_code == 422


@pytest.mark.parametrize(
    "name",
    ["", " ", "\u3000\u00a0", "a\x00b", "a\nb", "a\r\nb", "\tAl", "\x1b[31mred", "a\x7fb", "a\x85b"]
    + [f"a{chr(code)}b" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))],
)
def test_names_that_are_rejected(api: TestClient, name: str) -> None:
    """Empty and blank names, control characters and bidirectional overrides are rejected."""
    assert create(api, 1, name=name) == 422
    assert api.get("/users/").json() == {}


def test_pages_have_each_user_once_by_ascending_id(api: TestClient) -> None:
    """A client that follows `Link: rel="next"` sees each user once, also while others write."""
    ids = [5, 3, 900, 0, 77, MAX_USER_ID, 12]
    for user_id in ids:
        create(api, user_id)
    seen: list[int] = []
    address: str | None = "/users/?limit=2"
    while address:
        page = api.get(address)
        seen += [int(key) for key in page.json()]
        address = page.links.get("next", {}).get("url")
        create(api, 1)  # its id is on a page that was read already
        api.delete("/users/900")

    assert sorted(set(ids) - {900}) == seen


def test_the_last_page_has_no_next(api: TestClient) -> None:
    """A page with the last user has no Link header, even when it is full."""
    create(api, 1)
    create(api, 2)

    assert "link" not in api.get("/users/?limit=2").headers
    assert api.get("/users/?limit=1").headers["link"] == '</users/?limit=1&after=1>; rel="next"'
    assert api.get("/users/?after=2").json() == {}


@pytest.mark.parametrize(("limit", "status"), [(0, 422), (1, 200), (1000, 200), (1001, 422)])
def test_the_limits_of_a_page(api: TestClient, limit: int, status: int) -> None:
    """A page has 1 to 1,000 users."""
    assert api.get(f"/users/?limit={limit}").status_code == status


def test_a_full_store_is_507() -> None:
    """After MAX_USERS users, another create is 507; a delete makes room."""
    with api_client(MAX_USERS="2") as api:
        assert [create(api, user_id) for user_id in (1, 2, 3)] == [201, 201, 507]
        assert create(api, 1) == 409
        assert api.delete("/users/1").status_code == 204
        assert create(api, 3) == 201
        assert api.get("/stats/ages").json()["total"] == 2


ALLOWED = {
    "/users/": "GET, HEAD, POST",
    "/users": "GET, HEAD, POST",
    "/users/1": "DELETE, GET, HEAD, PUT",
    "/health": "GET, HEAD",
    "/ready": "GET, HEAD",
    "/stats/ages": "GET, HEAD",
    "/metrics": "GET, HEAD",
    "/docs": "GET, HEAD",
    "/openapi.json": "GET, HEAD",
    "/static/swagger-ui.css": "GET, HEAD",
    "/static/users": "GET, HEAD",
}


@pytest.mark.parametrize("path", ALLOWED)
def test_405_lists_every_method(api: TestClient, path: str) -> None:
    """The response to a method that an address does not have lists those that it has."""
    response = api.request("OPTIONS", path)

    assert response.status_code == 405
    assert response.headers["allow"] == ALLOWED[path]
    assert response.json() == {"detail": "Method Not Allowed"}


@pytest.mark.parametrize("path", [*ALLOWED, "/users/2", "/nowhere"])
def test_head_is_get_without_a_body(api: TestClient, path: str) -> None:
    """HEAD has the status and the headers of GET, and no body."""
    create(api, 1)
    get, head = api.get(path), api.head(path)
    varying = ("x-request-id", "content-length" if path == "/metrics" else "")

    assert head.status_code == get.status_code
    assert head.content == b""
    assert {**head.headers, **dict.fromkeys(varying)} == {**get.headers, **dict.fromkeys(varying)}


def test_a_listing_of_one_store_loads_into_another(sqlite_url: str, postgresql_url: str) -> None:
    """Backup by contract: from memory to SQLite, to PostgreSQL, and back, with the same bytes."""
    users = {"0": {"name": " Zoë 李 \U0001f600", "age": 0}, "7": {"name": '"Bo"', "age": 150}}
    backup = json.dumps(users).encode()
    for url in (None, sqlite_url, postgresql_url, None):
        with api_client(**({"DATABASE_URL": url} if url else {})) as api:
            headers = {"Content-Type": "application/json"}
            response = api.post("/users/batch", content=backup, headers=headers)
            assert response.json() == {"created": 2, "existing": [], "conflicting": []}
            assert api.get("/stats/ages").json() == {"total": 2, "ages": {"0": 1, "150": 1}}
            backup = api.get("/users/").content

    assert json.loads(backup) == users
