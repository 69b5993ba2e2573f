"""A thousand outages on a virtual clock: no user is lost, and none is stored twice."""

import asyncio
import bisect
import itertools
import os
import random
from collections import Counter
from collections.abc import Coroutine
from typing import Any

import fake_api
import pytest
from fake_api import FakeApi, Handler, Request, lost, respond
from one_run import Run
from virtual_clock import virtual_loop

from generator import Users

pytestmark = pytest.mark.virtual_clock

OUTAGES = 1_000 if "LAB_LONG" in os.environ else 100
CALM_SECONDS, STORM_SECONDS = (0.5, 8.0), (0.05, 40.0)
LONGEST_EXCHANGE_SECONDS = 10.0
RETRY_AFTER_SECONDS = 7
RESPONSE_SECONDS = 0.5
BATCH_SIZE = 5

# The promises, not with the constants of the program: at most 1.2 times the normal
# load, five tries to begin with, and half a minute until the API's return is noticed.
MOST_TIMES_NORMAL, FIRST_TRIES = 1.2, 5
SLOWEST_TRY_SECONDS = 30.0
SHORTEST_BACKOFF_SECONDS, ROUNDING = 0.15, 1e-6

KINDS: dict[str, Handler | None] = {
    "refused": None,
    "reset": fake_api.reset,
    "hang": fake_api.hang,
    "trickle": fake_api.trickle,
    "500": respond(500, {"detail": "Oops"}),
    "503": respond(503, b"", {"Retry-After": str(RETRY_AFTER_SECONDS)}),
    "HTML": respond(200, b"<!doctype html><p>Log in"),
    "half a body": fake_api.half,
}


