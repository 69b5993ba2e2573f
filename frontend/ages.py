"""Age counts (how many users have each age) and figures from them, without Streamlit or HTTP."""

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

MAX_AGE_YEARS = 150


@dataclass(frozen=True)
class AgeCounts:
    """The number of users of each age in years; an age without users is left out.

    `from_listing` is true if the API has no counts and the dashboard counted its users. It could
    not read `unreadable_rows` of them. Each figure needs one step per age, not per user.
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

    def histogram(self, width_years: int) -> dict[int, int]:
        """Return the number of users in each bin, by the bin's first age; empty bins are included.

        Bins start at multiples of their width, so new users do not move them. Needs one user.
        """
        first = min(self.users_by_age) // width_years * width_years
        counts = dict.fromkeys(range(first, max(self.users_by_age) + 1, width_years), 0)
        for age, count in self.users_by_age.items():
            counts[age - age % width_years] += count
        return counts
