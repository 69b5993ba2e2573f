"""One exchange, byte by byte: how an answer may come, and how it may not."""

import asyncio
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from virtual import run_virtually, virtual_loop

from answers import Fault, Unreachable
from connection import Connection

OK = b"HTTP/1.1 200 OK\r\n"


def run(story: Coroutine[Any, Any, None]) -> None:
    """Run an asynchronous test, which has ten seconds."""
    asyncio.run(asyncio.wait_for(story, 10))


class Server:
    """Answers each request with the next of the given bytes; `requests` are those that came."""

    def __init__(self, *answers: bytes, closes: bool = False) -> None:
        self._answers = list(answers)
        self._closes = closes
        self.requests: list[bytes] = []
        self.connections = 0
        self.left = asyncio.Event()  # set when a client has closed its connection

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while self._answers:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                for byte in self._answers.pop(0).split(b"|"):  # a pause at each bar
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
    server: Server, host: str = "127.0.0.1", **options: Any
) -> AsyncIterator[Connection]:
    """A connection to the server, which listens on a free port."""
    listening = await asyncio.start_server(server.serve, host, 0)
    port = listening.sockets[0].getsockname()[1]
    name = f"[{host}]" if ":" in host else host
    connection = Connection(f"http://{name}:{port}/lab", timeout_seconds=0.5, **options)
    yield connection
    connection.close()
    listening.close()


ANSWERS = {
    "with a length": OK + b"Content-Length: 2\r\n\r\n{}",
    "in chunks": OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{|\r\n1\r\n}\r\n|0\r\n\r\n",
    "byte by byte": b"|".join(bytes([byte]) for byte in OK + b"content-length: 2\r\n\r\n{}"),
    "after a 1xx": b"HTTP/1.1 103 Hints\r\nX: y\r\n\r\n|" + OK + b"Content-Length: 2\r\n\r\n{}",
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_an_answer_may_come_in_any_form(answer: bytes) -> None:
    """With a length or in chunks, in pieces, after an interim answer; then the socket is reused."""

    async def story() -> None:
        server = Server(answer, answer)
        async with connected(server) as connection:
            for _ in range(2):
                assert await connection.exchange("GET", "/health") == (200, b"{}")
            assert server.connections == 1

    run(story())


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"Connection: close\r\n\r\n{|}",
        OK + b"\r\n{|}",
        b"HTTP/1.0 200 OK\r\n\r\n{|}",
        OK + b"Connection: close\r\nContent-Length: 2\r\n\r\n{}",
        OK + b"Content-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\n\r\n",
    ],
)
def test_a_socket_that_ends_or_says_too_much_is_not_used_again(answer: bytes) -> None:
    """An answer may end with its connection, or announce that end; then the next exchange has a new
    socket, and so it has where there came more than was asked for.
    """

    async def story() -> None:
        server = Server(answer, answer, closes=b"}HTTP" not in answer)
        async with connected(server) as connection:
            for _ in range(2):
                assert await connection.exchange("GET", "/health") == (200, b"{}")
            assert server.connections == 2

    run(story())


