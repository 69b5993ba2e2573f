"""What is acknowledged stays, whatever dies; what is lost comes back by itself; a stop is clean."""

import contextlib
import os
import random
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import Terminal, wait_until
from served import Answer, Api, Caller, Postgres, Value

from tools.processes import ROOT

CYCLES = 200 if "LAB_LONG" in os.environ else 20
WRITERS = 8
USERS_PER_WRITER = 50
MIN_ACKNOWLEDGED_PER_CYCLE = 20  # a kill that meets no traffic shows nothing
READY_SECONDS = 2.0
LOST_SECONDS = 2.0

if sys.platform == "win32":
    pytest.skip("these tests send POSIX signals", allow_module_level=True)


class Writer:
    """A client that creates, updates and deletes users of its own, and knows what must be there."""

    def __init__(self, number: int, dice: random.Random) -> None:
        first = number * USERS_PER_WRITER
        self.number = number
        self.known: dict[int, Value] = dict.fromkeys(range(first, first + USERS_PER_WRITER))
        self.unknown: dict[int, Value] = {}  # what may be there instead
        self.acknowledged = 0
        self.requests: dict[str, int] = {}  # id -> status, 0 if there was no answer
        self._dice = dice

    def work(self, port: int, stop: threading.Event) -> None:
        """Write until told to stop, or until an outcome is unknown."""
        caller = Caller(port)
        while not stop.is_set() and not self.unknown:
            user_id = self._dice.choice(list(self.known))
            value: Value = (f"w{self.number}-{len(self.requests)}", self._dice.randint(0, 150))
            if self.known[user_id] is None:
                verb = "create"
            elif self._dice.random() < 0.5:
                verb = "update"
            else:
                verb, value = "delete", None
            request_id = f"{self.number}-{len(self.requests)}"
            status = caller.write(verb, user_id, value, request_id)
            self.requests[request_id] = status
            if status:
                assert status == {"create": 201, "update": 200, "delete": 204}[verb]
                self.known[user_id] = value
                self.acknowledged += 1
            else:
                self.unknown[user_id] = value
        caller.close()

    def settle(self, found: Mapping[int, Value]) -> list[str]:
        """Compare with what was found; return what is wrong, and take over what was unknown."""
        wrong = []
        for user_id, expected in self.known.items():
            may_be = [expected, self.unknown.get(user_id, expected)]
            if found.get(user_id) not in may_be:
                wrong.append(f"{user_id} is {found.get(user_id)}, not one of {may_be}")
            self.known[user_id] = found.get(user_id)
        self.unknown = {}
        return wrong


class Load:
    """Eight writers at once."""

    def __init__(self) -> None:
        seed = random.randrange(2**32)
        print(f"seed {seed}")
        self.dice = random.Random(seed)
        self.writers = [Writer(number, random.Random(seed + number)) for number in range(WRITERS)]

    @property
    def acknowledged(self) -> int:
        return sum(writer.acknowledged for writer in self.writers)

    def run(self, port: int, until: Callable[[], None]) -> None:
        """Write until `until` has returned and each writer has heard, or missed, its answer."""
        stop = threading.Event()
        failures: list[Exception] = []

        def work(writer: Writer) -> None:
            try:
                writer.work(port, stop)
            except Exception as error:  # a thread's own failure would be lost with it
                failures.append(error)

        threads = [threading.Thread(target=work, args=(writer,)) for writer in self.writers]
        for thread in threads:
            thread.start()
        try:
            until()
        finally:
            stop.set()
            for thread in threads:
                thread.join(30)
        assert not failures

    def check(self, port: int) -> None:
        """Compare what the API has with what it acknowledged, and its counts with what it has."""
        caller = Caller(port)
        answers = caller.call("GET", "/users/"), caller.call("GET", "/stats/ages")
        caller.close()
        listing, stats = (answer.body if answer else {} for answer in answers)
        found = {int(i): (user["name"], user["age"]) for i, user in listing.items()}
        wrong = [line for writer in self.writers for line in writer.settle(found)]
        counts = Counter(str(age) for _, age in found.values())

        assert wrong == []
        assert set(found) <= {i for writer in self.writers for i in writer.known}
        assert stats == {"total": len(found), "ages": dict(counts)}


