"""The thread that talks to the database, and the queue of requests before it.

A database driver blocks, and must not block the event loop. asyncio's own thread pools would delay the
process's exit as long as a call hangs; this thread is a daemon.
"""

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
from engines import Engine

log = logging.getLogger("api")

MAX_QUEUED: Final = 10_000  # requests for the database; more are rejected
MAX_QUEUED_WEIGHT: Final = 50_000  # users in all of them together
MAX_GROUP: Final = 500  # requests in one transaction
MAX_GROUP_WEIGHT: Final = 10_000  # users in one transaction
DEADLINE_SECONDS: Final = 1.8  # so that a client learns within two seconds that the database is down
CHECK_SECONDS: Final = 0.05  # how much later than the deadline that may be

Request = TypeVar("Request")
Group = tuple[list[Request], asyncio.Future[Sequence[Any]]]


@dataclass(slots=True)
class _Queued:
    """A request for the database, and when it was queued, by the event loop's clock."""

    request: Any
    weight: int
    queued_at: float
    result: asyncio.Future[Any]


class Worker(Generic[Request]):
    """A thread with one connection, and a queue of requests.

    `run` gets the connection and all requests that were queued meanwhile, and returns a result or
    an exception for each. After an error of the database the connection is closed; the next group
    of requests opens a new one.
    """

    def __init__(
        self,
        engine: Engine,
        run: Callable[[Any, Sequence[Request]], Sequence[Any]],
        weigh: Callable[[Request], int] = lambda _: 1,
    ) -> None:
        """`weigh` returns the number of users in a request."""
        self._engine = engine
        self._run = run
        self._weigh = weigh
        self._thread: threading.Thread | None = None
        self._groups: SimpleQueue[Group[Request] | None] = SimpleQueue()
        self._connection: Any = None
        self._queue: list[_Queued] = []
        self._queue_weight = 0
        self._running: list[_Queued] = []
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def queue_ratio(self) -> float:
        """Return how full the queue is: at 1 it rejects requests, and before that a large batch."""
        return max(len(self._queue) / MAX_QUEUED, self._queue_weight / MAX_QUEUED_WEIGHT)

    async def submit(self, request: Request) -> Any:
        """Return the result of a request. Raises its error, or StoreUnavailable."""
        weight = self._weigh(request)
        too_heavy = weight > 1 and self._queue_weight + weight > MAX_QUEUED_WEIGHT
        if too_heavy or len(self._queue) >= MAX_QUEUED:
            raise StoreUnavailable("too many requests are queued")
        loop = asyncio.get_running_loop()
        result: asyncio.Future[Any] = loop.create_future()
        self._queue.append(_Queued(request, weight, loop.time(), result))
        self._queue_weight += weight
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name=self._engine.kind, daemon=True)
            self._thread.start()
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._work())
        if self._timer is None:
            self._timer = loop.call_later(CHECK_SECONDS, self._fail_late_requests)
        return await result

    async def _work(self) -> None:
        """Run group after group until the queue is empty."""
        loop = asyncio.get_running_loop()
        while self._queue:
            taken = self._queue[: self._group_size()]
            del self._queue[: len(taken)]
            self._queue_weight -= sum(each.weight for each in taken)
            group = [each for each in taken if not each.result.done()]
            if not group:
                continue  # all of them are too late
            self._running = group
            done: asyncio.Future[Sequence[Any]] = loop.create_future()
            self._groups.put(([each.request for each in group], done))
            results = await done
            self._running = []
            for each, result in zip(group, results, strict=True):
                if not isinstance(result, Exception):
                    _settle(each.result, result)
                elif not each.result.done():
                    each.result.set_exception(result)

    def _fail_late_requests(self) -> None:
        """Fail the requests that are older than DEADLINE_SECONDS; they are in order of their age.

        All are checked together now and then: a timer for each would cost more than its SQL.
        """
        loop = asyncio.get_running_loop()
        pending = [*self._running, *self._queue]
        oldest = loop.time() - DEADLINE_SECONDS
        for each in itertools.takewhile(lambda each: each.queued_at <= oldest, pending):
            if not each.result.done():
                each.result.set_exception(StoreUnavailable("it does not respond"))
        again = loop.call_later(CHECK_SECONDS, self._fail_late_requests) if pending else None
        self._timer = again

    def _group_size(self) -> int:
        """Return how many requests of the queue go into the next transaction: at least one."""
        weight = 0
        for size, queued in enumerate(self._queue[:MAX_GROUP]):
            weight += queued.weight
            if size and weight > MAX_GROUP_WEIGHT:
                return size
        return min(MAX_GROUP, len(self._queue))

    def _serve(self) -> None:
        """Run groups until `close` ends the thread."""
        while group := self._groups.get():
            requests, done = group
            results = self._run_connected(requests)
            with suppress(RuntimeError):  # the event loop is closed already
                done.get_loop().call_soon_threadsafe(_settle, done, results)
        self._disconnect()

    def _run_connected(self, requests: list[Request]) -> Sequence[Any]:
        try:
            if self._connection is not None and self._engine.is_stale(self._connection):
                log.warning("%s: the database was replaced", self._engine.kind)
                self._disconnect()
            if self._connection is None:
                self._connection = self._engine.open()
            return self._run(self._connection, requests)
        except self._engine.error as error:
            failure: Exception = self._engine.unavailable(error)
        except StoreUnavailable as unavailable:
            log.warning("%s", unavailable)
            failure = unavailable
        except Exception as unexpected:
            failure = unexpected
        self._disconnect()
        return [failure] * len(requests)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(self._engine.error):
                connection.close()

    def close(self) -> None:
        """End the thread and its connection, after the current group."""
        self._groups.put(None)

    def join(self, timeout_seconds: float) -> None:
        """Wait until the thread has ended, but not longer than `timeout_seconds`."""
        if self._thread is not None:
            self._thread.join(timeout_seconds)


def _settle(done: asyncio.Future[Any], result: Any) -> None:
    if not done.done():
        done.set_result(result)
