"""The same verbs as `crud.MemoryStore`, over SQLite or PostgreSQL, with one set of statements.

Group commit: a commit to disk takes as long for a hundred writes as for one. So all writes that
arrive during a transaction share the next one. A write is acknowledged after its commit to disk.

Optimistic concurrency: a transaction reads users, computes, and writes only if each new id is still
free and each stored user is still as it was read; otherwise it is retried. PostgreSQL locks
nothing until this write. SQLite holds its write lock for the whole transaction.
"""

import json
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
from engines import CHANGES, COUNT, DELETE, INSERT, MISSING, SELECT, UPDATE, Conflict, Engine, log

MAX_ATTEMPTS: Final = 10  # of a transaction that conflicts with another process

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
        self._counts_are_right = False
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
            await reader.submit(lambda db: db.execute(self._engine.begin_snapshot))
            page = partial(self._page, after=-1, limit=crud.SNAPSHOT_CHUNK_USERS)
            while chunk := await reader.submit(page):
                yield chunk
                page.keywords["after"] = next(reversed(chunk))
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
        return _users(db.execute(f"{SELECT} user_id > {after} ORDER BY user_id LIMIT {limit}"))

    def _age_counts(self, db: Any) -> dict[int, int]:
        rows = db.execute("SELECT age, SUM(users) FROM age_counts GROUP BY age ORDER BY age")
        return {age: int(users) for age, users in rows.fetchall() if users}

    def _find(self, db: Any, user_ids: list[int]) -> Users:
        if not user_ids:
            return {}
        condition = self._engine.among
        if len(user_ids) == 1:  # a distributed database then asks one of its machines only
            condition += f" AND bucket = {user_ids[0] % self._engine.buckets}"
        return _users(db.execute(f"{SELECT} {condition}", [json.dumps(user_ids)]))

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
                if not self._counts_are_right or any(verb == "check" for verb, *_ in writes):
                    self._check_writes(db)
                before = self._find(db, all_ids if attempt else changed_ids)
                after = dict(before)
                results = [_apply(*write, after) for write in writes]
                self._write_difference(db, before, after)
                db.execute("COMMIT")
                self._observe_commit(time.perf_counter() - started)
                return results
            except (*self._engine.conflicts, *self._engine.errors_of_one) as error:
                db.execute("ROLLBACK")
                failure: Exception = error
                if isinstance(error, self._engine.broken_rule) and not attempt:
                    self._counts_are_right = False  # perhaps one would become negative
                elif isinstance(error, self._engine.errors_of_one):
                    break
        if len(writes) == 1:
            return [self._engine.unavailable(failure)]
        give_up_at = time.monotonic() + DEADLINE_SECONDS  # their clients no longer wait
        late = [StoreUnavailable("it does not respond")]
        each = ([write] for write in writes)
        alone = (self._run_writes(db, w) if time.monotonic() < give_up_at else late for w in each)
        return [result for [result] in alone]

    def _write_difference(self, db: Any, before: Users, after: Users) -> None:
        """Write what differs between `before` and `after`, by ascending id: deadlocks are rare.

        Raises Conflict if another process took a new id, or deleted or changed a user.
        """
        old = [self._row(i, before) for i in sorted(before) if before[i] != after.get(i)]
        new = [self._row(i, after) for i in sorted(after) if after[i] != before.get(i)]
        counts = Counter((bucket, age) for _, bucket, _, age in new)
        counts.subtract((bucket, age) for _, bucket, _, age in old)
        changes = [(*cell, users) for cell, users in sorted(counts.items()) if users]
        created = [row for row in new if row[0] not in before]
        statements: list[tuple[str, Sequence[Any]]] = []
        if created:
            statements.append((INSERT.format(self._engine), [json.dumps(created)]))
        for row in old:
            user = after.get(row[0])
            values = (*astuple(user), *row) if user else row
            statements.append(((UPDATE if user else DELETE).format(self._engine.mark), values))
        if changes:
            count = COUNT.format(CHANGES.format(self._engine))
            statements.append((count, [json.dumps(changes)]))
        if statements:
            with self._engine.pipeline(db):
                cursors = [db.execute(*each) for each in statements]
            written = sum(len(cursor.fetchall()) for cursor in cursors)
            if written != len(created) + len(old) + len(changes):
                raise Conflict

    def _row(self, user_id: int, users: Users) -> tuple[Any, ...]:
        return user_id, user_id % self._engine.buckets, *astuple(users[user_id])

    def _check_writes(self, db: Any) -> None:
        """Change nothing; fail if a lock, a full disk or a missing privilege prevents writes.

        Only the first time, correct the counters: users may have been changed by SQL. If there are
        too many users to count, this fails once.
        """
        db.execute("UPDATE schema_version SET version = version")  # other processes wait
        db.execute("INSERT INTO users (user_id, bucket, name, age) SELECT 0, 0, '', 0 WHERE 1 = 0")
        if not self._counts_are_right:
            self._counts_are_right = True
            if corrected := len(db.execute(COUNT.format(MISSING)).fetchall()):
                log.warning("%d age counts were wrong, and are corrected", corrected)


def _users(rows: Any) -> Users:
    return {user_id: Record(name, age) for user_id, name, age in rows.fetchall()}


def _apply(verb: str, users: Users, versions: Versions, state: Users) -> Any:
    """Apply one write to `state`; return its result, or its error."""
    if verb in ("create_many", "check"):
        new, existing, conflicting = compare(users, state)
        state.update(new)
        return BatchResult(len(new), existing, conflicting)
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
