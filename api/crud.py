"""What a user is, what can be done with users, and the store that keeps them in memory.

Nothing here knows of HTTP. The verbs are coroutines because a store on disk has to wait. In
this one no verb that writes, or reads a user, ever waits, so it runs from its first line to its
last with nothing in between: it is atomic, and needs no lock.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator
from itertools import compress, islice
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from sortedcontainers import SortedList

MAX_USER_ID: Final = 2**53 - 1  # the largest integer that every JSON reader keeps exact
MAX_AGE: Final = 150  # years
MAX_NAME_LENGTH: Final = 100  # characters, white space at either end not counted
MAX_PAGE_USERS: Final = 1_000
MAX_BATCH_USERS: Final = 10_000
SNAPSHOT_CHUNK_USERS: Final = 2_000  # about a millisecond of work between two other requests

MAX_SNAPSHOTS: Final = 16  # at once; each may have a copy of all ids


class Record(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A user as a page, a batch and the memory have him: under his id.

    Two words smaller than a tuple, as the garbage collector need not know of it.
    """

    name: Annotated[str, Meta(min_length=1, max_length=MAX_NAME_LENGTH)]
    age: Annotated[int, Meta(ge=0, le=MAX_AGE)]


encode = msgspec.json.Encoder().encode
# Raises ValueError for JSON that is no map from ids to records within their bounds. It takes "-0".
decode_users = msgspec.json.Decoder(dict[Annotated[int, Meta(ge=0, le=MAX_USER_ID)], Record]).decode


class UserNotFound(Exception):
    """No user has this id."""

    def __init__(self, user_id: int) -> None:
        super().__init__(f"User {user_id} not found")


class UserExists(Exception):
    """A user has this id already."""

    def __init__(self, user_id: int) -> None:
        super().__init__(f"User {user_id} already exists")


class StoreFull(Exception):
    """The store holds as many users as it may."""

    def __init__(self, max_users: int) -> None:
        super().__init__(f"The store is full: it may hold {max_users} users")


