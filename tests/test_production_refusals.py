"""What the load balancer refuses: wrong, large and slow requests, and forged headers."""

import contextlib
import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import wait_until
from production import Caller, Production, exchange

HEAD = b"Host: localhost\r\nConnection: close\r\n"
BATCH = b"POST /users/batch HTTP/1.1\r\n" + HEAD
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
REFUSED_REQUESTS = {
    "a long address": (b"GET /health?" + b"a" * 8_200 + b" HTTP/1.1\r\n" + HEAD + b"\r\n", 414),
    "long headers": (b"GET / HTTP/1.1\r\n" + HEAD + b"X: " + b"a" * 17_000 + b"\r\n\r\n", 431),
    "a large body": (BATCH + b"Content-Length: 8388609\r\n\r\n", 413),
    "a body without a length": (BATCH + CHUNKED, 411),
    "an upload": (b"POST /dashboard/_stcore/upload_file/a/b HTTP/1.1\r\n" + HEAD + CHUNKED, 405),
    "the metrics": (b"GET /metrics HTTP/1.1\r\n" + HEAD + b"\r\n", 404),
    "the metrics, URL-encoded": (b"GET /%6detrics HTTP/1.1\r\n" + HEAD + b"\r\n", 404),
    "another host name": (b"GET / HTTP/1.1\r\nHost: evil\r\nConnection: close\r\n\r\n", 302),
    "an API call for another host": (
        b"GET /users/ HTTP/1.1\r\nHost: evil\r\nConnection: close\r\n\r\n",
        400,
    ),
    "garbage": (b"\x16\x03\x01 hello\r\n\r\n", 0),
    "two lengths": (BATCH + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 0),
    "endless headers": (b"GET / HTTP/1.1\r\n" + HEAD + b"X: a\r\n" * 10_000, 0),
}


TOO_SLOW = {
    "a missing body": (BATCH + b"Content-Length: 9\r\n\r\n", 408),
    "unfinished headers": (b"GET / HTTP/1.1\r\n" + HEAD, 0),
    "an empty request": (b"", 0),
}


@pytest.mark.parametrize("request_name", REFUSED_REQUESTS)
def test_a_wrong_request_is_refused(production: Production, request_name: str) -> None:
    """It gets an error response of the contract's shape, or its connection is closed."""
    request, status = REFUSED_REQUESTS[request_name]

    check_error(*exchange(production.port, request), status)


def test_a_slow_request_is_refused(production: Production) -> None:
    """After ten seconds it gets a 408, or its connection is closed if there is no request yet."""
    started = time.monotonic()
    with ThreadPoolExecutor() as pool:
        responses = pool.map(lambda slow: exchange(production.port, slow[0]), TOO_SLOW.values())

    for response, (_, status) in zip(responses, TOO_SLOW.values(), strict=True):
        check_error(*response, status)
    assert time.monotonic() - started < 14


def check_error(head: str, body: bytes, status: int) -> None:
    """Assert the status (0: no response) and, for an error, the contract's shape."""
    assert int(head.split()[1] if head else 0) == status
    if status >= 400:
        assert list(json.loads(body)) == ["detail"]
        assert "x-request-id: " in head.lower()
        assert "content-type: application/json" in head.lower()


def test_forged_headers_of_a_proxy_are_replaced(production: Production) -> None:
    """The services see the client's address and protocol as the load balancer saw them."""
    program = (
        "import http.server\n"
        "class Echo(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(200); self.end_headers()\n"
        "        self.wfile.write(str(self.headers).encode())\n"
        "http.server.HTTPServer(('', 8000), Echo).serve_forever()"
    )
    network = f"{production.project}_inside"
    echo = production.docker(
        "run", "--detach", "--rm", "--network", network, "--network-alias", "api",
        "python:3.13-slim", "python", "-c", program,
    )  # fmt: skip
    forged = {"X-Forwarded-For": "1.2.3.4", "Forwarded": "for=1.2.3.4", "X-Forwarded-Proto": "a"}
    try:
        with contextlib.closing(Caller(production.port)) as caller:

            def echoed() -> str:
                responses = (caller.call("GET", "/health", **forged) for _ in range(20))
                return next((body.decode() for _, body, _ in responses if b"host: " in body), "")

            wait_until("the echo among the replicas", echoed, 20)
            headers = echoed()
    finally:
        production.docker("rm", "--force", echo)
    production.wait_for_replicas()

    assert "1.2.3.4" not in headers
    assert "X-Forwarded-Proto: http\n".lower() in headers.lower()
    assert headers.lower().count("x-forwarded-for: ") == 1
