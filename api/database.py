"""The tables, the thread that talks to the database, and the queue of requests before it.

A call of a database driver blocks its thread, so it must not run on the event loop. With asyncio's
thread pools the process could not exit while a call hangs. This thread is a daemon: exit ends it.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Final, Generic, NamedTuple, TypeVar

from crud import MAX_AGE, MAX_RAW_NAME_LENGTH, MAX_USER_ID, StoreUnavailable, StoreUnusable
from engines import Engine, log

SCHEMA_VERSION: Final = 2
# A user and the counter of the user's age are in the same bucket, which one machine of a
# distributed database has.
TABLES: Final = (
    f"CREATE TABLE users (user_id {{0.integer}} CHECK (user_id BETWEEN 0 AND {MAX_USER_ID}),"
    " bucket INTEGER NOT NULL CHECK (bucket = user_id % {0.buckets}),"
    f" name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND {MAX_RAW_NAME_LENGTH}),"
    f" age INTEGER NOT NULL CHECK (age BETWEEN 0 AND {MAX_AGE}),"
    " PRIMARY KEY (user_id, bucket)){0.options}",
    "CREATE TABLE age_counts (bucket INTEGER, age INTEGER, users {0.integer} NOT NULL"
    " CHECK (users >= 0), change {0.integer} NOT NULL, PRIMARY KEY (bucket, age)){0.options}",
)
NEWEST: Final = "INSERT INTO schema_version VALUES (2)"
# The statements that make the newest tables of those of a version (None: there are no tables). If
# another process does the same, NEWEST waits for its end and then fails.
MIGRATIONS: Final = {
    None: ("CREATE TABLE schema_version (version INTEGER PRIMARY KEY)", NEWEST, *TABLES),
    1: (
        NEWEST,
        "ALTER TABLE users RENAME TO users_of_version_1",
        "DROP TABLE age_counts",
        *TABLES,
        "INSERT INTO users (user_id, bucket, name, age)"
        " SELECT user_id, user_id % {0.buckets}, name, age FROM users_of_version_1",
        "INSERT INTO age_counts SELECT bucket, age, COUNT(*), 0 FROM users GROUP BY bucket, age",
        "DROP TABLE users_of_version_1",
    ),
}
MAX_QUEUED: Final = 10_000  # requests for the database; more are rejected
MAX_QUEUED_USERS: Final = 50_000  # in all queued requests together
MAX_GROUP: Final = 500  # requests in one transaction
MAX_GROUP_USERS: Final = 10_000  # in one transaction
DEADLINE_SECONDS: Final = 1.8  # a client learns within two seconds that the database is down

Request = TypeVar("Request")


class _Queued(NamedTuple):
    request: Any
    users: int
    result: asyncio.Future[Any]


class Worker(Generic[Request]):
    """A thread with one connection, and a queue of requests.

    `run` gets the connection and a group: the requests that were queued while the previous group
    was running, up to a limit. It returns a result or an exception for each request. After an
    error of the whole group the worker closes the connection; the next group opens a new one.
    """

    def __init__(
        self, engine: Engine, run: Callable[[Any, Sequence[Request]], Sequence[Any]]
    ) -> None:
        self._engine = engine
        self._run = run
        self._queue: list[_Queued] = []
        self._queued_users = 0
        self._busy = False
        self._groups: SimpleQueue[list[_Queued] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._connection: Any = None

    def queue_ratio(self) -> float:
        """Return how full the queue is. At 1 it rejects batches, or all requests."""
        return max(len(self._queue) / MAX_QUEUED, self._queued_users / MAX_QUEUED_USERS)

    async def submit(self, request: Request, users: int = 1) -> Any:
        """Queue a request for `users` users; return its result. Raises its error, StoreUnavailable.

        The queue rejects a batch if its users would exceed MAX_QUEUED_USERS, but a single user only
        if it holds MAX_QUEUED requests. So batches cannot keep single users out.
        """
        too_many_users = users > 1 and self._queued_users + users > MAX_QUEUED_USERS
        if too_many_users or len(self._queue) >= MAX_QUEUED:
            raise StoreUnavailable("too many requests are queued")
        loop = asyncio.get_running_loop()
        result: asyncio.Future[Any] = loop.create_future()
        self._queue.append(_Queued(request, users, result))
        self._queued_users += users
        if not self._busy:
            self._busy = True
            loop.call_soon(self._start_group)  # not now: this iteration may queue more
        late = StoreUnavailable("it does not respond")
        timer = loop.call_later(DEADLINE_SECONDS, _settle, result, late)
        try:
            return await result
        finally:
            timer.cancel()

    def _start_group(self) -> None:
        """Hand the next group to the thread: the queued requests whose clients still wait."""
        group: list[_Queued] = []
        users = taken = 0
        for queued in self._queue[:MAX_GROUP]:
            if group and users + queued.users > MAX_GROUP_USERS:
                break
            taken += 1
            self._queued_users -= queued.users
            if not queued.result.done():
                group.append(queued)
                users += queued.users
        del self._queue[:taken]
        self._busy = bool(group)
        if self._thread is None:
            loop = asyncio.get_running_loop()
            self._thread = threading.Thread(
                target=self._serve, args=(loop,), name=self._engine.kind, daemon=True
            )
            self._thread.start()
        if group:
            self._groups.put(group)
        elif self._queue:
            self._start_group()

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run groups until `close` ends the thread."""
        while group := self._groups.get():
            results = self._run_connected([queued.request for queued in group])
            with suppress(RuntimeError):  # the event loop is closed already
                loop.call_soon_threadsafe(self._finish_group, group, results)
        self._disconnect()

    def _finish_group(self, group: list[_Queued], results: Sequence[Any]) -> None:
        for queued, result in zip(group, results, strict=True):
            _settle(queued.result, result)
        self._start_group()

    def _run_connected(self, requests: list[Request]) -> Sequence[Any]:
        connecting = False
        try:
            if self._connection is not None and self._engine.is_stale(self._connection):
                log.warning("%s: the database was restarted or replaced", self._engine.kind)
                self._disconnect()
            if connecting := self._connection is None:
                self._connection = open_database(self._engine)
                connecting = False
            return self._run(self._connection, requests)
        except self._engine.error as error:
            failure: Exception = self._engine.unavailable(error, connecting)
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

    def close(self, wait_seconds: float = 0) -> None:
        """Let the thread run its groups, disconnect and end; wait at most `wait_seconds`."""
        self._groups.put(None)
        if self._thread is not None:
            self._thread.join(wait_seconds)


