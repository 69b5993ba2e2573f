"""The short way to an endpoint against FastAPI's own: nobody can tell which one a request took.

Two APIs are served side by side, one without its door. Each probe goes to both, byte by byte over a
socket, and both answers have to be the same: status, headers in their order, body.
"""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from crud import MAX_USER_ID
from door import Door
from guard import ASGIApp, Message, Receive, Scope, Send
from main import create_app
from settings import Settings

TOKEN = "correct-horse-battery"  # noqa: S105 - of the test
DIFFERENT = (b"date:", b"x-request-id:")  # headers that two answers may differ in

NUMBERS = [
    "7", "0", "07", "+7", "-7", "7.0", "1_0", "%37", "%2B7", "7%20", "%207", "7%00", "7%0A", "",
    "x",
    "7%2F", "%2F7", "7/", "..", "batch", "%D9%A3", "%FF", "7;8", "7,8", str(MAX_USER_ID),
    str(MAX_USER_ID + 1), "9" * 30, "9" * 4301, "{user_id}", "151",
]  # fmt: skip
NAMES = [
    "Bo", "Bo%20Li", "Bo+Li", "%2B", "", "+", "%20Bo%20", "%E4%B8%80", "%F0%9F%98%80", "\u00e4",
    "%C3",
    "%ED%A0%80", "%80", "%", "%2", "%zz", "%00", "%0A", "%E2%80%AE", "a" * 100, "a" * 101, "a=b",
    "=",
    "%26", "%3D", '"', "%22%5C", "a;age=3", "a#b", "%E2%80%A8",
]  # fmt: skip
QUERIES = [
    "", "?", "?&", "?name=Al", "?age=5", "?name=Al&age=5", "?age=5&name=Al", "?name=Al&age=5&",
    "?&name=Al&age=5", "?name=Al&&age=5", "?name=Al&age=5&x=1", "?name=Al&age=5&name=Al",
    "?name=Al&age=5&user_id=7", "?name=Al&age=5&user_id=7&user_id=7", "?name=Al&age", "?name&age=5",
    "?n%61me=Al&age=5", "?name=Al&n%61me=Al&age=5", "?NAME=Al&age=5", "?name=Al;age=5", "?=1", "?x",
    "?name=Al&age=5&response=1", "?name=Al&age=5&=", "?name=Al&age=5&%FF=1",
    "?user_id=7&name=Al&age=5",
]  # fmt: skip
METHODS = ["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "TRACE", "get"]
PATHS = [
    "/health", "/health/", "/Health", "//health", "/heal%74h", "/health%0A", "/health?x=1",
    "/health?",
    "/users", "/users/", "/users//", "/users/7", "/users/8", "/users/7/", "/users%2F7",
    "/users/batch",
    "/stats/ages", "/stats/ages?x", "/stats/ages/", "/stats/7", "/stats", "/ready", "/",
    "/nowhere/7",
]  # fmt: skip


def http(method: str, target: str, *headers: str, body: str = "") -> bytes:
    """Return a request, with the Host that it should have unless its headers name one."""
    lines = [f"{method} {target} HTTP/1.1", *headers, "Connection: close"]
    if not any(header.lower().startswith("host") for header in headers):
        lines.insert(1, "Host: localhost")
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def with_and_without_door(settings: Settings) -> tuple[FastAPI, FastAPI]:
    """Return two APIs, of which the second has FastAPI's way only."""
    with_door, without = create_app(settings), create_app(settings)
    without.user_middleware = [m for m in without.user_middleware if "api" not in m.kwargs]
    assert len(without.user_middleware) == len(with_door.user_middleware) - 1
    return with_door, without


class Pair:
    """Two APIs, with a door and without, that have been asked the same things."""

    def __init__(self, settings: Settings) -> None:
        self._servers = [
            uvicorn.Server(
                uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=1)
            )
            for app in with_and_without_door(settings)
        ]
        self._threads = [threading.Thread(target=server.run) for server in self._servers]

    def __enter__(self) -> "Pair":
        for thread in self._threads:
            thread.start()
        deadline = time.monotonic() + 10
        while not all(server.started for server in self._servers):
            assert time.monotonic() < deadline, "a server did not start"
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        for server, thread in zip(self._servers, self._threads, strict=True):
            server.should_exit = True
            thread.join()

    def ask(self, request: bytes) -> bytes:
        """Send a request to both, and return the answer that both gave."""
        short, own = (exchange(server, request) for server in self._servers)
        assert short == own, request
        return short


