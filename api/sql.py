"""The same verbs as `crud.MemoryStore`, over SQLite or PostgreSQL, with one set of statements.

Group commit: a commit to disk takes as long for a hundred writes as for one. So all writes that
arrive during a transaction share the next one. A write is acknowledged after its commit to disk.

Optimistic concurrency: a transaction reads users, computes, and writes only if each new id is still
free and each stored user is still as it was read; otherwise it is retried. PostgreSQL locks
nothing until this write. SQLite holds its write lock for the whole transaction.
"""

import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, cast

from msgspec.structs import astuple

import crud
from crud import BatchResult, Record, StoreUnavailable, UserNotFound, Users, Versions, compare
from database import DEADLINE_SECONDS, Worker
from engines import Conflict, Engine

MAX_ATTEMPTS: Final = 10  # of a transaction that conflicts with another process
SHARDS: Final = 16  # of the age counters, so that processes seldom wait for each other
SELECT: Final = "SELECT user_id, name, age FROM users WHERE"

Write = tuple[str, Users, Versions]  # the verb, the users, and the versions to be changed
Read = int | Callable[[Any], Any]  # a user's id, or a function that gets the connection


class SqlStore:
    """Users in a database that several processes may share; the users outlive the processes.

    Every verb may also raise StoreUnavailable: the database cannot be reached, or does not respond
    in time. Then only a read shows whether a write was stored. After each transaction of writes the
    store calls `observe_commit` with the duration in seconds.
    """

    durable = True

    def __init__(
        self, engine: Engine, observe_commit: Callable[[float], object] = lambda _: None
    ) -> None:
        self._engine = engine
        self.kind = engine.kind
        self._observe_commit = observe_commit
        self._shard = random.randrange(SHARDS)  # noqa: S311 - any will do
        self._writes: Worker[Write] = Worker(self._engine, self._run_writes)
        self._reads: Worker[Read] = Worker(self._engine, self._run_reads)
        self._open_snapshots = 0

    async def create(self, user_id: int, name: str, age: int) -> None:
        """Add a user. Raises UserExists."""
        await self._writes.submit(("create", {user_id: Record(name, age)}, None))

    async def create_many(self, users: Users) -> BatchResult:
        """Add, all at once, the users whose id is free."""
        write = ("create_many", users, None)
        return cast(BatchResult, await self._writes.submit(write, len(users)))

    async def get(self, user_id: int) -> Record:
        """Return a user. Raises UserNotFound."""
        return cast(Record, await self._reads.submit(user_id))

    async def update(self, user_id: int, name: str, age: int, versions: Versions = None) -> None:
        """Replace a user's name and age. Raises UserNotFound or UserChanged."""
        await self._writes.submit(("update", {user_id: Record(name, age)}, versions))

    async def delete(self, user_id: int, versions: Versions = None) -> None:
        """Remove a user. Raises UserNotFound or UserChanged."""
        await self._writes.submit(("delete", {user_id: Record("", 0)}, versions))

    async def page(self, after: int, limit: int) -> Users:
        """Return at most `limit` users with ids above `after`, by ascending id."""
        return cast(Users, await self._reads.submit(partial(self._page, after=after, limit=limit)))

    async def age_counts(self) -> dict[int, int]:
        """Return the number of users of each age that occurs, by ascending age in years."""
        return cast(dict[int, int], await self._reads.submit(self._age_counts))

    async def check(self) -> None:
        """Commit a small write, then read all counters: this raises errors of both connections."""
        await self._writes.submit(("check", {}, None))
        await self._reads.submit(self._age_counts)

    async def snapshot(self) -> AsyncGenerator[Users, None]:
        """Yield all users in chunks by ascending id, as they were at the first chunk.

        Each has its own connection. Raises StoreUnavailable while MAX_SNAPSHOTS others are read.
        """
        if self._open_snapshots >= crud.MAX_SNAPSHOTS:
            raise StoreUnavailable("too many listings are being read")
        self._open_snapshots += 1
        # A snapshot reads the same file to its end, even if another file replaces it.
        engine = replace(self._engine, is_stale=lambda _: False)
        reader: Worker[Read] = Worker(engine, self._run_reads)
        try:
            chunk = await reader.submit(self._begin_snapshot)
            while chunk:
                yield chunk
                last_id = next(reversed(chunk))
                next_chunk = partial(self._page, after=last_id, limit=crud.SNAPSHOT_CHUNK_USERS)
                chunk = await reader.submit(next_chunk)
        finally:
            reader.close()
            self._open_snapshots -= 1

    def queue_ratios(self) -> dict[str, float]:
        """Return how full each queue of requests is (1: full)."""
        return {"writes": self._writes.queue_ratio(), "reads": self._reads.queue_ratio()}

    def close(self) -> None:
        """Close the connections; wait at most half a second for each one."""
        for worker in (self._writes, self._reads):
            worker.close(wait_seconds=0.5)

    def _page(self, db: Any, after: int, limit: int) -> Users:
        mark = self._engine.placeholder
        statement = f"{SELECT} user_id > {mark} ORDER BY user_id LIMIT {mark}"
        return _users(db.execute(statement, (after, limit)))

    def _begin_snapshot(self, db: Any) -> Users:
        db.execute(self._engine.begin_snapshot)
        return self._page(db, -1, crud.SNAPSHOT_CHUNK_USERS)

    def _age_counts(self, db: Any) -> dict[int, int]:
        rows = db.execute("SELECT age, SUM(users) FROM age_counts GROUP BY age ORDER BY age")
        return {age: int(users) for age, users in rows.fetchall() if users}

    def _find(self, db: Any, user_ids: list[int]) -> Users:
        if not user_ids:
            return {}
        condition, values = self._engine.among(user_ids)
        return _users(db.execute(f"{SELECT} {condition}", values))

    def _run_reads(self, db: Any, requests: Sequence[Read]) -> list[Any]:
        """Run a group of reads: one statement finds all single users; equal requests run once."""
        results: dict[Read, Any] = {each: each(db) for each in set(requests) if callable(each)}
        user_ids = [each for each in requests if isinstance(each, int)]
        found = self._find(db, user_ids)
        results |= {each: found.get(each) or UserNotFound(each) for each in user_ids}
        return [results[each] for each in requests]

    def _run_writes(self, db: Any, writes: Sequence[Write]) -> list[Any]:
        """Commit a group of writes in one transaction; the results are as if done one by one.

        The first attempt does not read the ids of new users: they are nearly always free. If the
        group fails, each of its writes gets its own transaction.
        """
        all_ids = sorted({user_id for _, users, _ in writes for user_id in users})
        changed_ids = sorted({i for verb, ids, _ in writes if verb[:6] != "create" for i in ids})
        for attempt in range(MAX_ATTEMPTS):
            started = time.perf_counter()
            db.execute(self._engine.begin_write)
            try:
                before = self._find(db, all_ids if attempt else changed_ids)
                after = dict(before)
                results = [_apply(*write, after) for write in writes]
                self._write_difference(db, before, after)
                if any(verb == "check" for verb, *_ in writes):
                    self._engine.check_writes(db)
                db.execute("COMMIT")
                self._observe_commit(time.perf_counter() - started)
                return results
            except (*self._engine.conflicts, *self._engine.errors_of_one) as error:
                db.execute("ROLLBACK")
                failure: Exception = error
                if isinstance(error, self._engine.errors_of_one):
                    break
        if len(writes) == 1:
            return [self._engine.unavailable(failure)]
        results = [StoreUnavailable("it does not respond")] * len(writes)
        give_up_at = time.monotonic() + DEADLINE_SECONDS  # their clients no longer wait
        for number, write in enumerate(writes):
            if time.monotonic() < give_up_at:
                [results[number]] = self._run_writes(db, [write])
        return results

    def _write_difference(self, db: Any, before: Users, after: Users) -> None:
        """Write what differs between `before` and `after`, by ascending id: deadlocks are rare.

        Raises Conflict if another process took a new id, or deleted or changed a user.
        """
        created = sorted((i, after[i].name, after[i].age) for i in after.keys() - before.keys())
        if created:
            table, values = self._engine.table(created, "bigint", "text", "integer")
            # Without WHERE, SQLite would parse ON CONFLICT as the condition of a join. RETURNING
            # counts what was written: drivers may report the rows of the source instead.
            written = db.execute(
                f"INSERT INTO users (user_id, name, age) SELECT * FROM {table} WHERE true"
                " ON CONFLICT (user_id) DO NOTHING RETURNING user_id",
                values,
            )
            if len(written.fetchall()) != len(created):
                raise Conflict
        changed = [i for i in sorted(before.keys() & after.keys()) if before[i] != after[i]]
        self._engine.change_each(
            db,
            "UPDATE users SET name = ?, age = ? WHERE user_id = ? AND name = ? AND age = ?",
            [(*astuple(after[i]), i, *astuple(before[i])) for i in changed],
        )
        self._engine.change_each(
            db,
            "DELETE FROM users WHERE user_id = ? AND name = ? AND age = ?",
            [(i, *astuple(before[i])) for i in sorted(before.keys() - after.keys())],
        )
        self._count(db, before, after)

    def _count(self, db: Any, before: Users, after: Users) -> None:
        """Add the differences to the age counters, in this process's shard."""
        counts = Counter(user.age for user in after.values())
        counts.subtract(user.age for user in before.values())
        rows = [(self._shard, age, users) for age, users in sorted(counts.items()) if users]
        if rows:
            table, values = self._engine.table(rows, "integer", "integer", "bigint")
            db.execute(
                f"INSERT INTO age_counts (stripe, age, users) SELECT * FROM {table} WHERE true "
                "ON CONFLICT (stripe, age) DO UPDATE SET users = age_counts.users + excluded.users",
                values,
            )


def _users(rows: Any) -> Users:
    return {user_id: Record(name, age) for user_id, name, age in rows.fetchall()}


def _apply(verb: str, users: Users, versions: Versions, state: Users) -> Any:
    """Apply one write to `state`; return its result, or its error."""
    if verb == "create_many":
        new, existing, conflicting = compare(users, state)
        state.update(new)
        return BatchResult(len(new), existing, conflicting)
    if verb == "check":
        return None
    [(user_id, user)] = users.items()
    if verb == "create" and user_id in state:
        return crud.UserExists(user_id, state[user_id])
    if verb != "create" and user_id not in state:
        return UserNotFound(user_id)
    if versions is not None and crud.version(state[user_id]) not in versions:
        return crud.UserChanged(user_id, state[user_id])
    if verb == "delete":
        del state[user_id]
    else:
        state[user_id] = user
    return None
