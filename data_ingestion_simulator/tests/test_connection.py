"""One exchange, byte by byte: which responses are usable, and which are errors."""

import asyncio
import json
import re
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from fake_api import close, until
from virtual_clock import virtual_loop

from client import PAGE, ApiError, NotConnected
from connection import Connection, check_status, json_value, retry_after_seconds
from generator import Users
from ledger import Ledger

OK = b"HTTP/1.1 200 OK\r\n"
ID = "5f1c2e9a7b3d4e60"
HALF, NOT_HTTP = (
    "closed the connection in the middle of a response",
    "responded with something that is not HTTP",
)
UPGRADE = b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
CONTRACT = Path(__file__).parents[2] / "contract" / "examples.json"


class Server:
    """Responds to each request with the next of the given bytes, and keeps the `requests`."""

    def __init__(self, *responses: bytes, closes: bool = False) -> None:
        self._responses = list(responses)
        self._closes = closes
        self.requests: list[bytes] = []
        self.connections = 0
        self.left = asyncio.Event()  # set when a client has closed its connection

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while self._responses:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                for byte in self._responses.pop(0).split(b"|"):  # a pause at each bar
                    writer.write(byte)
                    await writer.drain()
                    await asyncio.sleep(0.005)
                if self._closes:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            self.left.set()
        finally:
            writer.close()


@asynccontextmanager
async def connected(
    server: Server,
    host: str = "127.0.0.1",
    token: str | None = None,
    ledger: Ledger | None = None,
) -> AsyncIterator[Connection]:
    """A connection to the server, which listens on a free port."""
    listening = await asyncio.start_server(server.serve, host, 0)
    port = listening.sockets[0].getsockname()[1]
    name = f"[{host}]" if ":" in host else host
    connection = Connection(f"http://{name}:{port}/lab", ledger or Ledger(), token)
    yield connection
    close(connection)
    listening.close()


RESPONSES = {
    "with a length": OK + b"Content-Length: 2\r\n\r\n{}",
    "in chunks": OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{|\r\n1\r\n}\r\n|0\r\n\r\n",
    "byte by byte": b"|".join(bytes([byte]) for byte in OK + b"content-length: 2\r\n\r\n{}"),
    "after a 1xx": b"HTTP/1.1 103 Hints\r\nX: y\r\n\r\n|" + OK + b"Content-Length: 2\r\n\r\n{}",
}


@pytest.mark.parametrize("response", RESPONSES.values(), ids=RESPONSES.keys())
async def test_a_response_may_come_in_any_form(response: bytes) -> None:
    """With a length or in chunks, in pieces, after a 1xx; then the socket is reused."""
    server = Server(response, response)
    async with connected(server) as connection:
        for _ in range(2):
            assert (await connection.exchange("GET", "/health", ID, b""))[:2] == (200, {})
        assert server.connections == 1


@pytest.mark.parametrize(
    "response",
    [
        OK + b"Connection: close\r\n\r\n{|}",
        OK + b"\r\n{|}",
        b"HTTP/1.0 200 OK\r\n\r\n{|}",
        OK + b"Connection: close\r\nContent-Length: 2\r\n\r\n{}",
        OK + b"Content-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\n\r\n",
    ],
)
async def test_a_socket_that_ends_or_says_too_much_is_not_used_again(response: bytes) -> None:
    """If a response ends with its connection, announces that end, or is followed by another one,
    the next exchange has a new socket.
    """
    server = Server(response, response, closes=b"}HTTP" not in response)
    async with connected(server) as connection:
        for _ in range(2):
            assert (await connection.exchange("GET", "/health", ID, b""))[:2] == (200, {})
        assert server.connections == 2


