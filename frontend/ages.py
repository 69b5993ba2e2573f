"""Age counts (how many users have each age) and figures from them, without Streamlit or HTTP."""

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

MAX_AGE_YEARS = 150
OVERFLOW_AGE_YEARS = 100  # users of this age and older share one bar
# The first and the last age of each group, as the United Nations divides the population.
GROUPS = {"Children": (0, 14), "Youth": (15, 24), "Adults": (25, 64), "Seniors": (65, 150)}
# How many of 1,000 people in the world are 0-4, 5-9, ... 95-99 years old. The simulator draws from
# the same numbers, and its generator.py names their source.
WORLD = (88, 86, 82, 79, 77, 78, 77, 70, 64, 62, 57, 48, 41, 33, 24, 16, 10, 5, 2, 1)


class Bar(NamedTuple):
    """Users of one group in one bin of ages."""

    first: int
    last: int
    group: str
    users: int


def ages_text(first: int, last: int) -> str:
    """Return `7`, `5\u20139`, or `65+` if the last age is the highest one."""
    if last == MAX_AGE_YEARS:
        return f"{first}+"
    return f"{first}" if first == last else f"{first}\u2013{last}"


def world_share(first: int, last: int) -> float:
    """Return which share of the world's population has an age from `first` to `last`."""
    return sum(WORLD[age // 5] for age in range(first, min(last + 1, 100))) / 5 / sum(WORLD)


@dataclass(frozen=True)
class AgeCounts:
    """The number of users of each age in years; an age without users is left out.

    Each figure needs one step per age, not per user.
    """

    users_by_age: dict[int, int]

    @cached_property
    def total(self) -> int:
        """The number of users."""
        return sum(self.users_by_age.values())

    @cached_property
    def mean(self) -> float:
        """The sum of all ages divided by the number of users, in years. Needs one user at least."""
        return sum(age * count for age, count in self.users_by_age.items()) / self.total

    @cached_property
    def median(self) -> float:
        """The age in the middle, or the mean of the two in the middle. Needs one user at least.

        Source: NIST/SEMATECH e-Handbook of Statistical Methods, section 1.3.5.1.
        """
        ages = sorted(self.users_by_age)
        users_so_far = list(accumulate(self.users_by_age[age] for age in ages))
        middle = ((self.total - 1) // 2, self.total // 2)  # counted from 0, young to old
        return sum(ages[bisect_right(users_so_far, position)] for position in middle) / 2

    def between(self, first: int, last: int) -> "AgeCounts":
        """Return the counts of the ages from `first` to `last`, both included."""
        return AgeCounts({age: n for age, n in self.users_by_age.items() if first <= age <= last})

    def histogram(self, width_years: int) -> list[Bar]:
        """Return the bars, young to old; empty bins are included.

        Bins start at multiples of their width. A bin in which a group begins has two bars.
        """
        bars: list[Bar] = []
        starts = range(0, OVERFLOW_AGE_YEARS, width_years)
        bins = [(start, start + width_years - 1) for start in starts]
        for first, last in [*bins, (OVERFLOW_AGE_YEARS, MAX_AGE_YEARS)]:
            for name, (youngest, oldest) in GROUPS.items():
                if first <= oldest and youngest <= last:
                    users = self.between(max(first, youngest), min(last, oldest)).total
                    bars.append(Bar(first, last, name, users))
        return bars
