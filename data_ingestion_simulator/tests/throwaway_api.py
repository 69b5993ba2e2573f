"""An API to throw away: the calls the simulator makes, over raw sockets, with faults on demand."""

import asyncio
import json
import re
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit


@dataclass
class Request:
    """One request, read and taken apart; its `kind`: health, create, batch, list or read."""

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
        if self.kind == "create" and self.method == "GET":
            self.kind = "list"


Act = Callable[["ThrowawayApi", Request, asyncio.StreamWriter], Awaitable[None]]


class ThrowawayApi:
    """Serves the contract on a loopback port; `plays["create"]` holds acts for the next creates.

    `weather` may give an act for any other request. It takes batches if told so, and each answer of
    the contract takes `delay_seconds`.
    """

    def __init__(self, port: int = 0, *, batches: bool = False, delay_seconds: float = 0) -> None:
        self.port = port
        self.batches = batches
        self.delay_seconds = delay_seconds
        self.weather: Callable[[Request], Act | None] = lambda _: None
        self.users: dict[int, dict[str, Any]] = {}
        self.requests: list[Request] = []
        self.peers: set[object] = set()
        self.plays: defaultdict[str, deque[Act]] = defaultdict(deque)
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

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
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
                play = self.plays[request.kind]
                act = play.popleft() if play else self.weather(request) or contract
                await act(self, request, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


async def contract(api: ThrowawayApi, request: Request, writer: asyncio.StreamWriter) -> None:
    """What a healthy API answers."""
    if api.delay_seconds:
        await asyncio.sleep(api.delay_seconds)
    if request.kind == "batch":
        if not api.batches:
            return await send(writer, 405, {"detail": "Method Not Allowed"})
        existing = store(api, request)
        created = len(json.loads(request.body)) - len(existing)
        return await send(writer, 200, {"created": created, "existing": existing})
    if request.kind == "health":
        return await send(writer, 200, {"status": "healthy"})
    if request.kind == "create":
        user_id = int(request.params["user_id"])
        if user_id in api.users:
            return await send(writer, 409, {"detail": f"User {user_id} exists"})
        store(api, request)
        return await send(writer, 201, {"user_id": user_id, **api.users[user_id]})
    if request.kind == "list":
        after, limit = int(request.params["after"]), int(request.params["limit"])
        page = sorted(user_id for user_id in api.users if user_id > after)[:limit]
        return await send(writer, 200, {user_id: api.users[user_id] for user_id in page})
    found = re.fullmatch(r"/users/(\d+)", request.path)
    user = api.users.get(int(found[1])) if found else None
    if user is None:
        return await send(writer, 404, {"detail": "Not found"})
    return await send(writer, 200, user)


def store(api: ThrowawayApi, request: Request) -> list[int]:
    """Keep whom a create or a batch brings; returns the ids that were there already."""
    if request.kind == "batch" and api.batches:
        people = {int(user_id): user for user_id, user in json.loads(request.body).items()}
    elif request.kind == "create":
        params = request.params
        people = {int(params["user_id"]): {"name": params["name"], "age": int(params["age"])}}
    else:
        return []
    existing = sorted(people.keys() & api.users.keys())
    api.users.update((user_id, people[user_id]) for user_id in people.keys() - set(existing))
    return existing


async def send(
    writer: asyncio.StreamWriter, status: int, body: object, headers: dict[str, str] | None = None
) -> None:
    """Send an answer; a body that is not bytes goes as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = {"Content-Length": str(len(data)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    writer.write(f"HTTP/1.1 {status} Whatever\r\n{head}\r\n".encode() + data)
    await writer.drain()


def answer(status: int, body: object, headers: dict[str, str] | None = None) -> Act:
    """An act that answers this, and stores nothing."""

    async def act(_api: ThrowawayApi, _request: Request, writer: asyncio.StreamWriter) -> None:
        await send(writer, status, body, headers)

    return act


def lost(act: Act) -> Act:
    """The user is stored, and then the answer is spoilt by the act."""

    async def act_after_storing(
        api: ThrowawayApi, request: Request, writer: asyncio.StreamWriter
    ) -> None:
        store(api, request)
        await act(api, request, writer)

    return act_after_storing


async def hang(_api: ThrowawayApi, _request: Request, writer: asyncio.StreamWriter) -> None:
    """Say nothing for as long as somebody listens."""
    with suppress(ConnectionError):
        await writer.wait_closed()


async def trickle(_api: ThrowawayApi, _request: Request, writer: asyncio.StreamWriter) -> None:
    """Send an endless answer, a byte at a time."""
    writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 100000\r\n\r\n")
    while not writer.is_closing():
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)


async def half(_api: ThrowawayApi, _request: Request, writer: asyncio.StreamWriter) -> None:
    """Stop in the middle of the body."""
    writer.write(b'HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\n{"user_id"')
    await writer.drain()
    writer.close()


async def flood(_api: ThrowawayApi, _request: Request, writer: asyncio.StreamWriter) -> None:
    """Send more than anybody asked for, without an end."""
    writer.write(b"HTTP/1.1 201 Created\r\nConnection: close\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"[" * 65_536)
        await writer.drain()


async def garbage(_api: ThrowawayApi, _request: Request, writer: asyncio.StreamWriter) -> None:
    """Send what is not HTTP."""
    writer.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
    await writer.drain()
    writer.close()


async def reset(_api: ThrowawayApi, _request: Request, writer: asyncio.StreamWriter) -> None:
    """Break the connection off without a word."""
    writer.transport.abort()


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait for a condition to come true; raises TimeoutError when it does not."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (the condition is not ours to signal)
            await asyncio.sleep(0.005)
