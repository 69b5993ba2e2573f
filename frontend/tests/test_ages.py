"""The arithmetic, compared with Python's own `statistics` over the age of each user."""

import itertools
import random
import statistics
from collections import Counter

import pytest

from ages import GROUPS, MAX_AGE_YEARS, AgeCounts, world_share


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
    bars = AgeCounts(Counter(ages)).histogram(width_years)
    bins = sorted({(bar.first, bar.last) for bar in bars})
    assert all(a[1] + 1 == b[0] for a, b in itertools.pairwise(bins))
    assert (bins[0][0], bins[-1]) == (0, (100, 150))
    for first, last in bins:
        assert first % width_years == 0
        parts = [bar for bar in bars if bar.first == first]
        assert sum(bar.users for bar in parts) == sum(first <= age <= last for age in ages)


@pytest.mark.parametrize("width_years", [1, 2, 5, 10])
def test_groups_divide_the_bars(width_years: int) -> None:
    """The bars of a group hold the users of its ages, also where a group begins within a bin."""
    counts = AgeCounts(dict.fromkeys(range(MAX_AGE_YEARS + 1), 1))
    bars = counts.histogram(width_years)
    for name, (first, last) in GROUPS.items():
        own = [bar for bar in bars if bar.group == name]
        assert sum(bar.users for bar in own) == last - first + 1
        assert all(bar.first <= last and first <= bar.last for bar in own)


def test_the_world() -> None:
    """The shares of the groups are those of the UN's World Population Prospects 2019."""
    shares = {name: world_share(*ages) for name, ages in GROUPS.items()}
    assert sum(shares.values()) == pytest.approx(1)
    published = {"Children": 0.256, "Youth": 0.155, "Adults": 0.498, "Seniors": 0.091}
    assert shares == pytest.approx(published, abs=0.002)
    assert world_share(100, MAX_AGE_YEARS) == 0


def test_between() -> None:
    """Both ends belong to a range of ages."""
    assert AgeCounts({19: 1, 20: 2, 30: 3, 31: 4}).between(20, 30) == AgeCounts({20: 2, 30: 3})
