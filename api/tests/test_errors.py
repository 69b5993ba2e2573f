"""Requests that are wrong on purpose: each gets a clear answer, and nothing is stored."""

import json
import tracemalloc
from typing import Any

import pytest
from starlette.testclient import TestClient

from crud import MAX_BATCH_USERS
from main import create_app
from settings import Settings

CREATE = "/users/?user_id=1&name=Bo&age=1"


def refusals(api: TestClient, method: str, path: str) -> list[tuple[str, str]]:
    """Return the kind and the place of each thing that is wrong with a request."""
    answer = api.request(method, path)
    assert answer.status_code == 422
    return [(wrong["type"], "/".join(map(str, wrong["loc"]))) for wrong in answer.json()["detail"]]


def test_a_parameter_given_twice(api: TestClient) -> None:
    """A parameter given twice is refused, equal or not: nobody has to know which one counts."""
    assert refusals(api, "POST", CREATE + "&age=2") == [("repeated", "query/age")]
    assert refusals(api, "POST", CREATE + "&age=1") == [("repeated", "query/age")]
    assert refusals(api, "GET", "/users/?limit=1&limit=2") == [("repeated", "query/limit")]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", CREATE + "&admin=true"),
        ("POST", CREATE + "&admin"),
        ("GET", "/users/?admin=1"),
        ("GET", "/users/1?admin=1"),
        ("DELETE", "/users/1?admin=1"),
        ("GET", "/health?admin=1"),
        ("GET", "/stats/ages?admin="),
    ],
)
def test_an_unknown_parameter(api: TestClient, method: str, path: str) -> None:
    """A parameter that a call does not know is refused: it may be a known one misspelt."""
    assert refusals(api, method, path) == [("extra_forbidden", "query/admin")]


@pytest.mark.parametrize("name", ["%ff", "%c3", "%ed%a0%80", "%c0%af", "A%"])
def test_a_query_that_is_not_utf8(api: TestClient, name: str) -> None:
    """Bytes that are not UTF-8 are refused instead of replaced; a lone % is just a character."""
    answer = api.post(f"/users/?user_id=1&age=1&name={name}")

    assert answer.status_code == (201 if name == "A%" else 422)


def test_a_long_value_is_not_echoed(api: TestClient) -> None:
    """An answer holds at most 100 characters of a refused value, wherever that value was."""
    for path in (
        f"/users/?user_id=1&name=Bo&age={'9' * 60_000}",
        f"/users/?user_id=1&age=1&name={'n' * 60_000}",
        CREATE + f"&{'p' * 60_000}=1",
    ):
        answer = api.post(path)

        assert answer.status_code == 422
        assert len(answer.content) < 500
        assert max(answer.text.count(letter * 101) for letter in "9np") == 0


@pytest.mark.parametrize("host", ["evil.example", "testserver.evil.example", "", "testserver@evil"])
def test_a_foreign_host(api: TestClient, host: str) -> None:
    """A Host that is not one of ours is refused: it may be a page that had its name rebound."""
    assert api.get("/health", headers={"host": host}).status_code == 400
    assert api.post(CREATE, headers={"host": host}).status_code == 400
    assert api.get("/users/").json() == {}


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:8000"])
def test_the_hosts_of_this_machine(host: str) -> None:
    """By default the names of this machine are let in, with any port."""
    with TestClient(create_app(Settings())) as api:
        assert api.get("/health", headers={"host": host}).status_code == 200


def test_any_host_if_so_configured() -> None:
    """With ALLOWED_HOSTS=* the Host is not looked at."""
    with TestClient(create_app(Settings(allowed_hosts=("*",)))) as api:
        assert api.get("/health", headers={"host": "anything.example"}).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://testserver:81", ""])
@pytest.mark.parametrize(
    ("method", "path"), [("POST", CREATE), ("PUT", CREATE), ("DELETE", "/users/1")]
)
def test_a_write_by_a_page_of_another_site(
    api: TestClient, origin: str, method: str, path: str
) -> None:
    """A browser tells where a page is from; a page of another site may not write."""
    assert api.request(method, path, headers={"origin": origin}).status_code == 403
    assert api.get("/users/").json() == {}


def test_our_own_page_may_write(api: TestClient) -> None:
    """Swagger's page comes from the API itself, so its "Try it out" works."""
    assert api.post(CREATE, headers={"origin": "http://testserver"}).status_code == 201


def test_every_error_has_the_one_shape(api: TestClient) -> None:
    """Errors are `{"detail": …}` in JSON, wherever in the API they arise."""
    answers = [
        api.get("/nowhere"),
        api.get("/static/nowhere"),
        api.get("/users/9"),
        api.get("/users/x"),
        api.request("PATCH", "/users/"),
        api.get("/health", headers={"host": "evil.example"}),
        api.post(CREATE, headers={"origin": "null"}),
    ]

    for answer in answers:
        assert answer.status_code >= 400
        assert answer.headers["content-type"] == "application/json"
        assert list(answer.json()) == ["detail"]


@pytest.mark.parametrize(
    "users",
    [
        {"1": {"name": "Bo", "age": 1} | dict.fromkeys(map(str, range(200_000)))},
        {str(i): dict.fromkeys("abcdefgh") for i in range(MAX_BATCH_USERS)},
    ],
    ids=["one user with a crowd of fields", "a crowd of users with wrong fields"],
)
def test_a_crowd_of_mistakes_costs_no_more_than_to_read_it(
    api: TestClient, users: dict[str, Any]
) -> None:
    """However much is wrong with a batch, it is refused in the memory that its JSON takes."""
    body = json.dumps(users)
    del users
    tracemalloc.start()
    try:
        json.loads(body)
        to_read = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        answer = api.post(
            "/users/batch", content=body, headers={"Content-Type": "application/json"}
        )
        to_refuse = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert answer.status_code == 422
    assert 1 <= len(answer.json()["detail"]) <= 100
    assert to_refuse < 2 * to_read + 5 * len(body)


def test_a_batch_that_a_full_store_has_no_room_for() -> None:
    """It is refused whole: 507, and nobody of it is created."""
    with TestClient(create_app(Settings(max_users=2, allowed_hosts=("testserver",)))) as api:
        users = {str(i): {"name": "Bo", "age": 1} for i in range(3)}
        assert api.post("/users/batch", json=users).status_code == 507
        assert api.get("/users/").json() == {}
        del users["0"]
        assert api.post("/users/batch", json=users).json() == {
            "created": 2,
            "existing": [],
            "conflicting": [],
        }
