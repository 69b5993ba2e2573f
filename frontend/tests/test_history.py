"""Rates out of totals: nothing invented, nothing lost."""

import itertools
import random

import pytest

from history import STEP_SECONDS, intervals, recent_change


def test_changes_add_up() -> None:
    """However responses arrive, the intervals join and their changes are the whole change."""
    chance = random.Random(7)
    for _ in range(50):
        at, total, totals = 100.0, 500, []
        for _ in range(chance.randint(2, 60)):
            at, total = at + chance.choice((0.5, 2, 2, 5, 40)), total + chance.randint(-3, 9)
            totals.append((at, total))
        steps = intervals(totals)
        assert sum(each.change for each in steps) == totals[-1][1] - totals[0][1]
        assert (steps[0].start, steps[-1].end) == (totals[0][0], totals[-1][0])
        assert all(a.end == b.start for a, b in itertools.pairwise(steps))


def test_a_steady_stream() -> None:
    """A user a second is sixty a minute, in every full step."""
    steps = intervals([(float(second), second) for second in range(0, 61, 2)])
    assert [each.per_minute for each in steps] == [60] * len(steps)
    assert len(steps) == 60 // STEP_SECONDS + 1


def test_steps_stay_where_they_are() -> None:
    """A new response changes the last step only, so finished bars do not dance."""
    totals = [(float(second), second * second) for second in range(3, 50, 2)]
    before, after = intervals(totals[:-1]), intervals(totals)
    assert before[:-1] == after[: len(before) - 1]


def test_a_time_without_responses_is_one_interval() -> None:
    """Without a viewer the change is known, and when it happened is not."""
    gap = intervals([(0, 10), (2, 10), (122, 70)])[1]
    assert (gap.start, gap.end, gap.change) == (2, 122, 60)
    assert gap.per_minute == 30


def test_users_that_are_deleted_are_a_negative_rate() -> None:
    """The change is a net one."""
    assert intervals([(0, 100), (15, 90)])[0].change == -10


def test_a_restarted_store() -> None:
    """Users lost by a restart are no deletions: no interval crosses it."""
    totals = [(0.0, 1000), (10.0, 1010), (12.0, 3), (22.0, 13)]
    assert [each.change for each in intervals(totals)] == [10, 10]
    assert recent_change(totals, 60) == (10, 10)
    assert recent_change(totals[:3], 60) is None


@pytest.mark.parametrize("totals", [[(5.0, 1)], [(5.0, 1), (5.0, 2)]])
def test_one_response_is_no_rate(totals: list[tuple[float, int]]) -> None:
    """Without time between two responses there is nothing to divide by."""
    assert intervals(totals) == []
    assert recent_change(totals, 60) is None


def test_change_over_the_last_minute() -> None:
    """The change is told with the time that it really took."""
    totals = [(0.0, 1), (50.0, 2), (100.0, 12)]
    assert recent_change(totals, 60) == (10, 50)
    assert recent_change(totals, 600) == (11, 100)
    assert recent_change(totals, 10) is None
