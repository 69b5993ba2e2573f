"""The accounts of a run."""

import random
import re

import pytest

from client import Response
from ledger import Ledger, RetryBudget, in_words


def test_the_accounts_know_when_they_do_not_balance() -> None:
    """A user without an outcome shows as a difference, until it is given up under its last id."""
    ledger = Ledger()
    ledger.attempt([1, 2])
    ledger.settle([1], "created")
    assert not ledger.balances()
    assert str(ledger).startswith("2 attempted != 1 created + 0 already there")

    ledger.renumber(2, 100)
    ledger.close()
    assert ledger.balances()
    assert str(ledger).endswith("+ 1 given up (outcome unknown: user 100)")


@pytest.mark.parametrize("settled_ids", [[1, 1], [1, 3]], ids=["twice", "never attempted"])
def test_a_mistake_in_the_accounts_shows(settled_ids: list[int]) -> None:
    """A user settled twice, or never attempted, is not hidden by who was given up."""
    ledger = Ledger()
    ledger.attempt([1, 2])
    for user_id in settled_ids:
        ledger.settle([user_id], "created")
    ledger.close()
    assert not ledger.balances()


def test_many_ids_are_printed_in_few_words() -> None:
    """Ids in a row become a range, and after ten ranges they are counted. JSON has all of them."""
    assert in_words([]) == ""
    assert in_words([7]) == "7"
    assert in_words([1, 2, 3, 7, 9, 10]) == "1-3, 7, 9-10"
    assert in_words(range(0, 40, 2)) == "0, 2, 4, 6, 8, 10, 12, 14, 16, 18, and 10 more"

    ledger = Ledger()
    ledger.attempt([1, 2, 3, *range(10, 60, 2)])
    ledger.close()
    pairs = [[1, 3], *([number, number] for number in range(10, 60, 2))]
    assert ledger.summary(1.0)["outcome_unknown"] == pairs


@pytest.mark.parametrize(
    ("period_seconds", "due_at", "ended_at", "per_second"),
    [
        (0.1, [0.0, 0.1, 0.2], 0.202, 10.0),
        (5.0, [0.0], 0.002, 0.2),
        (0.1, [0.0, 0.1, 0.2], 3.0, 1.0),
        (0.0, [7.0, 7.0, 8.0], 8.5, 2.0),
    ],
    ids=["at an interval", "one alone", "after an outage", "in bulk"],
)
def test_the_rate_is_that_of_users_stored(
    period_seconds: float, due_at: list[float], ended_at: float, per_second: float
) -> None:
    """From the first user to the last response, or until the next user would have been due."""
    ledger = Ledger(period_seconds)
    assert ledger.users_per_second() is None
    for user_id, due in enumerate([*due_at, due_at[-1]]):
        ledger.attempt([user_id])
        ledger.time(due, ended_at)
    ledger.settle(range(len(due_at)), "created")
    ledger.settle([len(due_at)], "rejected")

    assert ledger.users_per_second() == pytest.approx(per_second)


@pytest.mark.parametrize("percent", [1, 50, 95, 99, 100])
def test_percentiles_are_right_to_within_one_per_cent(percent: int) -> None:
    """Whatever the distribution, each percentile is within one per cent of the exact one."""
    dice = random.Random(percent)
    ledger = Ledger()
    exact = sorted(dice.lognormvariate(-6, 2) for _ in range(10_000))
    for seconds in exact:
        ledger.time(0.0, seconds)

    expected = exact[percent * 100 - 1]
    assert ledger.percentile_milliseconds(percent) == pytest.approx(1000 * expected, rel=0.01)


def test_the_memory_of_percentiles_is_bounded() -> None:
    """Nothing, negative, and endless durations have a bucket as well; there are 1,272 at most."""
    ledger = Ledger()
    assert ledger.percentile_milliseconds(99) is None
    for seconds in (-1.0, 0.0, 1e-9, 1e9, float("inf")):
        ledger.time(0.0, seconds)
    for power in range(-80_000, 160_000, 5):
        ledger.time(0.0, 1.0001**power)

    assert len(ledger._latencies) <= 1_272
    assert ledger.percentile_milliseconds(100) == pytest.approx(86_400_000, rel=0.01)