class Storms:
    """Outages of every kind, one after another; half of the users in them are stored."""

    def __init__(self, api: FakeApi, dice: random.Random) -> None:
        self._dice = dice
        self._handler: Handler | None = None
        self.ended_at: list[float] = []
        self.asked_to_wait: list[Request] = []
        api.choose_handler = self._choose

    def _choose(self, request: Request) -> Handler | None:
        if self._handler is KINDS["503"]:
            self.asked_to_wait.append(request)
        return lost(self._handler) if self._handler and self._dice.random() < 0.5 else self._handler

    async def run(self) -> None:
        """Return when all outages are over."""
        kinds = list(KINDS) * -(-OUTAGES // len(KINDS))
        self._dice.shuffle(kinds)
        for kind in kinds[:OUTAGES]:
            await asyncio.sleep(self._dice.uniform(*CALM_SECONDS))
            self._handler, virtual_loop().refuses = KINDS[kind], kind == "refused"
            await asyncio.sleep(self._dice.uniform(*STORM_SECONDS))
            self._handler, virtual_loop().refuses = None, False
            self.ended_at.append(asyncio.get_running_loop().time())


def most_in_any(seconds: float, times: list[float]) -> int:
    """The most of the times that fall into any stretch of so many seconds."""
    times, most, first = sorted(times), 0, 0
    for last, time in enumerate(times):
        while times[first] < time - seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


class OutageRun(Run):
    """A run without an end, and what must be true of it."""

    def __init__(self, per_second: float | None, concurrency: int, seed: int) -> None:
        self._period_seconds = 1 / per_second if per_second else None
        self._per_second, self._concurrency = per_second, concurrency
        options = {"batches": True, "delay_seconds": RESPONSE_SECONDS}
        super().__init__(None, seed, self._period_seconds, **options)

    async def during(self, outages: Coroutine[Any, Any, None]) -> None:
        """Send users for as long as the outages last, then wait for the last responses."""
        if not self._period_seconds:
            sending = self.in_bulk(BATCH_SIZE, self._concurrency)
        else:  # at an interval, or at a rate
            concurrency = self._concurrency if self._concurrency > 1 else None
            sending = self.scheduler.at_pace(self._period_seconds, concurrency)
        task = asyncio.create_task(sending)
        await outages
        self.stop.set()
        await task

    def times(self) -> list[float]:
        """When the API was called, whether it could be reached or not."""
        return sorted([request.at for request in self.api.requests] + virtual_loop().refused_at)

    def check_accounts(self, seed: int) -> None:
        """All attempted users were created, and are stored once, as they were drawn."""
        attempted = self.ledger.attempted
        drawn = itertools.islice(Users(seed), attempted)
        stored = Counter((user["name"], user["age"]) for user in self.api.users.values())

        assert self.ledger.balances()
        assert attempted == self.ledger.settled["created"] == len(self.api.users)
        assert stored == Counter((user.name, user.age) for user in drawn)

    def check_load(self) -> None:
        """No stretch of time saw more than 1.2 times the normal load, and a few.

        In bulk the normal load is the number of requests at once by the duration of a response; at
        a slow pace one try in half a minute is allowed.
        """
        normal = self._per_second or self._concurrency / RESPONSE_SECONDS
        for seconds in (10.0, 60.0, 600.0):
            tries = max(MOST_TIMES_NORMAL * normal, 1 / SLOWEST_TRY_SECONDS) * seconds
            most = FIRST_TRIES + 2 * self._concurrency + tries
            assert most_in_any(seconds, self.times()) <= most

    def check_waits(self, asked_to_wait: list[Request]) -> None:
        """No request came again before its backoff, nor before the API had asked for it."""
        same: dict[str, list[Request]] = {}
        for request in self.api.requests:
            if request.method == "POST":
                same.setdefault(request.headers["x-request-id"], []).append(request)
        for tries in same.values():
            for earlier, later in itertools.pairwise(tries):
                assert later.at - earlier.at >= SHORTEST_BACKOFF_SECONDS - ROUNDING
        for asked in asked_to_wait:
            name = asked.headers["x-request-id"]
            later_ones = [again.at for again in same.get(name, []) if again.at > asked.at]
            assert not later_ones or later_ones[0] - asked.at >= RETRY_AFTER_SECONDS - ROUNDING


@pytest.mark.parametrize(
    ("per_second", "concurrency"), [(1 / 60, 1), (0.2, 1), (1.0, 1), (2.0, 8), (None, 4)], ids=str
)
async def test_through_a_thousand_outages(per_second: float | None, concurrency: int) -> None:
    """At an interval, at a rate and in bulk, through all kinds of outages: all attempted users are
    created and stored once, the end of an outage is noticed in time, the API gets at most 1.2 times
    its normal load, and no request is repeated sooner than it asked.
    """
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    run = OutageRun(per_second, concurrency, seed)
    storms = Storms(run.api, random.Random(seed))
    period_seconds = 1 / per_second if per_second else 0.0

    async def outages() -> None:
        await storms.run()
        await asyncio.sleep(period_seconds)  # the next user notices the end of the last one

    await run.during(outages())

    run.check_accounts(seed)
    assert run.ledger.attempted > OUTAGES * min(per_second or 0.5, 0.5)
    slow = period_seconds > SLOWEST_TRY_SECONDS
    longest_wait = period_seconds if slow else RETRY_AFTER_SECONDS
    times = run.times()
    for ended in storms.ended_at[:-1]:
        noticed_seconds = times[bisect.bisect(times, ended)] - ended
        assert noticed_seconds <= longest_wait + LONGEST_EXCHANGE_SECONDS
    run.check_load()
    run.check_waits(storms.asked_to_wait)
    assert storms.asked_to_wait or slow


@pytest.mark.parametrize(
    ("per_second", "concurrency", "sick_share"),
    [(1 / 60, 1, 1), (0.2, 1, 1), (5.0, 16, 1), (None, 4, 1), (5.0, 64, 0.3), (5.0, 64, 0.6)],
    ids=str,
)
async def test_a_long_outage(per_second: float | None, concurrency: int, sick_share: float) -> None:
    """Through eleven minutes of quick 503s, to all requests or a share of them, the API gets no
    more than 1.2 times its normal load, at a pace too slow for that at most one request in half a
    minute; when it is back it is noticed in time, and all users arrive.
    """
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice, run, share = random.Random(seed), OutageRun(per_second, concurrency, seed), 0.0
    run.api.choose_handler = lambda _: respond(503, {}) if dice.random() < share else None

    async def outages() -> None:
        nonlocal share
        await asyncio.sleep(130)
        share = sick_share
        await asyncio.sleep(660)
        share = 0.0
        returned = asyncio.get_running_loop().time()
        await asyncio.sleep(31)
        assert any(at >= returned for at in run.times())

    await run.during(outages())

    run.check_accounts(seed)
    run.check_load()
