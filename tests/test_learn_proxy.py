"""The fault proxy: what each fault does to clients, with and without kept connections."""

import asyncio
import http.client
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

import pytest
from conftest import wait_until

from learn.proxy import KINDS, Proxy

T = TypeVar("T")
REQUESTS = 200


class Counter(BaseHTTPRequestHandler):
    """A server that counts the requests that arrive, and says its name."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one packet
    server: "CountingServer"

    def do_GET(self) -> None:
        self.server.arrived += 1
        body = self.server.name.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


class CountingServer(ThreadingHTTPServer):
    """A server on a free port, in a thread."""

    def __init__(self, name: str) -> None:
        super().__init__(("127.0.0.1", 0), Counter)
        self.name, self.arrived = name, 0
        self.address = f"127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Lines:
    """An event loop in a thread, in which proxies run."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def run(self, awaitable: Awaitable[T]) -> T:
        """Run a coroutine to its end."""

        async def wait() -> T:
            return await awaitable

        return asyncio.run_coroutine_threadsafe(wait(), self.loop).result(10)


@pytest.fixture
def server() -> Iterator[CountingServer]:
    """Yield a server that counts."""
    with CountingServer("one") as server:
        yield server
        server.shutdown()


@pytest.fixture
def open_proxy() -> Iterator[Callable[..., Proxy]]:
    """Yield a function that opens a proxy in front of addresses."""
    lines, opened = Lines(), []

    def start(*targets: str, **options: Any) -> Proxy:
        proxy = Proxy("test", list(targets), **options)
        lines.run(proxy.open())
        opened.append(proxy)
        return proxy

    yield start
    for proxy in opened:
        lines.run(proxy.close())


def get(proxy: Proxy, kept: http.client.HTTPConnection | None = None) -> str:
    """Send a request on a new or a kept connection; return the body, or the kind of error."""
    connection = kept or http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=1)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return type(error).__name__
    finally:
        if kept is None:
            connection.close()


def ask(proxy: Proxy, times: int, kept: bool) -> list[str]:
    """Send requests one after the other."""
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=1) if kept else None
    found = [get(proxy, connection) for _ in range(times)]
    if connection:
        connection.close()
    return found


@pytest.mark.parametrize("kept", [False, True], ids=["new connections", "a kept connection"])
@pytest.mark.parametrize(
    ("kind", "errors", "all_arrive"),
    [
        ("refuse", {"ConnectionResetError", "RemoteDisconnected"}, False),
        ("reset", {"ConnectionResetError", "IncompleteRead", "BadStatusLine"}, True),
        ("lose-response", {"RemoteDisconnected"}, True),
    ],
)
def test_a_share_of_requests(
    open_proxy: Callable[..., Proxy], server: CountingServer,
    kind: str, errors: set[str], all_arrive: bool, kept: bool,
) -> None:  # fmt: skip
    """About the share fails, in the stated way; the counter and the server say the same."""
    proxy = open_proxy(server.address)
    proxy.set(kind, 0.3)
    found = ask(proxy, REQUESTS, kept)
    failed = [each for each in found if each != "one"]

    assert set(failed) <= errors
    assert REQUESTS * 0.15 < len(failed) < REQUESTS * 0.45
    assert proxy.strikes[kind] == len(failed)
    assert server.arrived == (REQUESTS if all_arrive else REQUESTS - len(failed))


@pytest.mark.parametrize("kept", [False, True], ids=["new connections", "a kept connection"])
def test_a_hang_is_no_response(
    open_proxy: Callable[..., Proxy], server: CountingServer, kept: bool
) -> None:
    """A request that hangs ends with the client's timeout, and never arrives; `off` ends it."""
    proxy = open_proxy(server.address)
    proxy.set("hang", 1)

    assert ask(proxy, 2, kept) == ["TimeoutError", "TimeoutError"]
    assert (server.arrived, proxy.strikes["hang"]) == (0, 2)
    wait_until("the proxy has noticed", lambda: not proxy.hanging, 5)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(get, proxy)
        wait_until("it hangs", lambda: proxy.hanging, 5)
        proxy._server.get_loop().call_soon_threadsafe(proxy.off)
        assert waiting.result() == "RemoteDisconnected"
    assert get(proxy) == "one"


