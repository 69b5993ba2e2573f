"""The arithmetic, compared with Python's own `statistics` over the age of each user."""

import itertools
import random
import statistics
from collections import Counter

import pytest

from ages import AgeCounts


def some_ages() -> list[list[int]]:
    """Return populations of 1 to 400 users: even and odd, clustered and spread."""
    chance = random.Random(7)
    return [
        [chance.randint(low, low + spread) for _ in range(size)]
        for size in (1, 2, 3, 10, 11, 400)
        for low, spread in ((0, 0), (0, 150), (18, 62), (150, 0))
    ]


@pytest.mark.parametrize("ages", some_ages())
def test_figures_equal_statistics_over_every_user(ages: list[int]) -> None:
    """Total, mean and median are those of the list of all ages."""
    counts = AgeCounts(Counter(ages))
    assert counts.mean == pytest.approx(statistics.mean(ages))
    assert (counts.total, counts.median) == (len(ages), statistics.median(ages))


def test_large_counts_are_exact() -> None:
    """The work is per age, and exact for integers."""
    quadrillion = 10**15
    counts = AgeCounts({20: quadrillion, 40: quadrillion + 1})
    assert counts.total == 2 * quadrillion + 1
    assert counts.median == 40


@pytest.mark.parametrize("width_years", [1, 2, 5, 10])
@pytest.mark.parametrize("ages", some_ages())
def test_bins_hold_every_user_once(ages: list[int], width_years: int) -> None:
    """Bins start at multiples of their width, touch each other, and hold each user once."""
    bins = AgeCounts(Counter(ages)).histogram(width_years)
    for first, count in bins.items():
        assert first % width_years == 0
        assert count == sum(first <= age < first + width_years for age in ages)
    assert sum(bins.values()) == len(ages)
    assert all(b - a == width_years for a, b in itertools.pairwise(bins))
    counts = list(bins.values())
    assert counts[0] > 0
    assert counts[-1] > 0


def test_between() -> None:
    """Both ends belong to a range of ages."""
    assert AgeCounts({19: 1, 20: 2, 30: 3, 31: 4}).between(20, 30) == AgeCounts({20: 2, 30: 3})
