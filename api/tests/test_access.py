"""Which Host, Origin and path prefix a request may have, at which public address."""

import json
from collections.abc import Callable

import pytest
from conftest import Served, api_client
from raw_http import exchange
from starlette.testclient import TestClient

CREATE = "/users/?user_id=1&name=Bo&age=1"
PUBLIC = "https://lab.example, https://hub.example/user/me/proxy/8000/"
OPEN, PREFIX = {"PUBLIC_URL": PUBLIC}, "/user/me/proxy/8000"


def create(api: TestClient, host: str, origin: str, **more: str) -> int:
    headers = {"host": host, "origin": origin, **more}
    return api.post(CREATE, headers=headers).status_code


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost", "http://localhost"),
        ("localhost:80", "http://localhost"),
        ("localhost", "http://localhost:80"),
        ("localhost:443", "https://localhost"),
        ("localhost", "https://localhost"),
        ("LOCALHOST:8000", "http://localhost:8000"),
        ("[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_the_own_page_may_write(api: TestClient, host: str, origin: str) -> None:
    """A default port may be written in one header, and left out in the other."""
    assert create(api, host, origin) == 201


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost", "http://localhost:443"),
        ("localhost:8000", "http://localhost:3000"),
        ("localhost", "http://localhost.evil.example"),
        ("localhost", "localhost"),
        ("localhost", "://localhost"),
        ("localhost", "null"),
        ("localhost", ""),
    ],
)
@pytest.mark.parametrize("variables", [{}, OPEN], ids=["local", "public"])
def test_a_foreign_page_may_not_write(variables: dict[str, str], host: str, origin: str) -> None:
    """PUBLIC_URL opens its own addresses, and nothing else."""
    with api_client(**variables) as api:
        assert create(api, host, origin) == 403


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("lab.example", "https://lab.example"),  # a proxy that passes both headers
        ("localhost:8000", "https://lab.example"),  # one that rewrites Host
        ("127.0.0.1:8000", "https://hub.example"),
        ("lab.example", "http://localhost:80"),  # one that rewrites Origin to the API's address
    ],
)
def test_a_public_address_may_be_rewritten_in_one_header(host: str, origin: str) -> None:
    """Port forwarders rewrite Host or Origin. With PUBLIC_URL writes work; without, they do not."""
    with api_client() as api:
        assert create(api, host, origin) in (400, 403)
    with api_client(**OPEN) as api:
        assert create(api, host, origin) == 201


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("evil.example", "https://lab.example", 400),
        ("lab.example.evil", "https://lab.example", 400),
        ("lab.example", "https://evil.example", 403),
        ("lab.example", "http://lab.example.evil", 403),
        ("lab.example", "http://localhost:3000", 403),
        ("localhost:8000", "http://lab.example", 403),
        ("localhost:8000", "https://lab.example:444", 403),
    ],
)
def test_an_address_beside_the_public_one_is_foreign(host: str, origin: str, status: int) -> None:
    """Scheme, name and port must all be those of PUBLIC_URL."""
    with api_client(**OPEN) as api:
        assert create(api, host, origin) == status


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "hub.example"},
        {"host": "localhost", "x-forwarded-host": "hub.example"},
        {"host": "localhost", "x-forwarded-prefix": PREFIX},
        {"host": "localhost", "x-forwarded-context": PREFIX + "/"},
    ],
)
@pytest.mark.parametrize("stripped", [True, False])
def test_addresses_carry_the_public_prefix(headers: dict[str, str], stripped: bool) -> None:
    """They do so whether the proxy removes the prefix from the path or not."""
    before = "" if stripped else PREFIX
    with api_client(**OPEN) as api:
        created = api.post(before + CREATE, headers=headers)
        api.post(before + "/users/?user_id=2&name=Bo&age=1", headers=headers)
        page = api.get(f"{before}/users/?limit=1", headers=headers)
        root = api.get(before + "/", headers=headers, follow_redirects=False)
        wrong = api.patch(f"{before}/users/1", headers=headers)

    assert created.headers["location"] == f"{PREFIX}/users/1"
    assert page.headers["link"] == f'<{PREFIX}/users/?limit=1&after=1>; rel="next"'
    assert root.headers["location"] == f"{PREFIX}/docs"
    assert wrong.status_code == 405
    assert wrong.headers["allow"] == "DELETE, GET, HEAD, PUT"