@pytest.mark.virtual_clock
async def test_a_socket_that_says_something_unasked_is_closed() -> None:
    """A response without a request makes its socket unusable, and it is closed."""
    once = OK + b"Content-Length: 2\r\n\r\n{}"
    loop, server = virtual_loop(), Server(once + b"||" + OK, once)
    loop.api = server
    connection = Connection("http://localhost", Ledger())
    assert (await connection.exchange("GET", "/", ID, b""))[:2] == (200, {})
    await asyncio.sleep(1)
    assert (await connection.exchange("GET", "/", ID, b""))[:2] == (200, {})
    assert server.connections == 2
    await asyncio.wait_for(server.left.wait(), 1)


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (b"", "closed the connection without a response"),
        (b"HTTP/1.1 20", HALF),
        (OK + b"Content-Le", HALF),
        (OK + b"Content-Length: 9\r\n\r\n{", HALF),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{", HALF),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", NOT_HTTP),
        (OK + 2 * b"Content-Length: 1\r\n" + b"\r\n", NOT_HTTP),
        (UPGRADE, "responded with something that is not HTTP"),
        (OK + b"X: " + b"y" * 300_000, "responded with more than 256 KiB"),
        (OK + b"\r\n" + b"y" * 300_000, "responded with more than 256 KiB"),
    ],
)  # fmt: skip
async def test_what_is_not_a_usable_response(response: bytes, reason: str) -> None:
    """Nothing, half a response, something else, or too much: the error says which."""
    async with connected(Server(response, closes=True)) as connection:
        with pytest.raises(ApiError) as caught:
            await connection.exchange("GET", "/health", ID, b"")

    assert (str(caught.value), caught.value.perhaps_stored) == (reason, True)


async def test_a_request_is_what_it_should_be() -> None:
    """Method, target under the base, host, token, length, and who asks."""
    server = Server(*[OK + b"Content-Length: 2\r\n\r\n{}"] * 2)
    async with connected(server, token="a-long-secret") as connection:
        await connection.exchange("POST", "/users/?name=Zo%C3%AB+%26+Co&age=7", ID, b"")
        await connection.exchange("GET", "/health", ID, b"")
    post, get = (request.decode().split("\r\n") for request in server.requests)
    port = post[1].rpartition(":")[2]

    same = [f"Host: 127.0.0.1:{port}", "Accept: application/json"]
    same += ["Authorization: Bearer a-long-secret"]
    ends = [f"X-Request-ID: {ID}", "", ""]
    target = "/lab/users/?name=Zo%C3%AB+%26+Co&age=7"
    report = "X-Simulator: simulator; created=0; given-up=0; per-second=0.0"
    assert post == [f"POST {target} HTTP/1.1", *same, "Content-Length: 0", report, *ends]
    assert get == ["GET /lab/health HTTP/1.1", *same, *ends]


@pytest.mark.virtual_clock
async def test_every_two_seconds_a_request_says_who_asks() -> None:
    """One request in two seconds has the name of the simulator, its users until then, and how many
    it created a second since the last time; the name is at most 40 plain characters.
    """
    loop, server = virtual_loop(), Server(*[OK + b"Content-Length: 2\r\n\r\n{}"] * 50)
    loop.api, ledger = server, Ledger()
    ledger.name = f"simulator-{Users(7).block}"
    connection = Connection("http://localhost", ledger)
    for number in range(50):
        await connection.exchange("GET", "/", ID, b"")
        ledger.attempt([number])
        ledger.settle([number], "given up" if number == 3 else "created")
        await asyncio.sleep(0.1)

    told = re.findall(r"X-Simulator: (.*)\r\n", b"".join(server.requests).decode())
    assert len(told) == 3
    pattern = r"simulator-\d{7}; created=(\d+); given-up=([01]); per-second=(\d+\.\d)"
    parts = [part for each in told for part in re.findall(pattern, each)]
    created, given_up, rates = zip(*parts, strict=True)
    assert (created[0], given_up[0]) == ("0", "0")
    assert int(created[1]) == pytest.approx(19, abs=2)
    assert given_up[1] == "1"
    assert [float(rate) for rate in rates] == pytest.approx([0, 9.7, 10], abs=0.6)
    assert all(re.fullmatch("[A-Za-z0-9._-]{1,40}", each.split(";")[0]) for each in told)


async def test_bytes_and_statuses_are_counted() -> None:
    """Every byte of requests and responses, also of those that are not usable."""
    good, bad, half = OK + b"\r\n{}", b"HTTP/1.1 503 No\r\n\r\n", b"HTTP/1.1 2"
    ledger, server = Ledger(), Server(good, bad, half, closes=True)
    async with connected(server, ledger=ledger) as connection:
        for usable in (True, False, False):
            with suppress(ApiError):
                await connection.exchange("GET", "/health", ID, b"")
                assert usable
    assert ledger.statuses == {200: 1, 503: 1}
    assert ledger.received_bytes == len(good + bad + half)
    assert ledger.sent_bytes == sum(map(len, server.requests))