def test_latency_is_late(open_proxy: Callable[..., Proxy], server: CountingServer) -> None:
    """A late request arrives after the wait, and gets its response."""
    proxy = open_proxy(server.address)
    proxy.set("latency", 1, latency_seconds=0.5)
    with ThreadPoolExecutor() as pool:
        late = pool.submit(get, proxy)
        wait_until("the fault strikes", lambda: proxy.strikes["latency"], 5)
        assert server.arrived == 0
        assert late.result() == "one"


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_faults_for_the_same_seed(
    open_proxy: Callable[..., Proxy], server: CountingServer, kind: str
) -> None:
    """Two proxies with one seed disturb the same requests; another seed disturbs others."""
    found = []
    for seed in (7, 7, 8):
        proxy = open_proxy(server.address, seed=seed)
        proxy.set(kind, 0.3, latency_seconds=0.001)
        rolls = []
        for _ in range(12 if kind == "hang" else 40):
            before = proxy.strikes[kind]
            connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=0.2)
            get(proxy, connection)
            connection.close()
            rolls.append(proxy.strikes[kind] - before)
        found.append(rolls)

    assert found[0] == found[1]
    assert found[0] != found[2]


def test_without_a_fault_no_response_changes(
    open_proxy: Callable[..., Proxy], server: CountingServer
) -> None:
    """Without a fault, unarmed, or with a share of 0, every request gets its response."""
    for proxy in (open_proxy(server.address), open_proxy(server.address, armed=False)):
        proxy.set("refuse", 0 if proxy.armed else 1)
        proxy.set("hang", 0 if proxy.armed else 1)

        assert ask(proxy, 50, kept=True) == ["one"] * 50
        assert proxy.faults() == []


def test_it_balances_over_replicas(
    open_proxy: Callable[..., Proxy], server: CountingServer
) -> None:
    """Connections go to the replicas in turn; a dead one is left out; all dead: no response."""
    with CountingServer("two") as second:
        proxy = open_proxy(server.address, second.address)
        found = ask(proxy, 10, kept=False)
        assert sorted(found) == ["one"] * 5 + ["two"] * 5
        second.shutdown()
    assert ask(proxy, 6, kept=False) == ["one"] * 6
    proxy.targets = [second.address]
    assert get(proxy) in ("RemoteDisconnected", "ConnectionResetError")


def test_closed_it_refuses_connections(
    open_proxy: Callable[..., Proxy], server: CountingServer
) -> None:
    """A closed proxy refuses, as a dead server does; opened again it has the same port."""
    proxy = open_proxy(server.address)
    loop, port = proxy._server.get_loop(), proxy.port
    asyncio.run_coroutine_threadsafe(proxy.close(), loop).result(5)
    assert get(proxy) == "ConnectionRefusedError"
    asyncio.run_coroutine_threadsafe(proxy.open(), loop).result(5)
    assert (proxy.port, get(proxy)) == (port, "one")


def test_it_knows_no_protocol(open_proxy: Callable[..., Proxy]) -> None:
    """Any protocol of requests and responses passes, such as a database's, in any size."""

    def echo(connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(65536):
                connection.sendall(data)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = open_proxy(f"127.0.0.1:{listener.getsockname()[1]}")
        with socket.create_connection(("127.0.0.1", proxy.port)) as client:
            accepted, _ = listener.accept()
            threading.Thread(target=echo, args=[accepted], daemon=True).start()
            for size in (1, 1000, 1_000_000):
                sent = bytes(range(256)) * (size // 256 + 1)
                threading.Thread(target=client.sendall, args=[sent]).start()
                received = b""
                while len(received) < len(sent):
                    received += client.recv(65536)
                assert received == sent
            client.shutdown(socket.SHUT_WR)
            assert client.recv(1) == b""


@pytest.mark.parametrize(("kind", "share"), [("sneeze", 0.5), ("hang", 1.5), ("hang", -0.1)])
def test_a_wrong_fault_is_refused(kind: str, share: float) -> None:
    """An unknown kind or an impossible share is an error, and changes nothing."""
    proxy = Proxy("test", [])
    with pytest.raises(ValueError, match="a fault is one of latency, hang, refuse"):
        proxy.set(kind, share)
    assert proxy.faults() == []
