"""Draws plausible users: ids, names and ages."""

import random
import re
import warnings
from bisect import bisect
from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any, NamedTuple

# How many of 1,000 people are 0-4, 5-9, ... 95-99 years old. The sums for under 15, 15-24, 25-64
# and over 64 are from the UN's World Population Prospects 2019; the single numbers are estimates.
POPULATION = [88, 86, 82, 79, 77, 78, 77, 70, 64, 62, 57, 48, 41, 33, 24, 16, 10, 5, 2, 1]
# Ages and their weights; those of the campus are estimates, too.
AGES: dict[str, tuple[range, list[float]]] = {
    "population": (range(100), [weight for weight in POPULATION for _ in range(5)]),
    "uniform": (range(18, 81), [1] * 63),
    "campus": (range(17, 71), [3, 17, 19, 18, 14, 9, 6, 5, 4, 3, 3, 2, 2, 2, *[0.5] * 40]),
}
# An id is a random block of seven digits and a running number of nine. Two simulators draw the
# same block once in eight million times. All ids are below 2**53: JavaScript holds them exactly.
BLOCK_SIZE = 10**9
FIRST_BLOCK, LAST_BLOCK = 1_000_000, 2**53 // BLOCK_SIZE - 1
PLACEHOLDER = re.compile(r"\{\{\s*(\w+)\s*\}\}")


class UnknownLocale(ValueError):
    """Faker has no such locale; the message is for the user."""


class User(NamedTuple):
    """A person who could exist; `age` in years."""

    user_id: int
    name: str
    age: int


class Users(Iterator[User]):
    """Endless random users; one seed always gives the same ones. Raises UnknownLocale."""

    def __init__(self, seed: int | None, locale: str = "en_US", ages: str = "population") -> None:
        seed = random.SystemRandom().getrandbits(63) if seed is None else seed
        key = f"{seed} {locale} {ages}"  # another locale or choice of ages gives other ids
        self._rng, self._id_rng = random.Random(key), random.Random(f"{key} ids")  # noqa: S311
        self._years, self._totals = AGES[ages][0], list(accumulate(AGES[ages][1]))
        self._draw_name = names(self._rng, locale)
        self._new_block()

    def __next__(self) -> User:
        age = self._years[bisect(self._totals, self._rng.random() * self._totals[-1])]
        return User(next(self._ids), self._draw_name().strip(), age)

    def renumbered(self, user: User) -> User:
        """The same person with a new id; from a new block if the old id is of the current block."""
        if user.user_id // BLOCK_SIZE == self._block:
            self._new_block()
        return user._replace(user_id=next(self._ids))

    def _new_block(self) -> None:
        self._block = self._id_rng.randint(FIRST_BLOCK, LAST_BLOCK)
        self._ids = iter(range(self._block * BLOCK_SIZE + 1, (self._block + 1) * BLOCK_SIZE))


def names(rng: random.Random, locale: str) -> Callable[[], str]:
    """A function that draws names with Faker's probabilities, but is faster: it sums the weights of
    each list only once, and parses each pattern only once.
    """
    from faker import Faker  # takes 0.1 s: wrong settings are reported before
    from faker.config import AVAILABLE_LOCALES
    from faker.providers.person import Provider

    if locale not in AVAILABLE_LOCALES:
        raise UnknownLocale(f"SIMULATION_LOCALE (--locale) must be one of Faker's, not {locale!r}")
    with warnings.catch_warnings(action="ignore"):  # of a locale with a newer name
        faker = Faker(locale, providers=["faker.providers.person"])
    faker.seed_instance(rng.getrandbits(64))
    generator = faker.factories[0]
    provider = next(each for each in generator.providers if isinstance(each, Provider))
    weighted = {}
    for words in [getattr(provider, name, None) for name in dir(type(provider))]:
        if isinstance(words, OrderedDict):
            weighted[id(words)] = list(words), list(accumulate(words.values()))
    faker_element = provider.random_element
    patterns: dict[str, tuple[str, list[Callable[[], str]]]] = {}

    def random_element(elements: Any) -> Any:
        if id(elements) in weighted:
            words, totals = weighted[id(elements)]
            return words[bisect(totals, rng.random() * totals[-1], 0, len(totals) - 1)]
        return faker_element(elements)

    def parse(pattern: str) -> str:
        if pattern not in patterns:
            parts = [getattr(provider, name) for name in PLACEHOLDER.findall(pattern)]
            patterns[pattern] = PLACEHOLDER.sub("%s", pattern.replace("%", "%%")), parts
        template, parts = patterns[pattern]
        return template % tuple([part() for part in parts])

    vars(provider)["random_element"] = random_element
    vars(generator)["parse"] = parse
    return provider.name
