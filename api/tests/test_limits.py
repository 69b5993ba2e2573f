"""What one request, or many unfinished ones, may cost: memory and time on the event loop.

The API runs under a memory limit, so that a body that costs too much ends it. Time is measured by
the benchmark (`lab.py bench batch`), since a busy machine makes each second longer.
"""

import json
import random
import resource
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from conftest import Served
from raw_http import HOST, exchange, http

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

JSON = "Content-Type: application/json"
MIB = 1024 * 1024
LARGEST = 8 * MIB  # the API's own limit of a body
MAX_RESIDENT_MIB = 300
ADDRESS_SPACE_MIB = 1_500  # of the process; libraries reserve several hundred and use few


def shapes(rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """Yield bodies of nearly 8 MiB: each is expensive for a decoder in another way."""
    user = b'{"name":"a","age":1}'
    size = LARGEST - rng.randrange(1, 50_000)
    field = rng.choice([b"0", b'"x"', b"[]", b"{}", b"null", b"1e3"])

    def many(one: Callable[[int], bytes]) -> bytes:
        parts, length, number = [], 0, 0
        while length < size - 200:
            parts.append(one(number))
            length += len(parts[-1]) + 1
            number += 1
        return b"{" + b",".join(parts) + b"}"

    yield "unknown fields", b'{"1":%b}' % many(lambda n: b'"f%d":%b' % (n, field))
    yield "wide", many(lambda n: b'"%d":%b' % (n, user))
    yield "wide, the last is wrong", many(lambda n: b'"%d":%b' % (n, user))[:-1] + b',"x":1}'
    yield "wide, all are wrong", many(lambda n: b'"%d":{"name":"","age":1}' % n)
    yield "wide, fractions", many(lambda n: b'"%d":{"name":"a","age":1.0}' % n)
    yield "one key again and again", many(lambda _: b'"7":%b' % user)
    yield "empty users", many(lambda n: b'"%d":{}' % n)
    yield "deep arrays", b"[" * size
    yield "deep objects", b'{"1":' * (size // 5)
    yield "closed deep arrays", b'{"1":' + b"[" * (size // 2) + b"]" * (size // 2) + b"}"
    yield "a long key", b'{"%b":%b}' % (b"1" * size, user)
    yield "a long unknown field", b'{"1":{"%b":1}}' % (b"k" * size)
    yield "a long name", b'{"1":{"name":"%b","age":1}}' % (b"n" * size)
    yield "escapes", b'{"1":{"name":"%b","age":1}}' % (rb"\u0061" * (size // 6))
    yield "escaped keys", many(lambda n: rb'"\u0031%d":%b' % (n, user))
    yield "astral escapes", b'{"1":{"name":"%b","age":1}}' % (rb"\ud83d\ude00" * (size // 12))
    yield "a huge number", b'{"1":{"name":"a","age":%b}}' % (b"9" * size)
    yield "a huge exponent", b'{"1":{"name":"a","age":1e%b}}' % (b"9" * size)
    yield "a long fraction", b'{"1":{"name":"a","age":0.%b}}' % (b"1" * size)
    yield "quotes", b'{"1":%b}' % (b'"",' * (size // 3))
    yield "white space", b"{" + b" " * size + b"}"
    yield "random bytes", rng.randbytes(size)
    yield "commas", b"{" + b"," * size


def resident_mib(served: Served) -> float:
    """Return the largest memory that the process has had so far."""
    status = Path(f"/proc/{served.process.pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


@pytest.fixture
def limited(serve: Callable[..., Served]) -> Served:
    """Serve an API whose process may not get more memory than a small container has."""
    served = serve()
    limit = ADDRESS_SPACE_MIB * MIB
    resource.prlimit(served.process.pid, resource.RLIMIT_AS, (limit, limit))
    return served


def post_batch(port: int, body: bytes) -> bytes:
    length = f"Content-Length: {len(body)}"
    return exchange(port, http("POST", "/users/batch", HOST, JSON, length, body=body))


def test_a_body_of_any_shape_is_answered_in_bounded_memory(limited: Served) -> None:
    """Each body that fits the limit gets 4xx, or 200, and the process stays below 300 MiB."""
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    for name, body in shapes(random.Random(seed)):
        response = post_batch(limited.port, body)
        status = int(response.split(b" ", 2)[1])

        assert status in (200, 413, 422), (name, response[:300])
        assert len(response) < 2_000, name
        assert resident_mib(limited) < MAX_RESIDENT_MIB, name
    with limited.client() as client:
        assert client.get("/health").status_code == 200


def unfinished(port: int, size: int) -> socket.socket:
    """Send all of a batch but its last byte; return the connection."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    request = http("POST", "/users/batch", HOST, JSON, f"Content-Length: {size + 1}")
    connection.settimeout(20)
    connection.sendall(request.replace(b"Connection: close\r\n", b""))
    sent, piece = 0, b" " * 65_536
    connection.settimeout(2)
    try:
        while sent < size:
            sent += connection.send(piece[: size - sent])
    except OSError:
        pass  # refused: the API has responded, and reads no more
    return connection


def test_unfinished_bodies_have_a_bound_together(limited: Served) -> None:
    """Too many are 503 with Retry-After. When the others end, there is room again."""
    with ExitStack() as stack:
        waiting = [stack.enter_context(unfinished(limited.port, LARGEST - 1)) for _ in range(60)]
        refused = 0
        for connection in waiting:
            connection.settimeout(0.2)
            try:
                refused += b" 503 " in connection.recv(200)
            except OSError:
                continue
        assert refused >= 50
        assert resident_mib(limited) < MAX_RESIDENT_MIB
        with limited.client() as client:
            assert client.get("/health").status_code == 200
    body = json.dumps({"1": {"name": "Al", "age": 1}}).encode()
    deadline = time.monotonic() + 10
    while b" 200 " not in (response := post_batch(limited.port, body)):
        assert time.monotonic() < deadline, response
        time.sleep(0.05)


def test_a_slow_body_has_a_deadline(serve: Callable[..., Served], tmp_path: Path) -> None:
    """A client that sends nothing more gets 408, and its memory is free again."""
    start = tmp_path / "start.py"
    start.write_text(
        "import batch, sys, uvicorn\nbatch.BODY_TIMEOUT_SECONDS = 0.5\n"
        "uvicorn.run('main:app', port=int(sys.argv[1]))\n",
        encoding="utf-8",
    )
    served = serve("-c", f"exec(open({str(start)!r}).read())", "{port}")
    with unfinished(served.port, 1_000) as connection:
        connection.settimeout(60)
        assert b" 408 " in connection.recv(1_000)