@pytest.mark.virtual_clock
async def test_each_exchange_has_the_whole_time() -> None:
    """On a socket that is used again, a deadline counts from its own exchange, not the first."""
    six_seconds = b"|" * 1_200
    response = six_seconds + OK + b"Content-Length: 2\r\n\r\n{}"
    loop, server = virtual_loop(), Server(response, response, 2 * six_seconds)
    loop.api = server
    connection = Connection("http://localhost", Ledger())
    for _ in range(2):
        assert (await connection.exchange("GET", "/", ID, b""))[:2] == (200, {})
    began = loop.time()
    with pytest.raises(ApiError, match=r"^gave no response within 10 s$"):
        await connection.exchange("GET", "/", ID, b"")
    assert loop.time() - began == pytest.approx(10)
    assert server.connections == 1


async def test_an_exchange_that_was_cancelled_leaves_no_socket_behind() -> None:
    """A late response to a cancelled request is not taken for the next one."""
    slow = b"|" * 20 + OK + b'Content-Length: 7\r\n\r\n"first"'
    server = Server(slow, OK + b"Content-Length: 2\r\n\r\n{}")
    async with connected(server) as connection:
        asking = asyncio.create_task(connection.exchange("GET", "/first", ID, b""))
        await until(lambda: bool(server.requests))
        asking.cancel()
        assert (await connection.exchange("GET", "/second", ID, b""))[:2] == (200, {})


@pytest.mark.skipif(not socket.has_ipv6, reason="there is no IPv6 on this machine")
async def test_an_address_of_the_sixth_version() -> None:
    """A numeric IPv6 address is spoken to as well."""
    try:
        async with connected(Server(OK + b"Content-Length: 2\r\n\r\n{}"), "::1") as connection:
            assert (await connection.exchange("GET", "/health", ID, b""))[:2] == (200, {})
    except OSError as error:
        pytest.skip(f"IPv6 does not work on this machine: {error}")


async def test_a_name_with_several_addresses_that_refuse() -> None:
    """`localhost` may be two addresses: if both refuse, the error says so."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(NotConnected, match=r"^refused the connection$"):
        await Connection(f"http://localhost:{port}", Ledger()).exchange("GET", "/health", ID, b"")


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    """The TLS of a server whose certificate no authority has signed."""
    files = ["-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "certificate")]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *files]
    try:
        subprocess.run([*command, "-subj", "/CN=localhost"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("there is no openssl on this machine")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
    return context


async def test_a_certificate_that_is_not_trusted(tls: ssl.SSLContext) -> None:
    """Over https an API that cannot be trusted gets no request."""
    server = Server(OK)
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls) as listening:
        port = listening.sockets[0].getsockname()[1]
        with pytest.raises(NotConnected, match=r"^cannot be trusted over TLS$"):
            await Connection(f"https://localhost:{port}", Ledger()).exchange("GET", "/", ID, b"")
    assert server.requests == []


def test_all_responses_of_the_contract_are_usable() -> None:
    """None of the contract's examples is retried, and their JSON is understood."""
    for each in json.loads(CONTRACT.read_text(encoding="utf-8")):
        check_status(each["status"], {})
        assert json_value(json.dumps(each["body"]).encode(), each["status"]) == each["body"]


def test_retry_after_in_seconds_or_as_a_date() -> None:
    """The header is understood in both forms; nonsense and the past count as none."""
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    past = format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)

    assert retry_after_seconds({"Retry-After": "7"}) == 7.0
    assert retry_after_seconds({"Retry-After": " 7 "}) == 7.0
    assert 25 < retry_after_seconds({"Retry-After": soon}) <= 30
    asctime = time.asctime(time.gmtime(time.time() + 30))
    assert 25 < retry_after_seconds({"Retry-After": asctime}) <= 30
    for value in (past, "", "-1", "٥", "soon", "1.5", "nan", "9" * 5_000, "99 Foo 99999999 1:1:1"):
        assert retry_after_seconds({"Retry-After": value}) == 0.0
    assert retry_after_seconds({}) == 0.0


@pytest.mark.parametrize("body", [b" ", b'{"user_id": 1', b"\xff\xfe", b"[" * 60_000, b" <p>"])
def test_a_success_must_be_json_or_empty(body: bytes) -> None:
    """Half a body and nonsense are not JSON, nor is a page; of an error they do not matter."""
    assert json_value(body, 200) is (PAGE if b"<" in body else None)
    assert json_value(body, 404) is None
    assert json_value(b"", 204) is None
