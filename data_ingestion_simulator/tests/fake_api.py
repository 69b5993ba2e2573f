"""A fake API over raw sockets: the calls that the simulator makes, with faults on demand."""

import asyncio
import json
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from connection import Connection


@dataclass
class Request:
    """A parsed request; its `kind`: health, create, batch or read."""

    method: str
    path: str
    params: dict[str, str]
    headers: dict[str, str]
    body: bytes
    at: float
    kind: str = field(init=False)

    def __post_init__(self) -> None:
        kinds = {"/health": "health", "/users/": "create", "/users/batch": "batch"}
        self.kind = kinds.get(self.path, "read")


Handler = Callable[["FakeApi", Request, asyncio.StreamWriter], Awaitable[None]]


class FakeApi:
    """Serves the contract on a loopback port.

    `next_handlers["create"]` holds handlers for the next creates, and `choose_handler` may give one
    for any other request. Each response of the contract takes `delay_seconds`. An `old` API does
    not show users that it has already.
    """

    def __init__(
        self, *, batches: bool = False, delay_seconds: float = 0.0, old: bool = False
    ) -> None:
        self.port = 0
        self.batches, self.delay_seconds, self.old = batches, delay_seconds, old
        self.choose_handler: Callable[[Request], Handler | None] = lambda _: None
        self.users: dict[int, dict[str, Any]] = {}
        self.requests: list[Request] = []
        self.peers: set[object] = set()
        self.next_handlers: defaultdict[str, deque[Handler]] = defaultdict(deque)
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def seen(self, kind: str) -> list[Request]:
        """The requests of a kind, in the order they came."""
        return [request for request in self.requests if request.kind == kind]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self.serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        while self._writers:
            for writer in list(self._writers):
                writer.transport.abort()
            await asyncio.sleep(0.001)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self.peers.add(writer.get_extra_info("peername"))
        try:
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                line, *lines = head.strip().split("\r\n")
                method, target, _ = line.split(" ")
                headers = dict(each.lower().split(": ", 1) for each in lines)
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                parts = urlsplit(target)
                params = {key: values[0] for key, values in parse_qs(parts.query).items()}
                now = asyncio.get_running_loop().time()
                request = Request(method, parts.path, params, headers, body, now)
                self.requests.append(request)
                waiting = self.next_handlers[request.kind]
                handler = waiting.popleft() if waiting else self.choose_handler(request)
                await (handler or contract)(self, request, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


async def contract(api: FakeApi, request: Request, writer: asyncio.StreamWriter) -> None:
    """Respond like a healthy API."""
    if api.delay_seconds:
        await asyncio.sleep(api.delay_seconds)
    if request.kind == "batch":
        if not api.batches:
            return await send(writer, 405, {"detail": "Method Not Allowed"})
        return await send(writer, 200, counts(api, request))
    if request.kind == "health":
        return await send(writer, 200, {"status": "healthy"})
    if request.kind == "create":
        user_id = int(request.params["user_id"])
        if user_id in api.users:
            shown = {} if api.old else {"user": {"user_id": user_id, **api.users[user_id]}}
            return await send(writer, 409, {"detail": f"User {user_id} already exists", **shown})
        store(api, request)
        return await send(writer, 201, {"user_id": user_id, **api.users[user_id]})
    user = api.users.get(int(request.path.rpartition("/")[2]))
    return await send(writer, 200 if user else 404, user or {"detail": "Not found"})


def users_of(request: Request) -> dict[int, dict[str, Any]]:
    """The users of a batch or a create."""
    if request.kind == "batch":
        return {int(user_id): user for user_id, user in json.loads(request.body).items()}
    name, age = request.params["name"], int(request.params["age"])
    return {int(request.params["user_id"]): {"name": name, "age": age}}


def counts(api: FakeApi, request: Request) -> dict[str, Any]:
    """Store the users of a batch, and return what the contract says about them."""
    users, existing = users_of(request), store(api, request)
    created = len(users) - len(existing)
    if api.old:
        return {"created": created, "existing": existing}
    same = [user_id for user_id in existing if api.users[user_id] == users[user_id]]
    other = [user_id for user_id in existing if user_id not in same]
    return {"created": created, "existing": same, "conflicting": other}


def store(api: FakeApi, request: Request) -> list[int]:
    """Store the users of a create or a batch; return the ids that were stored before."""
    if request.method != "POST" or (request.kind == "batch" and not api.batches):
        return []
    users = users_of(request)
    existing = sorted(users.keys() & api.users.keys())
    for user_id, user in users.items():
        api.users.setdefault(user_id, user)
    return existing


async def send(
    writer: asyncio.StreamWriter, status: int, body: object, headers: dict[str, str] | None = None
) -> None:
    """Send a response; a body that is not bytes is sent as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = {"Content-Length": str(len(data)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    writer.write(f"HTTP/1.1 {status} Whatever\r\n{head}\r\n".encode() + data)
    await writer.drain()


def respond(status: int, body: object, headers: dict[str, str] | None = None) -> Handler:
    """A handler that responds with this, and stores nothing."""

    async def handler(_api: FakeApi, _request: Request, writer: asyncio.StreamWriter) -> None:
        await send(writer, status, body, headers)

    return handler


def lost(handler: Handler) -> Handler:
    """A handler that stores the users, and then lets the other one respond."""

    async def store_and_respond(
        api: FakeApi, request: Request, writer: asyncio.StreamWriter
    ) -> None:
        store(api, request)
        await handler(api, request, writer)

    return store_and_respond


async def hang(_api: FakeApi, _request: Request, writer: asyncio.StreamWriter) -> None:
    """Send nothing for as long as the client waits."""
    with suppress(ConnectionError):
        await writer.wait_closed()


async def trickle(_api: FakeApi, _request: Request, writer: asyncio.StreamWriter) -> None:
    """Send an endless response, a byte at a time."""
    writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 100000\r\n\r\n")
    while not writer.is_closing():
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)


async def half(_api: FakeApi, _request: Request, writer: asyncio.StreamWriter) -> None:
    """Stop in the middle of the body."""
    writer.write(b'HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\n{"user_id"')
    await writer.drain()
    writer.close()


async def flood(_api: FakeApi, _request: Request, writer: asyncio.StreamWriter) -> None:
    """Send an endless body at full speed."""
    writer.write(b"HTTP/1.1 201 Created\r\nConnection: close\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"[" * 65_536)
        await writer.drain()
        await asyncio.sleep(0)


async def garbage(_api: FakeApi, _request: Request, writer: asyncio.StreamWriter) -> None:
    """Send what is not HTTP."""
    writer.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
    await writer.drain()
    writer.close()


async def reset(_api: FakeApi, _request: Request, writer: asyncio.StreamWriter) -> None:
    """Reset the connection without a response."""
    writer.transport.abort()


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for a condition to come true; raises TimeoutError when it does not."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (the condition is not ours to signal)
            await asyncio.sleep(0.005)


def close(connection: Connection) -> None:
    """Close the idle sockets of a connection, which a process leaves to its end."""
    for idle in connection._idle:
        idle.abort()
