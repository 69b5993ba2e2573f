"""Requests to a real server on a loopback port that behaves, and to many that do not."""

import gzip
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from conftest import (
    DEADLINE_SECONDS,
    Api,
    Exchange,
    Keeping,
    Responder,
    data,
    headed,
    raw,
    silence,
    stale,
    text,
    trickle,
    until,
)

from api_client import ApiClient, ApiError
from monitor import fetch_counts
from widgets import detail_of, explain

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def error_of(client: ApiClient) -> ApiError:
    """Return the error of the next request, which has a reason and a hint."""
    with pytest.raises(ApiError) as caught:
        fetch_counts(client)
    reason, hint = explain(caught.value)
    assert reason.endswith(".")
    assert "\n" not in reason
    assert hint.endswith(".")
    return caught.value


def reason_of(client: ApiClient) -> str:
    return explain(error_of(client))[0]


def test_the_environment_changes_no_request(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy set for something else does not come between the dashboard and its API."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    api.counts({18: 1})
    assert fetch_counts(api.client).users_by_age == {18: 1}


@pytest.fixture
def keeping() -> Iterator[Api]:
    """An API that keeps its connections."""
    api = Api(Keeping)
    yield api
    api.close()


@pytest.fixture
def client(keeping: Api) -> ApiClient:
    """A client that has made one request."""
    keeping.counts({18: 1})
    client = keeping.client
    fetch_counts(client)
    return client


def test_a_connection_is_kept(keeping: Api, client: ApiClient) -> None:
    """From tick to tick there is one connection."""
    for _ in range(3):
        assert fetch_counts(client).users_by_age == {18: 1}
    assert (len(keeping.paths), keeping.connections) == (4, 1)


def test_a_connection_that_the_api_has_closed_is_replaced(keeping: Api, client: ApiClient) -> None:
    """A kept connection may be closed: a GET is sent once more, and the caller sees no error."""
    keeping.responders["/stats/ages"] = stale(keeping.responders["/stats/ages"])
    assert fetch_counts(client).users_by_age == {18: 1}
    assert (len(keeping.paths), keeping.connections) == (3, 2)


def test_what_is_repeated(keeping: Api, client: ApiClient) -> None:
    """A GET is sent twice at most. A write is sent once: it may be done without a response."""
    keeping.responders["/stats/ages"] = keeping.responders["POST /users/"] = raw()
    assert reason_of(client) == "The connection broke."
    with pytest.raises(ApiError):
        client.request(keeping.settings.api_url, "POST")
    assert (len(keeping.paths), len(keeping.writes)) == (3, 1)


@pytest.mark.parametrize(
    ("status", "reason", "hint"),
    [
        (400, "400 Bad Request", "ALLOWED_HOSTS"),
        (401, "401 Unauthorized", "API_TOKEN"),
        (403, "403 Forbidden", "Origin"),
        (404, "404 Not Found", "API_URL"),
        (404, "404 Not Found", "deleted by another client"),
        (503, "503 Service Unavailable", "log"),
        (507, "507 Insufficient Storage", "MAX_USERS"),
    ],
)
def test_each_kind_of_error_has_its_hint(api: Api, status: int, reason: str, hint: str) -> None:
    """What to do depends on the status; 404 also from the listing means a wrong address."""
    api.responders["/stats/ages"] = data({}, status=status)
    error = error_of(api.client)
    assert error.kind == ("API error" if status == 503 else "API refuses")
    assert explain(error)[0] == f"The API responded with {reason}."
    assert hint in explain(error)[1]


WRONG_RESPONSES = {
    "500": (data({}, status=500), "The API responded with 500 Internal Server Error."),
    "204": (headed(b"", 204, {}), "The API responded with 204 No Content."),
    "redirect": (
        headed(b"", 307, {"Location": "/elsewhere"}),
        "The API responded with 307 Temporary Redirect, a redirect to /elsewhere.",
    ),
    "garbage": (text("{]"), "The response is not as expected: JSON is malformed"),
    "compressed": (
        headed(gzip.compress(b'{"total": 0, "ages": {}}'), 200, {"Content-Encoding": "gzip"}),
        "The response is not as expected: JSON is malformed",
    ),
    "too large": (text(" " * 65_537), "The response is larger than 65,536 bytes."),
    "endless": (
        trickle(OK + b"\r\n", b" " * 65_536),
        "The response is larger than 65,536 bytes.",
    ),
}
HALF_RESPONSES = {
    "no byte": raw(),
    "noise": raw(b"\x00\xff" * 50),
    "ssh": raw(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "cut body": raw(OK + b'Content-Length: 100\r\n\r\n{"total"'),
    "cut chunk": raw(OK + b'Transfer-Encoding: chunked\r\n\r\n20\r\n{"total"'),
    "huge header": raw(OK + b"X: " + b"x" * 1_000_000),
}


@pytest.mark.parametrize(("responder", "reason"), WRONG_RESPONSES.values(), ids=WRONG_RESPONSES)
def test_a_wrong_response_is_named(api: Api, responder: Responder, reason: str) -> None:
    """A response that is not the expected one is named, and no other request is sent."""
    api.responders["/stats/ages"] = responder
    error = error_of(api.client)
    assert (error.kind == "Not understood") == ("expected" in reason or "total" in reason)
    assert explain(error)[0].startswith(reason)
    assert error.url == api.statistics_url
    assert api.paths == ["/stats/ages"]


@pytest.mark.parametrize("responder", HALF_RESPONSES.values(), ids=HALF_RESPONSES)
def test_half_a_response_is_none(api: Api, responder: Responder) -> None:
    """Half a response, or what is no HTTP, is another error than a wrong response."""
    api.responders["/stats/ages"] = responder
    error = error_of(api.client)
    assert (error.kind, explain(error)[0]) == ("API down", "The connection broke.")


VALIDATION = [{"loc": ["query", "age"], "msg": "too old"}, {"loc": [1], "msg": "**b**"}]
MESSAGES = {
    "text": ({"detail": "User 7 not found"}, "User 7 not found"),
    "list": ({"detail": VALIDATION}, "age: too old; 1: **b**"),
    "map": ({"detail": {"loc": 5}}, ""),
    "number": ({"detail": 7}, ""),
    "long": ({"detail": "x" * 10_000}, "x" * 500),
    "no map": ([], ""),
}


@pytest.mark.parametrize(("body", "detail"), MESSAGES.values(), ids=MESSAGES)
def test_the_message_of_the_api(api: Api, body: object, detail: str) -> None:
    """`detail` is understood in both shapes that FastAPI has, cut; anything else is left out."""
    api.responders["/stats/ages"] = data(body, status=409)
    error = error_of(api.client)
    assert (error.kind, error.status, detail_of(error)) == ("API refuses", 409, detail)


def test_no_server_listens(api: Api) -> None:
    """An API that is not started is the most common error: the hint says how to start it."""
    client = api.client
    api.stop()
    reason, hint = explain(error_of(client))
    assert reason == "Connection refused: no server listens there."
    assert hint.startswith("Start the API")


def test_a_name_without_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's name that is not in the network has its own reason."""

    def no_such_name(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_such_name)
    reason, hint = explain(error_of(ApiClient("http://api:8000/users/")))
    assert reason == "The host name in the address cannot be resolved."
    assert "container" in hint


def test_tls_where_there_is_none(api: Api) -> None:
    """https:// for an API without TLS is another error than an API that is down."""
    client = ApiClient(f"https://127.0.0.1:{api.port}/users/")
    assert reason_of(client) == "No secure (TLS) connection could be made."


def test_an_address_that_cannot_be_used() -> None:
    """An address that the settings accept and the HTTP library does not is an error, no crash."""
    assert reason_of(ApiClient("http://[v1.x]/users/")) == "The address cannot be used."


def test_no_server_can_hold_on_longer_than_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silent, trickling and unresolvable servers are all left within six seconds."""
    released = threading.Event()
    really_look_up = socket.getaddrinfo

    def look_up(host: object, *args: object, **options: object) -> object:
        if host in ("stuck", b"stuck"):
            released.wait(DEADLINE_SECONDS)
        return really_look_up(host, *args, **options)  # type: ignore[arg-type]

    def timed(client: ApiClient) -> tuple[str, float]:
        started_at = time.monotonic()
        return reason_of(client), time.monotonic() - started_at

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    silent, late = "The API sent nothing for too long.", "The response was not complete in time."
    slow: list[tuple[str, Responder, str]] = [
        ("/stats/ages", silence, silent),
        ("/stats/ages", trickle(OK + b"\r\n{", b""), silent),
        ("/stats/ages", trickle(b"HTTP/1.1 200 OK\r\nX: ", b"x"), late),
        ("/stats/ages", trickle(OK + b"\r\n", b" "), late),
    ]
    apis = [Api() for _ in slow]
    for api, (path, responder, _) in zip(apis, slow, strict=True):
        api.responders[path] = responder
    clients = [*(api.client for api in apis), ApiClient("http://stuck:8000/users/")]
    try:
        with ThreadPoolExecutor(len(clients)) as pool:
            results = list(pool.map(timed, clients))
        until(lambda: sum(each.name.startswith("request") for each in threading.enumerate()) <= 1)
    finally:
        released.set()
        for api in apis:
            api.close()
    assert [reason for reason, _ in results] == [*(reason for *_, reason in slow), late]
    assert max(seconds for _, seconds in results) < DEADLINE_SECONDS / 2


def test_an_error_is_logged_with_its_request_id(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    """The request id is in the log of the dashboard and of the API."""
    sent: list[str] = []

    def refuse(exchange: Exchange) -> None:
        sent.append(exchange.headers["X-Request-ID"])
        data({}, status=503)(exchange)

    api.responders["/stats/ages"] = refuse
    error_of(api.client)
    [request_id] = sent

    assert re.fullmatch("[0-9a-f]{16}", request_id)
    assert [record.getMessage() for record in caplog.records] == [
        f"GET /stats/ages: status 503, request {request_id}"
    ]


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("7", 7, 7),
        ("in 40 s", 10, 40),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
        ("9" * 30, 60, 60),
        ("soon", 0, 0),
        ("-5", 0, 0),
        ("", 0, 0),
    ],
)
def test_retry_after(api: Api, header: str, least: float, most: float) -> None:
    """A number of seconds or a date, at most a minute; what cannot be read is no wait."""
    if header == "in 40 s":
        header = format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)
    api.responders["/stats/ages"] = headed(b"", 503, {"Retry-After": header})
    assert least <= error_of(api.client).retry_after_seconds <= most