def exchange(server: uvicorn.Server, request: bytes) -> bytes:
    """Return a server's answer without the headers that differ from answer to answer."""
    with socket.create_connection(server.servers[0].sockets[0].getsockname(), 5) as connection:
        connection.sendall(request)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, end, body = answer.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.startswith(DIFFERENT)]
    assert len(lines) + len(DIFFERENT) >= len(head.split(b"\r\n"))
    return b"\r\n".join(lines) + end + body


@pytest.fixture(scope="module", params=[None, TOKEN], ids=["open", "token"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Yield two servers of APIs that have user 7, open or with a token for writes."""
    with Pair(Settings(api_token=request.param, max_users=1000)) as two:
        yield two


@pytest.fixture
def authorized(pair: Pair) -> Pair:
    """Return the two servers, with user 7 and without user 8, whatever was asked before."""
    token = f"Authorization: Bearer {TOKEN}"
    pair.ask(http("POST", "/users/?user_id=7&name=Al&age=70", token))
    pair.ask(http("PUT", "/users/7?name=Al&age=70", token))
    pair.ask(http("DELETE", "/users/8", token))
    return pair


def test_every_method_at_every_address(authorized: Pair) -> None:
    """Known and unknown methods and addresses, users that exist and that do not."""
    for method, path in product(METHODS, PATHS):
        authorized.ask(http(method, path, f"Authorization: Bearer {TOKEN}"))


def test_every_spelling_of_a_number(authorized: Pair) -> None:
    """In the address and in the query: signs, zeros, spaces, slashes, other scripts, huge ones."""
    token = f"Authorization: Bearer {TOKEN}"
    for number in NUMBERS:
        for method in ("GET", "PUT", "DELETE"):
            query = "?name=Al&age=5" if method == "PUT" else ""
            authorized.ask(http(method, f"/users/{number}{query}", token))
        authorized.ask(http("PUT", f"/users/7?name=Al&age={number}", token))
        authorized.ask(http("POST", f"/users/?user_id={number}&name=Al&age=5", token))
        authorized.ask(http("POST", f"/users/?user_id=9&name=Al&age={number}", token))


def test_every_spelling_of_a_name(authorized: Pair) -> None:
    """Escapes good and bad, UTF-8 good and bad, white space, control characters, lengths."""
    token = f"Authorization: Bearer {TOKEN}"
    for user_id, name in enumerate(NAMES, 100):
        authorized.ask(http("PUT", f"/users/7?name={name}&age=5", token))
        authorized.ask(http("GET", "/users/7"))
        authorized.ask(http("POST", f"/users/?user_id={user_id}&name={name}&age=5", token))
        authorized.ask(http("GET", f"/users/{user_id}"))


def test_every_query_at_every_call(authorized: Pair) -> None:
    """Parameters missing, unknown, repeated, empty, in any order, with names escaped."""
    calls = ("GET /health", "GET /stats/ages", "GET /users/7", "PUT /users/7", "POST /users/")
    for call, query in product((*calls, "POST /users", "DELETE /users/8"), QUERIES):
        method, path = call.split()
        authorized.ask(http(method, path + query, f"Authorization: Bearer {TOKEN}"))


def test_a_life(authorized: Pair) -> None:
    """Created, there, taken, changed, gone: also with a store that is full in the end."""
    token = f"Authorization: Bearer {TOKEN}"
    answers = [
        authorized.ask(request).split(b" ", 2)[1]
        for request in (
            http("POST", "/users/?user_id=8&name=Bo+%22%C3%A9&age=1", token),
            http("POST", "/users/?user_id=8&name=Bo&age=1", token),
            http("GET", "/users/8"),
            http("HEAD", "/users/8"),
            http("PUT", "/users/8?name=Cy&age=2", token),
            http("GET", "/stats/ages"),
            http("DELETE", "/users/8", token),
            http("DELETE", "/users/8", token),
            http("GET", "/users/8"),
        )
    ]

    assert answers == [b"201", b"409", b"200", b"200", b"200", b"200", b"204", b"404", b"404"]
    for user_id in range(10_000, 11_001):
        full = authorized.ask(http("POST", f"/users/?user_id={user_id}&name=Al&age=5", token))
    assert full.startswith(b"HTTP/1.1 507")
    for user_id in range(10_000, 11_001):
        authorized.ask(http("DELETE", f"/users/{user_id}", token))


def test_headers_that_matter(authorized: Pair) -> None:
    """Tokens right,
    wrong and missing; hosts and origins own and foreign; bodies nobody asked for."""
    headers: list[tuple[str, ...]] = [
        (),
        ("Authorization: Bearer wrong",),
        (f"Authorization: bearer  {TOKEN}",),
        (f"Authorization: Basic {TOKEN}",),
        (f"Authorization: Bearer {TOKEN}", "Authorization: Bearer wrong"),
        ("Authorization: Bearer wrong", f"Authorization: Bearer {TOKEN}"),
        ("Host: evil.example",),
        ("Host: LOCALHOST:8000", "Origin: http://localhost:8000"),
        ("Host: localhost", "Host: localhost"),
        ("Host:",),
        ("Origin: http://evil.example", f"Authorization: Bearer {TOKEN}"),
        ("Origin: null",),
        ("X-Request-ID: abc", "Accept: text/html", "Cookie: a=b"),
        ("Content-Type: application/json", "Content-Length: 2"),
        ("Content-Length: x",),
        ("Expect: 100-continue", "Content-Length: 2"),
    ]
    calls = ("GET /health", "GET /users/7", "PUT /users/7?name=Al&age=5", "DELETE /users/8")
    for call, sent in product((*calls, "PUT /users/7?name=Al", "POST /users/?x"), headers):
        method, target = call.split()
        body = "{}" if any("Length: 2" in header for header in sent) else ""
        authorized.ask(http(method, target, *sent, body=body))


def pieces(*usual: str) -> st.SearchStrategy[str]:
    """Return usual pieces of a target, and sometimes anything that fits into a request's line."""
    visible = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=6)
    escaped = st.binary(min_size=1, max_size=4).map(lambda b: "".join(f"%{x:02x}" for x in b))
    return st.sampled_from(usual) | st.sampled_from(usual) | visible | escaped


TARGETS = st.builds(
    lambda path, pairs: path + ("?" + "&".join(pairs) if pairs else ""),
    st.sampled_from(["/health", "/stats/ages", "/users/", "/users"])
    | pieces("7", "8", "5000", "07").map("/users/{}".format)
    | pieces("/", "users", "health").map("/{}".format),
    st.lists(
        st.builds(
            "{}={}".format,
            pieces("name", "age", "user_id"),
            pieces("7", "8", "70", "Al", "Al+Bo", "%41", "%c3%a9"),
        )
        | pieces("name=Al", "age=5", "user_id=8"),
        max_size=4,
    ),
)


@given(method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD"]), target=TARGETS)
@settings(max_examples=1000, deadline=None)
def test_whatever_is_asked(pair: Pair, method: str, target: str) -> None:
    """Any request line that can be made up of right, wrong and strange pieces."""
    pair.ask(http(method, target, f"Authorization: Bearer {TOKEN}"))


@pytest.mark.parametrize(
    "changed",
    [
        {"path": "/users/7", "root_path": "/users"},
        {"path": "/api/health", "root_path": "/api"},
        {"path": "/users/7", "query_string": "name=ä&age=5".encode(), "method": "PUT"},
        {"path": "/users/8", "method": "DELETE"},
        {"path": "/users/8", "method": "POST"},
    ],
)
def test_what_no_client_can_send(settings: Settings, changed: dict[str, Any]) -> None:
    """Message for message, where a server or a proxy in between would not let a probe through."""

    async def told(api: ASGIApp) -> list[Message]:
        messages: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request"}

        async def send(message: Message) -> None:
            messages.append(message)

        usual = {"type": "http", "method": "GET", "query_string": b"", "root_path": ""}
        await api({**usual, "headers": [(b"host", b"testserver")], **changed}, receive, send)
        for message in messages:
            message["headers"] = message.get("headers", [])[:-1]  # the last is the request's id
        return messages

    answers = []
    for api in with_and_without_door(settings):
        TestClient(api).post("/users/?user_id=7&name=Al&age=70")
        TestClient(api).post("/users/?user_id=8&name=Al&age=70")
        answers.append(asyncio.run(told(api)))
    assert answers[0] == answers[1]


# --------------------------------------------------------------------------------------- batches

KEYS = [
    "8", "0", "-0", "08", "+8", "-8", "8.0", "8e0", " 8", "8 ", "1_0", "", "x", "\\u0038", "٣",
    "\\u002d0", str(MAX_USER_ID), str(MAX_USER_ID + 1), "9" * 30, "9" * 4301, "\\ud800",
]  # fmt: skip
AGES = [
    "30", "0", "-0", "150", "151", "-1", "30.0", "3e1", "030", "true", "null", '"30"', "[]", "NaN",
    "1e400", "9" * 30, "9" * 4301,
]  # fmt: skip
QUOTED_NAMES = [
    "Bo", " Bo ", "", " ", "\u3000", "\u3000Bo", "a" * 100, "a" * 101, " " + "a" * 100, " " * 201,
    "\\u0000", "\\n", "\n", "\x7f", "\u202e", "\\u202e", "\\ud800", "\\ud83d\\ude00", "😀" * 100,
    "\\/", '\\"', "\\x", "{", "\u2028", "\u00ad", "\ue000", "e\u0301",
]  # fmt: skip
USERS = [
    '{"name": "Bo"}', '{"age": 3}', "{}", "[]", "null", '["Bo", 3]', '{"age": 3, "name": "Bo"}',
    '{"name": "Bo", "age": 3, "x": 1}', '{"name": "Bo", "age": 3, "age": 4}', '{"Name": "Bo"}',
    '{"name": 3, "age": 3}', '{"name": null, "age": 3}', '{"name": "Bo", "age": 3,}',
    '{"n\\u0061me": "Bo", "age": 3}',
]  # fmt: skip
ODD_BATCHES = [
    "", " ", "{}", " {} ", "{}x", "{", "[]", "null", "3", "\ufeff{}", '{"8": }', "[" * 5_000,
    '{"8": ' * 5_000,
]  # fmt: skip


def batch(body: str | bytes, *headers: str) -> bytes:
    """Return the request that sends this as a batch."""
    sent = body.encode(errors="surrogatepass") if isinstance(body, str) else body
    own = ("Content-Type: application/json", f"Authorization: Bearer {TOKEN}")
    length = f"Content-Length: {len(sent)}"
    return http("POST", "/users/batch", *(headers or own), length) + sent


def one(key: str, name: str, age: str) -> str:
    """Return a batch of one user."""
    return f'{{"{key}": {{"name": "{name}", "age": {age}}}}}'


def test_every_batch(authorized: Pair) -> None:
    """A batch, right or wrong in each of its parts, is answered and stored alike."""
    for body in (
        *(one(key, "Bo", "30") for key in KEYS),
        *(one("8", "Bo", age) for age in AGES),
        *(one("8", name, "30") for name in QUOTED_NAMES),
        *(f'{{"8": {user}}}' for user in USERS),
        *ODD_BATCHES,
    ):
        authorized.ask(batch(body))
        for user_id in (0, 3, 8, 10, MAX_USER_ID):
            authorized.ask(http("GET", f"/users/{user_id}"))
            authorized.ask(http("DELETE", f"/users/{user_id}", f"Authorization: Bearer {TOKEN}"))


@pytest.mark.parametrize(
    "body",
    [
        b'{"8": {"name": "\xff", "age": 3}}',
        b'{"8": {"name": "\xed\xa0\x80", "age": 3}}',
        one("8", "Bo", "30").encode("utf-16"),
        one("8", "Bo", "30").encode("utf-32"),
        '{"8": {"name": "Bo", "age": 3}, "9": {"name": "\u202e", "age": 3}}'.encode(),
        b'{"8": {"name": "Bo", "age": 3}, "8": {"name": "Al", "age": 4}}',
        b'{"8": {"name": "Bo", "age": 3}, "\\u0038": {"name": "Al", "age": 4}}',
        b'{"8": {"name": "", "age": 3}, "8": {"name": "Al", "age": 4}}',
        json.dumps({i: {"name": "Bo", "age": 3} for i in range(1, 995)}).encode(),
        json.dumps({i: {"name": "Bo", "age": 3} for i in range(1, 9_999)}).encode(),
        json.dumps({i: {"name": "Bo", "age": 3} for i in range(1, 10_002)}).encode(),
        b"{" + b" " * 1_000_000 + b"}",
    ],
    ids=range(12),
)
def test_batches_of_bytes(body: bytes) -> None:
    """Encodings, repeated ids, too many users, and more than there is room for."""
    with Pair(Settings(api_token=None, max_users=1_000)) as pair:
        pair.ask(batch(body))
        pair.ask(http("GET", "/users/"))


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ("Content-Type: application/json",),
        ("Content-Type: application/json", "Authorization: Bearer wrong"),
        ("Content-Type: text/plain", f"Authorization: Bearer {TOKEN}"),
        ("Content-Type: application/json; charset=utf-8", f"Authorization: Bearer {TOKEN}"),
        ("Content-Type: application/problem+json", f"Authorization: Bearer {TOKEN}"),
        (f"Authorization: Bearer {TOKEN}",),
        (
            "Content-Type: text/plain",
            "Content-Type: application/json",
            f"Authorization: Bearer {TOKEN}",
        ),
    ],
)
def test_headers_of_a_batch(authorized: Pair, headers: tuple[str, ...]) -> None:
    """A batch is one by its Content-Type, and needs the token."""
    authorized.ask(batch(one("8", "Bo", "30"), *headers))
    authorized.ask(http("GET", "/users/8"))


