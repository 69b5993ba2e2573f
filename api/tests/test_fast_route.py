"""The fast path gives the same responses as FastAPI's own way.

Two APIs are served, one without the fast path. Each request goes to both, byte by byte, and both
responses must be the same: status, headers and body.
"""

import copy
import threading
import time
from collections.abc import Iterator
from itertools import product

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_http import exchange
from raw_http import http as request_bytes
from starlette.testclient import TestClient

from calls import calls
from crud import MAX_USER_ID
from fast_route import FastRoute
from main import create_app
from settings import read_settings

DIFFERENT = (b"date:", b"x-request-id:")  # headers that two responses may differ in

NUMBERS = [
    "7", "0", "07", "+7", "-7", "7.0", "1_0", "%37", "%2B7", "7%20", "%207", "7%00", "7%0A", "",
    "x", "7%2F", "%2F7", "7/", "..", "batch", "%D9%A3", "%FF", "7;8", "7,8", str(MAX_USER_ID),
    str(MAX_USER_ID + 1), "9" * 30, "9" * 4301, "{user_id}", "151",
]  # fmt: skip
NAMES = [
    "Bo", "Bo%20Li", "Bo+Li", "%2B", "", "+", "%20Bo%20", "%E4%B8%80", "%F0%9F%98%80", "\u00e4",
    "%C3", "%ED%A0%80", "%80", "%", "%2", "%zz", "%00", "%0A", "%E2%80%AE", "a" * 100, "a" * 101,
    "a=b", "=", "%26", "%3D", '"', "%22%5C", "a;age=3", "a#b", "%E2%80%A8",
]  # fmt: skip
QUERIES = [
    "", "?", "?&", "?name=Al", "?age=5", "?name=Al&age=5", "?age=5&name=Al", "?name=Al&age=5&",
    "?&name=Al&age=5", "?name=Al&&age=5", "?name=Al&age=5&x=1", "?name=Al&age=5&name=Al",
    "?name=Al&age=5&user_id=7", "?name=Al&age=5&user_id=7&user_id=7", "?name=Al&age", "?name&age=5",
    "?n%61me=Al&age=5", "?name=Al&n%61me=Al&age=5", "?NAME=Al&age=5", "?name=Al;age=5", "?=1", "?x",
    "?name=Al&age=5&response=1", "?name=Al&age=5&store=1", "?name=Al&age=5&=",
    "?name=Al&age=5&%FF=1", "?user_id=7&name=Al&age=5",
]  # fmt: skip
METHODS = ["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "TRACE", "get"]
PATHS = [
    "/health", "/health/", "/Health", "//health", "/heal%74h", "/health%0A", "/health?x=1",
    "/health?", "/users", "/users/", "/users//", "/users/7", "/users/8", "/users/7/", "/users%2F7",
    "/users/batch", "/stats/ages", "/stats/ages?x", "/stats/ages/", "/stats/7", "/stats", "/ready",
    "/", "/nowhere/7",
]  # fmt: skip


def http(method: str, target: str) -> bytes:
    """Return a request; what is not ASCII in `target` is sent as UTF-8."""
    return request_bytes(method, target.encode())


def without_fast_path(app: FastAPI) -> FastAPI:
    """Return the app with routes that leave every request to FastAPI."""
    for number, route in enumerate(app.router.routes):
        if isinstance(route, FastRoute):
            app.router.routes[number] = slow = copy.copy(route)
            slow._validate = None
    return app


class Pair:
    """Two APIs, with and without the fast path, that get the same requests."""

    def __init__(self) -> None:
        settings = read_settings({"MAX_USERS": "200"})
        apps = create_app(settings), without_fast_path(create_app(settings))
        self._servers = [
            uvicorn.Server(
                uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=1)
            )
            for app in apps
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

    def send(self, request: bytes) -> int:
        """Send a request to both APIs; return the status of their equal responses."""
        fast, slow = (response_of(server, request) for server in self._servers)
        assert fast == slow, request
        return int(fast[0].split()[1]) if fast[0] else 0


def response_of(server: uvicorn.Server, request: bytes) -> list[bytes]:
    """Return the status line, the sorted headers and the body of a response."""
    response = exchange(server.servers[0].sockets[0].getsockname()[1], request)
    head, _, body = response.partition(b"\r\n\r\n")
    status, *headers = head.split(b"\r\n")
    return [status, *sorted(each for each in headers if not each.startswith(DIFFERENT)), body]


@pytest.fixture(scope="module")
def served() -> Iterator[Pair]:
    """Yield two served APIs."""
    with Pair() as two:
        yield two


@pytest.fixture
def pair(served: Pair) -> Pair:
    """Return the two served APIs, with user 7 and without user 8."""
    served.send(http("POST", "/users/?user_id=7&name=Al&age=70"))
    served.send(http("PUT", "/users/7?name=Al&age=70"))
    served.send(http("DELETE", "/users/8"))
    return served


def test_methods_and_addresses(pair: Pair) -> None:
    """Known and unknown methods and addresses, users that exist and that do not."""
    for method, path in product(METHODS, PATHS):
        pair.send(http(method, path))


def test_spellings_of_a_number(pair: Pair) -> None:
    """In the path and in the query: signs, zeros, spaces, slashes, other scripts, huge numbers."""
    for number in NUMBERS:
        for method in ("GET", "PUT", "DELETE"):
            query = "?name=Al&age=5" if method == "PUT" else ""
            pair.send(http(method, f"/users/{number}{query}"))
        pair.send(http("PUT", f"/users/7?name=Al&age={number}"))
        pair.send(http("POST", f"/users/?user_id={number}&name=Al&age=5"))
        pair.send(http("POST", f"/users/?user_id=9&name=Al&age={number}"))


def test_spellings_of_a_name(pair: Pair) -> None:
    """Valid and invalid escapes and UTF-8, white space, control characters, lengths."""
    for user_id, name in enumerate(NAMES, 100):
        pair.send(http("PUT", f"/users/7?name={name}&age=5"))
        pair.send(http("GET", "/users/7"))
        pair.send(http("POST", f"/users/?user_id={user_id}&name={name}&age=5"))
        pair.send(http("GET", f"/users/{user_id}"))


def test_queries(pair: Pair) -> None:
    """Missing, unknown, repeated and empty parameters, in any order, and with escaped names."""
    requests = ("GET /health", "GET /stats/ages", "GET /users/7", "PUT /users/7", "POST /users/")
    for call, query in product((*requests, "POST /users", "DELETE /users/8"), QUERIES):
        method, path = call.split()
        pair.send(http(method, path + query))


def test_calls_about_one_user(pair: Pair) -> None:
    """Create, conflict, get, update, delete, not found; in the end the store is full."""
    statuses = [
        pair.send(http(*call.split()))
        for call in (
            "POST /users/?user_id=8&name=Bo+%22%C3%A9&age=1",
            "POST /users/?user_id=8&name=Bo&age=1",
            "GET /users/8",
            "HEAD /users/8",
            "PUT /users/8?name=Cy&age=2",
            "GET /stats/ages",
            "DELETE /users/8",
            "DELETE /users/8",
            "GET /users/8",
        )
    ]

    assert statuses == [201, 409, 200, 200, 200, 200, 204, 404, 404]
    for user_id in range(10_000, 10_201):
        full = pair.send(http("POST", f"/users/?user_id={user_id}&name=Al&age=5"))
    assert full == 507
    for user_id in range(10_000, 10_201):
        pair.send(http("DELETE", f"/users/{user_id}"))


def parts(*usual: str) -> st.SearchStrategy[str]:
    """Return usual parts of a target, and sometimes any visible or escaped characters."""
    visible = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=6)
    escaped = st.binary(min_size=1, max_size=4).map(lambda b: "".join(f"%{x:02x}" for x in b))
    return st.sampled_from(usual) | st.sampled_from(usual) | visible | escaped


