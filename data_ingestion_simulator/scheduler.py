"""When users are sent (at an interval, at a rate or in bulk), and with how many ids at most."""

import asyncio
import itertools
import json
import math
import random
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from secrets import token_hex

from client import Client, Response, Result, now
from generator import User, Users
from ledger import Ledger
from settings import Settings

MOST_IDS_PER_USER, MOST_STRANGE = 5, 3
MISFIT = "responded to a batch with numbers that do not add up"
LATEST_START_SECONDS, LAST_RESPONSES_SECONDS, STOP_SECONDS = 1.0, 30.0, 0.5
Ids = frozenset[int]


@dataclass
class Scheduler:
    """Sends `count` users of `source` by `client` until `stop`, and accounts for them."""

    client: Client
    source: Users
    count: int | None
    ledger: Ledger
    report: Callable[[Sequence[User], Result], None]
    stop: asyncio.Event

    def __post_init__(self) -> None:
        self._users: Iterator[User] = itertools.islice(self.source, self.count)
        self._ends_at, self._in_batches = math.inf, False

    async def run(self, settings: Settings) -> None:
        """Send users until the count, the duration or a stop; then wait for the last responses."""
        limit_seconds = settings.duration_seconds or math.inf
        self._ends_at = now() + limit_seconds
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_seconds + LAST_RESPONSES_SECONDS):
                if settings.period_seconds:
                    rng = random.Random(settings.seed) if settings.arrivals == "poisson" else None
                    concurrency = settings.concurrency if settings.rate_per_second else None
                    await self.at_pace(settings.period_seconds, concurrency, rng)
                else:
                    await self.in_bulk(settings.batch_size, settings.concurrency)

    async def at_pace(
        self, period_seconds: float, concurrency: int | None, rng: random.Random | None = None
    ) -> None:
        """Start a user at each tick, also while others are still being sent (an open loop).

        Ticks are a period apart; with `rng` on average (Poisson arrivals). If `concurrency` users
        are being sent, or this program is late, a tick only counts: a slow API does not delay the
        end. At an interval (no `concurrency`) only users count, and one is sent at a time.
        """
        start, periods, left = now(), 0.0, self.count or math.inf
        async with asyncio.TaskGroup() as group:
            while left and not await self._stopped_before(tick := start + periods * period_seconds):
                periods += rng.expovariate(1.0) if rng else 1.0
                late = now() - tick > max(LATEST_START_SECONDS, period_seconds)
                if not late and len(self.ledger.being_sent) < (concurrency or 1):
                    group.create_task(self._send(next(self._users), tick))
                elif concurrency:
                    self.ledger.late += late
                    self.ledger.dropped += not late
                    self.report((), Result("given up"))  # prints the progress
                else:
                    continue
                left -= 1

    async def in_bulk(self, batch_size: int, concurrency: int) -> None:
        """Send users as fast as the API takes them, in batches if it supports them."""
        turn = asyncio.Lock()

        async def work() -> None:
            while True:
                if self._in_batches:
                    async with turn:  # a batch takes long to make: first run other tasks
                        await asyncio.sleep(0)
                users = list(itertools.islice(self._users, batch_size if self._in_batches else 1))
                if self.stop.is_set() or not users or now() >= self._ends_at:
                    return
                if self._in_batches:
                    await self._send_batch(users)
                else:
                    await self._send(users[0], now())

        self._in_batches = batch_size > 1
        if self._in_batches:  # the first user shows whether the API supports batches
            await self._send_batch(list(itertools.islice(self._users, 1)))
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(work())

    async def _stopped_before(self, tick: float) -> bool:
        """Wait for the tick, the end or a stop, and let other tasks run; return whether to stop."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(min(tick, self._ends_at)):
                await self.stop.wait()
        return self.stop.is_set() or tick >= self._ends_at

    async def _send(self, user: User, due_at: float, perhaps_stored: bool = False) -> None:
        """Send a user, with another id if its own is taken."""
        self.ledger.attempt([user.user_id])
        try:
            result = await self.client.create(user, perhaps_stored)
            for _ in range(MOST_IDS_PER_USER - 1):
                if result.outcome == "taken":
                    user, taken = self.source.renumbered(user), user
                    self.ledger.renumber(taken.user_id, user.user_id)
                    result = await self.client.create(user)
        finally:  # also without a response: else a hanging API would look fast
            self.ledger.time(due_at, now())
        if result.outcome == "taken":
            taken_ids = f"{MOST_IDS_PER_USER} ids in a row were taken"
            result = result._replace(outcome="rejected", detail=taken_ids)
        self._settle([user], result)

    async def _send_batch(self, users: Sequence[User]) -> None:
        """Send many users by one request, then those alone of whom its response does not tell."""
        items = {user_id: {"name": name, "age": age} for user_id, name, age in users}
        body = json.dumps(items, ensure_ascii=False).encode()
        ids, request_id, started = Ids(items), token_hex(8), now()
        self.ledger.attempt(ids)
        try:
            post = partial(self.client.ask, "POST", "/users/batch", request_id, body)
            response = await self.client.retry(post)
        finally:
            self.ledger.time(started, now())
        success = response.status < 300 and not response.get("error")
        read = read_batch(response, ids) if success else None
        existing, alone = read or (Ids(), ids)
        perhaps_stored = response.perhaps_stored
        why = ""
        if response.status in (401, 403) and not perhaps_stored:
            alone = Ids()
        elif response.status in (404, 405, 501) or (response.status < 300 and not success):
            why = "takes no batches"
        elif success and not read:  # not repeated: another API would store something again
            why, perhaps_stored = MISFIT, True
            self.ledger.errors[why] += 1
        if why and self._in_batches:
            self._in_batches = False
            self.client.say(f"The API {why}: users are sent one by one")
        result = Result("created" if success else "rejected", response, request_id)
        self._settle([user for user in users if user.user_id not in existing | alone], result)
        result = result._replace(outcome="created" if perhaps_stored else "already there")
        self._settle([user for user in users if user.user_id in existing], result)
        for user in users:
            if user.user_id in alone:
                await self._send(user, now(), perhaps_stored)

    def _settle(self, users: Sequence[User], result: Result) -> None:
        if users:
            ids = [user.user_id for user in users]
            self.ledger.settle(ids, result.outcome, result.response.status)
            self.report(users, result)
            if self.ledger.settled["given up"] >= MOST_STRANGE and not self.ledger.stored():
                self.stop.set()  # it is another API: do not ask it for ever


def read_batch(response: Response, ids: Ids) -> tuple[Ids, Ids] | None:
    """The ids of equal users stored before, and of users whose id another user has.

    None if the numbers do not add up.
    """
    try:
        same, other = Ids(response.get("existing")), Ids(response.get("conflicting"))
        new = ids - same - other
    except TypeError:
        return None
    fits = len(new) == response.get("created") == len(ids) - len(same) - len(other)
    return (same, other) if fits else None


async def run_until_stopped(work: Coroutine[None, None, None], stop: asyncio.Event) -> None:
    """Run the work to its end, or until half a second after a stop."""
    task, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.wait({task}, timeout=STOP_SECONDS)
    stopping.cancel()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