@pytest.mark.parametrize("killed", ["SQLite's API", "PostgreSQL's API", "PostgreSQL"])
def test_nothing_acknowledged_is_lost_to_kill_9(
    terminal: Callable[..., Terminal],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    killed: str,
) -> None:
    """Killed under load again and again, a store has what was acknowledged and counts it right.

    A write without an answer has happened or has not; nothing in between. Two seconds after its
    start the API is ready, and after the database's start, too.
    """
    url = f"sqlite:///{tmp_path / 'users.db'}"
    postgres: Postgres | None = None
    if killed != "SQLite's API":
        postgres = request.getfixturevalue("postgres")
        url = postgres.url
    api = Api(terminal, url)
    load = Load()
    api.start()
    seconds = []

    def strike() -> None:
        time.sleep(load.dice.uniform(0.1, 0.4))
        if postgres and killed == "PostgreSQL":
            postgres.kill()
        else:
            api.kill()

    for _ in range(CYCLES):
        load.run(api.port, strike)
        if postgres and killed == "PostgreSQL":
            started = time.monotonic()
            postgres.start()
            api.wait_until_ready()
            seconds.append(time.monotonic() - started)
        else:
            seconds.append(api.start())
        load.check(api.port)
    print(
        f"{killed}: {CYCLES} cycles, {load.acknowledged} acknowledged writes,"
        f" ready after {sorted(seconds)[len(seconds) // 2]:.2f} s (slowest {max(seconds):.2f} s)"
    )

    assert load.acknowledged >= MIN_ACKNOWLEDGED_PER_CYCLE * CYCLES, "void: too little traffic"
    # One in ten may be late: the machine of the tests has other things to do.
    assert sorted(seconds)[CYCLES * 9 // 10 - 1] <= READY_SECONDS


# --------------------------------------------------------------------------- what reaches the disk

TRACED = "read,recvfrom,recvmsg,write,writev,sendto,sendmsg,fsync,fdatasync"
TRACED_WRITES = 25  # of each writer
RECEIVED = re.compile(r"\bread(?:\(| resumed).*(?i:x-request-id): ([0-9]+-[0-9]+)\\r")
ANSWERED = re.compile(r"(?:write|writev|sendmsg)\(.*HTTP/1\.1 2.*x-request-id: ([0-9]+-[0-9]+)\\r")
SYNC = re.compile(r"^(\d+) +(?:fsync|fdatasync)\(\d+<[^>]*(?:-wal|/pg_wal/)[^>]*>")
SYNC_ENDS = re.compile(r"^(\d+) +<\.\.\. (?:fsync|fdatasync) resumed>")


def may_attach(pid: int) -> bool:
    """Tell whether strace may follow a process that it has not started."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        strace = ["strace", "-qq", "-o", os.devnull, "-p", str(pid)]
        subprocess.run(strace, timeout=1, stderr=subprocess.DEVNULL)
        return False
    return True


def not_synced(trace: str) -> tuple[int, list[str]]:
    """Return how many writes were acknowledged, and which of them no sync was waited for.

    One counts if it began when the request had been received and ended before the answer was sent.
    """
    received: dict[str, int] = {}
    running: dict[str, int] = {}  # thread -> where its sync began
    latest_begin = -1  # of the syncs that have ended
    answered, missed = 0, []
    for number, line in enumerate(trace.splitlines()):
        if sync := SYNC.match(line):
            running[sync[1]] = number
            if "<unfinished" not in line:
                latest_begin = max(latest_begin, running.pop(sync[1]))
        elif (sync := SYNC_ENDS.match(line)) and sync[1] in running:
            latest_begin = max(latest_begin, running.pop(sync[1]))
        elif answer := ANSWERED.search(line):
            answered += 1
            if latest_begin < received[answer[1]]:
                missed.append(answer[1])
        elif request := RECEIVED.search(line):
            received[request[1]] = number
    return answered, missed


@pytest.mark.parametrize(
    ("store", "mode", "durable"),
    [
        ("sqlite", "synchronous = FULL", True),
        ("sqlite", "synchronous = NORMAL", False),
        ("sqlite", "synchronous = OFF", False),
        ("postgresql", "synchronous_commit=on", True),
        ("postgresql", "synchronous_commit=off", False),
    ],
)
def test_each_acknowledgement_comes_after_a_sync(
    terminal: Callable[..., Terminal],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    store: str,
    mode: str,
    durable: bool,
) -> None:
    """Between a write's arrival and its answer the log of the database was synced to the disk.

    kill -9 cannot tell: what a process has written survives it, synced or not. So this reads the
    system calls; with a database that is told not to wait, it does find answers without a sync.
    """
    if not shutil.which("strace"):
        pytest.skip("there is no strace on this machine")
    trace = tmp_path / "trace"
    strace = [
        "strace",
        "-I",
        "2",
        "-f",
        "-y",
        "-s",
        "400",
        "-qq",
        "-e",
        f"trace={TRACED}",
        "-o",
        str(trace),
    ]
    folder = tmp_path / "api"
    shutil.copytree(ROOT / "api", folder, ignore=shutil.ignore_patterns(".venv", ".mypy_cache"))
    if store == "sqlite":
        url = f"sqlite:///{tmp_path / 'users.db'}"
        engine = folder / "sqlite.py"
        text = engine.read_text(encoding="utf-8")
        assert "PRAGMA synchronous = FULL" in text
        engine.write_text(text.replace("synchronous = FULL", mode), encoding="utf-8")
    else:
        postgres: Postgres = request.getfixturevalue("postgres")
        url = f"{postgres.url}&options=-c%20{mode.replace('=', '%3D')}"
        strace += ["-p", str(postgres.pid)]  # and whatever it starts from now on
        if not may_attach(postgres.pid):
            pytest.skip("strace may only trace its own children here (kernel.yama.ptrace_scope)")
    if subprocess.run(["strace", "-qq", "-o", os.devnull, "true"], capture_output=True).returncode:
        pytest.skip("strace may not trace here")
    api = Api(terminal, url)
    api.folder, api.prefix = folder, strace
    api.start()
    load = Load()
    load.run(
        api.port,
        lambda: wait_until("the writes", lambda: load.acknowledged >= WRITERS * TRACED_WRITES, 60),
    )
    api.kill()  # strace lets go of all it follows; it has written each line as it came
    answered, missed = not_synced(trace.read_text(encoding="utf-8", errors="replace"))
    print(f"{store}, {mode}: {answered} acknowledged, {len(missed)} without a sync")

    assert answered == load.acknowledged
    assert not missed if durable else len(missed) > answered / 2


# ------------------------------------------------------------------------------- a database lost

CALLS = {
    "read": ("GET", "/users/1"),
    "list": ("GET", "/users/"),
    "page": ("GET", "/users/?limit=5"),
    "count": ("GET", "/stats/ages"),
    "create": ("POST", "/users/?user_id=2&name=b&age=2"),
    "update": ("PUT", "/users/1?name=c&age=3"),
    "delete": ("DELETE", "/users/1"),
    "batch": ("POST", "/users/batch", {"4": {"name": "e", "age": 5}}),
    "ready": ("GET", "/ready"),
    "health": ("GET", "/health"),
}


def ask_all(port: int) -> dict[str, tuple[Answer | None, float]]:
    """Make every call at once; return for each its answer and how many seconds it took."""
    answers: dict[str, tuple[Answer | None, float]] = {}

    def ask(name: str, method: str, path: str, body: Any = None) -> None:
        started = time.monotonic()
        caller = Caller(port)
        answers[name] = caller.call(method, path, body), time.monotonic() - started
        caller.close()

    threads = [threading.Thread(target=ask, args=(name, *call)) for name, call in CALLS.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


@pytest.mark.parametrize("how", ["stopped", "paused"])
def test_a_lost_database_is_told_and_comes_back(
    terminal: Callable[..., Terminal], postgres: Postgres, how: str
) -> None:
    """While the database is away, each call that needs it is 503 within two seconds.

    The process is alive but not ready; once the database is back, so is all else, without help.
    """
    api = Api(terminal, postgres.url)
    api.start()
    caller = Caller(api.port)
    assert caller.write("create", 1, ("a", 1)) == 201
    (postgres.stop if how == "stopped" else postgres.pause)()
    try:
        rounds = [ask_all(api.port) for _ in range(3)]
    finally:
        (postgres.start if how == "stopped" else postgres.resume)()
    started = time.monotonic()
    api.wait_until_ready()
    seconds = time.monotonic() - started
    wait_until("a write", lambda: caller.write("create", 3, ("d", 4)) in (201, 409), 10)
    later = ask_all(api.port)
    caller.close()
    print(
        f"{how}: slowest answer {max(s for r in rounds for _, s in r.values()):.2f} s, {seconds=}"
    )

    for answers in rounds:
        health, health_seconds = answers.pop("health")
        assert health is not None
        assert health.status == 200
        assert health_seconds < 1
        for name, (answer, answer_seconds) in answers.items():
            assert answer is not None, name
            assert (answer.status, answer.headers.get("retry-after")) == (503, "1"), name
            assert answer_seconds <= LOST_SECONDS, name
    assert seconds <= READY_SECONDS
    assert not [name for name, (answer, _) in later.items() if not answer or answer.status == 503]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_database_that_hangs_does_not_hold_up_a_stop(
    terminal: Callable[..., Terminal], postgres: Postgres, signum: int
) -> None:
    """With PostgreSQL paused in the middle of a write, the API ends all the same."""
    api = Api(terminal, postgres.url)
    api.start()
    postgres.pause()
    try:
        caller = Caller(api.port)
        answer = caller.call("POST", "/users/?user_id=1&name=a&age=1")
        caller.close()
        api.terminal.process.send_signal(signum)
        api.terminal.process.wait(GRACE_SECONDS)
    finally:
        postgres.resume()

    assert answer is not None
    assert answer.status == 503


# ---------------------------------------------------------------------------------------- a stop

GRACE_SECONDS = 5
LOGGED = re.compile(r" INFO [A-Z]+ /users\S* \d+ [0-9.]+ ms (\d+-\d+)$")


def test_a_stop_finishes_what_was_accepted(
    terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    """SIGTERM under load: /ready says so first, and whatever reached the API gets its answer."""
    api = Api(terminal, f"sqlite:///{tmp_path / 'users.db'}", DRAIN_SECONDS="0.2")
    load = Load()
    seconds = []
    for _ in range(CYCLES):
        api.start()
        probes: list[int] = []

        def stop(probes: list[int] = probes) -> None:
            time.sleep(load.dice.uniform(0.05, 0.15))
            api.terminal.process.send_signal(signal.SIGTERM)
            prober = Caller(api.port)
            while (answer := prober.call("GET", "/ready")) is not None:
                probes.append(answer.status)
                time.sleep(0.01)
            prober.close()

        before = load.acknowledged
        for writer in load.writers:
            writer.requests.clear()
            writer.number += WRITERS  # its requests' ids are new ones
        load.run(api.port, stop)
        started = time.monotonic()
        api.terminal.process.wait(GRACE_SECONDS)
        api.terminal.stop()
        seconds.append(time.monotonic() - started)
        accepted = {found[1] for line in api.terminal.lines if (found := LOGGED.search(line))}
        answered = {i for writer in load.writers for i, status in writer.requests.items() if status}
        assert accepted == answered
        assert load.acknowledged > before
        stored = sqlite_users(tmp_path / "users.db")
        for writer in load.writers:
            assert all(stored.get(i) == writer.known[i] for i in writer.unknown), "not answered"
            writer.unknown = {}
        assert 503 in probes
        assert set(probes[probes.index(503) :]) == {503}
    print(f"{CYCLES} stops, {load.acknowledged} acknowledged writes, slowest {max(seconds):.2f} s")
    api.start()

    load.check(api.port)
    assert load.acknowledged >= MIN_ACKNOWLEDGED_PER_CYCLE * CYCLES, "void: too little traffic"


def sqlite_users(path: Path) -> dict[int, Value]:
    """Return what an SQLite store has, without asking the API."""
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT user_id, name, age FROM users").fetchall()
    connection.close()
    return {user_id: (name, age) for user_id, name, age in rows}


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_a_client_that_does_not_read_cannot_hold_up_a_stop(
    terminal: Callable[..., Terminal], tmp_path: Path, store: str
) -> None:
    """Six asked for a big listing and never read it; SIGTERM ends the API all the same.

    Until then everybody else is answered; who wants a listing over SQL is told that it is too many.
    """
    api = Api(terminal, f"sqlite:///{tmp_path / 'users.db'}" if store == "sqlite" else None)
    api.options = ["--timeout-graceful-shutdown", "2"]
    api.start()
    caller = Caller(api.port)
    for batch in range(8):
        ids = range(batch * 10_000, (batch + 1) * 10_000)
        users = {str(i): {"name": "n" * 100, "age": 1} for i in ids}
        answer = caller.call("POST", "/users/batch", users)
        assert answer is not None
        assert answer.status == 200, answer
    caller.close()
    readers = [socket.create_connection(("127.0.0.1", api.port)) for _ in range(6)]
    for reader in readers:
        reader.sendall(b"GET /users/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
    time.sleep(0.5)
    answers = ask_all(api.port)
    for name, (answer, answer_seconds) in answers.items():
        assert answer is not None, name
        assert (answer.status == 503) == ((name, store) == ("list", "sqlite")), name
        assert answer_seconds <= LOST_SECONDS or (name, answer.status) == ("list", 200)
    started = time.monotonic()
    code = api.terminal.stop(signal.SIGTERM, 20)
    for reader in readers:
        reader.close()
    print(f"{store}: exit code {code} after {time.monotonic() - started:.1f} s")

    assert code == -signal.SIGTERM
