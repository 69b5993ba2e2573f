"""When to try again."""

import pytest

from retries import RetryBudget, backoff_seconds


def test_the_backoff_grows_to_a_cap_and_is_spread() -> None:
    """From about 0.2 s the waits double up to between 2.5 and 5 s, however long the outage; a
    request of the API's own is honoured between that and a minute.
    """
    for faults, (shortest, longest) in enumerate(
        [(0.15, 0.3), (0.3, 0.6), (0.6, 1.2), (1.2, 2.4), (2.4, 4.8), (2.5, 5.0), (2.5, 5.0)]
    ):
        waits = [backoff_seconds(faults) for _ in range(200)]
        assert shortest <= min(waits) < max(waits) <= longest
        assert max(waits) - min(waits) > (longest - shortest) / 2
    assert backoff_seconds(10**9) <= 5.0
    assert backoff_seconds(0, retry_after_seconds=30) == 30
    assert backoff_seconds(0, retry_after_seconds=float("inf")) == 60
    assert backoff_seconds(9, retry_after_seconds=1) >= 2.5


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_retry_waits_for_a_token() -> None:
    """Five requests may come at once; then there is a token at 1.2 times the normal load."""
    clock = Clock()
    budget = RetryBudget(clock, normal_per_second=10)
    for _ in range(5):
        assert budget.wait_seconds() == 0
        budget.spend()

    assert budget.wait_seconds() == pytest.approx(1 / 12)
    clock.now += 1 / 12
    assert budget.wait_seconds() == 0
    clock.now += 3_600
    for _ in range(5):
        budget.spend()
    assert budget.wait_seconds() > 0


def test_first_tries_are_not_held_back_but_count() -> None:
    """What is sent on credit delays the retries, and only them."""
    clock = Clock()
    budget = RetryBudget(clock, normal_per_second=10)
    for _ in range(8):
        budget.spend()

    assert budget.wait_seconds() == pytest.approx(4 / 12)


def test_the_return_of_the_api_is_noticed_at_any_pace() -> None:
    """However rarely users are due, there is a token every 30 seconds; in bulk, where nothing is
    known of the load before the first answer, every five.
    """
    slow, bulk = RetryBudget(Clock(), normal_per_second=1 / 86_400), RetryBudget(Clock(), None, 8)
    for budget in (slow, bulk):
        for _ in range(5):
            budget.spend()

    assert slow.wait_seconds() == pytest.approx(30)
    assert bulk.wait_seconds() == pytest.approx(5)


def test_the_normal_load_of_a_bulk_is_learnt() -> None:
    """Eight requests at once of two seconds each are four a second; a schedule is believed."""
    bulk, paced = RetryBudget(Clock(), None, 8), RetryBudget(Clock(), 10)
    for budget in (bulk, paced):
        budget.learn(2.0)
        for _ in range(5):
            budget.spend()

    assert bulk.wait_seconds() == pytest.approx(1 / (1.2 * 4))
    assert paced.wait_seconds() == pytest.approx(1 / (1.2 * 10))
