"""The world and the check of mission 13: replicas, a load balancer, their control, customers."""

import asyncio
import json
import sys
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from learn.missions import Mission, Real
from learn.program import Program, start
from learn.verdict import Fail, Void
from learn.world import World, free_port

SERVICE = Path(__file__).parent / "service.py"
REPLICAS, MOST_REPLICAS = 3, 10
CUSTOMERS = 8
READY_SECONDS, LATE_SECONDS = 0.6, 2.5  # one replica, by chance, is ready late
LARGE = b"GET /carts/large HTTP/1.1\r\nHost: cart\r\n\r\n"  # takes 2 s
MOST_SECONDS = 15

MISSION = Mission(
    minutes=20,
    aim="replace replicas without a failed request: wait for readiness, drain, then stop",
    prediction="Customers send about 80 requests a second. The starter stops a replica, starts a "
    "new one and adds it, three times. How many percent of the requests fail?",
    why="The load balancer sends requests to a replica that has ended, and to one that is not "
    "ready. Such a request fails at once, and its customer soon sends the next one, which fails.",
    result="With the starter most of the requests fail; with the solution none of about 500.",
    board="Version 2 needs another table in the database. For some seconds both versions run: "
    "what must be true of the table, and of the two versions?",
    hints=(
        "Each request of a customer must find a replica that can work, at each moment. In which "
        "order do you start, add, remove and stop?",
        "Start the new one, wait until its /ready has the status 200, add it. Only then remove an "
        "old one.",
        "After `remove`, the old one still works on open requests: ask GET /replicas until its "
        "`connections` are 0, then stop it.",
    ),
    real=(
        Real("api/calls.py", "ready", "503 while the store is unavailable or the process stops"),
        Real("api/calls.py", "health", "asks nobody else, so only a restart can help"),
        Real("api/shutdown.py", "Shutdown.drain_on_sigterm", "says not ready, and still responds"),
    ),
)


@dataclass
class Replica:
    """A process of the cart."""

    number: int
    version: int
    port: int
    program: Program
    connections: int = 0

    def about(self) -> dict[str, object]:
        """Return what GET /replicas says."""
        return {
            "id": self.number,
            "version": self.version,
            "url": f"http://127.0.0.1:{self.port}",
            "connections": self.connections,
        }


WHY = {
    "empty": "requests that found no replica in the load balancer",
    "not ready": "requests that got 503 from a replica that was not ready",
    "lost": "requests that lost their replica before they had a response",
    "refused": "requests to a replica that did not listen, not yet or no longer",
}


class Rollout:
    """Replicas, and a load balancer that passes each request to the next of some of them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.replicas: dict[int, Replica] = {}
        self.balanced: list[Replica] = []
        self.outcomes: Counter[str] = Counter()
        self._numbers, self._turns = count(1), count()
        self._late = REPLICAS + world.random.randint(1, REPLICAS)
        self._busy = world.random.randint(1, REPLICAS) if world.faults else 0

    async def start(self, version: int) -> Replica:
        """Start a process; it listens a moment later."""
        number, port = next(self._numbers), free_port()
        seconds = LATE_SECONDS if number == self._late else READY_SECONDS
        variables = {"PORT": str(port), "VERSION": str(version), "READY_SECONDS": str(seconds)}
        command = [sys.executable, str(SERVICE)]
        program = await start(command, SERVICE, self.world.folder, **variables)
        replica = Replica(number, version, port, program)
        self.replicas[replica.number] = replica
        return replica

    async def is_ready(self, replica: Replica) -> bool:
        """Return whether a replica can work."""
        url = replica.about()["url"]
        return (await self.world.call("GET", f"{url}/ready")).status == 200

    async def has_passed(self, requests: int) -> bool:
        """Return whether so many requests have got an outcome."""
        return self.outcomes.total() >= requests

    def running(self) -> list[Replica]:
        """Return the replicas whose process has not ended."""
        return [replica for replica in self.replicas.values() if replica.program.code is None]

    async def command(self, method: str, target: str) -> object:
        """Do what the learner's program wants. Raises LookupError, ValueError."""
        url = urlsplit(target)
        values = {name: int(texts[0]) for name, texts in parse_qs(url.query).items()}
        if (method, url.path) == ("GET", "/replicas"):
            return [replica.about() for replica in self.running()]
        if (method, url.path) == ("POST", "/start"):
            if len(self.running()) >= MOST_REPLICAS:
                raise ValueError(f"at most {MOST_REPLICAS} replicas may run")
            return (await self.start(values["version"])).about()
        if method != "POST" or url.path not in ("/add", "/remove", "/stop"):
            raise LookupError("no such command")
        replica = self.replicas[values["id"]]
        if url.path == "/add" and replica not in self.balanced:
            self.balanced.append(replica)
        if url.path == "/remove" and replica in self.balanced:
            self.balanced.remove(replica)
            if replica.number == self._busy:  # the balancer has just passed a long request to it
                self._large = asyncio.create_task(self.pass_on(replica, LARGE))
                await asyncio.sleep(0)  # it counts as an open connection now
        if url.path == "/stop":
            replica.program.kill()
            await replica.program.ended(5)
        return replica.about()

    async def control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve the control."""
        with closing(writer):
            method, target = (await reader.readuntil(b"\r\n\r\n")).decode().split()[:2]
            try:
                status, body = "200 OK", await self.command(method, target)
            except (LookupError, ValueError) as error:
                status, body = "404 Not Found", {"error": f"{target}: {error!r}"}
            text = json.dumps(body)
            writer.write(f"HTTP/1.1 {status}\r\nConnection: close\r\n\r\n{text}".encode())
            await writer.drain()

    async def balance(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one request of a customer to the next replica, and count what came of it."""
        with closing(writer):
            head = await reader.readuntil(b"\r\n\r\n")
            if not self.balanced:
                self.outcomes["empty"] += 1
                return
            replica = self.balanced[next(self._turns) % len(self.balanced)]
            writer.write(await self.pass_on(replica, head))

    async def pass_on(self, replica: Replica, head: bytes) -> bytes:
        """Pass a request to a replica, count what came of it, and return the response."""
        replica.connections += 1
        response = b""
        try:
            there, to_server = await asyncio.open_connection("127.0.0.1", replica.port)
            with closing(to_server):
                to_server.write(head)
                response = await there.read()
            outcome = {b"200": "done", b"503": "not ready"}.get(response[9:12], "lost")
        except OSError as error:
            outcome = "refused" if isinstance(error, ConnectionRefusedError) else "lost"
        finally:
            replica.connections -= 1
        self.outcomes[outcome] += 1
        return response


