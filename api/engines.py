"""What differs between SQLite and PostgreSQL, and the thread that speaks to either."""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import psycopg

from crud import StoreUnavailable

log = logging.getLogger("api")

MAX_WAITING: Final = 10_000  # requests for the database; more are refused
MAX_WAITING_WEIGHT: Final = 50_000  # users in all of them together
MAX_BATCH: Final = 500  # requests in one transaction
MAX_BATCH_WEIGHT: Final = 10_000  # users in one transaction, but for a single larger request
DEADLINE_SECONDS: Final = 1.8  # so that a lost database is told within two seconds

Request = TypeVar("Request")


class Conflict(Exception):
    """Another process changed a user between our look at it and our write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What differs between SQLite and PostgreSQL."""

    kind: str
    mark: str  # of a parameter in a statement
    id_type: str
    begin_write: str
    begin_snapshot: str
    fault: type[Exception]
    no_table: type[Exception]
    conflicts: tuple[type[Exception], ...]  # after which the same transaction may succeed
    connect: Callable[[], Any]


def engine_for(url: str) -> Engine:
    """Return the engine that a DATABASE_URL names: `sqlite:///path` or `postgresql://…`."""
    if url.startswith("sqlite:///"):
        return Engine(
            kind="sqlite",
            mark="?",
            id_type="INTEGER",
            begin_write="BEGIN IMMEDIATE",  # the one writer from the start, not half way
            begin_snapshot="BEGIN",
            fault=sqlite3.Error,
            no_table=sqlite3.OperationalError,
            conflicts=(Conflict,),
            connect=lambda: _connect_sqlite(url.removeprefix("sqlite:///")),
        )
    return Engine(
        kind="postgresql",
        mark="%s",
        id_type="BIGINT",
        begin_write="BEGIN",
        begin_snapshot="BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
        fault=psycopg.Error,
        no_table=psycopg.errors.UndefinedTable,
        conflicts=(
            Conflict,
            psycopg.errors.DeadlockDetected,
            psycopg.errors.SerializationFailure,
        ),
        connect=lambda: _connect_postgresql(url),
    )


def _connect_sqlite(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=DEADLINE_SECONDS, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA journal_mode = WAL")  # readers go on while a writer commits
    connection.execute("PRAGMA synchronous = FULL")  # NORMAL may lose commits with the power
    return connection


def _connect_postgresql(url: str) -> psycopg.Connection:
    connection = psycopg.connect(
        url,
        autocommit=True,
        connect_timeout=2,
        client_encoding="utf8",
        # A machine that vanishes without a word is noticed in seconds, not in a quarter hour.
        tcp_user_timeout=5_000,
        keepalives_idle=5,
        keepalives_interval=2,
        keepalives_count=3,
    )
    connection.execute(f"SET statement_timeout = {DEADLINE_SECONDS * 1000:.0f}")
    return connection


class Worker(Generic[Request]):
    """A thread with a connection, and the requests that wait for both.

    `run` gets the connection and all that has come in meanwhile, and returns a result or an
    exception for each. After a fault the connection is given up; the next batch makes a new one.
    """

    def __init__(
        self,
        engine: Engine,
        prepare: Callable[[Any], None],
        run: Callable[[Any, Sequence[Request]], Sequence[Any]],
        weigh: Callable[[Request], int] = lambda _: 1,
    ) -> None:
        self._engine = engine
        self._prepare = prepare
        self._run = run
        self._weigh = weigh
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._connection: Any = None
        self._waiting: list[tuple[Request, asyncio.Future[Any]]] = []
        self._waiting_weight = 0
        self._task: asyncio.Task[None] | None = None

    async def submit(self, request: Request) -> Any:
        """Return the result of a request. Raises its error, or StoreUnavailable."""
        weight = self._weigh(request)
        if len(self._waiting) >= MAX_WAITING or self._waiting_weight + weight > MAX_WAITING_WEIGHT:
            raise StoreUnavailable("too many requests wait for it")
        self._waiting_weight += weight
        result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, result))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                return await result
        except TimeoutError:
            raise StoreUnavailable("it does not answer") from None

    async def _work(self) -> None:
        """Run batch after batch until nothing waits."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            taken = self._how_many_to_take()
            batch = [waiting for waiting in self._waiting[:taken] if not waiting[1].done()]
            self._waiting_weight -= sum(
                self._weigh(request) for request, _ in self._waiting[:taken]
            )
            del self._waiting[:taken]
            requests = [request for request, _ in batch]
            if not requests:
                continue  # all of them have been told that this takes too long
            results = await loop.run_in_executor(self._thread, self._run_connected, requests)
            for (_, future), result in zip(batch, results, strict=True):
                if future.done():
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)

    def _how_many_to_take(self) -> int:
        """Return how many of those that wait go into the next transaction: at least one."""
        weight = 0
        for taken, (request, _) in enumerate(self._waiting[:MAX_BATCH]):
            weight += self._weigh(request)
            if taken and weight > MAX_BATCH_WEIGHT:
                return taken
        return min(MAX_BATCH, len(self._waiting))

    def _run_connected(self, requests: list[Request]) -> Sequence[Any]:
        try:
            if self._connection is None:
                self._connection = self._engine.connect()
                self._prepare(self._connection)
            return self._run(self._connection, requests)
        except Exception as error:
            self._disconnect()
            if isinstance(error, self._engine.fault):
                # Its code, not its words, which may hold values that do not belong into a log.
                code = getattr(error, "sqlstate", None) or getattr(error, "sqlite_errorname", "")
                log.warning("%s failed: %s %s", self._engine.kind, type(error).__name__, code)
                error = StoreUnavailable(f"{self._engine.kind} {type(error).__name__}")
            return [error] * len(requests)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(self._engine.fault):
                connection.close()

    def close(self) -> None:
        """End the thread and its connection, after what it is doing."""
        self._thread.submit(self._disconnect)
        self._thread.shutdown(wait=False)
