"""API_TOKEN: who may write, and where the token never shows."""

import secrets
from collections.abc import Callable, Iterator

import pytest
from conftest import Served
from starlette.testclient import TestClient

from main import create_app
from settings import Settings

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
    guarded = Settings(allowed_hosts=("testserver",), api_token=TOKEN)
    with TestClient(create_app(guarded)) as client:
        client.post("/users/?user_id=7&name=Al&age=70", headers=RIGHT)
        yield client


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        TOKEN,
        f"Basic {TOKEN}",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN.upper()}",
        f"Bearer {TOKEN} {TOKEN}",
        "Bearer \u00e9",
    ],
)
@pytest.mark.parametrize(("method", "path"), WRITES)
def test_without_the_token_nothing_is_written(
    api: TestClient, method: str, path: str, given: str | None
) -> None:
    """A write without the whole token is 401, says how to authenticate, and changes nothing."""
    headers = {} if given is None else {"authorization": given.encode("latin-1")}
    answer = api.request(method, path, headers=headers, json={})  # type: ignore[arg-type]

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json() == {"detail": "A write needs the API's token"}
    assert api.get("/users/").json() == {"7": {"name": "Al", "age": 70}}


@pytest.mark.parametrize("media_type", ["application/json", "text/plain"])
@pytest.mark.parametrize("query", ["", "?unknown=1"])
def test_without_the_token_no_body_is_read(api: TestClient, media_type: str, query: str) -> None:
    """What a stranger sends is not parsed, which may take a second: 401 comes before its faults."""
    headers = {"content-type": media_type}
    answer = api.post(f"/users/batch{query}", headers=headers, content=b"[" * 1_000_000)

    assert answer.status_code == 401


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_with_the_token_writes_work(api: TestClient, scheme: str) -> None:
    """The token lets each write through; the scheme's letters may be large or small (RFC 9110)."""
    headers = {"authorization": f"{scheme} {TOKEN}"}
    batch = {"2": {"name": "Cy", "age": 2}}

    assert api.post("/users/?user_id=1&name=Bo&age=1", headers=headers).status_code == 201
    assert api.post("/users/batch", headers=headers, json=batch).json()["created"] == 1
    assert api.put("/users/7?name=Al&age=71", headers=headers).status_code == 200
    assert api.delete("/users/1", headers=headers).status_code == 204


@pytest.mark.parametrize("path", READS)
def test_reads_stay_open(api: TestClient, path: str) -> None:
    """Who only reads needs no token, and a wrong one does not keep anybody out."""
    assert api.get(path).status_code == 200
    assert api.get(path, headers={"authorization": "Bearer wrong"}).status_code == 200


def test_the_document_declares_it(api: TestClient, settings: Settings) -> None:
    """Swagger shows Authorize: writes, and only they, ask for the bearer scheme, declare 401."""
    document = api.get("/openapi.json").json()
    schemes = document["components"]["securitySchemes"]

    assert [(scheme["type"], scheme["scheme"]) for scheme in schemes.values()] == [
        ("http", "bearer")
    ]
    for calls in document["paths"].values():
        for verb, call in calls.items():
            assert ("security" in call) == ("401" in call["responses"]) == (verb != "get")
    with TestClient(create_app(settings)) as open_api:
        assert "securitySchemes" not in open_api.get("/openapi.json").json()["components"]


def test_a_token_does_not_open_the_door_to_other_sites(api: TestClient) -> None:
    """The origin is looked at first: a page of another site may not even try tokens."""
    headers = {**RIGHT, "origin": "https://evil.example"}

    assert api.delete("/users/7", headers=headers).status_code == 403


def test_the_comparison_takes_the_same_time(
    api: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens are compared by `secrets.compare_digest`: the time tells nothing of the first letters.

    Measuring that over a network proves nothing in a second, so the call itself is looked at.
    """
    compared = []

    def spy(given: bytes, right: bytes) -> bool:
        compared.append((given, right))
        return given == right

    monkeypatch.setattr(secrets, "compare_digest", spy)
    api.delete("/users/7", headers={"authorization": "Bearer wrong"})
    api.delete("/users/7", headers=RIGHT)

    assert set(compared) == {(b"wrong", TOKEN.encode()), (TOKEN.encode(), TOKEN.encode())}


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_the_token_shows_nowhere(serve: Callable[..., Served], log_format: str) -> None:
    """Neither the log, the start line included, nor any answer has the token, right or wrong."""
    served = serve(API_TOKEN=TOKEN, LOG_FORMAT=log_format)
    wrong = "not-the-right-token"
    answers = []
    with served.client() as client:
        for token in (TOKEN, wrong):
            headers = {"authorization": f"Bearer {token}"}
            for method, path in WRITES:
                answers.append(client.request(method, path, headers=headers, json={}))
        answers += [client.get(path) for path in (*READS, "/openapi.json")]
    log = served.log.read_text(encoding="utf-8")

    assert {answer.status_code for answer in answers} == {200, 201, 401, 404, 409}
    for text in (log, *(answer.text + str(answer.headers) for answer in answers)):
        assert TOKEN not in text
        assert wrong not in text
