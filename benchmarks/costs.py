"""Measures the cost of a user and of a request, on this machine (Linux).

The cost of a request is the processor time that the API's process, or PostgreSQL's processes, spend
on it. Several clients keep them busy, or, "alone", one client sends one request after the other.
The cost of a user is the growth of the API's memory, or of the database's files.
"""

import http.client
import json
import os
import platform
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.contenders import ours
from benchmarks.load import wrk
from benchmarks.servers import (
    INHERITED,
    Contender,
    Server,
    children_seconds,
    cpu_seconds,
    serving,
)
from benchmarks.stores import database
from tools.environments import environment
from tools.processes import ROOT

ROUNDS = 3  # the cheapest one counts: the machine may have other work
BULK_USERS = 50_000
SINGLE_USERS = 5_000
READS = 5_000
READERS = 8
SIMULATOR = ROOT / "data_ingestion_simulator"

Measured = dict[str, Any]


class Cost(NamedTuple):
    """What a request costs, in microseconds of a core."""

    api_us: float
    database_us: float
    load_us: float  # of the client, which shares the cores

    def rate(self, processes: int, cores: int) -> float:
        """Return the responses per second when these cores do nothing else.

        The limit is the API's processes, which use one core each, or all cores together.
        """
        return 1e6 * min(processes / self.api_us, cores / sum(self))


def cost(server: Server, database_pid: int, call: str, seconds: int, connections: int) -> Cost:
    """Measure a call of wrk for some seconds."""
    before, load_before = cpu_seconds(database_pid), children_seconds()
    run = wrk(server, call, seconds, connections)
    database_us = (cpu_seconds(database_pid) - before) * 1e6 / run.answered
    load_us = (children_seconds() - load_before) * 1e6 / run.answered
    return Cost(run.cpu_us, database_us, load_us)


def cheapest(rounds: Sequence[Cost]) -> Cost:
    """Return the round that cost API and database the least: other programs cost a round more."""
    return min(rounds, key=lambda each: each.api_us + each.database_us)


def measure() -> Measured:
    """Return the cost of a user and of a request over each store, on this machine."""
    python = f"Python {platform.python_version()}"
    found: Measured = {"machine": f"{os.cpu_count()} cores, {platform.machine()}, {python}"}
    found["memory"] = measure_store(ours(), None, None)
    with tempfile.TemporaryDirectory(prefix="lab-capacity-", dir="/var/tmp") as name:
        file = Path(name) / "users.db"
        found["sqlite"] = measure_store(ours(DATABASE_URL=f"sqlite:///{file}"), file, None)
    with database(pinned=False) as postgresql:
        contender = ours(DATABASE_URL=postgresql.url)
        found["postgresql"] = measure_store(contender, postgresql.folder / "base", postgresql.pid)
    return found


def measure_store(contender: Contender, files: Path | None, database_pid: int | None) -> Measured:
    """Return the costs over one store; `files` is where it keeps users, if not in memory."""
    with serving([contender], pinned=False) as servers:
        server = servers[contender.name]
        found: Measured = {"api_microseconds": {}, "store_microseconds": {}}

        def cost(verb: str, requests: int, work: Callable[[], object]) -> None:
            rounds = [cpu_of(work, server.process.pid, database_pid) for _ in range(ROUNDS)]
            cheapest = min(rounds, key=sum)
            for part, seconds in zip(("api", "store"), cheapest, strict=True):
                found[f"{part}_microseconds"][verb] = round(seconds / requests * 1e6, 1)

        simulate(server, 100)  # the first requests cost more
        before = size_of(files, server)
        cost("create_in_batch", BULK_USERS, partial(simulate, server, BULK_USERS))
        grown = size_of(files, server) - before
        found["bytes_per_user"] = round(grown / BULK_USERS / ROUNDS, 1)
        for verb, clients in (("create", "32"), ("create_alone", "1")):
            flags = ("--batch-size", "1", "--concurrency", clients)
            cost(verb, SINGLE_USERS, partial(simulate, server, SINGLE_USERS, *flags))
        paths = [f"/users/{i}" for i in json.loads(server.ask("GET", "/users/?limit=1000")[1])]
        cost("read", READS, partial(read, server, READERS, paths))
        cost("read_alone", READS, partial(read, server, 1, paths))
        cost("count", READS, partial(read, server, READERS, ["/stats/ages"]))
    return found


def cpu_of(work: Callable[[], object], *pids: int | None) -> list[float]:
    """Return the CPU seconds that each process, and all below it, spends on some work."""
    before = [cpu_seconds(pid) if pid else 0.0 for pid in pids]
    work()
    after = [cpu_seconds(pid) if pid else 0.0 for pid in pids]
    return [later - earlier for earlier, later in zip(before, after, strict=True)]


def simulate(server: Server, users: int, *flags: str) -> None:
    """Create users with the simulator."""
    python = environment(SIMULATOR, "requirements.txt")
    command = [python, "main.py", "--count", str(users), "--output", "quiet", "--fail-over", "0%"]
    subprocess.run(
        [*command, *flags],
        cwd=SIMULATOR,
        env=INHERITED | {"API_BASE_URL": f"http://127.0.0.1:{server.port}"},
        stdout=subprocess.DEVNULL,
        check=True,
    )


def read(server: Server, readers: int, paths: list[str]) -> None:
    """Make READS requests from some connections at the same time."""

    def reader() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        for number in range(READS // readers):
            connection.request("GET", paths[number % len(paths)])
            connection.getresponse().read()
        connection.close()

    threads = [threading.Thread(target=reader) for _ in range(readers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def size_of(files: Path | None, server: Server) -> int:
    """Return the bytes of a file (with its journal) or of a folder; else the server's memory."""
    if files is None:
        return server.memory_bytes()
    found = files.rglob("*") if files.is_dir() else files.parent.glob(f"{files.name}*")
    return sum(each.stat().st_size for each in found if each.is_file())
