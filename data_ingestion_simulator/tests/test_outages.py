"""A thousand outages under a virtual clock: nobody is lost, nobody is stored twice."""

import asyncio
import bisect
import itertools
import os
import random
from collections import Counter
from collections.abc import Coroutine
from typing import Any

import pytest
import throwaway_api
from throwaway_api import Act, Request, ThrowawayApi, answer, lost
from virtual import run_virtually, virtual_loop

from client import Client
from connection import Connection
from generator import Users
from ledger import Ledger
from output import Output
from sending import Sender

OUTAGES = 1_000 if "LAB_LONG" in os.environ else 100
CALM_SECONDS, STORM_SECONDS = (0.5, 8.0), (0.05, 40.0)
LONGEST_EXCHANGE_SECONDS = 10.0
RETRY_AFTER_SECONDS = 7
ANSWER_SECONDS = 0.5
BATCH_SIZE = 5

# What is promised, in figures of its own and not in the program's: at most 1.2 times the normal
# load, five tries to begin with, and half a minute until the API's return is noticed.
MOST_TIMES_NORMAL, FIRST_TRIES = 1.2, 5
SLOWEST_TRY_SECONDS = 30.0
SHORTEST_BACKOFF_SECONDS, ROUNDING = 0.15, 1e-6

KINDS: dict[str, Act | None] = {
    "refused": None,
    "reset": throwaway_api.reset,
    "hang": throwaway_api.hang,
    "trickle": throwaway_api.trickle,
    "500": answer(500, {"detail": "Oops"}),
    "503": answer(503, b"", {"Retry-After": str(RETRY_AFTER_SECONDS)}),
    "HTML": answer(200, b"<!doctype html><p>Log in"),
    "half a body": throwaway_api.half,
}


