"""What a plausible user is. The only file that knows Faker."""

import itertools
import random
import re
import warnings
from bisect import bisect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from faker import Faker
from faker.providers.person import Provider

# How many of a thousand people are 0-4, 5-9, ... 95-99 years old: the rounded shape of the world
# population, for a histogram worth looking at and not for demography. The four broad groups add up
# to the shares in the United Nations' World Population Prospects 2019 (under 15: 25.6 %, 15-24:
# 15.6 %, 25-64: 49.7 %, 65 and over: 9.1 %); the steps inside a group are rounded by eye.
# fmt: off
POPULATION = (
    88, 86, 82,
    79, 77,
    78, 77, 70, 64, 62, 57, 48, 41,
    33, 24, 16, 10, 5, 2, 1,
)
# fmt: on

# The ages that the profiles give, and their weights. A campus, by eye: two thirds in their first
# four years, then those who stay for a higher degree, then those who teach.
AGES: dict[str, tuple[Sequence[int], Sequence[float]]] = {
    "population": (range(100), [weight for weight in POPULATION for _ in range(5)]),
    "uniform": (range(18, 81), [1] * 63),
    "campus": (range(17, 71), [3, 17, 19, 18, 14, 9, 6, 5, 4, 3, 3, 2, 2, 2, *[0.5] * 40]),
}
DRAWN_AT_ONCE = 256

MOST_TABLES = 64
_PLACE = re.compile(r"\{\{\s*(\w+)\s*\}\}")

# An id is a seven-digit block, drawn at random, followed by a running number of nine digits. It is
# easy to read, not drawn by a second simulator (one chance in eight million, and then the API says
# so), and below 2**53 to the end of the last block, so that JSON and JavaScript hold it exactly.
BLOCK_SIZE = 10**9
FIRST_BLOCK, LAST_BLOCK = 1_000_000, 2**53 // BLOCK_SIZE - 1


class UnknownLocale(ValueError):
    """Faker has no such locale."""


class User(NamedTuple):
    """Somebody who could exist; `age` in years."""

    user_id: int
    name: str
    age: int


class Users:
    """An endless iterator of plausible users; the same `rng` state gives the same users.

    `ages` is a key of AGES. Raises UnknownLocale.
    """

    def __init__(self, rng: random.Random, locale: str = "en_US", ages: str = "population") -> None:
        # Each has a source of its own: drawing an id anew does not change who comes next.
        age_rng, name_rng, self._id_rng = (random.Random(rng.getrandbits(64)) for _ in range(3))  # noqa: S311 (not a secret)
        self._ages = _endless_ages(age_rng, *AGES[ages])
        self._ids = self._endless_ids()
        self._name = names(name_rng, locale)

    def __iter__(self) -> Iterator[User]:
        return self

    def __next__(self) -> User:
        return User(next(self._ids), self._name().strip(), next(self._ages))

    def renumbered(self, user: User) -> User:
        """The same user under another id; its block is somebody else's, so the run leaves it.

        Once: of a batch whose ids are all taken, the others follow the first into its new block.
        """
        if user.user_id // BLOCK_SIZE == self._block:
            self._ids = self._endless_ids()
        return user._replace(user_id=next(self._ids))

    def _endless_ids(self) -> Iterator[int]:
        while True:
            self._block = self._id_rng.randint(FIRST_BLOCK, LAST_BLOCK)
            yield from range(self._block * BLOCK_SIZE + 1, (self._block + 1) * BLOCK_SIZE)


def _endless_ages(
    rng: random.Random, ages: Sequence[int], weights: Sequence[float]
) -> Iterator[int]:
    cumulative = list(itertools.accumulate(weights))
    while True:
        yield from rng.choices(ages, cum_weights=cumulative, k=DRAWN_AT_ONCE)


def names(rng: random.Random, locale: str) -> Callable[[], str]:
    """A function that gives Faker's names, as frequent as Faker has them, about forty times faster.

    For each word Faker adds up the weights of its whole list, and for each name it takes the
    pattern apart. Here both are done once; all else is Faker's own, in every locale. Raises
    UnknownLocale.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # that a locale has a newer name
            faker = Faker(locale, providers=["faker.providers.person"])
    except AttributeError:
        raise UnknownLocale(locale) from None
    faker.seed_instance(rng.getrandbits(64))
    generator = faker.factories[0]
    provider = next(each for each in generator.providers if isinstance(each, Provider))
    faker_element, draw = provider.random_element, rng.random
    # By identity; each entry keeps its list alive, so that no other can have the same.
    tables: dict[int, tuple[Mapping[str, float], list[str], list[float], float, int]] = {}
    patterns: dict[str, tuple[str, list[Callable[[], str]]]] = {}

    def random_element(elements: Any) -> Any:
        if not isinstance(elements, dict):
            return elements[int(draw() * len(elements))]
        table = tables.get(id(elements))
        if table is None:
            if len(tables) == MOST_TABLES:  # a locale that makes its lists anew each time
                return faker_element(elements)
            totals = list(itertools.accumulate(elements.values()))
            table = (elements, list(elements), totals, totals[-1], len(totals) - 1)
            tables[id(elements)] = table
        _, words, totals, total, last = table
        return words[bisect(totals, draw() * total, 0, last)]

    def parse(pattern: str) -> str:
        known = patterns.get(pattern)
        if known is None:
            words = [getattr(provider, name) for name in _PLACE.findall(pattern)]
            known = patterns[pattern] = _PLACE.sub("%s", pattern.replace("%", "%%")), words
        template, words = known
        return template % tuple([word() for word in words])

    vars(provider)["random_element"] = random_element
    vars(generator)["parse"] = parse
    return provider.name
