"""SIGTERM: the API finishes what it accepted, and no client can prevent its end."""

import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from conftest import Terminal
from served import GRACE_SECONDS, LOST_SECONDS, Api, Caller, ask_all, sqlite_users
from writers import MIN_ACKNOWLEDGED_PER_CYCLE, WRITERS, Load

if sys.platform == "win32":
    pytest.skip("these tests send POSIX signals", allow_module_level=True)

CYCLES = 200 if "LAB_LONG" in os.environ else 20
LOGGED = re.compile(r" INFO [A-Z]+ /users\S* \d+ [0-9.]+ ms (\d+-\d+)$")


def terminate(api: Api, after_seconds: float, probes: list[int]) -> None:
    """Send SIGTERM after some time; collect the statuses of /ready until the API ends."""
    time.sleep(after_seconds)
    api.terminal.process.send_signal(signal.SIGTERM)
    prober = Caller(api.port)
    while (response := prober.call("GET", "/ready")) is not None:
        probes.append(response.status)
        time.sleep(0.01)
    prober.close()


def test_a_stop_finishes_accepted_requests(
    terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    """SIGTERM under load: /ready fails first, and every accepted request gets its response."""
    api = Api(terminal, f"sqlite:///{tmp_path / 'users.db'}", DRAIN_SECONDS="0.2")
    load = Load()
    seconds = []
    for _ in range(CYCLES):
        api.start()
        probes: list[int] = []
        before = load.acknowledged
        for writer in load.writers:
            writer.requests.clear()
            writer.number += WRITERS  # so that its requests have new ids
        load.run(api.port, partial(terminate, api, load.dice.uniform(0.05, 0.15), probes))
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
            assert all(stored.get(i) == writer.known[i] for i in writer.unknown), "no response"
            writer.unknown = {}
        assert 503 in probes
        assert set(probes[probes.index(503) :]) == {503}
    print(f"{CYCLES} stops, {load.acknowledged} acknowledged writes, slowest {max(seconds):.2f} s")
    api.start()

    load.check(api.port)
    assert load.acknowledged >= MIN_ACKNOWLEDGED_PER_CYCLE * CYCLES, "void: too little traffic"


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_a_client_that_does_not_read_cannot_delay_a_stop(
    terminal: Callable[..., Terminal], tmp_path: Path, store: str
) -> None:
    """Six clients request a big listing and never read it; SIGTERM still ends the API.

    Until then all other calls get a response. With SQL a seventh listing is one too many: 503.
    """
    api = Api(terminal, f"sqlite:///{tmp_path / 'users.db'}" if store == "sqlite" else None)
    api.options = ["--timeout-graceful-shutdown", "2"]
    api.start()
    caller = Caller(api.port)
    for batch in range(8):
        ids = range(batch * 10_000, (batch + 1) * 10_000)
        users = {str(i): {"name": "n" * 100, "age": 1} for i in ids}
        created = caller.call("POST", "/users/batch", users)
        assert created is not None
        assert created.status == 200, created
    caller.close()
    readers = [socket.create_connection(("127.0.0.1", api.port)) for _ in range(6)]
    for reader in readers:
        reader.sendall(b"GET /users/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
    time.sleep(0.5)
    for name, (response, response_seconds) in ask_all(api.port).items():
        assert response is not None, name
        assert (response.status == 503) == (name == "list"), name
        assert response_seconds <= LOST_SECONDS or (name, response.status) == ("list", 200)
    started = time.monotonic()
    code = api.terminal.stop(signal.SIGTERM, 20)
    for reader in readers:
        reader.close()
    print(f"{store}: exit code {code} after {time.monotonic() - started:.1f} s")

    assert code == -signal.SIGTERM
