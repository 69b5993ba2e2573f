"""HTTP requests and responses as bytes, and a client of an ASGI app that stops reading."""

import asyncio
import socket
from collections.abc import Iterator, MutableMapping
from typing import Any

from fastapi import FastAPI

HOST = "Host: localhost"


def http(method: str, target: str | bytes, *headers: str | bytes, body: bytes = b"") -> bytes:
    """Return a request; without headers it has a Host header that the API accepts."""
    lines = [_bytes(method) + b" " + _bytes(target) + b" HTTP/1.1"]
    lines += [_bytes(header) for header in headers or (HOST,)] + [b"Connection: close"]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def _bytes(text: str | bytes) -> bytes:
    return text.encode("latin-1") if isinstance(text, str) else text


def exchange(port: int, request: bytes, *, end_input: bool = False) -> bytes:
    """Send a request over a new connection; return the bytes until the server closes it.

    With `end_input` the server learns that nothing more follows.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        try:
            connection.sendall(request)
            if end_input:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the server has sent its response, and does not read the rest
        return b"".join(_received(connection))


def _received(connection: socket.socket) -> Iterator[bytes]:
    try:
        while some := connection.recv(65_536):
            yield some
    except ConnectionError:
        return


class ListingClient:
    """An ASGI client that requests all users and stops reading after some messages."""

    def __init__(self, max_messages: int, spec_version: str = "2.3") -> None:
        """`spec_version` is the version of ASGI that the server says it has."""
        self.messages: list[MutableMapping[str, Any]] = []
        self.stopped_reading = asyncio.Event()
        self._disconnected = asyncio.Event()
        self._max_messages = max_messages
        self._spec_version = spec_version

    @property
    def status(self) -> int:
        """The status of the response."""
        return int(self.messages[0]["status"])

    def disconnect(self) -> None:
        """Close the connection."""
        self._disconnected.set()

    async def request(self, app: FastAPI) -> None:
        """Call the app; return when the app has finished the request."""
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": self._spec_version},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": "/users/",
            "raw_path": b"/users/",
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"localhost")],
        }
        await app(scope, self._receive, self._send)

    async def _receive(self) -> dict[str, str]:
        await self._disconnected.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        self.messages.append(message)
        if len(self.messages) >= self._max_messages and message.get("more_body", True):
            self.stopped_reading.set()
            await asyncio.Event().wait()  # until the app cancels it
