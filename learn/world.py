"""The world of a check: programs, the real API, fault proxies, and requests to them."""

import asyncio
import contextlib
import http.client
import json
import random
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from learn.program import Program, said, start
from learn.proxy import Proxy
from learn.verdict import Fail, Void
from tools.machine import ROOT

START_SECONDS = 10.0
reserved: list[socket.socket] = []  # open until the check ends


@dataclass(frozen=True)
class Response:
    """A response, or none: then `status` is 0 and `error` says why."""

    status: int
    text: str = ""
    error: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def body(self) -> Any:
        """The JSON in the body, or None."""
        try:
            return json.loads(self.text)
        except ValueError:
            return None


class World:
    """What a check works with. `faults` is False if faults must not strike (then: VOID)."""

    def __init__(self, file: Path, seed: int, folder: Path, faults: bool = True) -> None:
        self.file, self.seed, self.folder, self.faults = file, seed, folder, faults
        self.random = random.Random(seed)
        self.measured = ""  # the answer to the mission's prediction
        self.programs: list[Program] = []

    async def start(
        self,
        *arguments: str,
        runner: Path | None = None,
        folder: Path | None = None,
        **variables: str,
    ) -> Program:
        """Start the learner's program, or a runner that gets the program as its first argument."""
        command = [sys.executable, *([str(runner)] if runner else []), str(self.file), *arguments]
        self.programs.append(await start(command, self.file, folder or self.folder, **variables))
        return self.programs[-1]

    async def run(
        self, seconds: float, *arguments: str, runner: Path | None = None, **variables: str
    ) -> Program:
        """Run the learner's program to its end. Raises Fail if that is late, or an error."""
        program = await self.start(*arguments, runner=runner, folder=None, **variables)
        await program.succeeded(seconds)
        return program

    async def serve(self, folder: Path | None = None, **variables: str) -> tuple[Program, str]:
        """Start the learner's service on a free port (variable PORT); return it and its URL."""
        port = free_port()
        program = await self.start(runner=None, folder=folder, PORT=str(port), **variables)
        deadline = time.monotonic() + START_SECONDS
        while not await is_open(port):
            if program.code is not None:
                await program.ended(1)  # reads the rest of its output
                crash = program.crash(f"it ended with {said(program.code)} before it listened")
                if not program.code:
                    crash.look = f"{self.file.name}: does it start a server, and wait?"
                raise crash
            if time.monotonic() > deadline:
                raise Fail(
                    "the service listens on 127.0.0.1, at the port in the variable PORT",
                    f"nothing listened there after {START_SECONDS:g} s",
                    program.last_line(),
                    f"{self.file.name}: where the server starts",
                )
            await asyncio.sleep(0.05)
        return program, f"http://127.0.0.1:{port}"

    async def api(self, port: int = 0, app: str = "main:app", **variables: str) -> str:
        """Start the real API, and return its URL; `app` may be a wrapper around it."""
        port = port or free_port()
        command = [sys.executable, "-m", "uvicorn", app, "--port", str(port)]
        command += ["--timeout-graceful-shutdown", "3"]
        variables = {"PYTHONPATH": str(ROOT), **variables}  # for a wrapper in this folder
        program = await start(command, Path("main.py"), ROOT / "api", **variables)
        self.programs.append(program)
        deadline = time.monotonic() + 3 * START_SECONDS
        while not await is_open(port):
            if program.code is not None or time.monotonic() > deadline:
                raise Void(f"the API did not start: {program.output[-300:].strip()}")
            await asyncio.sleep(0.05)
        return f"http://127.0.0.1:{port}"

    async def proxy(self, service: str, *urls: str) -> Proxy:
        """Open a fault proxy in front of servers; it listens on `proxy.port`."""
        targets = [urlsplit(url).netloc for url in urls]
        proxy = Proxy(service, targets, self.random.getrandbits(32), self.faults)
        await proxy.open()
        return proxy

    async def call(
        self,
        method: str,
        url: str,
        seconds: float = 5.0,
        body: Any = None,
        headers: dict[str, str] | None = None,
        **query: object,
    ) -> Response:
        """Send one request on a new connection; an error is a response with the status 0."""
        target = f"{url}?{urlencode(query)}" if query else url
        return await asyncio.to_thread(_call, method, target, seconds, body, headers or {})

    async def until(
        self, holds: Callable[[], Awaitable[object]], seconds: float, pause_seconds: float = 0.05
    ) -> bool:
        """Wait until `holds()` is true, at most `seconds`; return whether it was."""
        deadline = time.monotonic() + seconds
        while not await holds():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(pause_seconds)
        return True


def require_strikes(proxy: Proxy, at_least: int, *kinds: str) -> None:
    """Raise Void unless each kind of fault has struck so many times."""
    for kind in kinds:
        if proxy.strikes[kind] < at_least:
            times = f"{proxy.strikes[kind]} times, and {at_least} are needed"
            raise Void(f"the fault {kind} struck {times}: this run proves nothing")


def _call(method: str, url: str, seconds: float, body: Any, headers: dict[str, str]) -> Response:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=seconds)
    if body is not None:
        headers = {"Content-Type": "application/json", **headers}
    target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    try:
        data = None if body is None else json.dumps(body).encode()
        connection.request(method, target, data, headers)
        response = connection.getresponse()
        text = response.read(1_000_000).decode(errors="replace")
        names = {name.lower(): value for name, value in response.getheaders()}
        return Response(response.status, text, "", names)
    except (OSError, http.client.HTTPException) as error:
        return Response(0, "", str(error) or type(error).__name__)
    finally:
        connection.close()


def free_port() -> int:
    """Return a port that is free, and that no other check takes while this one runs.

    It is not one of those that systems give to outgoing connections. A UDP socket reserves it: TCP
    does not see it, so the program can listen; another check sees it, and takes another port.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        udp = socket.socket(type=socket.SOCK_DGRAM)
        with socket.socket() as tcp, contextlib.suppress(OSError):
            udp.bind(("127.0.0.1", port))
            tcp.bind(("127.0.0.1", port))
            reserved.append(udp)
            return port
        udp.close()


async def is_open(port: int) -> bool:
    """Return whether a local port accepts connections."""
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), 1)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
