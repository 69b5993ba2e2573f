"""The net change out of the responses: nothing invented, nothing lost."""

import itertools
import random
from collections.abc import Sequence

import pytest
from conftest import Clock

from ages import AgeCounts
from api_client import Latest
from history import STEP_SECONDS, Change, changes, events, recent_change, steps
from monitor import Fault, Look

Totals = list[tuple[float, int]]


UNKNOWN = Latest[Look]()  # an API that does not tell when it started


def responses(totals: Totals, *failed_at: float) -> Latest[AgeCounts]:
    """Return what the poller knows after so many users, and failed requests, at these times."""
    history = tuple((at, AgeCounts({30: total})) for at, total in totals)
    return Latest(history, failures=tuple((at, "API down") for at in failed_at))


def looks(*seen: tuple[float, float | None, str], faults: Sequence[Fault] = ()) -> Latest[Look]:
    """Return what is known after looks at these times, with the start and name of a replica.

    The last look sees the faults.
    """
    found = []
    for at, started_at, replica in seen:
        numbers = {} if started_at is None else {"process_start_time_seconds": started_at}
        shown = list(faults) if at == seen[-1][0] else []
        found.append((at, Look(replica, 0.001, at, faults=shown, numbers=numbers)))
    return Latest(tuple(found))


def net(totals: Totals, known: Latest[Look] = UNKNOWN) -> list[Change]:
    return steps(changes(responses(totals), known))


def test_changes_add_up() -> None:
    """However responses arrive, the steps join and their changes are the whole change."""
    chance = random.Random(7)
    for _ in range(50):
        at, total, totals = 100.0, 500, []
        for _ in range(chance.randint(2, 60)):
            at, total = at + chance.choice((0.5, 2, 2, 5, 40)), total + chance.randint(-3, 9)
            totals.append((at, total))
        found = net(totals)
        assert sum(each.users for each in found) == totals[-1][1] - totals[0][1]
        assert (found[0].start, found[-1].end) == (totals[0][0], totals[-1][0])
        assert all(a.end == b.start for a, b in itertools.pairwise(found))


def test_a_steady_stream() -> None:
    """A user a second is sixty a minute, in every full step."""
    found = net([(float(second), 1 + second) for second in range(0, 61, 2)])
    assert [each.per_minute for each in found] == [60] * (60 // STEP_SECONDS + 1)


def test_steps_stay_where_they_are() -> None:
    """A new response changes the last step only, so finished bars do not move."""
    totals = [(float(second), second * second) for second in range(3, 50, 2)]
    before, after = net(totals[:-1]), net(totals)
    assert before[:-1] == after[: len(before) - 1]


def test_a_time_without_responses_is_one_step() -> None:
    """Without a viewer the change is known, and when it happened is not."""
    gap = net([(0, 10), (2, 10), (122, 70)])[1]
    assert (gap, gap.per_minute) == (Change(2, 122, 60), 30)


@pytest.mark.parametrize("totals", [[(5, 1)], [(5, 1), (5, 2)]])
def test_one_response_is_no_rate(totals: Totals) -> None:
    """Without time between two responses there is nothing to divide by."""
    assert net(totals) == []
    assert recent_change(responses(totals), UNKNOWN) is None


def test_change_over_the_last_minute(clock: Clock) -> None:
    """The change has the time that it really took; one that began earlier is left out."""
    clock.seconds = 101
    assert recent_change(responses([(0, 1), (50, 2), (100, 12)]), UNKNOWN) == Change(50, 100, 10)
    assert recent_change(responses([(0, 1), (100, 12)]), UNKNOWN) is None


def test_a_restart_that_the_api_tells_breaks_the_rate() -> None:
    """Users that are loaded again after a restart are no change, however many they are."""
    totals: Totals = [(100, 1000), (110, 1010), (116, 36_500), (126, 36_520)]
    known = looks((100, 50.0, "a"), (117, 113.0, "a"))
    assert [each.users for each in changes(responses(totals), known)] == [10, 20]
    assert recent_change(responses(totals), known) == Change(116, 126, 20)


def test_two_old_processes_behind_one_name_are_no_restart() -> None:
    """Their responses alternate, and so do their start times."""
    known = looks((100, 50.0, "a"), (104, 51.0, "a"), (108, 50.0, "a"), (112, 51.0, "a"))
    assert changes(responses([(100, 1), (110, 5)]), known) == [Change(100, 110, 4)]


def told(ages: Latest[AgeCounts], known: Latest[Look]) -> list[tuple[str, float, float]]:
    return [(each.text, each.start, each.end) for each in events(ages, known)]


def test_events(clock: Clock) -> None:
    """An outage, a restart, a bulk load and a fault are marked, each where it happened."""
    clock.seconds = 130
    ages = responses([(100, 10), (102, 12), (120, 3), (122, 9_003)], 106, 108)
    fault = Fault("simulator", "lose-response", 0.3)
    known = looks((100, 50.0, "a"), (121, 111.0, "a"), (125, 111.0, "a"), faults=[fault])
    assert told(ages, known) == [
        ("API down 14 s, restarted", 106, 120),
        ("Bulk load +9,000", 120, 122),
        ("Fault on: simulator lose-response", 125, 125),
    ]
    assert told(ages._replace(failures=()), known)[0] == ("API restarted", 111, 111)


def test_an_outage_that_lasts(clock: Clock) -> None:
    """It ends now, and grows."""
    clock.seconds = 130
    assert told(responses([(100, 10)], 106, 108), UNKNOWN) == [("API down 24 s", 106, 130)]


def test_old_events_are_left_out(clock: Clock) -> None:
    """The chart shows fifteen minutes."""
    clock.seconds = 5_000
    assert told(responses([(100, 10), (120, 10)], 106), UNKNOWN) == []
