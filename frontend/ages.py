"""The arithmetic of age counts: how many users there are of each age, and what that amounts to.

Every function takes `users_by_age`, a map from an age in whole years to the number of users of
that age, and costs a step for each distinct age, never one for each user.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a population of at least one user comes to; ages in years."""

    total: int
    mean: float
    median: float
    youngest: int
    oldest: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """One bar of a histogram: the ages from `first` to `last`, both included, in years.

    `share` is the part of all users that is in this bin, from 0 to 1.
    """

    first: int
    last: int
    count: int
    share: float

    @property
    def label(self) -> str:
        """The ages as text: from first to last with an en dash, or the only one."""
        return str(self.first) if self.first == self.last else f"{self.first}\N{EN DASH}{self.last}"


def summarise(users_by_age: Mapping[int, int]) -> Summary | None:
    """Return the summary of a population, or None when there is nobody.

    The mean is the sum of all ages divided by the number of users. The median is the age in the
    middle when all are put in order, or half-way between the two in the middle when their number
    is even (NIST/SEMATECH e-Handbook of Statistical Methods, section 1.3.5.1).
    """
    present = sorted(age for age, count in users_by_age.items() if count)
    if not present:
        return None
    total = sum(users_by_age.values())
    return Summary(
        total=total,
        mean=sum(age * count for age, count in users_by_age.items()) / total,
        median=(_age_at(users_by_age, (total - 1) // 2) + _age_at(users_by_age, total // 2)) / 2,
        youngest=present[0],
        oldest=present[-1],
    )


def _age_at(users_by_age: Mapping[int, int], position: int) -> int:
    """Return the age at `position`, counted from 0, in the order from youngest to oldest."""
    for age in sorted(users_by_age):
        position -= users_by_age[age]
        if position < 0:
            return age
    raise IndexError("there are not that many users")


def between(users_by_age: Mapping[int, int], first: int, last: int) -> dict[int, int]:
    """Return the part of a population that is from `first` to `last` years old, both included."""
    return {age: count for age, count in users_by_age.items() if first <= age <= last}


def ages_under(low: float, high: float, width_years: int) -> tuple[int, int] | None:
    """Return the first and last age of the bins that lie mostly between `low` and `high`.

    On the axis a user of 30 is somewhere from 30 to 31. None when no bin is covered so.
    """
    first, last = math.ceil(low / width_years - 0.5), math.floor(high / width_years - 0.5)
    return (first * width_years, (last + 1) * width_years - 1) if first <= last else None


def histogram(users_by_age: Mapping[int, int], width_years: int) -> list[Bin]:
    """Return the bins of `width_years` that hold all users, in order and without a gap.

    Bins start at multiples of their width, so they stay where they are as users arrive.
    """
    present = [age for age, count in users_by_age.items() if count]
    if not present:
        return []
    first, last = min(present) // width_years, max(present) // width_years
    counts = dict.fromkeys(range(first, last + 1), 0)
    for age in present:
        counts[age // width_years] += users_by_age[age]
    total = sum(counts.values())
    return [
        Bin(
            first=number * width_years,
            last=(number + 1) * width_years - 1,
            count=count,
            share=count / total,
        )
        for number, count in counts.items()
    ]
