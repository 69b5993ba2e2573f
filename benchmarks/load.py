"""Servers that are measured, and the load that measures them. Linux only: it reads /proc."""

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
from itertools import count, islice
from pathlib import Path
from typing import Any

from benchmarks.api import people
from tools.processes import LabError, Stopped, end, stop_requested

HERE = Path(__file__).parent
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
SERVER_CORE, LOAD_CORE = CORES[0], CORES[-1]
DATABASE_CORES = CORES[1:]
PINNED = len(CORES) > 1 and shutil.which("taskset") is not None
# Nothing else of the caller's environment may decide how a contender runs.
INHERITED = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | {
    "LANG": "C.UTF-8"
}
CONNECTIONS = 64
KNOWN_USERS = 1_000  # for get and update, unless a part has more of them
START_SECONDS = 60
BATCH_USERS = 1_000
given_ports: set[int] = set()
first_ids = count(10**8, 10**8)  # each run creates users of its own


@dataclass(frozen=True)
class Contender:
    """How a server is started; `{port}` in its command is where it shall listen."""

    name: str
    command: Sequence[str]
    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """What one short run of wrk showed."""

    answered: int
    cpu_us: float  # of the server's processes, per request answered
    per_second: float
    p99_ms: float


class Server:
    """A contender that runs, with its lines going to a file, until it is closed."""

    def __init__(self, contender: Contender, pinned: bool = True, **variables: str) -> None:
        self.name = contender.name
        self.pinned = pinned
        self.port = free_port()
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the server
        command = [word.replace("{port}", str(self.port)) for word in contender.command]
        self.started = time.perf_counter()
        self.process = subprocess.Popen(
            [*on_core(*[SERVER_CORE] if pinned else CORES), *command],
            cwd=contender.folder,
            env={**INHERITED, **contender.variables, **variables},
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def wait(self) -> float:
        """Return the seconds from the start to the first good answer. Raises LabError."""
        while time.perf_counter() - self.started < START_SECONDS:
            if stop_requested.is_set():
                raise Stopped
            if self.process.poll() is not None:
                break
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.ask("GET", "/health")[0] == 200:
                    return time.perf_counter() - self.started
            time.sleep(0.002)
        raise LabError(f"bench: {self.name} does not start:\n{self.last_words()}")

    def last_words(self) -> str:
        """Return the end of what the server has written."""
        self.log.seek(0)
        return "\n".join(self.log.read().decode(errors="replace").splitlines()[-15:])

    def ask(
        self, method: str, path: str, body: bytes | None = None, timeout_seconds: float = 60
    ) -> tuple[int, bytes]:
        """Return the status and the body of one answer."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_seconds)
        with contextlib.closing(client):
            client.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            answer = client.getresponse()
            return answer.status, answer.read()

    def fill(self, users: int) -> None:
        """Create the users with the ids from 0, one by one."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(client):
            for user_id in range(users):
                client.request("POST", f"/users/?user_id={user_id}&name=Alice%20Johnson&age=30")
                answer = client.getresponse()
                answer.read()
                if answer.status != 201:
                    raise LabError(f"bench: {self.name} answers a create with {answer.status}")

    def fill_in_batches(self, users: int) -> None:
        """Create so many different users with the ids from 0."""
        everybody = people.users(users)
        while some := list(islice(everybody, BATCH_USERS)):
            batch = {user_id: {"name": name, "age": age} for user_id, name, age in some}
            status, answer = self.ask("POST", "/users/batch", json.dumps(batch).encode())
            if status != 200 or json.loads(answer)["created"] != len(some):
                raise LabError(f"bench: {self.name} answers a batch with {status} {answer[:200]!r}")

    def processes(self) -> list[int]:
        """Return the server's process and all below it."""
        found = [self.process.pid]
        for pid in found:
            for file in Path(f"/proc/{pid}/task").glob("*/children"):
                found += map(int, file.read_text().split())
        return found

    def cpu_seconds(self) -> float:
        """Return the processor time, in user and kernel mode, that its processes have taken."""
        ticks = 0
        for pid in self.processes():
            after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(after_name[11]) + int(after_name[12])
        return ticks / system_value("SC_CLK_TCK")

    def memory_bytes(self, what: str = "VmRSS") -> int:
        """Return the memory that its processes hold, or (`VmHWM`) have held at most."""
        total = 0
        for pid in self.processes():
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith(f"{what}:"):
                    total += int(line.split()[1]) * 1024
        return total

    def forget_peak(self) -> None:
        """Let the highest memory so far be what it holds now."""
        for pid in self.processes():
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def close(self) -> None:
        """End it and all below it."""
        end(self.process)
        self.log.close()


@contextmanager
def serving(contenders: Sequence[Contender], pinned: bool = True) -> Iterator[dict[str, Server]]:
    """Yield all contenders, started together and answering."""
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


def output_of(command: Sequence[str], folder: Path = HERE, **variables: str) -> str:
    """Run a client to its end and return what it printed. Raises LabError if it failed."""
    done = subprocess.run(
        command, cwd=folder, env=INHERITED | variables, capture_output=True, text=True
    )
    if stop_requested.is_set():
        raise Stopped
    if done.returncode:
        raise LabError(f"bench: {' '.join(command)} failed: {done.stdout}{done.stderr}")
    return done.stdout


def wrk(
    server: Server,
    call: str,
    seconds: int = 1,
    connections: int = CONNECTIONS,
    known_users: int = KNOWN_USERS,
    pause_ms: float = 0,
) -> Run:
    """Measure one call for some seconds. Raises LabError if a response was an error.

    With a pause, each connection waits between two requests, `pause_ms` on average.
    """
    first_id = next(first_ids)
    cores = [LOAD_CORE] if server.pinned else CORES
    command = [*on_core(*cores), "wrk", "--threads=1", f"--connections={connections}"]
    command += [f"--duration={seconds}s", "--timeout=10s", "--script=calls.lua"]
    command += [f"http://127.0.0.1:{server.port}", "--", call, str(first_id)]
    command += [str(known_users), f"{pause_ms:.3f}"]
    cpu_before = server.cpu_seconds()
    told = json.loads(output_of(command, HERE / "api").splitlines()[-1])
    return judged(server.name, call, told, server.cpu_seconds() - cpu_before)


def judged(name: str, call: str, told: Mapping[str, Any], cpu_seconds: float) -> Run:
    """Return what wrk told, unless a run with refusals or broken connections is worth nothing."""
    if told["refused"] or told["broken"] or not told["answered"]:
        raise LabError(
            f"bench: the run is invalid: {name}, {call}: of {told['answered']} answers"
            f" {told['refused']} were errors, {told['broken']} connections broke"
        )
    return Run(
        answered=told["answered"],
        cpu_us=cpu_seconds * 1e6 / told["answered"],
        per_second=told["answered"] / told["seconds"],
        p99_ms=told["p99_ms"],
    )


def system_value(name: str) -> int:
    """Return a value that sysconf(3) knows. Linux only."""
    assert sys.platform != "win32"
    return os.sysconf(name)


def on_core(*cores: int) -> list[str]:
    """Return what binds a command to cores, where there are several and a way to do it."""
    return ["taskset", "--cpu-list", ",".join(map(str, cores))] if PINNED and cores else []


def free_port() -> int:
    """Return a port that nobody uses now and that was not given before."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in given_ports:
            given_ports.add(port)
            return port


def leave_the_servers_core() -> None:
    """Let this program, and what it starts without saying where, not disturb the servers."""
    if PINNED and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, DATABASE_CORES)


def need_tools() -> None:
    """Raise LabError, in one sentence, where the load cannot be made or measured."""
    if not Path("/proc/self/stat").exists():
        raise LabError("bench: needs Linux, whose /proc tells what a server has cost")
    if not shutil.which("wrk"):
        raise LabError("bench: needs wrk, which makes the load (apt-get install wrk)")