class StoreUnavailable(Exception):
    """The store cannot be reached, or does not answer in time; later it may."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The store is unavailable: {reason}")


class MemoryStore:
    """Users as records in a dict, gone when the process ends.

    Beside the users it keeps what would be slow to find out when asked: how many users there
    are of each age, and, once somebody has asked for a page, the ids in order.
    """

    kind = "memory"
    durable = False

    def __init__(self, max_users: int) -> None:
        self._max_users = max_users
        self._users: dict[int, Record] = {}
        self._age_counts = [0] * (MAX_AGE + 1)
        self._ordered_ids: SortedList | None = None  # 9 bytes a user: only for those who page
        self._ordering = asyncio.Lock()
        self._moved_ids: set[int] = set()  # who came or went while the ids were put in order
        self._open_snapshots: list[_Snapshot] = []

    def __len__(self) -> int:
        return len(self._users)

    async def create(self, user_id: int, name: str, age: int) -> None:
        """Add a user. Raises UserExists, StoreFull."""
        if user_id in self._users:
            raise UserExists(user_id)
        if len(self._users) >= self._max_users:
            raise StoreFull(self._max_users)
        for snapshot in self._open_snapshots:
            snapshot.users_come([user_id])
        self._users[user_id] = Record(name, age)
        self._age_counts[age] += 1
        if self._ordered_ids is not None:
            self._ordered_ids.add(user_id)
        elif self._ordering.locked():
            self._moved_ids.add(user_id)

    async def create_many(self, users: dict[int, Record]) -> list[int]:
        """Add, all at once, the users whose id is free; return the ids that were not.

        Raises StoreFull, and adds nobody, when they are more than there is room for.
        """
        existing = [user_id for user_id in users if user_id in self._users]
        new = {i: user for i, user in users.items() if i not in self._users} if existing else users
        if len(self._users) + len(new) > self._max_users:
            raise StoreFull(self._max_users)
        for snapshot in self._open_snapshots:
            snapshot.users_come(new)
        self._users.update(new)
        for user in new.values():
            self._age_counts[user.age] += 1
        if self._ordered_ids is not None:
            self._ordered_ids.update(new)
        elif self._ordering.locked():
            self._moved_ids.update(new)
        return existing

    async def get(self, user_id: int) -> tuple[str, int]:
        """Return a user's name and age. Raises UserNotFound."""
        user = self._find(user_id)
        return user.name, user.age

    async def update(self, user_id: int, name: str, age: int) -> None:
        """Replace a user's name and age. Raises UserNotFound."""
        old_age = self._find(user_id).age
        for snapshot in self._open_snapshots:
            snapshot.user_changes(user_id)
        self._users[user_id] = Record(name, age)
        self._age_counts[old_age] -= 1
        self._age_counts[age] += 1

    async def delete(self, user_id: int) -> None:
        """Remove a user. Raises UserNotFound."""
        age = self._find(user_id).age
        for snapshot in self._open_snapshots:
            snapshot.user_goes(user_id)
        del self._users[user_id]
        self._age_counts[age] -= 1
        if self._ordered_ids is not None:
            self._ordered_ids.remove(user_id)
        elif self._ordering.locked():
            self._moved_ids.add(user_id)

    async def page(self, after: int, limit: int) -> dict[int, Record]:
        """Return at most `limit` users with ids above `after`, by ascending id."""
        async with self._ordering:
            if self._ordered_ids is None:
                self._ordered_ids = await self._put_in_order()
        start = self._ordered_ids.bisect_right(after)
        ids = self._ordered_ids.islice(start, start + limit)
        return {user_id: self._users[user_id] for user_id in ids}

    async def snapshot(self) -> AsyncGenerator[dict[int, Record], None]:
        """Yield all users in chunks, as they were when the first chunk was asked for.

        Raises StoreUnavailable while too many snapshots are being read.
        """
        if len(self._open_snapshots) >= MAX_SNAPSHOTS:
            raise StoreUnavailable("too many listings are being read")
        snapshot = _Snapshot(self._users)
        self._open_snapshots.append(snapshot)
        try:
            while chunk := snapshot.next_chunk():
                yield chunk
        finally:
            self._open_snapshots.remove(snapshot)

    async def check(self) -> None:
        """Return, as this store is always there."""

    def fullness(self) -> dict[str, float]:
        """Return how full each queue of requests is: there is none."""
        return {}

    def close(self) -> None:
        """Do nothing: what was here goes with the process."""

    async def age_counts(self) -> dict[int, int]:
        """Return how many users there are of each age that occurs, by ascending age."""
        return dict(compress(enumerate(self._age_counts), self._age_counts))

    async def _put_in_order(self) -> SortedList:
        """Return the ids in order. To sort a million at once would hold up everybody else."""
        ordered = SortedList()
        self._moved_ids.clear()
        async for chunk in self.snapshot():
            ordered.update(chunk)
            await asyncio.sleep(0)
        settled = 0
        while self._moved_ids:
            user_id = self._moved_ids.pop()
            ordered.discard(user_id)
            if user_id in self._users:
                ordered.add(user_id)
            settled += 1
            if settled % SNAPSHOT_CHUNK_USERS == 0:
                await asyncio.sleep(0)
        return ordered

    def _find(self, user_id: int) -> Record:
        try:
            return self._users[user_id]
        except KeyError:
            raise UserNotFound(user_id) from None


class _Snapshot:
    """What a listing has still to read of all users, as they were when it began.

    Copying a million users would hold up everybody else. So they are read where they are, as long
    as nobody writes. The first writer has the ids copied that are still to come, and from then on
    whoever is about to change a user first has the old one kept here; not those who came later.
    """

    def __init__(self, users: dict[int, Record]) -> None:
        self._users = users
        self._ids = iter(users)
        self._records: Iterator[Record] | None = iter(users.values())
        self._kept: dict[int, Record] = {}
        self._newer_ids: set[int] = set()

    def next_chunk(self) -> dict[int, Record]:
        """Return the next users, none when all have been read."""
        ids = islice(self._ids, SNAPSHOT_CHUNK_USERS)
        if self._records is not None:
            return dict(zip(ids, self._records, strict=False))
        return {user_id: self._kept.get(user_id) or self._users[user_id] for user_id in ids}

    def users_come(self, user_ids: Iterable[int]) -> None:
        """Note who is about to come."""
        self._leave_live_users()
        self._newer_ids.update(user_ids)

    def user_changes(self, user_id: int) -> None:
        """Keep a user who is about to change."""
        self._leave_live_users()
        if user_id not in self._newer_ids:
            self._kept.setdefault(user_id, self._users[user_id])

    def user_goes(self, user_id: int) -> None:
        """Keep a user who is about to go; of who came later, nothing stays."""
        self.user_changes(user_id)
        self._newer_ids.discard(user_id)

    def _leave_live_users(self) -> None:
        """Get ready for users to come and go, which a walk through them would not survive."""
        if self._records is not None:
            self._ids = iter(list(self._ids))
            self._records = None
