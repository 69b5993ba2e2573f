"""Rates out of totals: nothing invented, nothing lost."""

import itertools
import random

import pytest

from history import STEP_SECONDS, change, intervals, sampled


def test_changes_add_up() -> None:
    """However answers come, the intervals join and their changes are the whole change."""
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
    assert all(each.seen for each in steps)
    assert len(steps) == 60 // STEP_SECONDS + 1


def test_steps_stay_where_they_are() -> None:
    """A new answer changes the last step only, so finished bars do not dance."""
    totals = [(float(second), second * second) for second in range(3, 50, 2)]
    before, after = intervals(totals[:-1]), intervals(totals)
    assert before[:-1] == after[: len(before) - 1]


def test_a_time_without_answers_is_one_pale_interval() -> None:
    """While nobody looks the change is known, and when it happened is not."""
    gap = intervals([(0, 10), (2, 10), (122, 70)])[1]
    assert (gap.start, gap.end, gap.change, gap.seen) == (2, 122, 60, False)
    assert gap.per_minute == 30


def test_users_that_are_deleted_are_a_negative_rate() -> None:
    """The change is a net one."""
    assert intervals([(0, 100), (15, 90)])[0].change == -10


def test_a_store_that_began_anew() -> None:
    """Users lost by a restart are no deletions: no interval leads there, and time begins anew."""
    totals = [(0.0, 1000), (10.0, 1010), (12.0, 3), (22.0, 13)]
    assert [each.change for each in intervals(totals)] == [10, 10]
    assert change(totals, 60) == (10, 10)
    assert change(totals[:3], 60) is None


@pytest.mark.parametrize("totals", [[], [(5.0, 1)], [(5.0, 1), (5.0, 2)]])
def test_one_answer_is_no_rate(totals: list[tuple[float, int]]) -> None:
    """Without time between two answers there is nothing to divide by."""
    assert intervals(totals) == []
    assert change(totals, 60) is None


def test_change_over_the_last_minute() -> None:
    """The change is told with the time that it really took."""
    totals = [(0.0, 1), (50.0, 2), (100.0, 12)]
    assert change(totals, 60) == (10, 50)
    assert change(totals, 600) == (11, 100)
    assert change(totals, 10) is None


def test_samples_are_the_first_of_each_step_and_the_last() -> None:
    """A line of samples has a point for each step, and ends with what is newest."""
    samples = [(float(second), second) for second in range(4, 40, 2)]
    assert [each for _, each in sampled(samples)] == [4, 10, 20, 30, 38]
    assert [at for at, _ in sampled(samples[:-1])] == [4, 10, 20, 30, 36]
    assert sampled(samples[:1]) == [(4, 4)]
    assert sampled([]) == []