def test_a_batch_in_chunks(authorized: Pair) -> None:
    """A body that does not say how long it is; and a query beside a body."""
    own = ("Content-Type: application/json", f"Authorization: Bearer {TOKEN}")
    body = one("8", "Bo", "30")
    chunks = f"{len(body):x}\r\n{body}\r\n0\r\n\r\n"
    authorized.ask(http("POST", "/users/batch", *own, "Transfer-Encoding: chunked", body=chunks))
    authorized.ask(
        http("POST", "/users/batch?x=1", *own, f"Content-Length: {len(body)}", body=body)
    )


@given(
    users=st.lists(
        st.tuples(
            st.sampled_from(KEYS) | st.integers(0, MAX_USER_ID).map(str),
            st.sampled_from(QUOTED_NAMES) | st.text(st.characters(exclude_characters='"\\')),
            st.sampled_from(AGES) | st.integers(0, 150).map(str),
        ),
        max_size=3,
    )
)
@settings(max_examples=500, deadline=None)
def test_whatever_is_in_a_batch(pair: Pair, users: list[tuple[str, str, str]]) -> None:
    """Any batch that can be made up of right, wrong and strange pieces."""
    pair.ask(batch("{" + ",".join(one(*user)[1:-1] for user in users) + "}"))


def test_a_client_that_leaves_in_the_middle_of_a_batch(settings: Settings) -> None:
    """What came is half of a batch, however whole it looks: nothing of it is stored."""
    api = create_app(settings)
    body = one("8", "Bo", "30").encode()
    messages: list[Message] = [
        {"type": "http.request", "body": body, "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        assert message.get("status") in (None, 400)

    headers = [
        (b"host", b"testserver"),
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % (len(body) + 1)),
    ]
    scope = {"type": "http", "method": "POST", "path": "/users/batch", "query_string": b""}
    asyncio.run(api({**scope, "root_path": "", "headers": headers}, receive, send))
    assert TestClient(api).get("/users/8").status_code == 404


# ---------------------------------------------------------------------------- which way is taken

ORDINARY = [
    "GET /health",
    "GET /ready",
    "POST /users/?user_id=8&name=Bo%20Li&age=1",
    "POST /users?age=2&user_id=9&name=Bo+Li",
    "GET /users/8",
    "GET /users/4041",
    "PUT /users/8?name=%E4%B8%80&age=2",
    "GET /stats/ages",
    "DELETE /users/8",
]
OTHERS = [
    "GET /users/", "GET /metrics", "POST /users/batch", "PATCH /users/8", "GET /users/x",
    "GET /health?x=1", "PUT /users/8?name=Bo", "PUT /users/8?name=Bo&age=1&age=1", "GET /nowhere",
]  # fmt: skip


@pytest.mark.parametrize("token", [None, TOKEN])
def test_ordinary_requests_take_the_short_way(settings: Settings, token: str | None) -> None:
    """Probes, counts, batches and the four calls about one user do without FastAPI's routes."""
    beyond: list[str] = []

    async def routes(scope: Scope, _: Receive, send: Send) -> None:
        beyond.append(scope["path"])
        await send({"type": "http.response.start", "status": 599, "headers": []})
        await send({"type": "http.response.body"})

    api = TestClient(Door(routes, create_app(replace(settings, api_token=token))))
    for call in ORDINARY:
        method, target = call.split()
        answer = api.request(method, target, headers={"authorization": f"Bearer {token}"})
        assert answer.status_code < 500, call
    users = {"8": {"name": "Bo", "age": 3}}
    headers = {"authorization": f"Bearer {token}"}
    assert api.post("/users/batch", json=users, headers=headers).json()["created"] == 1
    assert beyond == []
    for call in OTHERS:
        method, target = call.split()
        assert api.request(method, target).status_code == 599, call


def test_an_endpoint_is_called_once_whatever_it_raises(settings: Settings) -> None:
    """An error is answered, not tried again: a write whose fate is unknown must not be repeated."""
    calls: list[int] = []
    api = create_app(settings)

    @api.get("/raises")
    async def endpoint() -> None:
        calls.append(1)
        raise LookupError

    @api.exception_handler(LookupError)
    async def answer(*_: object) -> PlainTextResponse:
        return PlainTextResponse("looked", 418)

    with TestClient(api) as client:
        assert (client.get("/raises").status_code, calls) == (418, [1])
