"""The arithmetic of age counts: how many users there are of each age. No widgets, no requests."""

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

MAX_AGE_YEARS = 150


@dataclass(frozen=True)
class AgeCounts:
    """How many users there are of each age in years; an age without users is left out.

    `from_listing` is true when the API keeps no counts and the dashboard counted its users;
    `unreadable_rows` is how many of them it could not read. Each figure costs a step per age.
    """

    users_by_age: dict[int, int]
    from_listing: bool = False
    unreadable_rows: int = 0

    @cached_property
    def total(self) -> int:
        """The number of users."""
        return sum(self.users_by_age.values())

    @cached_property
    def mean(self) -> float:
        """The sum of all ages divided by the number of users, in years. Needs a user."""
        return sum(age * count for age, count in self.users_by_age.items()) / self.total

    @cached_property
    def median(self) -> float:
        """The age in the middle, or half-way between the two in the middle. Needs a user.

        Source: NIST/SEMATECH e-Handbook of Statistical Methods, section 1.3.5.1.
        """
        ages = sorted(self.users_by_age)
        users_so_far = list(accumulate(self.users_by_age[age] for age in ages))
        middle = ((self.total - 1) // 2, self.total // 2)  # counted from 0, young to old
        return sum(ages[bisect_right(users_so_far, position)] for position in middle) / 2

    def between(self, first: int, last: int) -> "AgeCounts":
        """Return the counts of the ages from `first` to `last`, both included."""
        return AgeCounts({age: n for age, n in self.users_by_age.items() if first <= age <= last})

    def histogram(self, width_years: int) -> dict[int, int]:
        """Return the number of users in each bin, by the bin's first age, in order, without a gap.

        Bins start at multiples of their width, so they do not move when users arrive. Needs a user.
        """
        first = min(self.users_by_age) // width_years * width_years
        counts = dict.fromkeys(range(first, max(self.users_by_age) + 1, width_years), 0)
        for age, count in self.users_by_age.items():
            counts[age - age % width_years] += count
        return counts