def test_a_socket_that_says_something_unasked_is_closed() -> None:
    """What comes while nobody asks makes its socket unfit, and nothing of it is left open."""

    async def story() -> None:
        once = OK + b"Content-Length: 2\r\n\r\n{}"
        loop, server = virtual_loop(), Server(once + b"||" + OK, once)
        loop.api = server
        connection = Connection("http://localhost")
        assert await connection.exchange("GET", "/") == (200, b"{}")
        await asyncio.sleep(1)
        assert await connection.exchange("GET", "/") == (200, b"{}")
        assert server.connections == 2
        await asyncio.wait_for(server.left.wait(), 1)

    run_virtually(story())


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "closed the connection without an answer"),
        (b"HTTP/1.1 20", "broke off in the middle of its answer"),
        (OK + b"Content-Le", "broke off in the middle of its answer"),
        (OK + b"Content-Length: 9\r\n\r\n{", "broke off in the middle of its answer"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{", "broke off in the middle of its answer"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "answered with something that is not HTTP"),
        (OK + 2 * b"Content-Length: 1\r\n" + b"\r\n", "answered with something that is not HTTP"),
        (b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", "answered 101"),
        (OK + b"X: " + b"y" * 300_000, "answered with more than 256 KiB"),
        (OK + b"\r\n" + b"y" * 300_000, "answered with more than 256 KiB"),
    ],
)  # fmt: skip
def test_what_is_no_answer(answer: bytes, reason: str) -> None:
    """Nothing, half of something, something else, or too much: a fault that says which."""

    async def story() -> None:
        async with connected(Server(answer, closes=True)) as connection:
            with pytest.raises(Fault) as caught:
                await connection.exchange("GET", "/health")

        assert (str(caught.value), isinstance(caught.value, Unreachable)) == (reason, False)

    run(story())


def test_a_request_is_what_it_should_be() -> None:
    """Method, target under the base, host, token, length, and who asks."""

    async def story() -> None:
        server = Server(*[OK + b"Content-Length: 2\r\n\r\n{}"] * 2)
        async with connected(server, token="a-long-secret") as connection:
            await connection.exchange("POST", "/users/?name=Zo%C3%AB+%26+Co&age=7")
            await connection.exchange("GET", "/health", request_id="5f1c2e9a7b3d4e60")
        post, get = (request.decode().split("\r\n") for request in server.requests)
        port = post[1].rpartition(":")[2]

        same = [f"Host: 127.0.0.1:{port}", "Accept: application/json"]
        same += ["Authorization: Bearer a-long-secret"]
        target = "/lab/users/?name=Zo%C3%AB+%26+Co&age=7"
        assert post == [f"POST {target} HTTP/1.1", *same, "Content-Length: 0", "", ""]
        sender = "X-Request-ID: 5f1c2e9a7b3d4e60"
        trace = "traceparent: 00-00000000000000005f1c2e9a7b3d4e60-5f1c2e9a7b3d4e60-01"
        assert get == ["GET /lab/health HTTP/1.1", *same, sender, trace, "", ""]

    run(story())


def test_as_many_sockets_as_exchanges_at_once() -> None:
    """Exchanges at the same time do not wait for each other, and their sockets are kept."""

    async def story() -> None:
        slow = b"|" * 10 + OK + b"Content-Length: 2\r\n\r\n{}"
        server = Server(*[slow] * 9)
        async with connected(server) as connection:
            for _ in range(3):
                await asyncio.gather(*[connection.exchange("GET", "/") for _ in range(3)])
            assert server.connections == 3

    run(story())


def test_each_exchange_has_the_whole_time() -> None:
    """On a socket that is used again, a deadline counts from its own exchange, not the first."""

    async def story() -> None:
        six_seconds = b"|" * 1_200
        answer = six_seconds + OK + b"Content-Length: 2\r\n\r\n{}"
        loop, server = virtual_loop(), Server(answer, answer, 2 * six_seconds)
        loop.api = server
        connection = Connection("http://localhost")
        for _ in range(2):
            assert await connection.exchange("GET", "/") == (200, b"{}")
        began = loop.time()
        with pytest.raises(Fault, match=r"^gave no answer within 10 s$"):
            await connection.exchange("GET", "/")
        assert loop.time() - began == pytest.approx(10)
        assert server.connections == 1

    run_virtually(story())


def test_an_exchange_that_was_cancelled_leaves_no_socket_behind() -> None:
    """The answer to a question that nobody asks any more is not taken for the next one's."""

    async def story() -> None:
        slow = b"|" * 20 + OK + b'Content-Length: 7\r\n\r\n"first"'
        server = Server(slow, OK + b"Content-Length: 2\r\n\r\n{}")
        async with connected(server) as connection:
            asking = asyncio.create_task(connection.exchange("GET", "/first"))
            await asyncio.sleep(0.05)
            asking.cancel()
            assert await connection.exchange("GET", "/second") == (200, b"{}")

    run(story())


@pytest.mark.skipif(not socket.has_ipv6, reason="there is no IPv6 on this machine")
def test_an_address_of_the_sixth_version() -> None:
    """A numeric IPv6 address is spoken to as well."""

    async def story() -> None:
        try:
            async with connected(Server(OK + b"Content-Length: 2\r\n\r\n{}"), "::1") as connection:
                assert await connection.exchange("GET", "/health") == (200, b"{}")
        except OSError as error:
            pytest.skip(f"IPv6 does not work on this machine: {error}")

    run(story())


def test_a_name_with_several_addresses_that_refuse() -> None:
    """`localhost` may be two addresses: where both refuse, that is what is said."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    async def story() -> None:
        with pytest.raises(Unreachable, match=r"^refused the connection$"):
            await Connection(f"http://localhost:{port}").exchange("GET", "/health")

    run(story())


def test_no_more_files_may_be_opened() -> None:
    """That is said of this program, and not that the API cannot be reached."""
    resource = pytest.importorskip("resource", reason="Windows has no such limit")

    async def story() -> None:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        with socket.socket() as next_one:
            lowest = next_one.fileno()
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
        try:
            with pytest.raises(Unreachable, match=r"^could not be asked: no more files may be op"):
                await Connection("http://127.0.0.1:9").exchange("GET", "/health")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    run(story())


def test_a_certificate_that_nobody_vouches_for(tmp_path: Path) -> None:
    """Over https an API that cannot be trusted is not spoken to."""
    files = ["-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "certificate")]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *files]
    try:
        subprocess.run([*command, "-subj", "/CN=localhost"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("there is no openssl on this machine")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")

    async def story() -> None:
        server = Server(OK)
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=context)
        port = listening.sockets[0].getsockname()[1]
        with pytest.raises(Unreachable, match=r"^could not be trusted over TLS$"):
            await Connection(f"https://localhost:{port}").exchange("GET", "/health")
        listening.close()
        assert server.requests == []

    run(story())