def test_the_share_that_failed() -> None:
    """Rejected, given up and dropped users failed; those created or already there did not."""
    ledger = Ledger()
    assert ledger.failed_share() == 0
    ledger.attempt(range(8))
    for user_id, outcome in enumerate(["created"] * 5 + ["already there", "rejected"]):
        ledger.settle([user_id], outcome)
    ledger.close()
    ledger.dropped = ledger.late = 1

    assert ledger.failed_share() == 0.4
    told = "40 % of the users were not stored, more than 39 %"
    assert (ledger.failures(0.4, None), ledger.failures(0.39, None)) == ([], [told])
    summary = ledger.summary(seconds=2.0)
    sides = ("created", "already_there", "rejected", "given_up")
    assert summary["attempted"] == sum(int(str(summary[side])) for side in sides) == 8
    assert (summary["dropped"], summary["late"], summary["failed_share"]) == (1, 1, 0.4)


@pytest.mark.parametrize(
    ("outcome", "dropped", "failed"),
    [("rejected", 0, True), ("given up", 0, False), ("given up", 1, True), ("created", 9, False)],
)
def test_a_run_without_a_stored_user_failed(outcome: str, dropped: int, failed: bool) -> None:
    """Whatever share is allowed to fail, all may not; but a stop that comes too early is none."""
    ledger = Ledger()
    ledger.attempt([1])
    ledger.settle([] if outcome == "given up" else [1], outcome)
    ledger.close()
    ledger.dropped = dropped

    assert ledger.failures(1.0, None) == ["No user was stored"] * failed
    assert Ledger().failures(1.0, None) == []


def test_without_requests_there_are_no_figures() -> None:
    """There is neither a rate nor a latency, as in a dry run, and no user has failed."""
    ledger = Ledger()
    summary = ledger.summary(2.0)

    assert summary["users_per_second"] is None
    names = ["mean", "min", "p50", "p90", "p95", "p99", "max"]
    assert summary["latency_milliseconds"] == dict.fromkeys(names)
    assert ledger.failures(1.0, 1e-6) == []


def test_the_longest_95th_percentile() -> None:
    """It is a failure to have a longer one, whatever else went well; the sentence has both."""
    ledger = Ledger()
    ledger.attempt(range(100))
    for number in range(100):
        ledger.time(0.0, 0.1 if number < 94 else 0.3)
    ledger.settle(range(100), "created")

    [told] = ledger.failures(1.0, 0.2)
    match = re.fullmatch(r"The 95th percentile of the latency is ([\d.]+) ms, more than (.*)", told)
    assert match
    assert float(match[1]) == pytest.approx(300, rel=0.01)
    assert match[2] == "200 ms"
    assert ledger.failures(1.0, 0.31) == []
    assert [*ledger.latency_milliseconds().values()] == pytest.approx(
        [112, 100, 100, 100, 300, 300, 300], rel=0.01
    )


async def instantly(*_: object) -> Response:
    return Response(200)


async def seconds_until_retry(period_seconds: float | None, requests: int) -> float:
    """How long a retry waits after so many requests at once."""
    budget = RetryBudget(instantly, period_seconds)
    for _ in range(requests):
        await budget.exchange("GET", "/", "", b"")
    return budget.wait_seconds()


@pytest.mark.virtual_clock
async def test_a_retry_waits_for_the_budget() -> None:
    """Five requests may be sent at once; then a retry waits, at 1.2 times the normal load. First
    tries do not wait, but they use up the budget, ten at most. At the slowest pace one retry in 30
    seconds is allowed, so that the end of an outage is noticed.
    """
    waits = [await seconds_until_retry(0.1, requests) for requests in (0, 4, 5, 8, 1_000)]

    assert waits == pytest.approx([0, 0, 1 / 12, 4 / 12, 6 / 12])
    assert await seconds_until_retry(86_400, 5) == pytest.approx(30)


@pytest.mark.virtual_clock
async def test_in_bulk_the_budget_has_no_limit() -> None:
    """There each request waits for the response to the one before."""
    assert await seconds_until_retry(None, 1_000) == 0