async def customer(port: int) -> None:
    """Send one request after the other, for ever."""
    while True:
        response = b""
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with closing(writer):
                writer.write(b"GET /carts/family HTTP/1.1\r\nHost: cart\r\n\r\n")
                response = await reader.read()
        if b" 200 " not in response[:13]:
            await asyncio.sleep(0.1)


async def listen(serve: object) -> int:
    """Serve on a free port, and return it."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)  # type: ignore[arg-type]
    return int(server.sockets[0].getsockname()[1])


async def check(world: World) -> None:
    """Let customers send requests while the program replaces all replicas."""
    rollout = Rollout(world)
    rollout.balanced = [await rollout.start(1) for _ in range(REPLICAS)]
    url = f"http://127.0.0.1:{await listen(rollout.control)}"
    port = await listen(rollout.balance)
    for replica in rollout.balanced:
        if not await world.until(partial(rollout.is_ready, replica), 15):
            raise Void(f"version 1 did not start: {replica.program.output[-300:]}")
    tasks = [asyncio.create_task(customer(port)) for _ in range(world.faults * CUSTOMERS)]
    program = await world.start(CONTROL_URL=url)
    try:
        code = await program.ended(MOST_SECONDS)
        before = rollout.outcomes.total()
        await world.until(partial(rollout.has_passed, before + CUSTOMERS), 2)  # after the last step
    finally:
        for task in tasks:
            task.cancel()
    outcomes = rollout.outcomes
    failed = {why: outcomes[why] for why in WHY if outcomes[why]}
    percent = 100 * sum(failed.values()) / max(outcomes.total(), 1)
    world.measured = f"{percent:.0f} %: {sum(failed.values())} of {outcomes.total()} requests"
    if not world.faults:
        raise Void("no customer has sent a request")
    if code:
        raise program.crash(f"it ended with exit code {code}, and the rollout was not finished")
    if failed:
        why = max(failed, key=lambda each: failed[each])
        seen = f"{WHY[why]}: {failed[why]}"
        numbers = ", ".join(f"{each}: {number}" for each, number in outcomes.items())
        look = f"{world.file.name}: the order of the steps, and what you wait for"
        raise Fail(f"0 of {outcomes.total()} requests fail", seen, f"all requests: {numbers}", look)
    judge_the_end(rollout, world.file.name)


def judge_the_end(rollout: Rollout, file: str) -> None:
    """Raise Fail unless three replicas of version 2, and no others, are left."""
    expected = f"at the end {REPLICAS} replicas of version 2 are in the load balancer, no others"
    old = [each for each in rollout.running() if each.version == 1]
    extra = [each for each in rollout.running() if each not in rollout.balanced]
    for what, found, step in (
        ("replicas of version 1 that still run", old, "the last step"),
        ("replicas that run, but get no requests", extra, "/start and /stop"),
    ):
        if found:
            example = f"replica {found[0].number} has version {found[0].version}"
            raise Fail(expected, f"{what}: {len(found)}", example, f"{file}: {step}")
    left = [replica for replica in rollout.balanced if replica.program.code is None]
    if len(left) != REPLICAS or len(rollout.balanced) != REPLICAS:
        known = f"the load balancer knows {len(rollout.balanced)} replicas; {len(left)} of them run"
        raise Fail(expected, known, "", f"{file}: the calls of /add and /remove")
