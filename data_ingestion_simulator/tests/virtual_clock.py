"""A virtual clock and a network in memory: hours of outages in seconds, the same every time.

The scheduler, the client, its connections and deadlines, and the fake API are the real ones.
"""

import asyncio
import selectors
from collections.abc import Callable
from typing import Any, Protocol


class Serves(Protocol):
    """A server: a fake API, or one of a test."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Respond to the requests on one connection."""


class JumpingSelector(selectors.SelectSelector):
    """Instead of waiting until something happens, puts the clock forward."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return at once, and as late as it would have been."""
        assert timeout is not None, "everything waits for something else"
        self.now += timeout
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes only when all tasks wait for it.

    All connections lead to `api`, in memory. While it `refuses` them, `refused_at` has their times.
    """

    def __init__(self) -> None:
        self.selector = JumpingSelector()
        super().__init__(self.selector)
        self.api: Serves
        self.refuses = False
        self.refused_at: list[float] = []
        self.connections = 0
        self._serving: set[asyncio.Task[None]] = set()

    def time(self) -> float:
        return self.selector.now

    # What asyncio itself needs is left out.
    async def create_connection(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.Protocol], *_: object, **__: object
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        """Connect with the API, which serves the other end."""
        if self.refuses:
            self.refused_at.append(self.time())
            raise ConnectionRefusedError
        self.connections += 1
        reader = asyncio.StreamReader()
        here, there = Pipe(protocol_factory()), Pipe(asyncio.StreamReaderProtocol(reader))
        here.other, there.other = there, here
        writer = asyncio.StreamWriter(there, there.protocol, reader, self)
        for end in (here, there):
            end.protocol.connection_made(end)
        task = self.create_task(self.api.serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        return here, here.protocol


def virtual_loop() -> VirtualLoop:
    """Return the loop that the test runs on."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


class Pipe(asyncio.Transport):
    """One end of a connection in memory."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.protocol = protocol
        self.other: Pipe
        self._loop = asyncio.get_running_loop()
        self._closing = False

    def write(self, data: Any) -> None:
        if not self._closing:
            self._loop.call_soon(self.other._receive, bytes(data))

    def _receive(self, data: bytes) -> None:
        if not self._closing:
            self.protocol.data_received(data)

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        """End the connection in good order."""
        self._end(None)

    def abort(self) -> None:
        """Break the connection off."""
        self._end(ConnectionResetError())

    def _end(self, error: Exception | None) -> None:
        if not self._closing:
            self._closing = True
            self._loop.call_soon(self.protocol.connection_lost, None)
            self._loop.call_soon(self.other._lost, error)

    def _lost(self, error: Exception | None) -> None:
        if not self._closing:
            self._closing = True
            if error is None:
                self.protocol.eof_received()
            self.protocol.connection_lost(error)

    def pause_reading(self) -> None:
        """There is always room in memory."""

    def resume_reading(self) -> None:
        """There is always room in memory."""