class Storms:
    """Outages of every kind, one after another; half of what each spoils is stored all the same."""

    def __init__(self, api: ThrowawayApi, dice: random.Random) -> None:
        self._dice = dice
        self._act: Act | None = None
        self.ended_at: list[float] = []
        self.asked_to_wait: list[Request] = []
        api.weather = self._spoil

    def _spoil(self, request: Request) -> Act | None:
        if self._act is KINDS["503"]:
            self.asked_to_wait.append(request)
        return lost(self._act) if self._act and self._dice.random() < 0.5 else self._act

    async def rage(self) -> None:
        """Return when all outages are over."""
        kinds = list(KINDS) * -(-OUTAGES // len(KINDS))
        self._dice.shuffle(kinds)
        for kind in kinds[:OUTAGES]:
            await asyncio.sleep(self._dice.uniform(*CALM_SECONDS))
            self._act, virtual_loop().refuses = KINDS[kind], kind == "refused"
            await asyncio.sleep(self._dice.uniform(*STORM_SECONDS))
            self._act, virtual_loop().refuses = None, False
            self.ended_at.append(asyncio.get_running_loop().time())


def most_in_any(seconds: float, times: list[float]) -> int:
    """The most of the times that fall into any stretch of so many seconds."""
    times, most, first = sorted(times), 0, 0
    for last, time in enumerate(times):
        while times[first] < time - seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


class Run:
    """Everything that one run is made of, on a network in memory."""

    def __init__(self, per_second: float | None, concurrency: int, seed: int) -> None:
        self.api = ThrowawayApi(batches=True, delay_seconds=ANSWER_SECONDS)
        virtual_loop().api = self.api
        self.ledger = Ledger()
        self.users = Users(random.Random(seed))
        self._per_second, self._concurrency = per_second, concurrency

    async def during(self, weather: Coroutine[Any, Any, None]) -> None:
        """Send users for as long as the weather lasts, then wait for what is on its way."""
        stop = asyncio.Event()
        connection = Connection("http://memory")
        client = Client(
            connection,
            lambda _: None,
            self.ledger.errors,
            normal_per_second=self._per_second,
            concurrency=self._concurrency,
        )
        sender = Sender(client, self.users, None, self.ledger, Output("quiet"))
        sending = asyncio.create_task(
            sender.in_bulk(BATCH_SIZE, self._concurrency, stop)
            if not self._per_second
            else sender.one_by_one(1 / self._per_second, stop)
            if self._concurrency == 1
            else sender.at_rate(1 / self._per_second, self._concurrency, stop)
        )
        await weather
        stop.set()
        await sending
        connection.close()

    def times(self) -> list[float]:
        """When the API was called, whether it could be reached or not."""
        return sorted([request.at for request in self.api.requests] + virtual_loop().refused_at)

    def check_accounts(self, seed: int) -> None:
        """Every user attempted was created, and is stored once, as it was drawn."""
        attempted = self.ledger.attempted
        drawn = itertools.islice(Users(random.Random(seed)), attempted)
        stored = Counter((user["name"], user["age"]) for user in self.api.users.values())

        assert self.ledger.balances()
        assert attempted == self.ledger.settled["created"] == len(self.api.users)
        assert stored == Counter((user.name, user.age) for user in drawn)

    def check_load(self) -> None:
        """No stretch of time saw more than 1.2 times the normal load, and a few.

        In bulk the normal load is what so many requests at once come to, each taking as long as an
        answer does; at a slow pace one try in half a minute is allowed.
        """
        normal = self._per_second or self._concurrency / ANSWER_SECONDS
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
def test_through_a_thousand_outages(per_second: float | None, concurrency: int) -> None:
    """At an interval, at a rate and in bulk, whatever befalls the API: every user attempted is
    created and stored once, the API's return is noticed in time, while it is away it gets at most
    1.2 times its normal load, and nobody comes again sooner than it asked.
    """
    seed = random.randrange(2**32)
    print(f"seed {seed}")

    async def story() -> None:
        run = Run(per_second, concurrency, seed)
        storms = Storms(run.api, random.Random(seed))
        period_seconds = 1 / per_second if per_second else 0.0

        async def weather() -> None:
            await storms.rage()
            await asyncio.sleep(period_seconds)  # the next user notices the end of the last one

        await run.during(weather())

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

    run_virtually(story())


@pytest.mark.parametrize(
    ("per_second", "concurrency"), [(1 / 60, 1), (0.2, 1), (5.0, 16), (None, 4)], ids=str
)
def test_a_long_outage(per_second: float | None, concurrency: int) -> None:
    """Through eleven minutes of quick 503s, at whatever pace, the API gets no more than 1.2 times
    its normal load, a pace too slow for that at most one request in half a minute; when it is back
    it is noticed in time.
    """
    seed = random.randrange(2**32)
    print(f"seed {seed}")

    async def story() -> None:
        run = Run(per_second, concurrency, seed)
        sick = False
        run.api.weather = lambda _: answer(503, {}) if sick else None

        async def weather() -> None:
            nonlocal sick
            await asyncio.sleep(130)
            sick = True
            await asyncio.sleep(660)
            sick = False
            returned = asyncio.get_running_loop().time()
            await asyncio.sleep(31)
            assert any(at >= returned for at in run.times())

        await run.during(weather())

        run.check_accounts(seed)
        run.check_load()

    run_virtually(story())


@pytest.mark.parametrize("sick_share", [0.3, 0.6, 1.0])
def test_a_sick_api_is_not_hit_harder(sick_share: float) -> None:
    """Where a part of the requests fails at once, users wait rather than raise the load above 1.2
    times the normal; when the API is well again, all of them arrive.
    """
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)

    async def story() -> None:
        run = Run(20.0, 64, seed)
        sick = True
        run.api.weather = lambda _: answer(500, {}) if sick and dice.random() < sick_share else None

        async def weather() -> None:
            nonlocal sick
            await asyncio.sleep(60)
            sick = False
            await asyncio.sleep(60)

        await run.during(weather())

        run.check_accounts(seed)
        run.check_load()

    run_virtually(story())
