"""API_TOKEN: every write needs it, and it is in no log and in no response."""

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import Served, api_client
from starlette.testclient import TestClient

TOKEN = "correct-horse-battery"  # noqa: S105 - of the test
RIGHT = {"authorization": f"Bearer {TOKEN}"}
WRITES = [
    ("POST", "/users/?user_id=1&name=Bo&age=1"),
    ("POST", "/users?user_id=1&name=Bo&age=1"),
    ("POST", "/users/batch"),
    ("PUT", "/users/7?name=Bo&age=1"),
    ("DELETE", "/users/7"),
]
READS = ["/users/", "/users/7", "/stats/ages", "/health", "/ready", "/metrics", "/docs"]


@pytest.fixture
def api() -> Iterator[TestClient]:
    """Yield a client of an API with a token and one user, 7."""
    with api_client(API_TOKEN=TOKEN) as client:
        client.post("/users/?user_id=7&name=Al&age=70", headers=RIGHT)
        yield client


WRONG = [
    None, "", "Bearer", "Bearer ", "Bearer wrong", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN[:-1]}",
    f"Bearer {TOKEN}x", f"Bearer {TOKEN.upper()}", f"Bearer {TOKEN} {TOKEN}", "Bearer \u00e9\u00ff",
    "Bearer " + "x" * 9000,
]  # fmt: skip


@pytest.mark.parametrize("given", WRONG)
def test_a_write_without_the_token_is_401(api: TestClient, given: str | None) -> None:
    """The response says how to authenticate, and nothing is changed."""
    headers: Any = {} if given is None else {"authorization": given.encode("latin-1")}
    for method, path in WRITES:
        response = api.request(method, path, headers=headers, json={})

        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
        assert response.json() == {"detail": "A write needs the API's token"}
    assert api.get("/users/").json() == {"7": {"name": "Al", "age": 70}}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "BREW"])
@pytest.mark.parametrize(
    "path", ["/nowhere", "/health", "/users/x", "/static/x", "/", "/users?x=1"]
)
def test_the_token_is_checked_before_the_route(api: TestClient, method: str, path: str) -> None:
    """Without it every write is 401, also of an address or a method that does not exist."""
    assert api.request(method, path).status_code == 401
    assert api.request(method, path, headers=RIGHT).status_code in (404, 405, 422)


@pytest.mark.parametrize("media_type", ["application/json", "text/plain"])
@pytest.mark.parametrize("query", ["", "?unknown=1"])
def test_without_the_token_no_body_is_read(api: TestClient, media_type: str, query: str) -> None:
    """401 comes first: a body may take a second to parse."""

    def body() -> Iterator[bytes]:
        yield b"["
        raise AssertionError("the body was read")

    headers = {"content-type": media_type}
    assert api.post(f"/users/batch{query}", headers=headers, content=body()).status_code == 401


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_with_the_token_writes_work(api: TestClient, scheme: str) -> None:
    """The letters of the scheme may be large or small (RFC 9110)."""
    headers = {"authorization": f"{scheme} {TOKEN}"}
    batch = {"2": {"name": "Cy", "age": 2}}

    assert api.post("/users/?user_id=1&name=Bo&age=1", headers=headers).status_code == 201
    assert api.post("/users/batch", headers=headers, json=batch).json()["created"] == 1
    assert api.put("/users/7?name=Al&age=71", headers=headers).status_code == 200
    assert api.delete("/users/1", headers=headers).status_code == 204


@pytest.mark.parametrize("path", READS)
def test_reads_need_no_token(api: TestClient, path: str) -> None:
    """Without a token, and also with a wrong one, a read works."""
    assert api.get(path).status_code == 200
    assert api.get(path, headers={"authorization": "Bearer wrong"}).status_code == 200


def test_the_document_declares_the_token(api: TestClient) -> None:
    """Swagger shows Authorize: all writes, and no reads, may have the token and declare 401."""
    document = api.get("/openapi.json").json()
    [scheme] = document["components"]["securitySchemes"].values()

    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    for calls in document["paths"].values():
        for verb, call in calls.items():
            assert ("401" in call["responses"]) == bool(call["security"]) == (verb != "get")


def test_a_page_of_another_site_may_not_write_with_the_token(api: TestClient) -> None:
    """The Origin header is checked first, so such a page cannot even guess tokens."""
    headers = {**RIGHT, "origin": "https://evil.example"}

    assert api.delete("/users/7", headers=headers).status_code == 403


def test_tokens_are_compared_in_constant_time(
    api: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time of `secrets.compare_digest` does not depend on how many letters are right.

    A measurement over a network proves nothing in a second, so the test looks for the call.
    """
    compared = []

    def compare_digest(given: bytes, right: bytes) -> bool:
        compared.append((given, right))
        return given == right

    monkeypatch.setattr(secrets, "compare_digest", compare_digest)
    api.delete("/users/7", headers={"authorization": "Bearer wrong"})
    api.delete("/users/7", headers=RIGHT)

    assert set(compared) == {(b"wrong", TOKEN.encode()), (TOKEN.encode(), TOKEN.encode())}


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_tokens_are_in_no_log_and_in_no_response(
    serve: Callable[..., Served], log_format: str
) -> None:
    """The log, with its start, and every response have neither the right token nor a wrong one."""
    served = serve(API_TOKEN=TOKEN, LOG_FORMAT=log_format)
    wrong = "not-the-right-token"
    responses = []
    with served.client() as client:
        for token in (TOKEN, wrong):
            headers = {"authorization": f"Bearer {token}"}
            for method, path in WRITES:
                responses.append(client.request(method, path, headers=headers, json={}))
        responses += [client.get(path) for path in (*READS, "/openapi.json")]
    log = served.stop()

    assert {each.status_code for each in responses} == {200, 201, 401, 404, 409}
    for text in (log, *(each.text + str(each.headers) for each in responses)):
        assert TOKEN not in text
        assert wrong not in text
