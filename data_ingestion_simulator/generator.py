"""What a plausible user is. The only file that knows Faker."""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

from faker import Faker

# How many of a thousand people are 0-4, 5-9, ... 95-99 years old: the rounded shape of the world
# population, for a histogram worth looking at and not for demography. The four broad groups add up
# to the shares in the United Nations' World Population Prospects 2019 (under 15: 25.6 %, 15-24:
# 15.6 %, 25-64: 49.7 %, 65 and over: 9.1 %); the steps inside a group are rounded by eye.
# fmt: off
AGE_WEIGHTS = (
    88, 86, 82,
    79, 77,
    78, 77, 70, 64, 62, 57, 48, 41,
    33, 24, 16, 10, 5, 2, 1,
)
# fmt: on
YEARS_A_BAND = 5

_AGES = range(YEARS_A_BAND * len(AGE_WEIGHTS))
_CUMULATIVE_WEIGHTS = list(itertools.accumulate(AGE_WEIGHTS[age // YEARS_A_BAND] for age in _AGES))

# An id is a seven-digit block, drawn at random, followed by a running number of nine digits. It is
# easy to read, not drawn by a second simulator (one chance in eight million, and then the API says
# so), and below 2**53 to the end of the last block, so that JSON and JavaScript hold it exactly.
BLOCK_SIZE = 10**9
FIRST_BLOCK, LAST_BLOCK = 1_000_000, 2**53 // BLOCK_SIZE - 1


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who could exist; `age` in years."""

    user_id: int
    name: str
    age: int


class Users:
    """An endless iterator of plausible users; the same `rng` state gives the same users."""

    def __init__(self, rng: random.Random) -> None:
        self._age_rng = rng
        # Ids have a source of their own: drawing one anew does not change who comes next.
        self._id_rng = random.Random(rng.getrandbits(64))  # noqa: S311 (not a secret)
        self._ids = self._endless_ids()
        # Every name as likely as any other: about ten times faster than weighing them.
        self._faker = Faker(use_weighting=False)
        self._faker.seed_instance(rng.getrandbits(64))

    def __iter__(self) -> Iterator[User]:
        return self

    def __next__(self) -> User:
        age = self._age_rng.choices(_AGES, cum_weights=_CUMULATIVE_WEIGHTS)[0]
        return User(next(self._ids), self._faker.name(), age)

    def renumbered(self, user: User) -> User:
        """The same user under another id; this block is somebody else's, so the run leaves it."""
        self._ids = self._endless_ids()
        return User(next(self._ids), user.name, user.age)

    def _endless_ids(self) -> Iterator[int]:
        while True:
            block = self._id_rng.randint(FIRST_BLOCK, LAST_BLOCK)
            yield from range(block * BLOCK_SIZE + 1, (block + 1) * BLOCK_SIZE)
