"""The fault proxy: stands between clients and servers, and disturbs a share of the requests.

It knows no protocol. A request is what a client sends first, or after a response. So a fault also
strikes a client that keeps its connection, and works in front of a database. `control.py` switches
faults over HTTP.
"""

import asyncio
import os
import random
import socket
import struct
import time
from asyncio import StreamReader as Reader
from asyncio import StreamWriter as Writer
from collections import Counter
from contextlib import closing, suppress
from types import SimpleNamespace
from typing import Any

KINDS = {
    "latency": "the request is passed on late",
    "hang": "the request is not passed on; the connection stays open, without a response",
    "refuse": "the connection is reset; the request is not passed on",
    "reset": "the request is passed on; the connection is reset in the middle of the response",
    "lose-response": "the request is passed on; the connection is closed without a response",
}
RESET = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)  # SO_LINGER of 0 s sends a reset


class Proxy:
    """Passes connections to `targets` ("host:port", may change) in turn; unarmed, to all alike."""

    def __init__(self, service: str, targets: list[str], seed: int = 0, armed: bool = True) -> None:
        self.service, self.targets, self.armed = service, targets, armed
        self.shares: dict[str, float] = {}
        self.strikes: Counter[str] = Counter()
        self.hanging: dict[Writer, float] = {}  # when each request began to hang
        self.latency_seconds, self.port, self._turn = 0.4, 0, 0
        self._random = random.Random(seed)
        self._tasks: set[Any] = set()

    async def open(self, port: int = 0) -> str:
        """Listen on a local port (default: a free one; later the same); return host and port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port or self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return f"127.0.0.1:{self.port}"

    async def close(self) -> None:
        """End all connections, and refuse new ones until `open`."""
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks)

    def set(self, kind: str, share: float, latency_seconds: float = 0.4) -> None:
        """Disturb a share (0 to 1) of the requests from now on. Raises ValueError."""
        if kind not in KINDS or not 0 <= share <= 1 or not 0 <= latency_seconds <= 60:
            raise ValueError(f"a fault is one of {', '.join(KINDS)}; its share is from 0 to 1")
        self.strikes[kind], self.latency_seconds = 0, latency_seconds
        self.shares = {k: v for k, v in self.shares.items() if k != kind}
        if share and self.armed:
            self.shares[kind] = share

    def off(self) -> None:
        """End all faults, and the connections that hang."""
        self.shares.clear()
        for writer in self.hanging:
            writer.transport.abort()

    def faults(self) -> list[dict[str, object]]:
        """Return the faults that are on, and how often each has struck."""
        on = self.shares.items()
        about = {"service": self.service}
        return [about | {"kind": k, "share": share, "strikes": self.strikes[k]} for k, share in on]

    async def _accept(self, reader: Reader, writer: Writer) -> None:
        self._tasks.add(task := asyncio.current_task())
        state = SimpleNamespace(client=writer, fault="", responded=True)
        with suppress(OSError, ExceptionGroup, asyncio.CancelledError), closing(writer):
            server, to_server = await self._connect()
            with closing(to_server):
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._requests(reader, to_server, state))
                    both.create_task(self._responses(server, state))
        self._tasks.discard(task)
        self.hanging.pop(writer, None)

    async def _connect(self) -> tuple[Reader, Writer]:
        for _ in self.targets:
            self._turn += 1
            host, _, port = self.targets[self._turn % len(self.targets)].rpartition(":")
            with suppress(OSError):
                return await asyncio.open_connection(host, int(port))
        raise ConnectionRefusedError

    async def _requests(self, reader: Reader, server: Writer, state: SimpleNamespace) -> None:
        while data := await reader.read(65536):
            if state.responded:  # a new request begins
                struck = [k for k, share in self.shares.items() if self._random.random() < share]
                state.responded, state.fault = False, struck[0] if struck else ""
                self.strikes[state.fault] += 1
                if state.fault == "latency":
                    await asyncio.sleep(self.latency_seconds)
                elif state.fault == "hang":
                    self.hanging[state.client] = time.monotonic()
                elif state.fault == "refuse":
                    self._reset(state.client)
            if state.fault != "hang":
                server.write(data)
                await server.drain()
        if state.fault == "hang":
            raise ConnectionAbortedError  # the client has closed the connection
        server.write_eof()

    async def _responses(self, reader: Reader, state: SimpleNamespace) -> None:
        while data := await reader.read(65536):
            if state.fault == "lose-response":
                raise ConnectionAbortedError
            if state.fault == "reset":
                state.client.write(data[: len(data) // 2])
                await asyncio.sleep(0.01)  # so that the client receives this half
                self._reset(state.client)
            state.responded = True
            state.client.write(data)
            await state.client.drain()
        if state.fault != "hang":
            state.client.write_eof()

    def _reset(self, client: Writer) -> None:
        client.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        raise ConnectionAbortedError
