"""The same verbs as `crud.MemoryStore`, kept in SQLite or PostgreSQL by one set of statements.

Group commit: a transaction that reaches the disk costs the same for one user as for a hundred. So
whatever is asked for while a transaction commits waits, goes into the next one together, and is
answered after that one. Nothing is acknowledged that is not on disk.

Each statement finds its rows by `user_id`, and takes no locks beforehand, so that it also runs
where `users` is distributed by `user_id` over many machines (Citus).
"""

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from crud import SNAPSHOT_CHUNK_USERS, Record, StoreUnavailable, UserExists, UserNotFound
from engines import DEADLINE_SECONDS, Conflict, Engine, Worker
from tables import create_tables

log = logging.getLogger("api")

MAX_ROWS: Final = 1_000  # in one statement, below SQLite's limit of parameters
MAX_LISTINGS: Final = 4  # at once; each has a connection of its own
MAX_TRIES: Final = 10  # of a transaction that met another process's
CLOSE_SECONDS: Final = 1.0  # for a database to take its leave
STRIPES: Final = 16  # of the age counts, so that processes seldom wait for each other's

CHANGES: Final = ("update", "delete")  # of users who should be there

Row = tuple[int, str, int]  # id, name, age
Write = tuple[str, list[Row]]  # the verb, and the users it is about
Read = int | Callable[[Any], Any]  # the id of a user, or what to do with the connection
State = dict[int, tuple[str, int]]  # id -> (name, age), as far as it has been looked at


