"""The console of `lab.py up`: services are killed and started, faults are switched by typing."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from conftest import Terminal, free_port, wait_until

from tools.machine import ROOT
from tools.processes import OWN_GROUP

if sys.platform == "win32":
    pytest.skip("these tests type at a POSIX terminal", allow_module_level=True)

import pty


class Console(Terminal):
    """`lab.py up` on free ports, with a terminal as its input."""

    def __init__(self, *options: str, **variables: str) -> None:
        self.lines = []
        self.api_port, self.dashboard_port = free_port(), free_port()
        self.api_url = f"http://localhost:{self.api_port}"
        ports = ["--api-port", str(self.api_port), "--dashboard-port", str(self.dashboard_port)]
        self.keyboard, keys = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "lab.py", "up", *ports, *options],
            cwd=ROOT,
            env={**os.environ, "SIMULATION_INTERVAL": "0.1", **variables},
            stdin=keys,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            **OWN_GROUP,
        )
        os.close(keys)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.wait_for("Ctrl-C stops everything")

    def type(self, text: str) -> None:
        """Type a line."""
        os.write(self.keyboard, f"{text}\n".encode())

    def kill(self) -> None:
        """End it, in whatever state it is."""
        super().kill()
        os.close(self.keyboard)

    def seen_after(self, typed: str, text: str, times: int = 1) -> None:
        """Type a line, and wait for new lines of the output with a text, ten seconds at most."""
        before = self.count(text)
        self.type(typed)
        self.wait_for(text, times=before + times, deadline_seconds=10)


@pytest.fixture
def console() -> Iterator[Console]:
    """Yield a running system with a console."""
    console = Console()
    yield console
    console.kill()


def users(console: Console, http: httpx2.Client) -> int:
    """Return how many users are stored."""
    return int(http.get(f"{console.api_url}/stats/ages").json()["total"])


def conflicts(console: Console, http: httpx2.Client) -> int:
    """Return how many 409 the API's metrics have counted: requests that were sent twice."""
    metrics = http.get(f"{console.api_url}/metrics").text
    found = re.search(r'method="POST",route="/users/",status="409"\} (\d+)', metrics)
    return int(found[1]) if found else 0


def test_a_killed_service_does_not_stop_the_others(console: Console, http: httpx2.Client) -> None:
    """`kill api` is reported and the simulator waits; after `start api` users arrive again."""
    console.seen_after("kill api", "api ended with exit code -9; the others go on")
    console.wait_for("The API refused the connection", deadline_seconds=10)
    assert http.get(f"http://localhost:{console.dashboard_port}").status_code == 200

    console.seen_after("start api", "The API is back after")
    wait_until("a new user", lambda: users(console, http) > 0, 10)
    assert console.stop() == 0


def test_a_lost_response_shows_and_ends(console: Console, http: httpx2.Client) -> None:
    """The fault shows in the metrics, in the log and at FAULTS_URL; `faults off` ends all that."""
    wait_until("a user", lambda: users(console, http) > 0, 10)
    assert conflicts(console, http) == 0

    console.seen_after("fault simulator lose-response 30%", "closed the connection without")
    wait_until("a 409 in the metrics", lambda: conflicts(console, http) > 0, 10)
    console.seen_after("faults", "fault lose-response: 30% of the requests of the simulator")
    assert re.search(r"struck [1-9]\d* times", "\n".join(console.lines))

    console.seen_after("faults off", "all faults are off")
    console.seen_after("faults", "no fault is on")
    wait_until("the last retry", lambda: console.count("next try in") == calm(console), 10)
    before = conflicts(console, http)
    sent = users(console, http)
    wait_until("twenty more users", lambda: users(console, http) >= sent + 20, 20)
    assert conflicts(console, http) == before


def calm(console: Console) -> int:
    """Return the number of retries after one more second."""
    sent = console.count("POST /users/ 201")
    wait_until("some users", lambda: console.count("POST /users/ 201") > sent + 8, 10)
    return console.count("next try in")


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("kill nobody", "there is no service 'nobody': api, dashboard, simulator"),
        ("start api", "api is running already"),
        ("fault api hang 30%", "faults disturb the requests of simulator or dashboard"),
        ("fault simulator sneeze 30%", "kinds: latency, hang, refuse, reset, lose-response"),
        ("fault simulator hang 300%", "write: fault simulator KIND 30%"),
        ("make coffee", "unknown command 'make coffee': type help"),
        ("help", "kill api | simulator | dashboard"),
    ],
)
def test_every_line_gets_an_answer(typed: str, message: str, shared_console: Console) -> None:
    """A wrong command is one sentence, and nothing else happens."""
    shared_console.seen_after(typed, message)
    assert shared_console.process.poll() is None


@pytest.fixture(scope="module")
def shared_console() -> Iterator[Console]:
    """Yield one system for several tests that change nothing."""
    console = Console()
    yield console
    console.kill()


def test_the_dashboard_knows_the_faults(shared_console: Console, http: httpx2.Client) -> None:
    """FAULTS_URL of the dashboard lists the faults that are on; only this machine's pages may."""
    url = faults_url(shared_console)
    assert http.get(url).json() == []
    assert http.put(f"{url}dashboard/latency?share=0.5").json() == [
        {"service": "dashboard", "kind": "latency", "share": 0.5, "strikes": 0}
    ]
    for wrong in (
        "dashboard/latency?share=2",
        "dashboard/sneeze?share=0.5",
        "dashboard",
        "a/b?c=d",
    ):
        assert http.put(url + wrong).status_code in (200, 400)
    assert http.delete(url, headers={"Host": "attacker.example"}).status_code == 400
    assert len(http.get(url).json()) == 1
    assert http.delete(url).json() == []


def faults_url(console: Console) -> str:
    """Return the address for scripts, which `help` prints; the dashboard has it, too."""
    console.seen_after("help", "for scripts: http://127.0.0.1:")
    url = next(line.split()[-1] for line in console.lines if "for scripts" in line)
    if sys.platform == "linux":
        services = [Path(f"/proc/{pid}/environ") for pid in children_of(console.process.pid)]
        assert any(f"FAULTS_URL={url}\0".encode() in each.read_bytes() for each in services)
    return url


def children_of(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    listed = subprocess.run(["ps", "-Ao", "pid=,ppid="], capture_output=True, text=True).stdout
    rows = [list(map(int, row.split())) for row in listed.splitlines()]
    return [child for child, parent in rows if parent == pid]


def is_api(pid: int) -> bool:
    """Return whether a process is the API."""
    shown = subprocess.run(["ps", "-wwo", "args=", "-p", str(pid)], capture_output=True, text=True)
    return "uvicorn" in shown.stdout


def test_one_that_ends_can_stop_all() -> None:
    """With --all-or-nothing a service that ends stops the others, also with a terminal."""
    console = Console("--all-or-nothing", SIMULATION_INTERVAL="0.1")
    try:
        (api,) = [pid for pid in children_of(console.process.pid) if is_api(pid)]
        os.kill(api, signal.SIGKILL)
        assert console.process.wait(20) == 128 + signal.SIGKILL
        console.wait_for("api ended with exit code -9: ")
        assert console.count("Fault proxies") == 0
    finally:
        console.kill()
