"""What a user is, the operations on users (the verbs), and the store that keeps users in memory.

This module does not know HTTP. The verbs are coroutines because a store on disk has to wait. In
this store only `snapshot` pauses, and it reads a copy. So each other verb runs without
interruption: it is atomic, and needs no lock.
"""

from collections.abc import AsyncGenerator, Container
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from sortedcontainers import SortedList

MAX_USER_ID: Final = 2**53 - 1  # the largest integer that every JSON reader keeps exact
MAX_AGE: Final = 150  # years
MAX_NAME_LENGTH: Final = 100  # characters, without the white space at both ends
MAX_RAW_NAME_LENGTH: Final = 2 * MAX_NAME_LENGTH  # with that white space
MAX_PAGE_USERS: Final = 1_000
MAX_BATCH_USERS: Final = 10_000
MAX_SNAPSHOTS: Final = 4  # at once; each one is a copy, about 42 MB for a million users
SNAPSHOT_CHUNK_USERS: Final = 2_000  # a chunk delays other requests by about a millisecond


class Record(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A user without the id, which is the dict key. gc=False saves memory; there are no cycles."""

    name: Annotated[str, Meta(min_length=1, max_length=MAX_RAW_NAME_LENGTH)]
    age: Annotated[int, Meta(ge=0, le=MAX_AGE)]


Users = dict[int, Record]  # by id
Versions = Container[str] | None  # a change needs the stored user to have one of them; None: any


@dataclass(slots=True)
class BatchResult:
    """How many users of a batch were created, and the ids of those that were not.

    `existing` users were stored already with the same name and age; the ids in `conflicting`
    belong to users with another name or age.
    """

    created: int
    existing: list[int]
    conflicting: list[int]


class UserNotFound(Exception):
    """No user has this id."""

    def __init__(self, user_id: int) -> None:
        super().__init__(f"User {user_id} not found")


class StoredUser(Exception):
    """The stored user prevents the operation; `user` is the record."""

    reason = ""

    def __init__(self, user_id: int, user: Record) -> None:
        super().__init__(f"User {user_id} {self.reason}")
        self.user_id, self.user = user_id, user


class UserExists(StoredUser):
    """A user has this id already."""

    reason = "already exists"


class UserChanged(StoredUser):
    """The stored user does not have the version that the client knows."""

    reason = "was changed by somebody else"


class StoreFull(Exception):
    """The new users do not fit: the store may hold only `max_users`."""

    def __init__(self, max_users: int) -> None:
        super().__init__(f"The store is full: it may hold {max_users} users")


class StoreUnavailable(Exception):
    """The store cannot be reached, is too slow or has too many requests. A retry may succeed."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The store is unavailable: {reason}")
        self.reason = reason


class StoreUnusable(StoreUnavailable):
    """The store cannot be used as it is, whatever is retried: it stops the start."""


class MemoryStore:
    """Users as records in a dict. They are lost when the process ends.

    Each write updates the number of users of each age, and the sorted ids: so no request needs a
    scan of all users.
    """

    kind = "memory"
    durable = False

    def __init__(self, max_users: int) -> None:
        self._max_users = max_users
        self._users: Users = {}
        self._ids = SortedList()
        self._age_counts = [0] * (MAX_AGE + 1)
        self._open_snapshots = 0

    async def create(self, user_id: int, name: str, age: int) -> None:
        """Add a user. Raises UserExists or StoreFull."""
        if user_id in self._users:
            raise UserExists(user_id, self._users[user_id])
        if len(self._users) >= self._max_users:
            raise StoreFull(self._max_users)
        self._users[user_id] = Record(name, age)
        self._ids.add(user_id)
        self._age_counts[age] += 1

    async def create_many(self, users: Users) -> BatchResult:
        """Add, all at once, the users whose id is free.

        Raises StoreFull, and adds no user, if there is not enough room for all the new users.
        """
        new, existing, conflicting = compare(users, self._users)
        if len(self._users) + len(new) > self._max_users:
            raise StoreFull(self._max_users)
        self._users.update(new)
        self._ids.update(new)
        for user in new.values():
            self._age_counts[user.age] += 1
        return BatchResult(len(new), existing, conflicting)

    async def get(self, user_id: int) -> Record:
        """Return a user. Raises UserNotFound."""
        try:
            return self._users[user_id]
        except KeyError:
            raise UserNotFound(user_id) from None

    async def update(self, user_id: int, name: str, age: int, versions: Versions = None) -> None:
        """Replace a user's name and age. Raises UserNotFound or UserChanged."""
        old = await self.get(user_id)
        require_version(user_id, old, versions)
        self._users[user_id] = Record(name, age)
        self._age_counts[old.age] -= 1
        self._age_counts[age] += 1

    async def delete(self, user_id: int, versions: Versions = None) -> None:
        """Remove a user. Raises UserNotFound or UserChanged."""
        old = await self.get(user_id)
        require_version(user_id, old, versions)
        del self._users[user_id]
        self._ids.remove(user_id)
        self._age_counts[old.age] -= 1

    async def page(self, after: int, limit: int) -> Users:
        """Return at most `limit` users with ids above `after`, by ascending id."""
        start = self._ids.bisect_right(after)
        ids = self._ids.islice(start, start + limit)
        return {user_id: self._users[user_id] for user_id in ids}

    async def snapshot(self) -> AsyncGenerator[Users, None]:
        """Yield all users in chunks, as they were when the first chunk was requested.

        Raises StoreUnavailable while MAX_SNAPSHOTS other snapshots are being read.
        """
        if self._open_snapshots >= MAX_SNAPSHOTS:
            raise StoreUnavailable("too many listings are being read")
        self._open_snapshots += 1
        try:
            users = iter(self._users.copy().items())
            while chunk := dict(islice(users, SNAPSHOT_CHUNK_USERS)):
                yield chunk
        finally:
            self._open_snapshots -= 1

    async def age_counts(self) -> dict[int, int]:
        """Return the number of users of each age that occurs, by ascending age in years."""
        return {age: users for age, users in enumerate(self._age_counts) if users}

    async def check(self) -> None:
        """Do nothing: memory can always be written. Others may raise StoreUnavailable."""

    def queue_ratios(self) -> dict[str, float]:
        """Return how full each queue of requests is (1: full). This store has no queue."""
        return {}

    def close(self) -> None:
        """Do nothing: there is no connection to close."""


def compare(users: Users, stored: Users) -> tuple[Users, list[int], list[int]]:
    """Return the new users, the ids stored with equal data, and those stored with other data."""
    taken = [user_id for user_id in users if user_id in stored]
    if not taken:  # the usual case: the dict need not be copied
        return users, [], []
    new = {user_id: user for user_id, user in users.items() if user_id not in stored}
    existing = [user_id for user_id in taken if stored[user_id] == users[user_id]]
    conflicting = [user_id for user_id in taken if stored[user_id] != users[user_id]]
    return new, existing, conflicting


def version(user: Record) -> str:
    """Return 16 hexadecimal digits, which are equal for equal names and ages, in every store."""
    return blake2b(b"%d %b" % (user.age, user.name.encode()), digest_size=8).hexdigest()


def require_version(user_id: int, user: Record, versions: Versions) -> None:
    """Raise UserChanged unless the stored user has one of the versions."""
    if versions is not None and version(user) not in versions:
        raise UserChanged(user_id, user)
