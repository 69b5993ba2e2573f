"""Servers that are measured: started, asked, and their CPU and memory read from /proc (Linux)."""

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from benchmarks.api import people
from tools.processes import LabError, Stopped, end, stop_requested

HERE = Path(__file__).parent
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
SERVER_CORE, LOAD_CORE = CORES[0], CORES[-1]
DATABASE_CORES = CORES[1:]
PINNED = len(CORES) > 1 and shutil.which("taskset") is not None
# The caller's other environment variables must not change how a contender runs.
INHERITED = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | {
    "LANG": "C.UTF-8"
}
START_SECONDS = 60
BATCH_USERS = 1_000
given_ports: set[int] = set()


@dataclass(frozen=True)
class Contender:
    """How to start a server; `{port}` in its command is the port that it listens on."""

    name: str
    command: Sequence[str]
    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)


class Server:
    """A running contender. Its output goes to a file."""

    def __init__(self, contender: Contender, pinned: bool = True) -> None:
        self.name = contender.name
        self.pinned = pinned
        self.port = free_port()
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the server
        command = [word.replace("{port}", str(self.port)) for word in contender.command]
        self.started_at = time.perf_counter()
        self.process = subprocess.Popen(
            [*on_core(*[SERVER_CORE] if pinned else CORES), *command],
            cwd=contender.folder,
            env={**INHERITED, **contender.variables},
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def wait(self) -> float:
        """Return the seconds from the start to the first good response. Raises LabError."""
        while time.perf_counter() - self.started_at < START_SECONDS:
            if stop_requested.wait(0):
                raise Stopped
            if self.process.poll() is not None:
                break
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.ask("GET", "/health")[0] == 200:
                    return time.perf_counter() - self.started_at
            time.sleep(0.002)
        raise LabError(f"bench: {self.name} does not start:\n{self.last_output()}")

    def last_output(self) -> str:
        """Return the last lines that the server printed."""
        self.log.seek(0)
        return "\n".join(self.log.read().decode(errors="replace").splitlines()[-15:])

    def ask(
        self, method: str, path: str, body: bytes | None = None, timeout_seconds: float = 60
    ) -> tuple[int, bytes]:
        """Return the status and the body of one response, on a new connection."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_seconds)
        with contextlib.closing(client):
            client.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            response = client.getresponse()
            return response.status, response.read()

    def fill(self, users: int) -> None:
        """Create users with the ids from 0, one by one."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(client):
            for user_id in range(users):
                client.request("POST", f"/users/?user_id={user_id}&name=Alice%20Johnson&age=30")
                response = client.getresponse()
                response.read()
                if response.status != 201:
                    raise LabError(f"bench: {self.name}: a create failed with {response.status}")

    def fill_in_batches(self, users: int) -> None:
        """Create different users with the ids from 0."""
        all_users = people.users(users)
        while some := list(islice(all_users, BATCH_USERS)):
            batch = {user_id: {"name": name, "age": age} for user_id, name, age in some}
            status, body = self.ask("POST", "/users/batch", json.dumps(batch).encode())
            if status != 200 or json.loads(body)["created"] != len(some):
                raise LabError(f"bench: {self.name}: a batch failed with {status} {body[:200]!r}")

    def cpu_seconds(self) -> float:
        """Return the processor time of its processes so far."""
        return cpu_seconds(self.process.pid)

    def memory_bytes(self, field_name: str = "VmRSS") -> int:
        """Return the memory of its processes: now (`VmRSS`) or the most so far (`VmHWM`)."""
        total = 0
        for pid in process_tree(self.process.pid):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith(f"{field_name}:"):
                    total += int(line.split()[1]) * 1024
        return total

    def reset_peak(self) -> None:
        """Set the peak of the memory to what it holds now."""
        for pid in process_tree(self.process.pid):
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def close(self) -> None:
        """End it and all its child processes."""
        end(self.process)
        self.log.close()


@contextmanager
def serving(contenders: Sequence[Contender], pinned: bool = True) -> Iterator[dict[str, Server]]:
    """Start all contenders at the same time; yield them by name when all respond."""
    servers: dict[str, Server] = {}
    try:
        for contender in contenders:
            servers[contender.name] = Server(contender, pinned)
        for server in servers.values():
            server.wait()
        yield servers
    finally:
        for server in servers.values():
            server.close()


def process_tree(pid: int) -> list[int]:
    """Return a process and all processes below it."""
    found = [pid]
    for parent in found:
        for file in Path(f"/proc/{parent}/task").glob("*/children"):
            found += map(int, file.read_text().split())
    return found


def cpu_seconds(pid: int) -> float:
    """Return the processor time, in user and kernel mode, of a process and all below it."""
    ticks = 0
    for each in process_tree(pid):
        with contextlib.suppress(FileNotFoundError):  # it has just ended
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            # Of the first process also the time of its children that have ended: see proc(5).
            ticks += sum(map(int, fields[11:15] if each == pid else fields[11:13]))
    return ticks / system_value("SC_CLK_TCK")


def children_seconds() -> float:
    """Return the processor time of this program's child processes that have ended."""
    used = os.times()
    return used.children_user + used.children_system


def system_value(name: str) -> int:
    """Return a value that sysconf(3) knows."""
    if sys.platform == "win32":
        raise LabError("bench: needs Linux")
    return os.sysconf(name)


def on_core(*cores: int) -> list[str]:
    """Return what binds a command to cores, on a machine with several and with taskset."""
    return ["taskset", "--cpu-list", ",".join(map(str, cores))] if PINNED and cores else []


def free_port() -> int:
    """Return a port that is free now and that was not returned before."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in given_ports:
            given_ports.add(port)
            return port


def leave_the_servers_core() -> None:
    """Keep this program, and its other child processes, off the servers' core."""
    if PINNED and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, DATABASE_CORES)