class SqlStore:
    """Users in a database that several processes may share; they outlive all of them.

    Besides its own errors every verb may raise StoreUnavailable: the database cannot be reached or
    does not answer in time. What a write did then is unknown until somebody asks.
    """

    durable = True

    def __init__(
        self, engine: Engine, observe_commit: Callable[[float], object] = lambda _: None
    ) -> None:
        """`observe_commit` is told of each transaction of writes how many seconds it took."""
        self.kind = engine.kind
        self._observe_commit = observe_commit
        self._engine = engine
        self._prepare = partial(create_tables, engine)
        self._stripe = random.randrange(STRIPES)  # noqa: S311 - any will do
        self._writes: Worker[Write] = Worker(
            engine, self._prepare, self._run_writes, weigh=lambda write: len(write[1])
        )
        self._reads: Worker[Read] = Worker(engine, self._prepare, self._run_reads)
        self._listing_places = asyncio.Semaphore(MAX_LISTINGS)

    async def create(self, user_id: int, name: str, age: int) -> None:
        """Add a user. Raises UserExists."""
        await self._writes.submit(("create", [(user_id, name, age)]))

    async def create_many(self, users: dict[int, Record]) -> list[int]:
        """Add, all at once, the users whose id is free; return the ids that were not."""
        rows = [(user_id, user.name, user.age) for user_id, user in users.items()]
        existing: list[int] = await self._writes.submit(("create_many", rows))
        return existing

    async def get(self, user_id: int) -> tuple[str, int]:
        """Return a user's name and age. Raises UserNotFound."""
        record: tuple[str, int] = await self._reads.submit(user_id)
        return record

    async def update(self, user_id: int, name: str, age: int) -> None:
        """Replace a user's name and age. Raises UserNotFound."""
        await self._writes.submit(("update", [(user_id, name, age)]))

    async def delete(self, user_id: int) -> None:
        """Remove a user. Raises UserNotFound."""
        await self._writes.submit(("delete", [(user_id, "", 0)]))

    async def page(self, after: int, limit: int) -> dict[int, Record]:
        """Return at most `limit` users with ids above `after`, by ascending id."""
        page: dict[int, Record] = await self._reads.submit(lambda db: self._page(db, after, limit))
        return page

    async def age_counts(self) -> dict[int, int]:
        """Return how many users there are of each age that occurs, by ascending age."""
        counts: dict[int, int] = await self._reads.submit(self._age_counts)
        return counts

    async def check(self) -> None:
        """Return if the database answers. Raises StoreUnavailable."""
        if await self._reads.submit(self._ping) is None:
            raise StoreUnavailable("it takes no writes")

    async def snapshot(self) -> AsyncGenerator[dict[int, Record], None]:
        """Yield all users in chunks by ascending id, as they were when the first was asked for."""
        deadline = asyncio.get_running_loop().time() + DEADLINE_SECONDS
        try:
            async with asyncio.timeout_at(deadline):
                await self._listing_places.acquire()
        except TimeoutError:
            raise StoreUnavailable("too many listings are being read") from None
        # It ends with the file that it began with, also when another one is in its place.
        engine = replace(self._engine, is_stale=lambda _: False)
        reader: Worker[Read] = Worker(engine, self._prepare, self._run_reads)
        try:
            try:
                async with asyncio.timeout_at(deadline):
                    chunk = await reader.submit(self._begin_snapshot)
            except TimeoutError:
                raise StoreUnavailable("it does not answer") from None
            while chunk:
                yield chunk
                last = next(reversed(chunk))
                next_chunk = partial(self._page, after=last, limit=SNAPSHOT_CHUNK_USERS)
                chunk = await reader.submit(next_chunk)
        finally:
            reader.close()
            self._listing_places.release()

    def fullness(self) -> dict[str, float]:
        """Return how full each queue of requests is."""
        return {"writes": self._writes.fullness(), "reads": self._reads.fullness()}

    def close(self) -> None:
        """Give the connections back."""
        for worker in (self._writes, self._reads):
            worker.close()
        for worker in (self._writes, self._reads):
            worker.wait(CLOSE_SECONDS)

    # ------------------------------------------------- what follows runs in a worker's thread

    def _execute(self, db: Any, statement: str, values: Sequence[Any] = ()) -> Any:
        return db.execute(statement.replace("?", self._engine.mark), values)

    def _change(self, db: Any, statement: str, rows: list[tuple[Any, ...]]) -> None:
        """Run a statement once for each row; raise Conflict unless each time it hit one user."""
        if rows:
            cursor = db.cursor()
            cursor.executemany(statement.replace("?", self._engine.mark), rows)
            if cursor.rowcount != len(rows):
                raise Conflict

    def _ping(self, db: Any) -> Any:
        return db.execute(self._engine.ping).fetchone()

    def _page(self, db: Any, after: int, limit: int) -> dict[int, Record]:
        rows = self._execute(
            db,
            "SELECT user_id, name, age FROM users WHERE user_id > ? ORDER BY user_id LIMIT ?",
            (after, limit),
        )
        return {user_id: Record(name, age) for user_id, name, age in rows.fetchall()}

    def _begin_snapshot(self, db: Any) -> dict[int, Record]:
        db.execute(self._engine.begin_snapshot)
        return self._page(db, -1, SNAPSHOT_CHUNK_USERS)

    def _age_counts(self, db: Any) -> dict[int, int]:
        rows = db.execute(
            "SELECT age, SUM(users) FROM age_counts"
            " GROUP BY age HAVING SUM(users) <> 0 ORDER BY age"
        )
        return {age: int(users) for age, users in rows.fetchall()}

    def _look_up(self, db: Any, user_ids: list[int]) -> State:
        state: State = {}
        for start in range(0, len(user_ids), MAX_ROWS):
            condition, values = self._engine.among(user_ids[start : start + MAX_ROWS])
            statement = f"SELECT user_id, name, age FROM users WHERE {condition}"
            rows = db.execute(statement, values).fetchall()
            state.update({user_id: (name, age) for user_id, name, age in rows})
        return state

    def _run_reads(self, db: Any, requests: Sequence[Read]) -> list[Any]:
        """Answer a batch of reads; all users that are asked for singly by one statement.

        What several ask for, the age counts above all, is found out once.
        """
        state = self._look_up(db, [request for request in requests if isinstance(request, int)])
        asked = {request for request in requests if not isinstance(request, int)}
        found = {request: request(db) for request in asked}
        return [
            (state.get(request) or UserNotFound(request))
            if isinstance(request, int)
            else found[request]
            for request in requests
        ]

    def _run_writes(self, db: Any, writes: Sequence[Write]) -> list[Any]:
        """Do a batch of writes in one transaction, as if one after the other; commit it.

        The users concerned are looked up, the writes are played on what was found, and the
        difference is written under the condition that nobody has changed it in between. That the
        id of a user to be created is free is nearly always so, and at first not looked up. Where
        one write may have failed all of them (its user is locked, or changed by others all the
        time), each has a transaction alone.
        """
        user_ids = sorted({i for _, users in writes for i, _, _ in users})
        known_ids = {i for verb, users in writes if verb in CHANGES for i, _, _ in users}
        for tries in range(MAX_TRIES):
            started = time.perf_counter()
            db.execute(self._engine.begin_write)
            try:
                before = self._look_up(db, user_ids if tries else sorted(known_ids))
                after = dict(before)
                results = [_play(verb, users, after) for verb, users in writes]
                self._write_difference(db, before, after)
                db.execute("COMMIT")
                self._observe_commit(time.perf_counter() - started)
                return results
            except self._engine.conflicts:
                db.execute("ROLLBACK")
            except self._engine.faults_of_one as fault:
                db.execute("ROLLBACK")
                if len(writes) == 1:
                    return [self._engine.unavailable(fault)]
                return self._run_one_by_one(db, writes)
        if len(writes) > 1:
            return self._run_one_by_one(db, writes)
        contended = StoreUnavailable("other processes kept changing the same user")
        log.warning("%s", contended)
        return [contended]

    def _run_one_by_one(self, db: Any, writes: Sequence[Write]) -> list[Any]:
        """Do writes in a transaction each, as long as anybody still waits for them."""
        give_up = time.monotonic() + DEADLINE_SECONDS
        late = StoreUnavailable("it does not answer")
        return [
            self._run_writes(db, [write])[0] if time.monotonic() < give_up else late
            for write in writes
        ]

    def _write_difference(self, db: Any, before: State, after: State) -> None:
        """Make `before` into `after`, by ascending id: so two processes seldom lock crosswise."""
        created = sorted((i, *after[i]) for i in after.keys() - before.keys())
        for start in range(0, len(created), MAX_ROWS):
            some = created[start : start + MAX_ROWS]
            table, values = self._engine.table(some, "bigint", "text", "integer")
            # Without the WHERE, SQLite would take ON CONFLICT for the condition of a join.
            statement = (
                f"INSERT INTO users (user_id, name, age) SELECT * FROM {table} WHERE true"
                " ON CONFLICT (user_id) DO NOTHING"
            )
            if db.execute(statement, values).rowcount != len(some):
                raise Conflict
        changed = [i for i in sorted(before.keys() & after.keys()) if before[i] != after[i]]
        self._change(
            db,
            "UPDATE users SET name = ?, age = ? WHERE user_id = ? AND age = ?",
            [(*after[i], i, before[i][1]) for i in changed],
        )
        self._change(
            db,
            "DELETE FROM users WHERE user_id = ? AND age = ?",
            [(i, before[i][1]) for i in sorted(before.keys() - after.keys())],
        )
        counts = Counter(age for _, age in after.values())
        counts.subtract(Counter(age for _, age in before.values()))
        moved = [(self._stripe, age, users) for age, users in sorted(counts.items()) if users]
        if moved:
            table, values = self._engine.table(moved, "integer", "integer", "bigint")
            db.execute(
                f"INSERT INTO age_counts (stripe, age, users) SELECT * FROM {table} WHERE true "
                "ON CONFLICT (stripe, age) DO UPDATE SET users = age_counts.users + excluded.users",
                values,
            )


def _play(verb: str, users: list[Row], state: State) -> Any:
    """Do one write on `state`; return its result, or the error that it meets."""
    user_id, name, age = users[0] if users else (0, "", 0)
    match verb:
        case "create_many":
            existing = [user_id for user_id, _, _ in users if user_id in state]
            state.update({i: (name, age) for i, name, age in users if i not in state})
            return existing
        case "create" if user_id in state:
            return UserExists(user_id)
        case "update" | "delete" if user_id not in state:
            return UserNotFound(user_id)
        case "delete":
            del state[user_id]
        case _:
            state[user_id] = (name, age)
    return None
