"""The arithmetic, compared with Python's own `statistics` over every single age."""

import itertools
import random
import statistics
from collections import Counter

import pytest

from ages import Bin, Summary, ages_under, between, histogram, summarise


def some_ages() -> list[list[int]]:
    """Return populations of 1 to 400 users: even and odd, clustered and spread."""
    chance = random.Random(7)
    return [
        [chance.randint(low, low + spread) for _ in range(size)]
        for size in (1, 2, 3, 10, 11, 400)
        for low, spread in ((0, 0), (0, 150), (18, 62), (150, 0))
    ]


@pytest.mark.parametrize("ages", some_ages())
def test_summary_equals_statistics_over_every_user(ages: list[int]) -> None:
    """Total, mean, median, youngest and oldest are those of the list of all ages."""
    summary = summarise(Counter(ages))
    assert summary is not None
    assert summary.mean == pytest.approx(statistics.mean(ages))
    assert (summary.total, summary.median, summary.youngest, summary.oldest) == (
        len(ages),
        statistics.median(ages),
        min(ages),
        max(ages),
    )


@pytest.mark.parametrize("users_by_age", [{}, {30: 0}])
def test_nobody_has_no_summary(users_by_age: dict[int, int]) -> None:
    """Without a user there is no mean to show and no bar to draw."""
    assert summarise(users_by_age) is None
    assert histogram(users_by_age, 5) == []


def test_ages_without_users_do_not_count() -> None:
    """A count of zero moves neither the youngest nor the oldest nor the median."""
    assert summarise({0: 0, 20: 1, 30: 2, 150: 0}) == Summary(
        total=3, mean=80 / 3, median=30, youngest=20, oldest=30
    )


def test_huge_counts_cost_nothing() -> None:
    """The work is per age and exact for integers: a quadrillion users take no longer."""
    quadrillion = 10**15
    summary = summarise({20: quadrillion, 40: quadrillion + 1})
    assert summary is not None
    assert summary.total == 2 * quadrillion + 1
    assert summary.median == 40


@pytest.mark.parametrize("width_years", [1, 2, 5, 10])
@pytest.mark.parametrize("ages", some_ages())
def test_bins_hold_every_user_once(ages: list[int], width_years: int) -> None:
    """Bins are of equal width, touch each other, and each user is in the one of their age."""
    bins = histogram(Counter(ages), width_years)
    assert bins[0].count
    assert bins[-1].count
    assert sum(each.count for each in bins) == len(ages)
    assert sum(each.share for each in bins) == pytest.approx(1)
    for each in bins:
        assert each.first % width_years == 0
        assert each.last - each.first + 1 == width_years
        assert each.count == sum(each.first <= age <= each.last for age in ages)
    for left, right in itertools.pairwise(bins):
        assert right.first == left.last + 1


def test_bins_of_a_known_population() -> None:
    """The edges, labels, counts and shares of a case small enough to check by eye."""
    bins = histogram({18: 1, 20: 2, 24: 1, 60: 4}, 5)
    assert bins[0] == Bin(first=15, last=19, count=1, share=0.125)
    assert bins[1] == Bin(first=20, last=24, count=3, share=0.375)
    assert bins[-1] == Bin(first=60, last=64, count=4, share=0.5)
    assert [each.label for each in bins[:2]] == ["15\N{EN DASH}19", "20\N{EN DASH}24"]
    assert histogram({7: 1}, 1)[0].label.isdigit()


@pytest.mark.parametrize(
    ("low", "high", "width_years", "ages"),
    [
        (20, 31, 1, (20, 30)),
        (20.4, 30.6, 1, (20, 30)),
        (20.6, 30.4, 1, (21, 29)),
        (30.2, 30.4, 1, None),
        (0, 0.4, 1, None),
        (0, 151, 1, (0, 150)),
        (22, 38, 5, (20, 39)),
        (23, 37, 5, (25, 34)),
        (23, 24, 5, None),
        (14, 36, 10, (10, 39)),
    ],
)
def test_ages_under_a_brush(
    low: float, high: float, width_years: int, ages: tuple[int, int] | None
) -> None:
    """A bin is brushed when most of it is; the ages are those of whole bins."""
    assert ages_under(low, high, width_years) == ages


def test_between() -> None:
    """Both ends belong to a range of ages."""
    assert between({19: 1, 20: 2, 30: 3, 31: 4}, 20, 30) == {20: 2, 30: 3}