def open_database(engine: Engine) -> Any:
    """Return a new connection; first create the tables, or change old ones: all or none.

    Raises StoreUnusable if the database can never be used as it is, and the engine's error if it
    cannot connect or create the tables.
    """
    connection = engine.connect()
    version = _version(engine, connection)
    try:
        if version in MIGRATIONS:
            for each in (engine.begin_change, *MIGRATIONS[version], "COMMIT"):
                connection.execute(each.format(engine))
    except engine.error as error:
        with suppress(engine.error):
            connection.execute("ROLLBACK")
        if _version(engine, connection) == version:  # no other process has done it
            connection.close()
            if version and isinstance(error, engine.broken_rule):
                rule = str(error).partition("\n")[0]  # the next line has the user
                raise StoreUnusable(f"it has a user that is not allowed: {rule}") from None
            raise
    version = _version(engine, connection)
    if version != SCHEMA_VERSION:
        connection.close()
        raise StoreUnusable(f"its schema has version {version}, not {SCHEMA_VERSION}")
    return connection


def _version(engine: Engine, connection: Any) -> Any:
    """Return the version of the tables, or None if there are no tables."""
    with suppress(engine.error):
        return connection.execute("SELECT MAX(version) FROM schema_version").fetchone()[0]


def _settle(result: asyncio.Future[Any], outcome: Any) -> None:
    """Give a request its result or exception, unless it already has one."""
    if result.done():
        return
    if isinstance(outcome, Exception):
        result.set_exception(outcome)
    else:
        result.set_result(outcome)