@pytest.mark.parametrize("before", ["", "/api"])
@pytest.mark.parametrize("headers", [{}, {"x-forwarded-prefix": "/api"}])
def test_two_services_share_a_host(before: str, headers: dict[str, str]) -> None:
    """One list is for API and dashboard: the header, the path, or the first address decides.

    Files and probes work behind the prefix, too.
    """
    with api_client(PUBLIC_URL="http://lab.example/api,http://lab.example/dashboard") as api:
        root = api.get(before + "/", headers={"host": "lab.example"}, follow_redirects=False)
        icon = api.get(before + "/static/favicon.png", headers={"host": "lab.example", **headers})
        probing = {"host": "10.0.0.7", "x-forwarded-prefix": "/api"}
        probe = api.get(before + "/health", headers=probing)
        other = api.get("/", headers={"x-forwarded-prefix": "/dashboard"}, follow_redirects=False)

    assert root.headers["location"] == "/api/docs"
    assert icon.status_code == 200
    assert probe.status_code == 200
    assert other.headers["location"] == "/dashboard/docs"


@pytest.mark.parametrize("headers", [{}, {"x-forwarded-prefix": "/evil"}])
def test_without_a_public_prefix_there_is_none(api: TestClient, headers: dict[str, str]) -> None:
    """A client cannot choose a prefix; `GET /` leads to the documentation."""
    assert api.post(CREATE, headers=headers).headers["location"] == "/users/1"
    assert api.get("/", headers=headers, follow_redirects=False).headers["location"] == "/docs"
    assert api.get("/").status_code == 200


@pytest.mark.parametrize("path", ["/health", "/ready"])
@pytest.mark.parametrize("host", ["10.0.0.7:8000", "api.internal", "host.docker.internal", ""])
def test_probes_may_use_any_name(api: TestClient, path: str, host: str) -> None:
    """They come from load balancers and orchestrators, which use addresses; they write nothing."""
    assert api.get(path, headers={"host": host}).status_code == 200


def test_http_1_0_needs_no_host(serve: Callable[..., Served]) -> None:
    """A probe or an old client may send none; a listing then has a length instead of chunks."""
    served = serve()
    exchange(served.port, b"POST " + CREATE.encode() + b" HTTP/1.0\r\n\r\n")
    health = exchange(served.port, b"GET /health HTTP/1.0\r\n\r\n")
    listing = exchange(served.port, b"GET /users/ HTTP/1.0\r\n\r\n")
    without = exchange(served.port, b"GET /users/ HTTP/1.1\r\nConnection: close\r\n\r\n")

    assert b" 200 OK" in health
    head, _, body = listing.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert b"content-length: %d" % len(body) in head
    assert json.loads(body) == {"1": {"name": "Bo", "age": 1}}
    assert b" 400 " in without


def test_a_front_end_on_another_port_needs_allowed_origins() -> None:
    """With ALLOWED_ORIGINS its pages may read and write, and read the headers of the API."""
    page = {"origin": "http://localhost:3000"}
    ask = page | {"access-control-request-method": "PUT"}
    with api_client() as api:
        assert api.options("/users/1", headers=ask).status_code == 405
        assert "access-control-allow-origin" not in api.get("/users/", headers=page).headers
    with api_client(ALLOWED_ORIGINS="http://localhost:3000") as api:
        assert api.options("/users/1", headers=ask).status_code == 200
        created = api.post(CREATE, headers=page)
        foreign = api.post(CREATE, headers={"origin": "http://localhost:3001"})

    assert created.status_code == 201
    assert created.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert "ETag" in created.headers["access-control-expose-headers"]
    assert foreign.status_code == 403


def test_a_websocket_is_404_in_json(serve: Callable[..., Served]) -> None:
    """The API has none; the response has the form of all errors."""
    served = serve()
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    request = f"GET /ws?name=Zaphod HTTP/1.1\r\nHost: localhost\r\n{upgrade}{key}\r\n"
    response = exchange(served.port, request.encode())

    assert b" 404 Not Found" in response
    assert b'{"detail":"Not Found"}' in response


@pytest.mark.parametrize("given", ["bytes=9999999-", "bytes=x", "lines=1-2", "bytes=0-1"])
def test_a_range_of_a_static_file_is_ignored(api: TestClient, given: str) -> None:
    """The whole file is sent, so no error of another form is possible."""
    assert api.get("/static/favicon.png", headers={"range": given}).status_code == 200
