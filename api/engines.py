"""What an engine is to the store, and the thread that speaks to it."""

import asyncio
import itertools
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Final, Generic, TypeVar

from crud import StoreUnavailable

log = logging.getLogger("api")

MAX_WAITING: Final = 10_000  # requests for the database; more are refused
MAX_WAITING_WEIGHT: Final = 50_000  # users in all of them together
MAX_BATCH: Final = 500  # requests in one transaction
MAX_BATCH_WEIGHT: Final = 10_000  # users in one transaction
DEADLINE_SECONDS: Final = 1.8  # so that a lost database is told within two seconds
CHECK_SECONDS: Final = 0.05  # how long the telling may be late

Request = TypeVar("Request")
Batch = tuple[list[Request], asyncio.Future[Sequence[Any]]]
Part = tuple[str, list[Any]]  # of a statement, and its parameters
Row = tuple[Any, ...]


class Conflict(Exception):
    """What we took for granted about a user was not so, or another process changed it since."""


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
    # Which may be the fault of one request alone, so that the others are tried without it.
    faults_of_one: tuple[type[Exception], ...]
    ping: str  # has a row where writes can be taken
    connect: Callable[[], Any]
    is_stale: Callable[[Any], bool]  # whether a connection's database is no longer the one meant
    # Rows as a table of these types, and a list of ids as a condition, each with its parameters.
    table: Callable[..., Part]
    among: Callable[[Sequence[int]], Part]

    def unavailable(self, fault: Exception) -> StoreUnavailable:
        """Log a fault; return what is said of it to those who asked."""
        # Its code, not its words, which may hold values that do not belong into a log.
        code = getattr(fault, "sqlstate", None) or getattr(fault, "sqlite_errorname", "")
        log.warning("%s failed: %s %s", self.kind, type(fault).__name__, code)
        return StoreUnavailable(f"{self.kind} {type(fault).__name__}")


@dataclass(slots=True)
class _Waiting:
    """A request for the database, by whom somebody waits since that time of the loop's clock."""

    request: Any
    weight: int
    since: float
    result: asyncio.Future[Any]


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
        self._thread: threading.Thread | None = None
        self._batches: SimpleQueue[Batch[Request] | None] = SimpleQueue()
        self._connection: Any = None
        self._waiting: list[_Waiting] = []
        self._waiting_weight = 0
        self._running: list[_Waiting] = []
        self._look: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def fullness(self) -> float:
        """Return how full the queue is: at 1 it refuses, and before that a batch without room."""
        return max(len(self._waiting) / MAX_WAITING, self._waiting_weight / MAX_WAITING_WEIGHT)

    async def submit(self, request: Request) -> Any:
        """Return the result of a request. Raises its error, or StoreUnavailable."""
        weight = self._weigh(request)
        too_heavy = weight > 1 and self._waiting_weight + weight > MAX_WAITING_WEIGHT
        if too_heavy or len(self._waiting) >= MAX_WAITING:
            raise StoreUnavailable("too many requests wait for it")
        loop = asyncio.get_running_loop()
        result: asyncio.Future[Any] = loop.create_future()
        self._waiting.append(_Waiting(request, weight, loop.time(), result))
        self._waiting_weight += weight
        if self._thread is None:
            # A daemon, as a database that hangs must not keep a process from its end.
            self._thread = threading.Thread(target=self._serve, name=self._engine.kind, daemon=True)
            self._thread.start()
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._work())
        if self._look is None:
            self._look = loop.call_later(CHECK_SECONDS, self._give_up_on_the_late)
        return await result

    async def _work(self) -> None:
        """Run batch after batch until nothing waits."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            taken = self._waiting[: self._how_many_to_take()]
            del self._waiting[: len(taken)]
            self._waiting_weight -= sum(waiting.weight for waiting in taken)
            batch = [waiting for waiting in taken if not waiting.result.done()]
            if not batch:
                continue  # all of them have been told that this takes too long
            requests = [waiting.request for waiting in batch]
            self._running = batch
            done: asyncio.Future[Sequence[Any]] = loop.create_future()
            self._batches.put((requests, done))
            results = await done
            self._running = []
            for waiting, result in zip(batch, results, strict=True):
                if not isinstance(result, Exception):
                    _settle(waiting.result, result)
                elif not waiting.result.done():
                    waiting.result.set_exception(result)

    def _give_up_on_the_late(self) -> None:
        """Tell those who have waited for DEADLINE_SECONDS; they wait in the order they came.

        One look at all of them now and then, for a timer each would cost more than their SQL.
        """
        loop = asyncio.get_running_loop()
        waiting = [*self._running, *self._waiting]
        for each in itertools.takewhile(
            lambda each: each.since <= loop.time() - DEADLINE_SECONDS, waiting
        ):
            if not each.result.done():
                each.result.set_exception(StoreUnavailable("it does not answer"))
        self._look = loop.call_later(CHECK_SECONDS, self._give_up_on_the_late) if waiting else None

    def _how_many_to_take(self) -> int:
        """Return how many of those that wait go into the next transaction: at least one."""
        weight = 0
        for taken, waiting in enumerate(self._waiting[:MAX_BATCH]):
            weight += waiting.weight
            if taken and weight > MAX_BATCH_WEIGHT:
                return taken
        return min(MAX_BATCH, len(self._waiting))

    def _serve(self) -> None:
        """Run batches until there are no more to come: the thread."""
        while batch := self._batches.get():
            requests, done = batch
            results = self._run_connected(requests)
            with suppress(RuntimeError):  # the loop has been closed meanwhile
                done.get_loop().call_soon_threadsafe(_settle, done, results)
        self._disconnect()

    def _run_connected(self, requests: list[Request]) -> Sequence[Any]:
        try:
            if self._connection is not None and self._engine.is_stale(self._connection):
                log.warning("%s: the database was replaced", self._engine.kind)
                self._disconnect()
            if self._connection is None:
                self._connection = self._engine.connect()
                self._prepare(self._connection)
            return self._run(self._connection, requests)
        except self._engine.fault as fault:
            error: Exception = self._engine.unavailable(fault)
        except StoreUnavailable as unavailable:
            log.warning("%s", unavailable)
            error = unavailable
        except Exception as mistake:
            error = mistake
        self._disconnect()
        return [error] * len(requests)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(self._engine.fault):
                connection.close()

    def close(self) -> None:
        """End the thread and its connection, after what it is doing."""
        self._batches.put(None)

    def wait(self, timeout_seconds: float) -> None:
        """Return when the thread has ended, or has not for too long."""
        if self._thread is not None:
            self._thread.join(timeout_seconds)


def _settle(done: asyncio.Future[Any], result: Any) -> None:
    if not done.done():
        done.set_result(result)
