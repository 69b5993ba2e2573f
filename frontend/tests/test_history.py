"""The net change out of the responses: nothing invented, nothing lost."""

import itertools
import random

import pytest

from ages import AgeCounts
from api_client import Latest
from history import STEP_SECONDS, Change, recent_change, steps

Totals = list[tuple[float, int]]


def responses(totals: Totals) -> Latest[AgeCounts]:
    """Return what the poller knows after so many users at these times."""
    return Latest(tuple((at, AgeCounts({30: total})) for at, total in totals))


def test_changes_add_up() -> None:
    """However responses arrive, the steps join and their changes are the whole change."""
    chance = random.Random(7)
    for _ in range(50):
        at, total, totals = 100.0, 500, []
        for _ in range(chance.randint(2, 60)):
            at, total = at + chance.choice((0.5, 2, 2, 5, 40)), total + chance.randint(-3, 9)
            totals.append((at, total))
        found = steps(responses(totals))
        assert sum(each.users for each in found) == totals[-1][1] - totals[0][1]
        assert (found[0].start, found[-1].end) == (totals[0][0], totals[-1][0])
        assert all(a.end == b.start for a, b in itertools.pairwise(found))


def test_a_steady_stream() -> None:
    """A user a second is sixty a minute, in every full step."""
    found = steps(responses([(float(second), 1 + second) for second in range(0, 61, 2)]))
    assert [each.per_minute for each in found] == [60] * (60 // STEP_SECONDS + 1)


def test_steps_stay_where_they_are() -> None:
    """A new response changes the last step only, so finished bars do not move."""
    totals = [(float(second), second * second) for second in range(3, 50, 2)]
    before, after = steps(responses(totals[:-1])), steps(responses(totals))
    assert before[:-1] == after[: len(before) - 1]


def test_a_time_without_responses_is_one_step() -> None:
    """Without a viewer the change is known, and when it happened is not."""
    gap = steps(responses([(0, 10), (2, 10), (122, 70)]))[1]
    assert (gap, gap.per_minute) == (Change(2, 122, 60), 30)


def test_a_restarted_store() -> None:
    """Users lost by a restart are no deletions: only that change is left out."""
    restarted = responses([(0, 1000), (10, 990), (12, 3), (22, 13)])
    assert [each.users for each in steps(restarted)] == [-10, 10]
    assert recent_change(responses([(0, 1000), (2, 3)])) is None


@pytest.mark.parametrize("totals", [[(5, 1)], [(5, 1), (5, 2)]])
def test_one_response_is_no_rate(totals: Totals) -> None:
    """Without time between two responses there is nothing to divide by."""
    assert steps(responses(totals)) == []
    assert recent_change(responses(totals)) is None


def test_change_over_the_last_minute() -> None:
    """The change has the time that it really took; one that began earlier is left out."""
    assert recent_change(responses([(0, 1), (50, 2), (100, 12)])) == Change(50, 100, 10)
    assert recent_change(responses([(0, 1), (100, 12)])) is None