TARGETS = st.builds(
    lambda path, pairs: path + ("?" + "&".join(pairs) if pairs else ""),
    st.sampled_from(["/health", "/stats/ages", "/users/", "/users"])
    | parts("7", "8", "5000", "07").map("/users/{}".format)
    | parts("/", "users", "health").map("/{}".format),
    st.lists(
        st.builds(
            "{}={}".format,
            parts("name", "age", "user_id"),
            parts("7", "8", "70", "Al", "Al+Bo", "%41", "%c3%a9"),
        )
        | parts("name=Al", "age=5", "user_id=8"),
        max_size=4,
    ),
)


@given(method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD"]), target=TARGETS)
@settings(max_examples=1000, deadline=None)
def test_random_request_lines(served: Pair, method: str, target: str) -> None:
    """Request lines of valid, invalid and strange parts."""
    served.send(http(method, target))


def test_which_calls_take_the_fast_path() -> None:
    """The liveness probe, the counts, and the four calls about one user."""
    fast = {
        (method, route.path)
        for route in calls.routes
        if isinstance(route, FastRoute) and route._validate
        for method in route.methods or ()
    }

    assert fast == {
        ("GET", "/health"),
        ("GET", "/stats/ages"),
        ("POST", "/users"),
        ("POST", "/users/"),
        ("GET", "/users/{user_id}"),
        ("PUT", "/users/{user_id}"),
        ("DELETE", "/users/{user_id}"),
    }


def test_an_endpoint_that_raises_is_called_once() -> None:
    """After an exception FastAPI's way is not tried: a write must not be repeated."""
    called: list[int] = []
    api = create_app(read_settings({"ALLOWED_HOSTS": "testserver"}))

    async def endpoint() -> None:
        called.append(1)
        raise LookupError

    @api.exception_handler(LookupError)
    async def respond(*_: object) -> PlainTextResponse:
        return PlainTextResponse("looked", 418)

    api.router.routes.append(FastRoute("/raises", endpoint, status_code=204))
    with TestClient(api) as client:
        assert (client.get("/raises").status_code, called) == (418, [1])
