"""Draws plausible users: ids, names and ages."""

import itertools
import random
from bisect import bisect
from collections import OrderedDict
from collections.abc import Callable, Iterator
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
BLOCK_SIZE, FIRST_BLOCK, LAST_BLOCK = 10**9, 1_000_000, 8_999_999


class User(NamedTuple):
    """A person who could exist; `age` in years."""

    user_id: int
    name: str
    age: int


class Users(Iterator[User]):
    """Endless random users; one seed, locale and choice of ages always gives the same ones."""

    def __init__(self, seed: int | None, locale: str = "en_US", ages: str = "population") -> None:
        seed = random.SystemRandom().getrandbits(63) if seed is None else seed
        key = f"{seed} {locale} {ages}"  # another locale or choice of ages gives other ids
        self._rng = random.Random(key)
        self.block = random.Random(f"{key} ids").randint(FIRST_BLOCK, LAST_BLOCK)
        self._ids = itertools.count(self.block * BLOCK_SIZE + 1)
        self._years, weights = AGES[ages]
        self._totals = list(itertools.accumulate(weights))
        self._draw_name = names(self._rng, locale)

    def __next__(self) -> User:
        age = self._rng.choices(self._years, cum_weights=self._totals)[0]
        return User(next(self._ids), self._draw_name(), age)

    def renumbered(self, user: User) -> User:
        """The same person with a new id: the second is always the same, so that a later run with
        the seed finds the person; the next ones are random, so that no earlier run has used them.
        """
        own = user.user_id // BLOCK_SIZE == self.block
        rng = random.Random(" ".join(map(str, user))) if own else random.SystemRandom()
        return user._replace(user_id=rng.randrange(FIRST_BLOCK * BLOCK_SIZE, 2**53))


def names(rng: random.Random, locale: str) -> Callable[[], str]:
    """A function that draws names as Faker does, but adds up the weights of its words only once."""
    from faker import Faker  # takes 0.1 s: wrong settings are reported before

    faker = Faker(locale, providers=["faker.providers.person"])
    faker.seed_instance(rng.getrandbits(64))
    (provider,) = faker.factories[0].providers
    fakers_choice = provider.random_element
    known: dict[int, tuple[object, list[str], list[float]]] = {}

    def random_element(elements: Any) -> Any:
        if not isinstance(elements, OrderedDict):
            return fakers_choice(elements)
        if id(elements) not in known:  # they are kept: no other object can get their id
            totals = list(itertools.accumulate(elements.values()))
            known[id(elements)] = elements, list(elements), totals
        _, words, totals = known[id(elements)]
        return words[bisect(totals, rng.random() * totals[-1], 0, len(totals) - 1)]

    vars(provider)["random_element"] = random_element
    return lambda: str(provider.name()).strip()
